import healpy
import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.beams import gaussian_beam, read_beam


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
