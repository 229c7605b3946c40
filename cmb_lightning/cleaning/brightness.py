"""Regions of the sky by how bright its foregrounds are, seen in a difference of two bands that holds no CMB."""

import numpy as np

from cmb_lightning.cleaning.debeaming import capped_ratio
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.beams import gaussian_beam
from cmb_lightning.sky.transforms import almxfl, analysis, nest_to_ring, ring_to_nest, synthesis

# All FWHM in arcmin: of the difference, of what is too wide to be contrast, and of the local rms.
DIFFERENCE_FWHM, CONTRAST_FWHM, POWER_FWHM = 180.0, 900.0, 300.0
BLOCK = 2**14  # pixels whose belonging to regions fits a processor's cache


class Brightness:
    """The contrast of foregrounds around each pixel.

    Args:
        layout: The maps' layout.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        beams = layout.beams()
        smooth = gaussian_beam(max(DIFFERENCE_FWHM, *layout.fwhm), layout.lmax)
        to_smooth = capped_ratio(np.broadcast_to(smooth, beams.shape), beams)
        reach = (to_smooth > 0).all(axis=0)  # of all bands alike, so that no difference holds CMB
        self._transfer = reach * to_smooth * (1 - gaussian_beam(CONTRAST_FWHM, layout.lmax))

    def __call__(self, alm: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
        """Log of the local rms of the pair's difference, shape (npix,), NESTED so that averaging it is a reshape."""
        nside, lmax = self.layout.nside, self.layout.lmax
        power = synthesis(self._difference(alm, pair)[None], nside, lmax) ** 2
        smooth = synthesis(almxfl(analysis(power, lmax, 0), gaussian_beam(POWER_FWHM, lmax)), nside, lmax)[0]
        smooth = np.maximum(smooth, 1e-6 * max(float(smooth.mean()), 1e-30))
        return 0.5 * np.log(ring_to_nest(smooth).astype(np.float64))

    def brightest_pair(self, errors: list[np.ndarray]) -> tuple[int, int]:
        """The neighbours among the bands whose difference shows most contrast: no CMB in it, mostly Galaxy."""
        power = []
        for low in range(len(self.layout.channels) - 1):
            difference = [self._difference(alm, (low, low + 1)) for alm in errors]
            power.append(np.mean([np.linalg.norm(d) for d in difference]))
        low = int(np.argmax(power))
        return low, low + 1

    def _difference(self, alm: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
        a, b = (almxfl(alm[c], self._transfer[c]) for c in pair)
        return b - a


def degrade(nested: np.ndarray, nside: int) -> np.ndarray:
    """Means over the pixels of a coarser nside, RING: needlet maps are RING."""
    return nest_to_ring(coarser(nested, nside))


def coarser(nested: np.ndarray, nside: int) -> np.ndarray:
    """The same, NESTED."""
    return nested.reshape(12 * nside**2, -1).mean(axis=1)


def members(log: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """How far each pixel belongs to each region, shape (region, npix): linear between levels, sum one."""
    place = np.interp(log, levels, np.arange(len(levels)))
    return np.maximum(0.0, 1 - np.abs(place - np.arange(len(levels))[:, None]))


def place(log: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The region whose level is the next below each pixel, and the fraction of the way to the next, each (npix,)."""
    place = np.interp(log, levels, np.arange(len(levels)))
    below = place.astype(np.intp)
    place -= below
    return below, place.astype(np.float32)


def weights_at(place: tuple[np.ndarray, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Each channel's weight, linear between regions, float32, shape (channel, npix), from (region, channel).

    It is the sum over regions of weights times `members`, a block of pixels at a time: those of all of a fine sky would
    take more memory than the result.
    """
    below, fraction = place
    regions, channels = weights.shape
    by_channel = np.ascontiguousarray(weights.T, dtype=np.float32)
    found = np.empty((channels, len(below)), np.float32)
    for start in range(0, len(below), BLOCK):
        block = slice(start, start + BLOCK)
        pixels = np.arange(len(below[block]))
        belonging = np.zeros((regions + 1, len(pixels)), np.float32)  # one more: above the last nothing is added
        belonging[below[block], pixels] = 1 - fraction[block]
        belonging[below[block] + 1, pixels] = fraction[block]
        np.matmul(by_channel, belonging[:-1], out=found[:, block])
    return found
