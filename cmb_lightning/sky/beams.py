"""Beam windows."""

from functools import lru_cache
from pathlib import Path

import ducc0
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


@lru_cache(maxsize=4)
def pixel_window(nside: int, lmax: int) -> np.ndarray:
    """Return what averaging over pixels does to a map, (lmax + 1,): the root mean square over all pixels.

    The mean power of the pixels' windows is the mean of P_l(cos theta) over pairs of points in one pixel. A sample of
    pixels, in parts of an eighth of their side, gives it to 1e-3 at 3 nside.
    """
    parts, sample = 8, 400
    step = max(12 * nside**2 // sample, 1)
    pixels = np.arange(step // 2, 12 * nside**2, step)
    children = pixels[:, None] * parts**2 + np.arange(parts**2)
    points = ducc0.healpix.Healpix_Base(nside * parts, "NEST").pix2vec(children)
    distance = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    count, edges = np.histogram(distance, bins=2000)
    cosine = 1 - ((edges[:-1] + edges[1:]) / 2)[count > 0] ** 2 / 2
    weight = count[count > 0] / count.sum()
    before, legendre, power = np.zeros_like(cosine), np.ones_like(cosine), np.empty(lmax + 1)
    for degree in range(lmax + 1):
        power[degree] = weight @ legendre
        before, legendre = legendre, ((2 * degree + 1) * cosine * legendre - degree * before) / (degree + 1)
    # The parts, taken as points, are Gaussian beams of a mean square radius parts^2 smaller than the pixel's.
    squares = weight @ (2 - 2 * cosine) / 2 / parts**2
    degree = np.arange(lmax + 1)
    return np.sqrt(power) * np.exp(-degree * (degree + 1) * squares / 4)
