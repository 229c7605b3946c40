"""Linear estimates of the CMB: weights from each map, and weights fixed by training per scale and region."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cmb_lightning.cleaning.brightness import Brightness, degrade, members, place, weights_at
from cmb_lightning.cleaning.combination import Combination, NeedletCombination, unit_weights
from cmb_lightning.cleaning.debeaming import debeaming
from cmb_lightning.cleaning.needlets import Needlets, default_peaks
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.transforms import almxfl, nest_to_ring, synthesis

Samples = Iterable[tuple[np.ndarray, np.ndarray]]
"""Pairs of observed coefficients and of those less the CMB, each at the bands' own beams, shape (channel, nalm)."""


@dataclass(frozen=True)
class LinearWeights:
    """What training fixes.

    Attributes:
        weights: Weights that sum to one over channels, shape (scale, region, channel).
        levels: Log brightness at which each region's weights hold, shape (region,); linear in between.
        pair: The two channels whose difference tells the regions apart.
        error: Median absolute error of the estimate [uK_CMB].
    """

    weights: np.ndarray
    levels: np.ndarray
    pair: tuple[int, int]
    error: float

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays, to be kept in a file."""
        return {name: np.ascontiguousarray(value) for name, value in vars(self).items()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "LinearWeights":
        """The weights that `arrays` gave."""
        values = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        low, high = arrays["pair"].tolist()
        return cls(**values | {"pair": (low, high), "error": arrays["error"].item()})


class LinearEstimate:
    """CMB estimate with weights fixed by training, per needlet scale and region of brightness.

    The region of a pixel follows from the observed sky, through the difference of two bands that holds no CMB, so the
    weights move with the Galaxy and the response to the CMB stays one: at every pixel the weights sum to one.

    Args:
        layout: The maps' layout.
        weights: What training fixed, or None before it.
        peaks: Multipoles of the needlet windows' maxima; None: `default_peaks`.
        regions: How many regions of brightness, each an equal part of the training sky.
    """

    def __init__(
        self,
        layout: Layout,
        weights: LinearWeights | None = None,
        peaks: tuple[int, ...] | None = None,
        regions: int = 8,
    ) -> None:
        self.layout, self.weights, self.regions = layout, weights, regions
        self.peaks = peaks or default_peaks(layout.lmax)
        self.needlets = Needlets(self.peaks, layout.nside, layout.lmax)
        self.ratio = debeaming(layout)
        self.finest = int(np.argmax(layout.beams()[:, -1]))
        self.brightness = Brightness(layout)

    def fit(self, samples: Samples, pixels: np.ndarray | None = None) -> "LinearEstimate":
        """The estimate with the weights that leave the least variance on known errors.

        Args:
            samples: Pairs of observed coefficients and of those less the CMB (foregrounds, noise and the CMB that
                calibration errors leave), each at the bands' own beams, shape (channel, nalm).
            pixels: How much each pixel counts, from 0 to 1, shape (npix,), NESTED; all alike when None.
        """
        samples = list(samples)
        pixels = np.ones(12 * self.layout.nside**2) if pixels is None else pixels
        pair = self.brightness.brightest_pair([error for _, error in samples])
        logs = [self.brightness(observed, pair) for observed, _ in samples]
        inside = np.concatenate([log[pixels > 0] for log in logs])
        levels = np.quantile(inside, (np.arange(self.regions) + 0.5) / self.regions)
        count = len(self.layout.channels)
        gram = np.zeros((len(self.needlets), self.regions, count, count))
        for (_, error), log in zip(samples, logs, strict=True):
            for j in range(len(self.needlets)):
                nside = self.needlets.nsides[j]
                belonging = members(degrade(log, nside), levels) * degrade(pixels, nside)
                maps = self.needlets.to_maps(error, j, self.ratio).astype(np.float64)
                gram[j] += np.einsum("rp,bp,cp->rbc", belonging, maps, maps, optimize=True)
        weights = np.zeros((len(self.needlets), self.regions, count))
        for j, top in enumerate(self.needlets.top):
            use = np.nonzero(self.ratio[:, top] > 0)[0]
            for r in range(self.regions):
                weights[j, r, use] = unit_weights(gram[j, r][np.ix_(use, use)])
        fitted = self.with_weights(LinearWeights(weights, levels, pair, 1.0))
        where = nest_to_ring(pixels) > 0
        error = np.mean([fitted._median_error(*sample, where) for sample in samples[:8]])
        fitted.weights = dataclasses.replace(fitted.weights, error=float(error))
        return fitted

    def with_weights(self, weights: LinearWeights) -> "LinearEstimate":
        """The same estimate with other weights."""
        return LinearEstimate(self.layout, weights, self.peaks, self.regions)

    def __call__(self, alm: np.ndarray) -> np.ndarray:
        """The CMB at the target beam, shape (nalm,), from the bands at their own beams, shape (channel, nalm)."""
        return self.combination(alm)(alm)

    def combination(self, alm: np.ndarray) -> Combination:
        """The linear combination that cleans this sky, its regions held fixed."""
        fixed = self._fixed()
        log = self.brightness(alm, fixed.pair)

        def weights(scale: int) -> np.ndarray:
            return weights_at(place(degrade(log, self.needlets.nsides[scale]), fixed.levels), fixed.weights[scale])

        return NeedletCombination(self.needlets, weights, self.ratio)

    def _fixed(self) -> LinearWeights:
        if self.weights is None:
            raise RuntimeError("The linear estimate has no weights yet: fit it, or load a checkpoint that holds them.")
        return self.weights

    def _median_error(self, observed: np.ndarray, error: np.ndarray, where: np.ndarray) -> np.floating:
        cmb = almxfl((observed - error)[self.finest], self.ratio[self.finest])
        left = synthesis((self(observed) - cmb)[None], self.layout.nside, self.layout.lmax)[0]
        return np.median(np.abs(left[where]))
