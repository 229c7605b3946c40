import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor

import healpy
import numpy as np

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
