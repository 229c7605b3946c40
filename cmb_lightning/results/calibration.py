"""Whether stated error bars are as large as the errors."""

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np

Z_LEVELS = np.linspace(0, 4, 41)
"""Multiples of the stated error at which the coverage is counted."""
SIGMA_EDGES = np.geomspace(1e-2, 1e4, 61)
"""Stated errors [uK_CMB] between which the errors that were made are collected."""


@dataclass(frozen=True)
class Calibration:
    """Counts of pixels by how their error compares with the stated one; they add up over simulations.

    Attributes:
        pixels: How many there are.
        within: How many have an error below each of `Z_LEVELS` times the stated one.
        chi2: Sum of the squared errors in units of the stated ones.
        count: Pixels whose stated error is in each bin of `SIGMA_EDGES`.
        stated: Sum of the stated variances in each bin [uK_CMB^2].
        made: Sum of the squared errors in each bin [uK_CMB^2].
    """

    pixels: int
    within: np.ndarray
    chi2: float
    count: np.ndarray
    stated: np.ndarray
    made: np.ndarray

    @classmethod
    def of(cls, error: np.ndarray, sigma: np.ndarray) -> "Calibration":
        """That of one map: errors made and errors stated [uK_CMB], both of shape (pixel,)."""
        error, sigma = np.abs(error.astype(np.float64)), sigma.astype(np.float64)
        z = error / sigma
        place = np.clip(np.digitize(sigma, SIGMA_EDGES) - 1, 0, len(SIGMA_EDGES) - 2)
        sums = [np.bincount(place, weights, len(SIGMA_EDGES) - 1) for weights in (None, sigma**2, error**2)]
        within = np.searchsorted(np.sort(z), Z_LEVELS, side="right")
        return cls(z.size, within, float(np.sum(z**2)), *sums)

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def coverage(self) -> np.ndarray:
        """Fraction of pixels within each of `Z_LEVELS`."""
        return self.within / self.pixels

    def reduced_chi2(self) -> float:
        """Mean squared error in units of the stated one: 1 where the error bars are right, more if they are small."""
        return self.chi2 / self.pixels

    def reliability(self) -> tuple[np.ndarray, np.ndarray]:
        """Stated and made rms errors [uK_CMB] of the bins that hold at least 100 pixels."""
        use = self.count >= 100
        return np.sqrt(self.stated[use] / self.count[use]), np.sqrt(self.made[use] / self.count[use])


def gaussian_coverage() -> np.ndarray:
    """What the coverage is for Gaussian errors of the stated size."""
    return np.array([erf(z / sqrt(2)) for z in Z_LEVELS])
