import healpy
import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.beams import gaussian_beam


@pytest.mark.parametrize("fwhm", [0.0, 5.0, 180.0])
def test_gaussian_beam_is_healpys(fwhm):
    expected = healpy.gauss_beam(np.deg2rad(fwhm / 60), 64, pol=True)
    assert np.allclose(gaussian_beam(fwhm, 64), expected[:, 0], rtol=1e-12)
    assert np.allclose(gaussian_beam(fwhm, 64, spin=2), expected[:, 1], rtol=1e-12)


def test_negative_width():
    with pytest.raises(ConfigError, match="fwhm: -1.0 arcmin"):
        gaussian_beam(-1.0, 4)
