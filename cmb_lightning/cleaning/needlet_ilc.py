"""The needlet ILC: weights by angular scale and, where there are modes enough, by place."""

import logging
from functools import partial
from typing import Any

import numpy as np

from cmb_lightning.cleaning.classical import ClassicalMethod, check_bias, check_regions, cmb_shape
from cmb_lightning.cleaning.combination import Combination, NeedletCombination, unit_weights
from cmb_lightning.cleaning.linear import LinearEstimate, LinearWeights, Samples
from cmb_lightning.cleaning.local import WINDOWS, Products, absorbed
from cmb_lightning.cleaning.needlets import Needlets, default_peaks
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.transforms import nest_to_ring, ring_to_nest, synthesis

log = logging.getLogger(__name__)


class NeedletILC(ClassicalMethod):
    """The ILC by needlet scale, with covariances in Gaussian windows (Delabrouille et al. 2009).

    Each scale's window is the narrowest of `WINDOWS` from which the weights absorb no more of the CMB than `bias`,
    which is computed from the map itself (see `absorbed`): a bright, narrow Galaxy counts as few modes. Where even the
    whole sphere absorbs more, it is used, and the log says so. A band enters the scales that it reaches at the target
    beam.

    Trained weights are by scale and region of brightness, in the scales of `LinearEstimate`.

    Args:
        layout: The maps' layout.
        pixels: How much each pixel counts for the weights, from 0 to 1, shape (npix,), NESTED; all alike when None.
        peaks: Multipoles at which the cosine windows peak; None: those of the trained estimate without the lowest,
            which holds too few modes, and for trained weights all.
        bias: Largest fraction of the CMB that a scale's weights may absorb.
        regions: Regions of foreground brightness, for trained weights.
    """

    name = "needlet ILC"

    def __init__(
        self,
        layout: Layout,
        pixels: np.ndarray | None = None,
        peaks: tuple[int, ...] | None = None,
        bias: float = 0.02,
        regions: int = 8,
    ) -> None:
        super().__init__(layout, pixels)
        self.bias = check_bias(bias)
        self._warned: set[int] = set()
        usual = default_peaks(layout.lmax)
        self.needlets = Needlets(peaks or usual[min(1, len(usual) - 1) :], layout.nside, layout.lmax)
        self.regional = LinearEstimate(layout, peaks=peaks, regions=check_regions(regions))

    def own(self, observed: np.ndarray) -> Combination:
        weights = [self.local_weights(observed, j)[0] for j in range(len(self.needlets))]
        return NeedletCombination(self.needlets, partial(_upgraded, weights, self.needlets.nsides), self.ratio)

    def local_weights(self, observed: np.ndarray, scale: int) -> tuple[np.ndarray, float | None, float]:
        """Weights of one scale from an observed sky.

        Args:
            observed: The bands at their own beams, shape (channel, nalm).
            scale: Number of the scale.

        Returns:
            Weights that sum to one over channels, shape (channel, npix) of a resolution that holds them, RING, or
            (channel, 1); the window's FWHM [degrees], None for the whole sphere; the fraction of the CMB absorbed.
        """
        top, nside = self.needlets.top[scale], self.needlets.nsides[scale]
        use = np.nonzero(self.ratio[:, top] > 0)[0]
        alm = self.needlets.to_scale(observed[use], scale, self.ratio[use]).astype(np.complex128)
        pixels = self._pixels(nside)
        if pixels is not None:  # about the mean of what counts
            alm[:, 0] -= np.sqrt(4 * np.pi) * np.average(synthesis(alm, nside, top), axis=-1, weights=pixels)
        products = Products.of(synthesis(alm, nside, top), pixels)
        cmb = cmb_shape(self.layout)[: top + 1] * self.needlets.windows[scale][: top + 1] ** 2
        chosen = None
        for fwhm in (None, *WINDOWS):
            covariance = products.covariance(fwhm)
            lost = absorbed(alm, covariance, fwhm, cmb, pixels)
            if chosen is not None and lost > self.bias:
                break
            chosen = covariance, fwhm, lost
            if lost > self.bias:
                self._warn(scale, lost)
                break
        covariance, fwhm, lost = chosen
        weights = np.zeros((len(observed), covariance.shape[-1]))
        weights[use] = unit_weights(np.moveaxis(covariance, -1, 0)).T
        return weights, fwhm, lost

    def settings(self) -> list[Any]:
        return [self.regional.regions, self.regional.peaks]

    def _warn(self, scale: int, lost: float) -> None:
        """Say once for each scale that the bound cannot be held."""
        if scale not in self._warned:
            self._warned.add(scale)
            log.warning(
                "needlet ILC: scale %d absorbs %.1f %% of the CMB even with one window for the whole sphere, more than "
                "bias %.1f %%: raise the first of `peaks`.",
                scale,
                100 * lost,
                100 * self.bias,
            )

    def fit(self, samples: Samples) -> dict[str, np.ndarray]:
        return self.regional.fit(samples, self.pixels).weights.arrays()

    def fixed(self, observed: np.ndarray, weights: dict[str, np.ndarray]) -> Combination:
        return self.regional.with_weights(LinearWeights.of(weights)).combination(observed)

    def _pixels(self, nside: int) -> np.ndarray | None:
        return None if self.pixels is None else nest_to_ring(self.pixels.reshape(12 * nside**2, -1).mean(axis=1))


def _upgraded(weights: list[np.ndarray], nsides: list[int], scale: int) -> np.ndarray:
    """A scale's weights on its pixels, RING, float32."""
    rows = weights[scale].astype(np.float32)
    if rows.shape[-1] > 1:
        rows = nest_to_ring(np.repeat(ring_to_nest(rows), 12 * nsides[scale] ** 2 // rows.shape[-1], axis=-1))
    return np.broadcast_to(rows, (len(rows), 12 * nsides[scale] ** 2))
