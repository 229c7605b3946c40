from dataclasses import replace

import healpy
import numpy as np
import pysm3.units as u
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.foregrounds import analyse
from cmb_lightning.sky.instrument import Instrument
from cmb_lightning.sky.noise import Noise, read_sigma
from cmb_lightning.sky.noise_spectrum import NoiseSpectrum
from cmb_lightning.sky.rng import Draws
from cmb_lightning.sky.transforms import alm2cl, analysis, nest_to_ring

NSIDE = 16
NPIX = 12 * NSIDE**2


def test_draw_noise_has_the_depth_and_no_colour():
    channels = Instrument.load("reference", NSIDE, ["100", "143"], ("I", "Q", "U")).channels
    maps = np.stack([Noise(channels, NSIDE).draw(Draws(1, "train", i)) for i in range(30)])
    assert maps.dtype == np.float32 and maps.shape == (30, 6, NPIX)
    sigma = np.array([channel.noise for channel in channels])
    assert np.allclose(maps.std(axis=(0, 2)), sigma, rtol=4.5 / np.sqrt(2 * 30 * NPIX))
    assert np.abs(maps[:, 0].mean(axis=1)).max() < 1e-5 * sigma[0]  # no monopole in I
    cl = alm2cl(analysis(nest_to_ring(maps[:, 0]).astype(float), 2 * NSIDE)).mean(axis=0)
    expected = sigma[0] ** 2 * 4 * np.pi / NPIX
    degree = np.arange(2, 2 * NSIDE + 1)
    assert np.all(np.abs(cl[2:] / expected - 1) < 4.5 * np.sqrt(2 / (2 * degree + 1) / 30))
    correlation = np.corrcoef(maps.transpose(1, 0, 2).reshape(6, -1))
    assert np.abs(correlation - np.eye(6)).max() < 4.5 / np.sqrt(30 * NPIX)


def test_a_channel_keeps_its_noise_whatever_others_there_are():
    both = Noise(Instrument.load("reference", NSIDE, ["100", "143"]).channels, NSIDE).draw(Draws(1, "a", 0))
    one = Noise(Instrument.load("reference", NSIDE, ["143"]).channels, NSIDE).draw(Draws(1, "a", 0))
    assert np.array_equal(both[1], one[0])


@pytest.mark.parametrize("field", ["I", "Q"])
def test_correlated_noise_has_a_knee(field):
    """N_l = N_white (1 + (l / l_knee)^-alpha), for T as for E and B, within sampling error."""
    channels = Instrument.load("reference", NSIDE, ["143"], ("I",) if field == "I" else ("Q", "U")).channels
    channels = [replace(channel, l_knee=10.0, alpha=1.5) for channel in channels]
    lmax, count = 2 * NSIDE, 60
    maps = np.stack([nest_to_ring(Noise(channels, NSIDE).draw(Draws(1, "t", i))) for i in range(count)])
    cl = alm2cl(np.stack([analyse(channels, m.astype(float), lmax) for m in maps])).mean(axis=0)
    degree = np.arange(2, lmax + 1)
    white = channels[0].noise ** 2 * 4 * np.pi / NPIX
    expected = white * (1 + (degree / 10.0) ** -1.5)
    assert np.all(np.abs(cl[:, 2:] / expected - 1) < 4.5 * np.sqrt(2 / (2 * degree + 1) / count))


def test_knee_leaves_the_white_part_alone():
    channel = Instrument.load("reference", NSIDE, ["143"]).channels[0]
    white = Noise([channel], NSIDE).draw(Draws(1, "t", 0))
    both = Noise([replace(channel, l_knee=1e-10, alpha=1.0)], NSIDE).draw(Draws(1, "t", 0))
    assert np.allclose(white, both, atol=1e-4 * channel.noise)


@pytest.fixture
def channel():
    return Instrument.load("reference", NSIDE, ["143"]).channels[0]


@pytest.fixture
def write(tmp_path):
    def write(variance, unit="uK_CMB2", **options):
        path = tmp_path / "variance.fits"
        options = {"column_names": ["II"], "column_units": unit, "overwrite": True, "dtype": np.float64} | options
        healpy.write_map(path, variance, **options)
        return f"{path}:II"

    return write


def test_variance_map_in_its_unit_and_order(channel, write):
    variance = np.random.default_rng(0).uniform(1, 4, NPIX)
    sigma = read_sigma(replace(channel, variance_map=write(variance)), NSIDE)
    assert np.allclose(nest_to_ring(sigma) ** 2, variance, rtol=1e-5)
    sigma = read_sigma(replace(channel, variance_map=write(1e-12 * variance, "K_CMB2")), NSIDE)
    assert np.allclose(nest_to_ring(sigma) ** 2, variance, rtol=1e-5)
    to_cmb = (1 * u.uK_RJ).to_value(u.uK_CMB, u.cmb_equivalencies(channel.frequency * u.GHz))
    sigma = read_sigma(replace(channel, variance_map=write(variance, "uK_RJ2")), NSIDE)
    assert np.allclose(nest_to_ring(sigma) ** 2, to_cmb**2 * variance, rtol=1e-5)


def test_finer_variance_maps_average_down(channel, write):
    variance = np.random.default_rng(0).uniform(1, 4, 4 * NPIX)
    sigma = read_sigma(replace(channel, variance_map=write(variance)), NSIDE)
    expected = healpy.ud_grade(variance, NSIDE) / 4  # noise of a mean of four independent pixels
    assert np.allclose(nest_to_ring(sigma) ** 2, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("variance", "unit", "message"),
    [
        (np.full(NPIX, -1.0), "uK_CMB2", "below 0"),
        (np.full(NPIX, np.nan), "uK_CMB2", "without data"),
        (np.ones(NPIX // 4), "uK_CMB2", "nside 8 is below the 16"),
        (np.ones(NPIX), "uK_CMB", "'uK_CMB' is no variance"),
    ],
)
def test_bad_variance_maps(channel, write, variance, unit, message):
    with pytest.raises(ConfigError, match=message):
        read_sigma(replace(channel, variance_map=write(variance, unit)), NSIDE)


def test_spectrum_from_a_file(channel, tmp_path):
    degree, path, count = np.arange(3 * NSIDE), tmp_path / "noise.txt", 60
    level = 1e-3 * (1 + (degree + 5.0) / 20) ** -2
    NoiseSpectrum(level).save(path)
    noise = Noise([replace(channel, noise_spectrum=str(path))], NSIDE)
    maps = np.stack([nest_to_ring(noise.draw(Draws(1, "t", i))[0]).astype(float) for i in range(count)])
    cl = alm2cl(analysis(maps, 2 * NSIDE)).mean(axis=0)[2:]
    expected = level[2 : 2 * NSIDE + 1]
    modes = 2 * np.arange(2, 2 * NSIDE + 1) + 1
    assert np.all(np.abs(cl / expected - 1) < 4.5 * np.sqrt(2 / modes / count))


@pytest.mark.parametrize("field", ["I", "P"])
def test_spectrum_learned_from_maps(tmp_path, field):
    """Spectrum and scatter of what learned noise draws are those of the maps it learned from."""
    fields = ("I",) if field == "I" else ("Q", "U")
    channels = Instrument.load("reference", NSIDE, ["143"], fields).channels
    degree = np.arange(3 * NSIDE)
    given = NoiseSpectrum(1e-3 * (1 + (10 / (degree + 1.0)) ** 1.5), scatter=0.2)
    given.save(tmp_path / "given.txt")
    source = Noise([replace(c, noise_spectrum=str(tmp_path / "given.txt")) for c in channels], NSIDE)
    paths = []
    for index in range(60):
        paths.append(tmp_path / f"noise{index}.fits")
        maps = nest_to_ring(source.draw(Draws(1, "t", index)))
        healpy.write_map(paths[-1], 1e-6 * maps, column_names=list(fields), column_units="K_CMB")
    learned = NoiseSpectrum.learned(paths, field, channels[0].frequency)
    learned.save(tmp_path / "learned.txt")
    assert NoiseSpectrum.read(tmp_path / "learned.txt").scatter == learned.scatter
    modes = (2 * degree[2 : 2 * NSIDE + 1] + 1) * len(fields)
    ratio = np.log(learned.cl[2:] / given.cl[2 : 2 * NSIDE + 1])
    assert np.all(np.abs(ratio) < 4.5 * np.sqrt((2 / modes + 0.2**2) / 60))
    assert abs(np.mean(ratio)) < 4 * 0.2 / np.sqrt(60)
    assert learned.scatter == pytest.approx(0.2, rel=0.35)
    again = Noise([replace(c, noise_spectrum=str(tmp_path / "learned.txt")) for c in channels], NSIDE)
    powers = [np.log(again.draw(Draws(2, "t", i))[0].var()) for i in range(60)]
    assert np.std(powers) == pytest.approx(0.2, rel=0.35)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n1 1\n", "comment `unit:`"),
        ("# unit: uK_CMB\n0 1\n1 1\n", "is not a quantity in uK_CMB2"),
        ("# unit: uK_CMB2\n2 1\n3 1\n", "l must be 0, 1, 2"),
        ("# unit: uK_CMB2\n0 1\n1 -1\n", "0 or more"),
        ("# unit: uK_CMB2\n# scatter: much\n0 1\n1 1\n", "two columns"),
    ],
)
def test_bad_spectra(tmp_path, text, message):
    (tmp_path / "noise.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        NoiseSpectrum.read(tmp_path / "noise.txt")


def test_learning_needs_maps(tmp_path):
    with pytest.raises(ConfigError, match="noise maps: 1 of field 'I'; give at least two"):
        NoiseSpectrum.learned([tmp_path / "a.fits"], "I", 100.0)
