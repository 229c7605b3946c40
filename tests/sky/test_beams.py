import healpy
import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.beams import gaussian_beam, pixel_window, read_beam
from cmb_lightning.sky.transforms import alm2cl, draw_unit_alm


@pytest.mark.parametrize("fwhm", [0.0, 5.0, 180.0])
def test_gaussian_beam_is_healpys(fwhm):
    expected = healpy.gauss_beam(np.deg2rad(fwhm / 60), 64, pol=True)
    assert np.allclose(gaussian_beam(fwhm, 64), expected[:, 0], rtol=1e-12)
    assert np.allclose(gaussian_beam(fwhm, 64, spin=2), expected[:, 1], rtol=1e-12)


def test_negative_width():
    with pytest.raises(ConfigError, match="fwhm: -1.0 arcmin"):
        gaussian_beam(-1.0, 4)


def test_window_from_a_file(tmp_path):
    path = tmp_path / "beam.txt"
    np.savetxt(path, np.column_stack([np.arange(65), gaussian_beam(100.0, 64)]))
    assert np.allclose(read_beam(path, 32), gaussian_beam(100.0, 32), rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 1\n1 1 1\n", "must have two columns"),
        ("1 1\n2 1\n", "l must be 0, 1, 2"),
        ("0 1\n1 1\n", "ends at l = 1, the maps need 2"),
        ("0 4.3\n1 1\n2 1\n", "b_0 is 4.3"),
        ("0 1\n1 1\n2 nan\n", "finite"),
    ],
)
def test_bad_windows(tmp_path, text, message):
    (tmp_path / "beam.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_beam(tmp_path / "beam.txt", 2)


def test_pixel_window_is_that_of_averages_over_pixels():
    """White skies sampled finely and averaged: the power at lower nside over the power of the sky."""
    nside, lmax, rng, ratios = 8, 16, np.random.default_rng(0), []
    for _ in range(40):
        alm = draw_unit_alm(rng, lmax)
        averaged = healpy.ud_grade(healpy.alm2map(alm, 128), nside)
        ratios.append(alm2cl(healpy.map2alm(averaged, lmax), alm) / alm2cl(alm))
    found = np.mean(ratios, axis=0)[2:]
    assert np.allclose(found, pixel_window(nside, lmax)[2:], atol=0.01)


def test_pixel_window_scales_with_the_pixel():
    assert pixel_window(64, 192)[0] == pytest.approx(1)
    scaled = np.interp((np.arange(49) + 0.5) / 16, (np.arange(193) + 0.5) / 64, pixel_window(64, 192))
    assert np.allclose(scaled[1:48], pixel_window(16, 48)[1:48], atol=2e-3)
    assert np.all(np.diff(pixel_window(64, 192)) < 0)
