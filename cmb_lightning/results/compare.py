"""Any number of cleaning methods against the truth of one or more splits, all treated alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cmb_lightning.cleaning.regions import apodise, sky_regions
from cmb_lightning.cleaning.scores import Scores, gather_scores
from cmb_lightning.data.work import Task, over_simulations
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.calibration import Calibration
from cmb_lightning.results.comparable import TRUTH, Settings, check_comparable
from cmb_lightning.results.coupling import MaskCoupling
from cmb_lightning.results.evaluation import FULL, MASKED, Evaluation, Plan
from cmb_lightning.results.sources import CachedTruth, Identity, MapSource
from cmb_lightning.results.spectra import Bins, PairSpectra, effective_sky
from cmb_lightning.results.tables import AllScores

HISTOGRAM_BINS = 121


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        splits: Names of the splits.
        methods: Names of the methods.
        fields: Fields of the maps.
        regions: Names of the regions.
        beams: Beams at which maps were compared [arcmin].
        scores: By beam, scores by (split, method).
        bins: Bins of the spectra.
        f_sky: Part of the sky behind each kind of spectra (`full sky`, `masked`).
        spectra: By (where, split, method), then by name: D_l of every simulation, shape (simulation, bin).
        edges: Edges of the histograms [uK_CMB].
        domain: Region of histograms and calibration.
        histograms: By (split, method): residual pixels, shape (field, bin).
        calibration: By (split, method), of methods that state errors.
        examples: By split, the maps of its first simulation by method, the truth under an empty name, (field, npix).
        about: By (split, method), what is known of its making.
        reference: What the truth is called.
    """

    splits: tuple[str, ...]
    methods: tuple[str, ...]
    fields: tuple[str, ...]
    regions: tuple[str, ...]
    beams: tuple[float, ...]
    scores: dict[float, dict[tuple[str, str], Scores]]
    bins: Bins
    f_sky: dict[str, float]
    spectra: dict[tuple[str, str, str], dict[str, PairSpectra]]
    edges: np.ndarray
    domain: str
    histograms: dict[tuple[str, str], np.ndarray]
    calibration: dict[tuple[str, str], Calibration]
    examples: dict[str, dict[str, np.ndarray]]
    about: dict[tuple[str, str], dict[str, Any]]
    reference: str = TRUTH

    @property
    def main_scores(self) -> AllScores:
        """The scores at the first beam."""
        return self.scores[self.beams[0]]


def compare(
    truths: Mapping[str, MapSource],
    methods: Mapping[str, Mapping[str, MapSource]],
    fields: Sequence[str] = ("I",),
    settings: Settings | None = None,
    n_workers: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare methods with the truth, simulation by simulation.

    Memory does not grow with the number of simulations but for their scores and binned spectra.

    Args:
        truths: The truth of each split.
        methods: For each split, the methods by name; every split has the same ones. The first is what others are
            compared with.
        fields: Fields of the maps.
        settings: How; the defaults when None.
        n_workers: Processes; those given to the job when None.
        progress: Show a bar on a terminal.

    Raises:
        ConfigError: If test data, beams or masks differ, naming which.
    """
    settings = settings or Settings()
    names = tuple(next(iter(methods.values()))) if methods else ()
    if set(truths) != set(methods) or not names:
        raise ConfigError("There is nothing to compare: name at least one run or map, and a split with its truth.")
    identities = {}
    for split, truth in truths.items():
        if tuple(methods[split]) != names:
            raise ConfigError(f"split {split} has {', '.join(methods[split])}, others have {', '.join(names)}.")
        identities[split] = {"": truth.identity()} | {name: s.identity() for name, s in methods[split].items()}
        check_comparable(split, identities[split], settings)
    zones = settings.quantiles if all(isinstance(truth, CachedTruth) for truth in truths.values()) else ()
    examples = {}
    for split, truth in truths.items():
        sources = {"": truth, **methods[split]}
        examples[split] = {name: s.read(identities[split][""].sims[0])["maps"] for name, s in sources.items()}
    plans = {
        split: _plan(truth, methods[split], identities[split], tuple(fields), settings, zones)
        for split, truth in truths.items()
    }
    edges = _edges(next(iter(plans.values())), next(iter(examples.values())))
    results = {}
    for split, plan in plans.items():
        for name in names:
            plan.check_holes(name, examples[split][name], plan.regions)
        tasks = [Task(split, sim) for sim in identities[split][""].sims]
        ready = replace(plan, edges=edges)
        bar = f"comparing {split}" if progress else None
        results[split] = over_simulations(ready, tasks, n_workers=n_workers, description=bar)
    return replace(_gather(plans, results, names, examples, edges), reference=settings.reference)


def _plan(
    truth: MapSource,
    methods: Mapping[str, MapSource],
    identities: Mapping[str, Identity],
    fields: tuple[str, ...],
    settings: Settings,
    zones: tuple[float, ...],
) -> Plan:
    identity = identities[""]
    nside, npix = identity.nside, 12 * identity.nside**2
    lmax = 2 * nside if settings.lmax is None else settings.lmax
    bins = Bins.up_to(lmax, settings.bins)
    mask = settings.mask
    if mask is not None and mask.shape != (npix,):
        raise ConfigError(f"mask: it has {mask.size} pixels, the maps of nside {nside} have {npix}.")
    allowed = np.ones(npix, dtype=bool) if mask is None else mask
    regions = {name: region & allowed for name, region in sky_regions(nside, settings.latitude_cuts).items()}
    if mask is not None:
        regions = {"mask" if name == "full" else name: region for name, region in regions.items()}
    cuts = list(regions)[1:]
    sharp = mask if mask is not None else regions[cuts[0]] if cuts else None
    weight = None if sharp is None else apodise(sharp, settings.apodisation)
    coupling = None if weight is None else MaskCoupling(weight, lmax, bins, polarised=len(fields) > 1)
    domain = cuts[0] if cuts else next(iter(regions))
    beams = settings.beams or (identity.fwhm,)
    fwhm = {name: _snapped(found.fwhm, beams) for name, found in identities.items()}
    if mask is not None and any(own != beam for own in fwhm.values() for beam in beams):
        raise ConfigError("beams: maps with a mask are compared at their own beam only; leave out beams or mask.")
    return Plan(
        truth=truth,
        methods=methods,
        fields=fields,
        regions=regions,
        allowed=allowed,
        quantiles=zones,
        fwhm=fwhm,
        beams=beams,
        nside=nside,
        lmax=lmax,
        bins=bins,
        whole=mask is None,
        weight=weight,
        coupling=coupling,
        edges=np.zeros(0),
        domain=domain,
    )


def _edges(plan: Plan, example: Mapping[str, np.ndarray]) -> np.ndarray:
    """Edges of all histograms: six times the smallest rms error of the first simulation."""
    errors = [(maps - example[""])[:, plan.regions[plan.domain]] for name, maps in example.items() if name]
    reach = 6 * min(float(np.sqrt(np.nanmean(error.astype(np.float64) ** 2))) for error in errors)
    return np.linspace(-1, 1, HISTOGRAM_BINS + 1) * (reach or 1.0)


def _snapped(fwhm: float, beams: Sequence[float]) -> float:
    """A beam, or the one of `beams` that is the same to rounding: maps at it are not smoothed."""
    return next((beam for beam in beams if np.isclose(beam, fwhm, rtol=1e-4)), fwhm)


def _gather(
    plans: Mapping[str, Plan],
    results: Mapping[str, list[Evaluation]],
    names: tuple[str, ...],
    examples: dict[str, dict[str, np.ndarray]],
    edges: np.ndarray,
) -> Comparison:
    first = next(iter(plans.values()))
    regions = next(iter(results.values()))[0].regions
    scores = {
        beam: {
            (split, name): gather_scores({r.sim: r.scores[beam, name] for r in found}, first.fields, regions)
            for split, found in results.items()
            for name in names
        }
        for beam in first.beams
    }
    spectra, histograms, calibration = {}, {}, {}
    for split, found in results.items():
        for where, name in found[0].spectra:
            one = [result.spectra[where, name] for result in found]
            spectra[where, split, name] = {
                kind: PairSpectra(*(np.stack(parts) for parts in zip(*(s[kind].parts() for s in one), strict=True)))
                for kind in one[0]
            }
        for name in names:
            histograms[split, name] = np.sum([result.histograms[name] for result in found], axis=0)
            if name in found[0].calibration:
                total = found[0].calibration[name]
                for result in found[1:]:
                    total += result.calibration[name]
                calibration[split, name] = total
    weight = first.weight
    return Comparison(
        splits=tuple(plans),
        methods=names,
        fields=first.fields,
        regions=regions,
        beams=first.beams,
        scores=scores,
        bins=first.bins,
        f_sky={FULL: 1.0} | ({} if weight is None else {MASKED: effective_sky(weight)}),
        spectra=spectra,
        edges=edges,
        domain=first.domain,
        histograms=histograms,
        calibration=calibration,
        examples=examples,
        about={(split, name): s.about() for split, plan in plans.items() for name, s in plan.methods.items()},
    )
