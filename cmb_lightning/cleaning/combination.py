"""Linear combinations of the bands with weights that are held fixed, by multipole or by needlet scale and pixel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cmb_lightning.cleaning.needlets import Needlets
from cmb_lightning.sky.transforms import almxfl

Combination = Callable[[np.ndarray], np.ndarray]
"""A linear map of the bands' coefficients at their own beams, (channel, nalm), to the estimate's, (nalm,)."""


def unit_weights(covariance: np.ndarray) -> np.ndarray:
    """Weights of least variance that sum to one: C^-1 1 / (1' C^-1 1) (Bennett et al. 2003).

    Args:
        covariance: Covariances of the channels, shape (..., channel, channel).

    Returns:
        Weights, shape (..., channel).
    """
    scale = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    scale = np.where(scale > 0, scale, 1.0)
    correlation = covariance / (scale[..., :, None] * scale[..., None, :])
    # Noise-free toy data have singular covariances; at 1e-10 the ridge is far below any real noise.
    ridged = correlation + 1e-10 * np.eye(scale.shape[-1])
    weights = np.linalg.solve(ridged, 1 / scale[..., None])[..., 0] / scale
    return weights / weights.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class HarmonicCombination:
    """Weights by multipole, the same over the whole sky.

    Attributes:
        weights: Weights that sum to one over channels at each multipole, shape (channel, lmax + 1).
        ratio: What brings each band to the target beam, shape (channel, lmax + 1).
    """

    weights: np.ndarray
    ratio: np.ndarray

    def __call__(self, alm: np.ndarray) -> np.ndarray:
        """The estimate's coefficients, shape (nalm,), without monopole."""
        estimate = almxfl(alm, self.weights * self.ratio).sum(axis=0)
        estimate[0] = 0
        return estimate


@dataclass(frozen=True)
class NeedletCombination:
    """Weights by needlet scale and pixel.

    Attributes:
        needlets: The scales.
        weights: Takes the number of a scale to its weights, which sum to one over channels in each pixel, shape
            (channel, 12 nside_j^2), RING.
        ratio: What brings each band to the target beam, shape (channel, lmax + 1).
    """

    needlets: Needlets
    weights: Callable[[int], np.ndarray]
    ratio: np.ndarray

    def __call__(self, alm: np.ndarray) -> np.ndarray:
        """The estimate's coefficients, shape (nalm,), without monopole."""
        estimate = 0
        for j in range(len(self.needlets)):
            weights = self.weights(j)
            combined = np.einsum("bp,bp->p", weights, self.needlets.to_maps(alm, j, self.ratio))
            estimate = estimate + self.needlets.to_alm(combined[None], j)[0]
        estimate[0] = 0
        return estimate
