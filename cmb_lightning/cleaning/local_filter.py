"""Wiener filters that follow the foregrounds from place to place."""

import ducc0
import numpy as np


def wiener(maps: np.ndarray, nside: int) -> np.ndarray:
    """The filters 1 - D^-1 that are best for maps whose noise has covariance one.

    D is their covariance in windows of nine pixels; where it is less than the noise's, nothing is let through.

    Args:
        maps: Shape (map, npix), NESTED.
        nside: Resolution of the windows' pixels.

    Returns:
        Shape (12 nside^2, map, map), float64.
    """
    blocks = _blocks(maps, nside).astype(np.float64)
    moments = blocks @ blocks.transpose(0, 2, 1) / blocks.shape[-1]
    base = ducc0.healpix.Healpix_Base(nside, "NEST")
    pixels = np.arange(len(blocks))
    around = np.concatenate([pixels[:, None], base.neighbors(pixels)], axis=1)
    around = np.where(around < 0, pixels[:, None], around)  # eight neighbours are seven here and there
    size, directions = np.linalg.eigh(moments[around].mean(axis=1))
    return (directions * (1 - 1 / np.maximum(size, 1))[:, None]) @ directions.transpose(0, 2, 1)


def apply_by_place(filters: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Maps (map, npix), NESTED, times the matrix of the place (place, row, map) that a pixel lies in: (row, npix)."""
    nside = int((len(filters) / 12) ** 0.5)
    return (filters @ _blocks(maps, nside)).transpose(1, 0, 2).reshape(filters.shape[1], -1)


def _blocks(maps: np.ndarray, nside: int) -> np.ndarray:
    """The pixels of maps (map, npix), NESTED, within each of a coarser nside, shape (12 nside^2, map, pixel)."""
    return np.ascontiguousarray(maps.reshape(len(maps), 12 * nside**2, -1).transpose(1, 0, 2))
