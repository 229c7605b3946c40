"""What is computed of one simulation in a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cmb_lightning.cleaning.regions import brightness_regions
from cmb_lightning.cleaning.scores import score_regions
from cmb_lightning.data.work import Task
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.calibration import Calibration
from cmb_lightning.results.coupling import MaskCoupling
from cmb_lightning.results.sources import CachedTruth, MapSource
from cmb_lightning.results.spectra import Bins, PairSpectra, alm_spectra, harmonics, maps_of
from cmb_lightning.sky.beams import gaussian_beam
from cmb_lightning.sky.transforms import almxfl

FULL, MASKED = "full sky", "masked"


@dataclass(frozen=True)
class Evaluation:
    """The results of one simulation.

    Attributes:
        sim: Its number.
        scores: By (beam, method), shape (field, region, metric).
        regions: Names of the regions.
        spectra: By (where, method), then by name: D_l in bins, on the full sky and decoupled from the mask.
        histograms: Counts of the residual's pixels in the first region of the plan, by method, shape (field, bin).
        calibration: By method, of those that state errors.
    """

    sim: int
    scores: dict[tuple[float, str], np.ndarray] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    spectra: dict[tuple[str, str], dict[str, PairSpectra]] = field(default_factory=dict)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)
    calibration: dict[str, Calibration] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to compute, the same for every simulation of a split; picklable, and called with a `Task`.

    Attributes:
        truth: The truth.
        methods: The methods by name.
        fields: Fields of the maps.
        regions: Names and masks, bool, shape (npix,), NESTED.
        allowed: Pixels that may be scored at all, bool, shape (npix,), NESTED.
        quantiles: Where the zones of foreground brightness end, as fractions of the sky; none when empty.
        fwhm: Beam of each method's maps [arcmin]; the truth's is under an empty name.
        beams: Beams at which maps are compared [arcmin]; spectra at the first.
        nside: HEALPix resolution.
        lmax: Highest multipole.
        bins: Bins of the spectra.
        whole: Whether every map covers the full sky, so that full-sky spectra can be taken.
        weight: Mask of the decoupled spectra, shape (npix,), NESTED; none without it.
        coupling: What decouples them.
        edges: Edges of the histograms of residuals [uK_CMB].
        domain: Region of histograms and calibration.
    """

    truth: MapSource
    methods: Mapping[str, MapSource]
    fields: tuple[str, ...]
    regions: Mapping[str, np.ndarray]
    allowed: np.ndarray
    quantiles: tuple[float, ...]
    fwhm: Mapping[str, float]
    beams: tuple[float, ...]
    nside: int
    lmax: int
    bins: Bins
    whole: bool
    weight: np.ndarray | None
    coupling: MaskCoupling | None
    edges: np.ndarray
    domain: str

    def __call__(self, task: Task) -> Evaluation:
        """Read a simulation's maps and compute everything of it.

        Raises:
            ConfigError: If a map has no data where it is scored.
        """
        truth = self.truth.read(task.index)["maps"]
        regions = dict(self.regions)
        if self.quantiles and isinstance(self.truth, CachedTruth):
            foregrounds = np.where(self.allowed, self.truth.foregrounds(task.index), np.nan)
            regions |= brightness_regions(foregrounds, self.quantiles)
        result = Evaluation(task.index, regions=tuple(regions))
        true = {beam: self._at(beam, "", {"maps": truth}) for beam in self.beams}
        true_alm = self._harmonics(true[self.beams[0]]["maps"])
        for name, source in self.methods.items():
            found = source.read(task.index)
            self.check_holes(name, found["maps"], regions)
            for beam in self.beams:
                smoothed = self._at(beam, name, found)
                result.scores[beam, name] = score_regions(smoothed["maps"], true[beam]["maps"], regions)
                if beam == self.beams[0]:
                    self._spectra(result, name, smoothed, true_alm)
                    self._errors(result, name, smoothed, true[beam]["maps"])
        return result

    def _at(self, beam: float, name: str, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Maps at a beam; untouched, with their errors, if that is their own."""
        own = self.fwhm[name]
        if beam == own:
            return found
        factor = gaussian_beam(beam, self.lmax) / gaussian_beam(own, self.lmax)

        def smooth(maps: np.ndarray) -> np.ndarray:
            alm = harmonics(maps, self.fields, self.lmax)
            return maps_of({key: almxfl(a, factor) for key, a in alm.items()}, self.fields, self.nside, self.lmax)

        smoothed = {"maps": smooth(found["maps"])}
        return smoothed | ({"halves": np.stack([smooth(h) for h in found["halves"]])} if "halves" in found else {})

    def _harmonics(self, maps: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        weights = {FULL: None} if self.whole else {}
        weights |= {MASKED: self.weight} if self.weight is not None else {}
        return {where: harmonics(maps, self.fields, self.lmax, weight) for where, weight in weights.items()}

    def _spectra(
        self, result: Evaluation, name: str, found: dict[str, np.ndarray], truth: dict[str, dict[str, np.ndarray]]
    ) -> None:
        alm = self._harmonics(found["maps"])
        halves = [self._harmonics(half) for half in found.get("halves", ())]
        for where, coefficients in alm.items():
            pairs = alm_spectra(coefficients, truth[where], [half[where] for half in halves])
            if where == MASKED:
                result.spectra[where, name] = self.coupling.decouple_pairs(pairs)
            else:
                result.spectra[where, name] = {kind: pair.binned(self.bins) for kind, pair in pairs.items()}

    def _errors(self, result: Evaluation, name: str, found: dict[str, np.ndarray], truth: np.ndarray) -> None:
        mask = self.regions[self.domain]
        error = (found["maps"] - truth)[:, mask]
        result.histograms[name] = np.stack([np.histogram(row, self.edges)[0] for row in error])
        if "sigma" in found:
            sigma = found["sigma"][:, mask]
            result.calibration[name] = Calibration.of(error.ravel(), sigma.ravel())

    def check_holes(self, name: str, maps: np.ndarray, regions: Mapping[str, np.ndarray]) -> None:
        """Refuse a map, shape (field, npix), that has no data where it is scored.

        Raises:
            ConfigError: It has; the message names the region.
        """
        bad = ~np.isfinite(maps).all(axis=0)
        if not bad.any():
            return
        for region, mask in regions.items():
            if count := int((bad & mask).sum()):
                raise ConfigError(
                    f"{name}: {count} pixels without data lie in region {region}, where all methods are scored alike;"
                    " give a mask that leaves them out."
                )
