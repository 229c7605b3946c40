"""Power spectra of cleaned maps and of what is left of the truth in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.transforms import (
    alm2cl,
    analysis,
    analysis_qu,
    nest_to_ring,
    nside_of,
    ring_to_nest,
    synthesis,
    synthesis_qu,
)


def d_ell(cl: np.ndarray) -> np.ndarray:
    """D_l = l (l + 1) C_l / 2 pi of spectra, shape (..., lmax + 1)."""
    ell = np.arange(cl.shape[-1])
    return cl * ell * (ell + 1) / (2 * np.pi)


@dataclass(frozen=True)
class Bins:
    """Ranges of multipoles; a mean over one weights each multipole by its 2 l + 1 modes.

    Attributes:
        edges: First multipole of every bin, then the one after the last, int, shape (bin + 1,).
    """

    edges: np.ndarray

    @classmethod
    def up_to(cls, lmax: int, count: int = 30, lmin: int = 2) -> "Bins":
        """About `count` bins of equal width, each at least one multipole, from `lmin` to `lmax`."""
        width = max(1, round((lmax - lmin + 1) / count))
        edges = np.arange(lmin, lmax + 1, width)
        if len(edges) > 1 and lmax + 1 - edges[-1] < width:  # the rest joins the last whole bin
            edges = edges[:-1]
        return cls(np.append(edges, lmax + 1))

    @property
    def centres(self) -> np.ndarray:
        """Middle multipole of each bin, float64."""
        return (self.edges[:-1] + self.edges[1:] - 1) / 2

    @property
    def modes(self) -> np.ndarray:
        """Modes of each bin on the full sky, the sum of 2 l + 1."""
        return np.diff(self.edges**2).astype(np.float64)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means of (..., lmax + 1) over each bin, shape (..., bin)."""
        weights = 2 * np.arange(values.shape[-1]) + 1
        sums = np.add.reduceat((values * weights)[..., : self.edges[-1]], self.edges[:-1], axis=-1)
        return sums / self.modes

    def cosmic_variance(self, f_sky: float = 1.0) -> np.ndarray:
        """Relative standard deviation of a spectrum measured on a part of one Gaussian sky, shape (bin,)."""
        return np.sqrt(2 / (self.modes * f_sky))


def effective_sky(weight: np.ndarray) -> float:
    """The part of the sky that a weighted map has as many modes as, (mean w^2)^2 / mean w^4."""
    return float(np.mean(weight**2) ** 2 / np.mean(weight**4))


@dataclass(frozen=True)
class PairSpectra:
    """Spectra of a prediction and its truth, C_l [uK_CMB^2] or their means over bins, shape (..., multipole or bin).

    Attributes:
        truth: Of the truth.
        prediction: Of the prediction.
        residual: Of prediction - truth.
        cross: Of prediction and truth.
    """

    truth: np.ndarray
    prediction: np.ndarray
    residual: np.ndarray
    cross: np.ndarray

    def binned(self, bins: Bins) -> "PairSpectra":
        """The D_l of these C_l, averaged over bins."""
        return PairSpectra(*(bins.mean(d_ell(cl)) for cl in self.parts()))

    def correlation(self) -> np.ndarray:
        """r_l = C^pt / sqrt(C^pp C^tt), NaN where there is no power."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.cross / np.sqrt(self.prediction * self.truth)

    def transfer(self) -> np.ndarray:
        """T_l = C^pt / C^tt, NaN where there is no power."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.cross / self.truth

    def ratio(self) -> np.ndarray:
        """C^pp / C^tt, NaN where there is no power."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.prediction / self.truth

    def parts(self) -> tuple[np.ndarray, ...]:
        """Truth, prediction, residual and cross-spectrum."""
        return self.truth, self.prediction, self.residual, self.cross


def harmonics(
    maps: np.ndarray, fields: Sequence[str], lmax: int, weight: np.ndarray | None = None, nthreads: int = 1
) -> dict[str, np.ndarray]:
    """Coefficients of maps, times a mask where one is given.

    Args:
        maps: shape (field, npix), NESTED.
        fields: What they are: `I` gives T, `Q` with `U` gives E and B, `E` and `B` are taken as they are.
        lmax: Highest multipole, at most 2 nside.
        weight: Mask or weight of each pixel, shape (npix,), NESTED.
        nthreads: Threads of ducc0.

    Returns:
        Coefficients by name (`T`, `E`, `B`), complex, shape (nalm,).

    Raises:
        ConfigError: If lmax is above 2 nside, where coefficients are wrong by some percent.
    """
    if lmax > 2 * nside_of(maps):
        raise ConfigError(f"lmax: {lmax} is above 2 nside = {2 * nside_of(maps)}, where spectra are not reliable.")
    weighted = maps if weight is None else np.where(weight > 0, maps, 0) * weight
    ring = dict(zip(fields, nest_to_ring(np.asarray(weighted, dtype=np.float64)), strict=True))
    alm = {}
    for field, name in (("I", "T"), ("E", "E"), ("B", "B")):
        if field in ring:
            alm[name] = analysis(ring[field], lmax, nthreads=nthreads)
    if "Q" in ring and "U" in ring:
        alm["E"], alm["B"] = analysis_qu(ring["Q"], ring["U"], lmax, nthreads=nthreads)
    return alm


def maps_of(alm: Mapping[str, np.ndarray], fields: Sequence[str], nside: int, lmax: int) -> np.ndarray:
    """Maps, shape (field, npix), NESTED, of coefficients by name: the way back from `harmonics`."""
    made = {
        field: synthesis(alm[name], nside, lmax) for field, name in (("I", "T"), ("E", "E"), ("B", "B")) if name in alm
    }
    if "Q" in fields:
        made["Q"], made["U"] = synthesis_qu(alm["E"], alm["B"], nside, lmax)
    return ring_to_nest(np.stack([made[field] for field in fields]))


def pair_spectra(
    prediction: np.ndarray,
    truth: np.ndarray,
    fields: Sequence[str] = ("I",),
    lmax: int | None = None,
    weight: np.ndarray | None = None,
    halves: tuple[np.ndarray, np.ndarray] | None = None,
    nthreads: int = 1,
) -> dict[str, PairSpectra]:
    """Spectra of a prediction, its truth and their difference.

    With a mask these are pseudo-spectra divided by the mean of its square: right where the spectrum varies little over
    the width of the mask's own spectrum, not decoupled.

    Args:
        prediction: Maps [uK_CMB], shape (field, npix), NESTED; pixels where the weight is 0 may be NaN.
        truth: The true maps, same shape.
        fields: Names of the fields.
        lmax: Highest multipole, at most 2 nside, which is the default.
        weight: Mask or weight of each pixel, the same for both, shape (npix,), NESTED.
        halves: Two predictions with independent noise, each of the shape of `prediction`: the spectra of the prediction
            and the residual are then those across the halves, which have no noise bias.
        nthreads: Threads of ducc0.

    Returns:
        By name: `TT`, `EE`, `BB` and `TE` as far as the fields allow; C_l.
    """
    scale = 1.0 if weight is None else 1 / float(np.mean(np.asarray(weight, dtype=np.float64) ** 2))
    raw = pseudo_spectra(prediction, truth, fields, lmax, weight, halves, nthreads)
    return {name: PairSpectra(*(scale * cl for cl in pair.parts())) for name, pair in raw.items()}


def pseudo_spectra(
    prediction: np.ndarray,
    truth: np.ndarray,
    fields: Sequence[str] = ("I",),
    lmax: int | None = None,
    weight: np.ndarray | None = None,
    halves: tuple[np.ndarray, np.ndarray] | None = None,
    nthreads: int = 1,
) -> dict[str, PairSpectra]:
    """Spectra of the maps times the mask as they are; see `pair_spectra`, and `MaskCoupling.decouple` for what next."""
    lmax = 2 * nside_of(truth) if lmax is None else lmax
    p, t = (harmonics(maps, fields, lmax, weight, nthreads) for maps in (prediction, truth))
    return alm_spectra(p, t, tuple(harmonics(half, fields, lmax, weight, nthreads) for half in halves or ()))


def alm_spectra(
    prediction: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    halves: Sequence[Mapping[str, np.ndarray]] = (),
) -> dict[str, PairSpectra]:
    """The same of coefficients by name, as `harmonics` gives them."""
    first, second = halves or (prediction, prediction)

    def across(one: str, two: str, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> np.ndarray:
        return (alm2cl(a[one], b[two]) + alm2cl(b[one], a[two])) / 2

    left = [{name: alm - truth[name] for name, alm in half.items()} for half in (first, second)]
    return {
        one + two: PairSpectra(
            truth=across(one, two, truth, truth),
            prediction=across(one, two, first, second),
            residual=across(one, two, *left),
            cross=across(one, two, prediction, truth),
        )
        for one, two in (("T", "T"), ("E", "E"), ("B", "B"), ("T", "E"))
        if one in truth and two in truth
    }
