"""Cosine needlets: a sky taken apart by angular scale and put together again exactly."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from cmb_lightning.sky.transforms import almxfl, analysis, synthesis


def cosine_windows(peaks: Sequence[int], lmax: int) -> np.ndarray:
    """Windows h_j(l), each one at its peak and zero from its neighbours' peaks on; sum_j h_j^2 = 1.

    The first window is one down to l = 0, the last one up to `lmax` (Basak and Delabrouille 2013, eq. 5).

    Args:
        peaks: Multipoles of the windows' maxima, rising.
        lmax: Highest multipole.

    Returns:
        Windows, shape (scale, lmax + 1).

    Raises:
        ValueError: If the peaks do not rise or leave the range 1 to `lmax`.
    """
    if not len(peaks) or any(b <= a for a, b in zip(peaks, peaks[1:], strict=False)) or not 1 <= peaks[0]:
        raise ValueError(f"peaks: {list(peaks)} must be positive and rise.")
    if peaks[-1] > lmax:
        raise ValueError(f"peaks: the last one, {peaks[-1]}, is above lmax {lmax}.")
    ell = np.arange(lmax + 1)
    # The phase climbs by one from peak to peak; each window is the cosine around its own.
    phase = np.interp(ell, peaks, np.arange(len(peaks)))
    distance = np.abs(phase - np.arange(len(peaks))[:, None])
    return np.where(distance < 1, np.cos(np.pi / 2 * distance), 0.0)


def default_peaks(lmax: int) -> tuple[int, ...]:
    """Four scales as in the trial at lmax 128 (15, 40, 80, 128), and one more for every doubling above."""
    peaks = [lmax * p // 128 for p in (15, 40, 80, 128)]
    while peaks[0] > 20:
        peaks.insert(0, max(peaks[0] * 3 // 8, 8))
    return tuple(sorted({max(p, 2) for p in peaks}))


class Needlets:
    """Transforms between alm and needlet maps, each scale on the coarsest nside that holds it.

    Args:
        peaks: Multipoles of the windows' maxima, rising.
        nside: Resolution of the maps.
        lmax: Highest multipole.
    """

    def __init__(self, peaks: Sequence[int], nside: int, lmax: int) -> None:
        self.windows = cosine_windows(peaks, lmax)
        self.nside, self.lmax = nside, lmax
        self.top = [int(np.nonzero(w > 1e-9)[0].max()) for w in self.windows]
        # 2 nside >= l is where the analysis converges
        self.nsides = [min(nside, max(4, 2 ** int(np.ceil(np.log2(top / 2))))) for top in self.top]

    def __len__(self) -> int:
        return len(self.windows)

    def to_maps(self, alm: np.ndarray, scale: int, transfer: np.ndarray | None = None) -> np.ndarray:
        """Needlet maps of one scale, shape (..., 12 nside_j^2), RING.

        Args:
            alm: Coefficients, shape (..., nalm).
            scale: Number of the scale.
            transfer: What to multiply the multipoles with besides, shape (..., lmax + 1).
        """
        return synthesis(self.to_scale(alm, scale, transfer), self.nsides[scale], self.top[scale])

    def to_scale(self, alm: np.ndarray, scale: int, transfer: np.ndarray | None = None) -> np.ndarray:
        """Coefficients of one scale up to its highest multipole, with arguments as for `to_maps`."""
        window = self.windows[scale] if transfer is None else self.windows[scale] * transfer
        return almxfl(alm, window)[..., _inside(self.top[scale], self.lmax)]

    def to_alm(self, maps: np.ndarray, scale: int, iterations: int = 2) -> np.ndarray:
        """What a scale's maps add to the alm, shape (..., nalm): the windows' squares then sum to one."""
        top = self.top[scale]
        part = almxfl(analysis(maps, top, iterations), self.windows[scale][: top + 1])
        alm = np.zeros((*part.shape[:-1], (self.lmax + 1) * (self.lmax + 2) // 2), part.dtype)
        alm[..., _inside(top, self.lmax)] = part
        return alm


@lru_cache(maxsize=64)
def _inside(top: int, lmax: int) -> np.ndarray:
    """Where the alm up to `top` lie among those up to `lmax`."""
    return np.concatenate([m * (2 * lmax + 1 - m) // 2 + np.arange(m, top + 1) for m in range(top + 1)])
