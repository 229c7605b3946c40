"""Classical methods: linear combinations of the bands, with each map's own weights or ones that training fixed."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from cmb_lightning.cleaning.combination import Combination, HarmonicCombination, unit_weights
from cmb_lightning.cleaning.debeaming import debeaming
from cmb_lightning.cleaning.linear import LinearEstimate, LinearWeights, Samples
from cmb_lightning.cleaning.local import between
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.beams import gaussian_beam
from cmb_lightning.sky.transforms import alm2cl, almxfl, analysis, nest_to_ring, synthesis


class ClassicalMethod(ABC):
    """Takes the bands' coefficients to an estimate of the CMB at the target beam; small and picklable.

    Args:
        layout: The maps' layout.
        pixels: How much each pixel counts for the weights, from 0 to 1, shape (npix,), NESTED; all alike when None.
    """

    name: str
    """What tables call it."""

    def __init__(self, layout: Layout, pixels: np.ndarray | None = None) -> None:
        if len(layout.channels) < 2 or len(layout.fields) != 1:
            raise ConfigError(
                f"model.method: {type(self).__name__} combines two or more bands in one field, not "
                f"{list(layout.channels)}; set data fields to [I]."
            )
        self.layout, self.pixels = layout, pixels
        self.ratio = debeaming(layout)
        self.weights: dict[str, np.ndarray] | None = None
        """What training fixed; each map's own weights are used when None."""

    def __call__(self, observed: np.ndarray) -> np.ndarray:
        """The estimate, shape (nalm,), from the bands at their own beams, shape (channel, nalm)."""
        return self.combination(observed)(observed)

    def combination(self, observed: np.ndarray) -> Combination:
        """The linear combination that cleans this sky, with its weights held fixed."""
        return self.own(observed) if self.weights is None else self.fixed(observed, self.weights)

    def settings(self) -> list[Any]:
        """What trained weights depend on besides data and layout, for JSON."""
        return []

    @abstractmethod
    def own(self, observed: np.ndarray) -> Combination:
        """The combination with the sky's own weights, of least variance."""

    @abstractmethod
    def fit(self, samples: Samples) -> dict[str, np.ndarray]:
        """Weights of least error on known errors, as arrays to keep."""

    @abstractmethod
    def fixed(self, observed: np.ndarray, weights: dict[str, np.ndarray]) -> Combination:
        """The combination with weights that `fit` gave, for this sky."""


class ByMultipole(ClassicalMethod):
    """Methods whose weights depend on multipoles alone, and follow from the bands' spectra."""

    @abstractmethod
    def weigh(self, spectra: np.ndarray) -> np.ndarray:
        """Weights that sum to one, from spectra at the target beam; (channel, channel, l) to (channel, l)."""

    def spectra(self, alm: np.ndarray) -> np.ndarray:
        """Spectra and cross-spectra at the target beam, shape (channel, channel, lmax + 1); of a masked sky pseudo."""
        common, lmax = almxfl(alm, self.ratio), self.layout.lmax
        if self.pixels is not None:  # about the mean of what counts
            pixels, maps = nest_to_ring(self.pixels), synthesis(common, self.layout.nside, lmax)
            maps = (maps - np.average(maps, axis=-1, weights=pixels)[:, None]) * pixels
            common = analysis(maps, lmax)
        spectra = np.zeros((len(alm), len(alm), lmax + 1))
        for i in range(len(alm)):
            spectra[i, i:] = spectra[i:, i] = alm2cl(common[i:], common[i], lmax)
        spectra[..., 0] = 0
        return spectra

    def own(self, observed: np.ndarray) -> Combination:
        return HarmonicCombination(self.weigh(self.spectra(observed)), self.ratio)

    def fit(self, samples: Samples) -> dict[str, np.ndarray]:
        return {"weights": self.weigh(np.mean([self.spectra(error) for _, error in samples], axis=0))}

    def fixed(self, observed: np.ndarray, weights: dict[str, np.ndarray]) -> Combination:
        return HarmonicCombination(weights["weights"], self.ratio)

    def _variance(self, spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The channels that reach the highest multipole at the target beam, and their covariance over the sphere."""
        use = np.nonzero(self.ratio[:, -1] > 0)[0]
        degrees = 2 * np.arange(self.layout.lmax + 1) + 1
        return use, (spectra[np.ix_(use, use)] * degrees).sum(-1)


class SingleChannel(ByMultipole):
    """The one channel of least variance at the target beam, or of least error in training."""

    name = "best channel"

    def weigh(self, spectra: np.ndarray) -> np.ndarray:
        use, covariance = self._variance(spectra)
        weights = np.zeros(spectra.shape[1:])
        weights[use[np.argmin(np.diag(covariance))]] = 1
        return weights


class HarmonicILC(ByMultipole):
    """The ILC multipole by multipole (Tegmark et al. 2003), its covariances averaged over bins.

    A bin is as narrow as it can be for the weights to absorb no more of the CMB than `bias`, computed from the map's
    own spectra: from N modes, n channels absorb (n - 1) / N where spectra are flat, and more where a bin's lowest
    multipoles dominate both CMB and foregrounds. Trained weights need no bins: there the CMB is known and left out.

    Args:
        layout: The maps' layout.
        pixels: How much each pixel counts.
        bias: The largest fraction of the CMB that a bin's weights may absorb.
    """

    name = "harmonic ILC"

    def __init__(self, layout: Layout, pixels: np.ndarray | None = None, bias: float = 0.02) -> None:
        super().__init__(layout, pixels)
        self.bias = check_bias(bias)
        self._sky = 1.0 if pixels is None else float(pixels.mean() ** 2 / (pixels**2).mean())

    def own(self, observed: np.ndarray) -> Combination:
        spectra = self.spectra(observed)
        return HarmonicCombination(self._binned(spectra, self.edges(spectra)), self.ratio)

    def weigh(self, spectra: np.ndarray) -> np.ndarray:
        return self._binned(spectra, np.array([0, *range(3, self.layout.lmax + 2)]))

    def edges(self, spectra: np.ndarray) -> np.ndarray:
        """Edges of the bins, from 0 to lmax + 1: each as narrow as the bias allows; what remains joins the last one."""
        degrees = 2 * np.arange(self.layout.lmax + 1) + 1
        power = degrees * cmb_shape(self.layout)
        edges = [0]
        for high in range(1, self.layout.lmax + 2):
            part = slice(edges[-1], high)
            use = np.nonzero(self.ratio[:, edges[-1]] > 0)[0]
            if (high - edges[-1]) * (high + edges[-1]) <= len(use) or not power[part].any():
                continue  # fewer modes than bands
            differences = between(spectra[np.ix_(use, use)][..., part]) * degrees[part]
            mean = np.linalg.solve(differences.sum(-1), (differences * cmb_shape(self.layout)[part]).sum(-1))
            if np.trace(mean) / power[part].sum() <= self.bias * self._sky:
                edges.append(high)
        if edges[-1] <= self.layout.lmax:
            edges = [*edges[: max(1, len(edges) - 1)], self.layout.lmax + 1]
        return np.array(edges)

    def _binned(self, spectra: np.ndarray, edges: np.ndarray) -> np.ndarray:
        weights = np.zeros(spectra.shape[1:])
        degrees = 2 * np.arange(self.layout.lmax + 1) + 1
        for low, high in zip(edges, edges[1:], strict=False):
            # A band that fades out within the bin has no weight from there on: each set of bands is solved for alone.
            covariance = (spectra[..., low:high] * degrees[low:high]).sum(-1)
            reach = self.ratio[:, low:high] > 0
            for present in np.unique(reach, axis=1).T:
                use, where = np.nonzero(present)[0], low + np.nonzero((reach.T == present).all(axis=1))[0]
                weights[np.ix_(use, where)] = unit_weights(covariance[np.ix_(use, use)])[:, None]
        return weights


class PixelILC(ByMultipole):
    """The ILC in pixel space: one set of weights for all scales (Bennett et al. 2003).

    Bands enter with their covariance over the sphere, which their spectra give; a band that does not reach the highest
    multipole at the target beam is left out. Trained weights are those of each region of brightness.

    Args:
        layout: The maps' layout.
        pixels: How much each pixel counts.
        regions: Regions of foreground brightness, for trained weights.
    """

    name = "pixel ILC"

    def __init__(self, layout: Layout, pixels: np.ndarray | None = None, regions: int = 8) -> None:
        super().__init__(layout, pixels)
        self.regional = LinearEstimate(layout, peaks=(layout.lmax,), regions=check_regions(regions))

    def weigh(self, spectra: np.ndarray) -> np.ndarray:
        use, covariance = self._variance(spectra)
        weights = np.zeros(spectra.shape[1:])
        weights[use] = unit_weights(covariance)[:, None]
        return weights

    def settings(self) -> list[Any]:
        return [self.regional.regions, self.regional.peaks]

    def fit(self, samples: Samples) -> dict[str, np.ndarray]:
        return self.regional.fit(samples, self.pixels).weights.arrays()

    def fixed(self, observed: np.ndarray, weights: dict[str, np.ndarray]) -> Combination:
        return self.regional.with_weights(LinearWeights.of(weights)).combination(observed)


def cmb_shape(layout: Layout) -> np.ndarray:
    """Shape of a CMB spectrum at the target beam, l (l + 1) C_l = 1: all that a choice of bins or windows needs."""
    ell = np.maximum(np.arange(layout.lmax + 1), 1)
    spectrum = gaussian_beam(layout.target_fwhm, layout.lmax) ** 2 / (ell * (ell + 1))
    spectrum[:2] = 0
    return spectrum


def check_bias(bias: float) -> float:
    """The bias, or ConfigError where it is no fraction."""
    if not 0 < bias < 1:
        raise ConfigError(f"model.method: bias {bias} must lie between 0 and 1, such as 0.02.")
    return bias


def check_regions(regions: int) -> int:
    """The number of regions, or ConfigError where there is none."""
    if regions < 1:
        raise ConfigError(f"model.method: regions {regions} must be at least 1.")
    return regions
