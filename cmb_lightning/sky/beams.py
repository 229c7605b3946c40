"""Beam windows."""

import numpy as np

from ..errors import ConfigError


def gaussian_beam(fwhm: float, lmax: int, spin: int = 0) -> np.ndarray:
    """Return the window b_l of a Gaussian beam.

    Args:
        fwhm: full width at half maximum [arcmin]; 0 is no beam.
        lmax: last degree.
        spin: 0 for T, 2 for E and B.

    Returns:
        Shape (lmax + 1,), float64. For spin 2 it is the window of Challinor et al. 2000 (astro-ph/0008228).
    """
    if not fwhm >= 0:
        raise ConfigError(f"fwhm: {fwhm} arcmin is negative; give 0 or more")
    sigma = np.deg2rad(fwhm / 60) / np.sqrt(8 * np.log(2))
    degree = np.arange(lmax + 1)
    return np.exp(-0.5 * sigma**2 * (degree * (degree + 1) - spin**2))
