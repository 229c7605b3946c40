import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import healpy
import numpy as np
import pytest

from cmb_lightning.sky import Instrument, ModifiedBlackbody, Simulator, Sky, TemplateComponent, Templates
from cmb_lightning.sky.shared import Shared
from cmb_lightning.sky.spectra import PolynomialSpectrum

NSIDE = 8


def receive(*things):
    global received
    received = things


def look():
    shared, simulator = received
    return shared.array, shared.array.flags.writeable, simulator.simulate("train", 1)


def test_processes_that_are_started_see_it_and_nothing_is_made_twice(tmp_path):
    maps = np.random.default_rng(0).random((2, 12 * NSIDE**2))
    healpy.write_map(
        tmp_path / "dust.fits", [maps[0], 1.5 + 0.1 * maps[1]], coord="G", column_names=["I_STOKES", "BETA"],
        column_units=["uK_RJ", "1"],
    )  # fmt: skip
    dust = TemplateComponent("dust", "dust.fits", ModifiedBlackbody("BETA"), "353 GHz")
    varied = TemplateComponent("varied", "dust.fits", ModifiedBlackbody("BETA"), "353 GHz", amplitude_scatter=0.1)
    sky = Sky(PolynomialSpectrum([1.0]), [Templates([dust]), Templates([varied], name="varied")])
    simulator = Simulator(Instrument.load("reference", NSIDE, ["30", "353"]), NSIDE, None, None, sky, 1, tmp_path)
    expected = simulator.simulate("train", 1)
    os.remove(tmp_path / "dust.fits")
    shared = Shared(np.arange(6.0).reshape(2, 3))
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=receive, initargs=(shared, simulator)
    ) as executor:
        array, writeable, made = executor.submit(look).result()
    assert np.array_equal(array, shared.array) and not writeable
    assert all(np.array_equal(made[name], expected[name]) for name in expected)


def test_it_stays_behind_when_pickled_for_any_other_purpose():
    assert pickle.loads(pickle.dumps(Shared(np.zeros(10**6)))) is None
    assert len(pickle.dumps(Shared(np.zeros(10**6)))) < 100


def test_empty_arrays_and_scalars():
    for array in (np.zeros((3, 0), np.float32), np.float64(2.0).reshape(())):
        assert np.array_equal(Shared(array).array, array)


def hold(*things):
    """Keep what a process was given, and read all of it, so that it takes whatever memory it takes."""
    receive(*things)
    things[0].array.sum()


def memory(_=None):
    """What this process has of the array in memory, [bytes], how much of it for itself alone, and of which file."""
    shared = received[0]
    start = f"{shared.array.__array_interface__['data'][0]:x}-"
    lines = Path("/proc/self/smaps").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(start))
    sizes = dict(line.split(":") for line in lines[first + 1 : first + 20])
    return {key: int(sizes[key].split()[0]) * 1024 for key in ("Rss", "Private_Clean", "Private_Dirty")} | {
        "file": lines[first].split()[4]
    }


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's account of memory")
def test_the_memory_is_there_once_however_many_processes_see_it():
    shared = Shared(np.arange(2.0**20))  # 8 MiB
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), initializer=hold, initargs=(shared,)) as executor:
        found = list(executor.map(memory, range(2)))
        receive(shared)
        found.append(memory())
    assert len({one["file"] for one in found}) == 1  # the inode of one anonymous file
    for one in found:
        assert one["Rss"] >= shared.array.nbytes and one["Private_Clean"] == one["Private_Dirty"] == 0
