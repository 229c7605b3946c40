"""Maps of a finer resolution or beam brought to another, and pixels without data filled."""

from collections.abc import Sequence

import numpy as np

from cmb_lightning.sky.transforms import (
    almxfl,
    analysis,
    analysis_qu,
    nest_to_ring,
    ring_to_nest,
    synthesis,
    synthesis_qu,
)


def lower(
    maps: np.ndarray,
    bad: np.ndarray,
    fields: Sequence[str],
    nside: int,
    transfer: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Bring maps to a lower resolution and another beam, in harmonic space; pixel windows are left as they are.

    Args:
        maps: Shape (field, npix), NESTED.
        bad: Where they have no data, bool, shape (npix,).
        fields: What the maps are of: I, or Q and U, or all three.
        nside: The resolution wanted, that of the maps or lower.
        transfer: The beam window wanted over that of the maps, up to the highest multipole that is kept, shape
            (field, lmax + 1).

    Returns:
        The maps, shape (field, 12 nside^2), NESTED, float32, and which of their pixels lack data in more than half of
        their area. Elsewhere, what was missing is filled from around it.
    """
    lmax = transfer.shape[1] - 1
    ring = nest_to_ring(fill(np.where(bad, 0, maps), bad))
    lowered = np.empty((len(fields), 12 * nside**2), dtype=np.float32)
    for spin, names in ((0, "I"), (2, "QU")):
        rows = [list(fields).index(name) for name in names if name in fields]
        if rows:
            analyse, synthesise = (analysis_qu, synthesis_qu) if spin else (analysis, synthesis)
            alm = np.atleast_2d(analyse(*ring[rows], lmax))
            lowered[rows] = np.atleast_2d(synthesise(*almxfl(alm, transfer[rows]), nside, lmax))
    return ring_to_nest(lowered), bad.reshape(12 * nside**2, -1).mean(axis=1) > 0.5


def fill(maps: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Fill pixels without data with the mean of the smallest larger pixel that has any.

    Args:
        maps: Shape (channel, pixel), NESTED.
        bad: Where there is no data, shape (pixel,).

    Returns:
        The filled maps.
    """
    maps, bad = maps.copy(), bad.copy()
    size = 1
    while bad.any():
        size = min(4 * size, bad.size)  # of the larger pixel; at last the whole sphere
        if size > bad.size // 12:
            size = bad.size
        good = ~bad.reshape(-1, size)
        total = (maps.reshape(len(maps), -1, size) * good).sum(axis=2, dtype=np.float64)
        means = np.repeat(total / np.maximum(good.sum(axis=1), 1), size, axis=1)
        filled = bad & np.repeat(good.any(axis=1), size)
        maps[:, filled] = means[:, filled]
        bad &= ~filled
    return maps
