"""The real simulator makes the same bytes on one process, on several, as shards and on a cluster."""

import hashlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.generation import Report, make_split
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.shard import Shard
from cmb_lightning.sky.instrument import Instrument
from cmb_lightning.sky.simulator import Simulator, Sky
from cmb_lightning.sky.spectra import PolynomialSpectrum
from cmb_lightning.sky.statistical import StatisticalGalaxy

N = 6


def make(root: Path, **how) -> Report:
    instrument = Instrument.load("real_sky_64", 8, ["100", "353"], ("I", "Q", "U"))
    sky = Sky(PolynomialSpectrum([1.0]), [StatisticalGalaxy()], orientation="random", gain_errors=1.0)
    simulator = Simulator(instrument, 8, None, None, sky, 1)
    channels = simulator.channels
    names, fwhm = tuple(c.name for c in channels), tuple(c.fwhm for c in channels)
    layout = Layout(8, simulator.lmax, names, fwhm, instrument.fields, simulator.target_fwhm)
    return make_split(SplitCache(root, "sky", "train", simulator.recipe("train"), layout), simulator, N, **how)


def make_shard(root: Path, index: int) -> Report:
    return make(root, n_workers=1, shard=Shard(index, 2))


def checksums(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("golden")
    make(root, n_workers=1)
    found = checksums(root)
    assert len(found) == N + 1 and len(set(found.values())) == N + 1  # and the manifest
    return found


def test_two_processes(tmp_path, golden):
    make(tmp_path, n_workers=2)
    assert checksums(tmp_path) == golden


def test_two_shards_at_once(tmp_path, golden):
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        reports = list(executor.map(make_shard, [tmp_path] * 2, [1, 2]))
    assert sum(report.made for report in reports) == N
    assert checksums(tmp_path) == golden


def test_two_dask_workers(tmp_path, golden, address):
    make(tmp_path, cluster=address)
    assert checksums(tmp_path) == golden
