import healpy
import numpy as np
import torch

from cmb_lightning.sphere.interpolation import Interpolate

COARSE, NSIDE = 8, 32


def wave(nside: int) -> np.ndarray:
    """A smooth function of the place on the sphere, of zero mean and about unit size."""
    x, y, z = healpy.pix2vec(nside, np.arange(12 * nside**2), nest=True)
    return np.sin(1.5 * x + 0.4) * np.cos(1.2 * y) - 0.8 * z


def test_a_smooth_map_stays_what_it_is():
    made = Interpolate(COARSE, NSIDE)(torch.from_numpy(wave(COARSE))[None, None])[0, 0].numpy()
    theirs = healpy.get_interp_val(wave(COARSE), *healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), nest=True), nest=True)
    truth = wave(NSIDE)
    mine, healpys = (np.sqrt(np.mean((values - truth) ** 2)) for values in (made, theirs))
    assert mine < 1.5 * healpys and mine < 0.01
    assert np.abs(made - truth).max() < 0.06  # at the corners and edges of faces, too


def test_a_constant_stays_one():
    made = Interpolate(4, 16)(torch.full((2, 3, 12 * 4**2), 2.5))
    torch.testing.assert_close(made, torch.full((2, 3, 12 * 16**2), 2.5))
