"""A hundred small simulations of everything at once: their spectra are those that went in, within sampling error."""

from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import pytest

from cmb_lightning.sky import CambSpectrum, Emission, Instrument, ModifiedBlackbody, Simulator, Sky, StatisticalGalaxy
from cmb_lightning.sky.foregrounds import analyse
from cmb_lightning.sky.noise import Noise
from cmb_lightning.sky.noise_spectrum import NoiseSpectrum
from cmb_lightning.sky.rng import Draws
from cmb_lightning.sky.statistical import _directions
from cmb_lightning.sky.transforms import alm2cl, analysis, analysis_qu, nest_to_ring

NSIDE, LMAX, COUNT = 16, 32, 100
NPIX = 12 * NSIDE**2
DEGREE = np.arange(2, LMAX + 1)
MODES = (2 * DEGREE + 1) * COUNT
FIELDS = ("I", "Q", "U")
SIGMAS = 4.5  # chance alone takes none of some hundred numbers further
KNEE = {"l_knee": 12.0, "alpha": 1.5}


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> dict[str, str]:
    """Files of what 20 noise maps teach, for I and for Q and U."""
    folder = tmp_path_factory.mktemp("noise")
    channels = Instrument.load("reference", NSIDE, ["217"], FIELDS).channels
    source = Noise([replace(channel, l_knee=8.0, alpha=1.0) for channel in channels], NSIDE)
    paths = [folder / f"{index}.fits" for index in range(20)]
    for index, path in enumerate(paths):
        maps = nest_to_ring(source.draw(Draws(5, "noise", index)))
        healpy.write_map(path, maps, column_names=list(FIELDS), column_units="uK_CMB", dtype=np.float32)
    for field in "IP":
        spectrum = NoiseSpectrum.learned(paths, field, channels[0].frequency)
        replace(spectrum, scatter=0.2).save(folder / f"{field}.txt")
    return {field: str(folder / f"{'I' if field == 'I' else 'P'}.txt") for field in FIELDS}


@pytest.fixture(scope="module")
def simulator(learned) -> Simulator:
    """Two bands in I, Q, U: one with 1/f noise, one with learned noise."""
    instrument = Instrument.load("reference", NSIDE, ["143", "217"], FIELDS)
    channels = [
        replace(c, **KNEE) if c.band == "143" else replace(c, noise_spectrum=learned[c.field])
        for c in instrument.channels
    ]
    return Simulator(replace(instrument, channels=tuple(channels)), NSIDE, LMAX, 0.0, Sky(CambSpectrum(), []), 3)


@pytest.fixture(scope="module")
def spectra(simulator) -> dict[str, np.ndarray]:
    """Mean spectra of T, E, B and TE, (4, degree), of the target and of the noise of both bands; `shared` of splits."""

    def coefficients(split: str, index: int) -> np.ndarray:
        made = simulator.simulate(split, index)
        maps = nest_to_ring(np.concatenate([made["target"], made["noise"]])).astype(float)
        return analyse(simulator.targets + simulator.channels, maps, LMAX)

    sums: dict[str, list[np.ndarray]] = {"target": [], "143": [], "217": [], "shared": []}
    for index in range(COUNT):
        alm, other = coefficients("train", index), coefficients("valid", index)
        for start, name in enumerate(("target", "143", "217")):
            t, e, b = alm[3 * start : 3 * start + 3]
            sums[name].append([alm2cl(t), alm2cl(e), alm2cl(b), alm2cl(t, e)])
        sums["shared"].append(alm2cl(alm, other) / np.sqrt(alm2cl(alm) * alm2cl(other)).clip(1e-30))
    return {name: np.mean(several, axis=0)[:, 2:] for name, several in sums.items()}


def assert_gaussian(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs((found / expected - 1) / np.sqrt(2 / MODES)).max() < SIGMAS


def test_the_cmb_has_the_spectra_of_camb(spectra, simulator):
    found, theory = spectra["target"], simulator.theory[:, 2:]
    for row in range(3):
        assert_gaussian(found[row], theory[row])
    sigma = np.sqrt((theory[0] * theory[1] + theory[3] ** 2) / MODES)
    assert np.abs((found[3] - theory[3]) / sigma).max() < SIGMAS


def test_correlated_noise_has_its_knee_in_t_e_and_b(spectra, simulator):
    for row, channel in zip(spectra["143"], simulator.channels[:3], strict=False):
        assert_gaussian(row, channel.noise**2 * 4 * np.pi / NPIX * (1 + (DEGREE / 12.0) ** -1.5))


def test_learned_noise_has_what_was_learned_in_t_e_and_b(spectra, simulator, learned):
    mean, square = np.exp(0.2**2 / 2), np.exp(2 * 0.2**2)  # of a factor with ln-scatter 0.2
    sigma = np.sqrt((square * (1 + 2 / (2 * DEGREE + 1)) - mean**2) / COUNT)
    for row, field in zip(spectra["217"], FIELDS, strict=False):
        ratio = row / NoiseSpectrum.read(Path(learned[field])).level(LMAX)[2:]
        assert np.abs((ratio - mean) / sigma).max() < SIGMAS


def test_two_splits_have_nothing_in_common(spectra):
    correlation = spectra["shared"]
    assert np.abs(correlation * np.sqrt(MODES)).max() < SIGMAS


def test_the_statistical_galaxy_has_its_slopes_in_t_e_and_b():
    """The logarithm of its intensity, and E and B of its field before it becomes a fraction, are Gaussian fields."""
    emission = Emission(
        name="dust", law=ModifiedBlackbody(1.55, "20 K"), reference="353 GHz", amplitude=5.0, steepness=1.5, width=0.1,
        centre=0.0, contrast=0.6, slope=-2.5, polarisation=0.2,
    )  # fmt: skip
    galaxy = StatisticalGalaxy([emission], variety=0.0)
    channels = Instrument.load("reference", NSIDE, ["353"], FIELDS).channels
    profile = -0.75 * np.log(_directions(NSIDE)[0].astype(float) + 0.1**2)
    found = []
    for index in range(COUNT):
        i, q, u = galaxy.emission(channels, NSIDE, LMAX, Draws(4, "train", index)).astype(float)
        fraction = np.hypot(q, u) / i
        field = 1 / i / np.sqrt(0.2**2 - fraction**2)  # fraction = 0.2 r / sqrt(1 + r^2), solved for r / fraction
        e, b = analysis_qu(q * field - 0.4, u * field, LMAX)
        found.append([alm2cl(alm) for alm in (analysis(np.log(i) - profile, LMAX), e, b)])
    for row, (std, slope) in zip(np.mean(found, axis=0), ((0.6, -2.5), (0.7, -2.4), (0.5, -2.4)), strict=True):
        every = np.arange(1, LMAX + 1)
        scale = 4 * np.pi * std**2 / np.sum((2 * every + 1) * every**slope)
        assert_gaussian(row[2:], scale * DEGREE**slope)
