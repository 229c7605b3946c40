"""Noise is learned from maps by the command, named in a table and drawn in simulations."""

import re

import healpy
import numpy as np
import pytest

from cmb_lightning.data.tensorfile import TensorFile
from cmb_lightning.sky import Instrument
from cmb_lightning.sky.noise_spectrum import NoiseSpectrum
from cmb_lightning.sky.transforms import alm2cl, analysis, nest_to_ring
from tests.command.application import Application, invoke

NSIDE = 8
DEGREE = np.arange(3 * NSIDE)
LEVEL = 40 * (1 + (6 / (DEGREE + 1.0)) ** 2)
TABLE = """\
# %ECSV 1.0
# ---
# datatype:
# - {name: band, datatype: string}
# - {name: frequency, unit: GHz, datatype: float64}
# - {name: fwhm, unit: arcmin, datatype: float64}
# - {name: fields, datatype: string}
# - {name: noise_I, unit: uK_CMB, datatype: float64}
# - {name: spectrum_I, datatype: string}
# schema: astropy-2.0
band frequency fwhm fields noise_I spectrum_I
100 100 1000 I 10 learned.txt
143 143 900 I 10 ""
"""


def write_maps(folder, count: int, **options) -> list[str]:
    np.random.seed(3)
    for index in range(count):
        noise = 1e-6 * healpy.synfast(LEVEL, NSIDE, lmax=DEGREE[-1])
        healpy.write_map(folder / f"noise{index:02d}.fits", noise, **{"column_units": "K_CMB"} | options)
    return sorted(map(str, folder.glob("noise*.fits")))


def test_what_it_learned_is_what_simulations_draw(tmp_path):
    app = Application(
        tmp_path, data={"init_args": {"instrument": "mine.ecsv", "scale_from_nside": None, "bands": [100, 143]}}
    )
    (tmp_path / "mine.ecsv").write_text(TABLE)
    maps = write_maps(tmp_path, 30)
    ended = invoke(tmp_path, ["noise", *maps, "--out", "learned.txt", "--n_workers", "2"])
    assert (ended.status, ended.err, ended.warned) == (0, "", [])
    assert ended.out.startswith("Learned from 30 maps up to l = 16, scatter ")
    learned = NoiseSpectrum.read(tmp_path / "learned.txt")
    (channel,) = Instrument.load(str(tmp_path / "mine.ecsv"), NSIDE, ["100"]).channels
    assert channel.noise_spectrum == str(tmp_path / "learned.txt")
    splits = "{train: {n_sims: 40}, valid: {n_sims: 1}, test: {n_sims: 1}}"
    assert app("simulate", "--data.init_args.splits", splits).status == 0
    drawn = []
    for path in tmp_path.glob("cache/tiny/train-*/sim*.safetensors"):
        with TensorFile(path) as file:
            drawn.append(alm2cl(analysis(nest_to_ring(file.read("noise")[0]).astype(float), 2 * NSIDE))[2:])
    assert len(drawn) == 40
    expected = LEVEL[2 : 2 * NSIDE + 1]
    modes = 2 * DEGREE[2 : 2 * NSIDE + 1] + 1
    error = np.sqrt(2 / modes * (1 / 30 + 1 / 40) + learned.scatter**2 / 40)
    assert np.abs((np.mean(drawn, axis=0) / expected - 1) / error).max() < 4.5


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, ["--out", "noise00.fits"], "out: noise00.fits is there already"),
        ({}, ["--out", "a.txt", "--field", "P"], "noise00.fits: .*Q"),
        ({}, ["--out", "a.txt", "--lmax", "30"], "lmax: 30 must lie between 2 and"),
        ({}, ["--out", "a.txt", "--n_workers", "0"], "n_workers: 0"),
        ({"column_units": "MJy/sr"}, ["--out", "a.txt"], "noise00.fits: MJy / sr is no CMB temperature; state"),
        ({"column_units": None}, ["--out", "a.txt"], "noise00.fits: .* has no unit"),
        ({}, ["nosuch.fits", "--out", "a.txt"], "nosuch.fits"),
        ({}, [], "noise: the following arguments are required: --out"),
    ],
)
def test_what_cannot_be_learned_from_is_one_line(tmp_path, options, arguments, message):
    maps = [path.rpartition("/")[2] for path in write_maps(tmp_path, 2, **options)]
    ended = invoke(tmp_path, ["noise", *maps, *arguments])
    assert ended.status == 2 and not (tmp_path / "a.txt").exists()
    assert len(ended.err.strip().splitlines()) == 1
    assert re.search(message, ended.err), ended.err
