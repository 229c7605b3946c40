"""Differences between methods on the same skies, with the certainty that so many skies allow."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairedDifference:
    """How much a method's metric differs from another's, sky by sky.

    Attributes:
        mean: Mean of the differences.
        low: Lower end of the bootstrap interval of that mean.
        high: Upper end.
        smaller: Fraction of the skies on which the method's value is the smaller one.
        sims: Number of skies.
    """

    mean: float
    low: float
    high: float
    smaller: float
    sims: int

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    values: np.ndarray, others: np.ndarray, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> PairedDifference:
    """The mean difference with its percentile bootstrap interval (Efron 1979), the same for the same input.

    What is drawn again is the skies, each with both its values: a sky that is hard for both methods adds no
    uncertainty.

    Args:
        values: One value per sky, shape (simulation,).
        others: The other method's values on the same skies, same shape.
        level: Probability of the interval.
        resamples: How many times the skies are drawn.
        seed: Of the draws.

    Returns:
        The difference `values - others`; the interval is NaN for fewer than two skies.
    """
    difference = np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    low = high = np.nan
    if difference.size > 1:
        rng = np.random.Generator(np.random.Philox(seed))
        # The counts of each sky in a resample: one matrix product in place of an array of draws.
        counts = rng.multinomial(difference.size, np.full(difference.size, 1 / difference.size), size=resamples)
        low, high = np.quantile(counts @ difference / difference.size, [(1 - level) / 2, (1 + level) / 2])
    smaller = float(np.mean(difference < 0)) if difference.size else np.nan
    mean = float(difference.mean()) if difference.size else np.nan
    return PairedDifference(mean, float(low), float(high), smaller, difference.size)
