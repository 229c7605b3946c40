"""Beam windows."""

from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .channel import Channel


def window(channel: Channel, lmax: int) -> np.ndarray:
    """Return the beam window b_l of a channel, shape (lmax + 1,), float64: from its file, else Gaussian."""
    if channel.beam_file:
        return read_beam(Path(channel.beam_file), lmax)
    return gaussian_beam(channel.fwhm, lmax, channel.spin)


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


def read_beam(path: Path, lmax: int) -> np.ndarray:
    """Read a beam window.

    Args:
        path: text with columns l and b_l, every l from 0 on; it serves T, E and B alike.
        lmax: last degree.

    Returns:
        Shape (lmax + 1,), float64.
    """
    if not path.is_file():
        raise FileNotFoundError(f"beam: there is no file {path}; check the instrument's table")
    try:
        degree, values = np.loadtxt(path, ndmin=2).T
    except ValueError as error:
        raise ConfigError(f"{path}: must have two columns, l and b_l ({error})") from error
    if not np.array_equal(degree, np.arange(len(degree))):
        raise ConfigError(f"{path}: l must be 0, 1, 2, ... in the first column")
    if len(degree) <= lmax:
        raise ConfigError(f"{path}: ends at l = {len(degree) - 1}, the maps need {lmax}; lower lmax or extend it")
    if not np.isfinite(values).all() or abs(values[0] - 1) > 0.05:
        raise ConfigError(f"{path}: b_0 is {values[0]:g}; a beam window is finite and starts at 1")
    return values[: lmax + 1]
