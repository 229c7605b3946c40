"""Foregrounds from maps in FITS files, each with a spectral law."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from ..data.recipe import file_digest
from ..errors import ConfigError
from ..results.fits import read_map
from . import units
from .channel import Channel
from .foregrounds import Foreground, analyse
from .laws import Law
from .rng import Draws
from .shared import Shared
from .transforms import analysis, analysis_qu, n_alm, synthesis, synthesis_qu


@dataclass
class TemplateComponent:
    """One kind of emission.

    Args:
        name: such as `dust`; names its random streams.
        file: FITS file, relative to the folder of the templates. Columns I, and for polarisation Q and U, or their
            usual long names such as I_STOKES; unit and ordering from the header.
        law: spectral law; may name further columns of the file.
        reference: frequency of the map, such as `353 GHz`.
        amplitude_scatter: standard deviation of the logarithm of the amplitude, over simulations.
        index_scatter: standard deviation of the spectral index (log-normal law: of ln(peak)), over simulations.
        curvature_scatter: standard deviation of c in a factor exp(c ln^2(nu/reference)), over simulations: how far the
            law itself may be wrong.
        unit: unit of the map, for a file that does not state it.
        ordering: RING or NESTED, for a file that does not state it.
    """

    name: str
    file: str
    law: Law
    reference: str
    amplitude_scatter: float = 0.0
    index_scatter: float = 0.0
    curvature_scatter: float = 0.0
    unit: str | None = None
    ordering: str | None = None

    def __post_init__(self) -> None:
        self.frequency = float(units.parse(self.reference, "GHz", f"reference of {self.name}").value)
        if not self.frequency > 0:
            raise ConfigError(f"reference of {self.name}: {self.reference} must be above 0 GHz")
        for key in ("amplitude_scatter", "index_scatter", "curvature_scatter"):
            if not getattr(self, key) >= 0:
                raise ConfigError(f"{key} of {self.name}: {getattr(self, key)} is negative; give 0 or more")
        if self.index_scatter:
            self.law.shift(self.frequency, self.frequency, 0.0)  # refuses a law that cannot


class Templates(Foreground):
    """Galactic emission from FITS maps and spectral laws.

    Maps of a larger nside are lowered in harmonic space. Varied amplitudes and indices cost no transform: coefficients
    are kept per component and band, and a change of index by the same amount everywhere is a factor per band.
    """

    def __init__(
        self,
        components: list[TemplateComponent],
        folder: str | None = None,
        name: str = "templates",
    ) -> None:
        """Describe the templates.

        Args:
            components: at least one, each with a name of its own.
            folder: of the files; None for the folder given to the data as a whole.
            name: names the random streams.
        """
        names = [component.name for component in components]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"components: {', '.join(names) or 'none'}; give at least one, each with its own name")
        self.components = list(components)
        self.folder = folder
        self.name = name
        self._factors: dict[str, float] = {}  # uK_RJ per unit of each component
        self._digests: dict[str, str] = {}
        self._key: tuple | None = None  # of what is kept
        self._alms: Shared | None = None  # (component, channel, nalm)
        self._shares: list[list[np.ndarray]] = []

    @property
    def fixed(self) -> bool:
        """Whether it is the same in every simulation."""
        return not any(c.amplitude_scatter or c.index_scatter or c.curvature_scatter for c in self.components)

    def at(self, folder: Path | None) -> Templates:
        """Return these templates in a folder, unless they say where they are."""
        if self.folder is not None or folder is None:
            return self
        other = copy(self)
        other.folder, other._factors, other._digests, other._alms = str(folder), {}, {}, None
        return other

    def check(self, channels: Sequence[Channel], nside: int) -> None:
        """Read every map that is needed once; see `Foreground.check`."""
        polarised = any(channel.spin for channel in channels)
        for component in self.components:
            self._read(component, nside, polarised)

    def alm(self, channels: Sequence[Channel], nside: int, lmax: int, draws: Draws) -> np.ndarray:
        """See `Foreground.alm`."""
        key = (tuple(channels), nside, lmax)
        if self._alms is None or self._key != key:
            kept = [self._coefficients(component, channels, nside, lmax) for component in self.components]
            self._key, self._alms = key, Shared(np.stack([alm for alm, _ in kept]))
            self._shares = [shares for _, shares in kept]
        total = None
        for component, shares, alm in zip(self.components, self._shares, self._alms.array, strict=True):
            term = np.float32(self._variation(component, shares, channels, draws))[:, None] * alm
            total = term if total is None else np.add(total, term, out=total)
        return total

    def emission(self, component: TemplateComponent, channels: Sequence[Channel], nside: int) -> np.ndarray:
        """Return one component's maps without variation, (channel, npix), RING, unsmoothed, uK_CMB."""
        maps = self._read(component, nside, any(channel.spin for channel in channels))
        bands = [self._emission(component, maps, [channels[row] for row in rows])[0] for rows in _bands(channels)]
        return np.concatenate(bands)

    def recipe(self) -> dict:
        """See `Foreground.recipe`."""
        return {
            "class": type(self).__name__,
            "name": self.name,
            "components": [
                {
                    "name": component.name,
                    "sha256": self._digest(component),
                    "law": component.law.recipe(),
                    "reference_GHz": component.frequency,
                    "amplitude_scatter": component.amplitude_scatter,
                    "index_scatter": component.index_scatter,
                    **({"curvature_scatter": component.curvature_scatter} if component.curvature_scatter else {}),
                    "unit": component.unit,
                    "ordering": component.ordering,
                }
                for component in self.components
            ],
        }

    def _coefficients(
        self, component: TemplateComponent, channels: Sequence[Channel], nside: int, lmax: int
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the coefficients of `emission`, (channel, nalm), and each channel's shares; band by band, for memory.

        Shares are those of intensity from the frequencies of the channel's bandpass.
        """
        maps = self._read(component, nside, any(channel.spin for channel in channels))
        alm, shares = np.empty((len(channels), n_alm(lmax)), dtype=np.complex64), []
        for rows in _bands(channels):
            band = [channels[row] for row in rows]
            signal, share = self._emission(component, maps, band)
            alm[rows] = analyse(band, signal, lmax)
            shares += [share] * len(band)
        return alm, shares

    @staticmethod
    def _emission(
        component: TemplateComponent, maps: dict[str, np.ndarray], band: Sequence[Channel]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the maps of the channels of one band, (channel, npix), and the shares."""
        samples = zip(band[0].frequencies, band[0].weights, strict=True)
        terms = [weight * component.law.ratio(nu, component.frequency, maps) for nu, weight in samples]
        share = np.array([np.mean(maps["I"] * term) for term in terms])
        signal = np.zeros((len(band), maps["I"].size))
        for row, channel in zip(signal, band, strict=True):
            row += maps.get(channel.field, 0.0) * sum(terms)
        return signal, share / share.sum()

    def _path(self, component: TemplateComponent) -> Path:
        path = Path(component.file)
        if not path.is_absolute() and self.folder is None:
            raise ConfigError(f"folder: state the folder of the template {component.file}")
        return Path(self.folder or ".") / path

    def _digest(self, component: TemplateComponent) -> str:
        path = self._path(component)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such template; check its folder and file name")
        if component.file not in self._digests:
            self._digests[component.file] = file_digest(path)
        return self._digests[component.file]

    def _variation(
        self, component: TemplateComponent, shares: list[np.ndarray], channels: Sequence[Channel], draws: Draws
    ) -> list[float]:
        """Draw the amplitude, the index and the curvature; return what the emission of each channel is multiplied by.

        Within a bandpass the factor is that of the mean spectrum: exact for a delta, good to 1e-4 of a broad band.
        """
        normal = draws(f"{self.name}/{component.name}").standard_normal(3)
        amplitude = float(np.exp(component.amplitude_scatter * normal[0]))
        if not component.index_scatter and not component.curvature_scatter:
            return [amplitude] * len(channels)
        index, curvature = component.index_scatter * normal[1], component.curvature_scatter * normal[2]
        factors = []
        for channel, share in zip(channels, shares, strict=True):
            bends = [math.exp(curvature * math.log(nu / component.frequency) ** 2) for nu in channel.frequencies]
            # A law need not know what a change of index is when there is none.
            shifts = [
                component.law.shift(nu, component.frequency, index) if index else 1.0 for nu in channel.frequencies
            ]
            factors.append(amplitude * float(share @ np.multiply(shifts, bends)))
        return factors

    def _read(self, component: TemplateComponent, nside: int, polarised: bool) -> dict[str, np.ndarray]:
        """Read a file's maps: I (and Q, U where there are any) in uK_RJ, and what the law asks for, RING, at nside."""
        path = self._path(component)
        where = f"template {component.name}"
        arguments = {"ordering": component.ordering}
        intensity = read_map(path, "I", unit=component.unit, **arguments)
        maps = {"I": intensity}
        if polarised and (polarisation := self._polarisation(path, component)):
            maps["Q"], maps["U"] = polarisation
        for column, unit in component.law.columns().items():
            maps[column] = read_map(path, column, unit=None if unit else "1", **arguments)
        for read in maps.values():
            if read.bad.any():
                raise ConfigError(
                    f"{path}: column {read.name} has {read.bad.sum()} pixels without data (NaN or UNSEEN); "
                    f"fill them, or give another file for {where}"
                )
            if read.coordinates not in ("G", None):
                raise ConfigError(f"{path}: COORDSYS is {read.coordinates}; turn the map to Galactic coordinates (G)")
            if read.nside < nside:
                raise ConfigError(
                    f"{path}: nside {read.nside} is below the {nside} of the maps; lower nside, or give a finer {where}"
                )
        if component.name not in self._factors:
            self._factors[component.name] = _to_uK_RJ(component, intensity.unit, f"{path}, {intensity.name}")
        out = {column: read.ordered("RING").values.astype(np.float64) for column, read in maps.items()}
        for field in {"I", "Q", "U"} & set(out):
            out[field] *= self._factors[component.name]
        if "U" in out and str(maps["U"].header.get("POLCCONV", "COSMO")).strip().upper() == "IAU":
            out["U"] *= -1  # the angle of polarisation runs the other way there
        for column, unit in component.law.columns().items():
            if unit:
                out[column] *= units.parse(f"1 {maps[column].unit}", unit, f"{path}, {column}").value
        return out if intensity.nside == nside else _lowered(out, nside)

    @staticmethod
    def _polarisation(path: Path, component: TemplateComponent) -> tuple | None:
        """Read Q and U of a file, in the HEALPix convention; None where it has none: unpolarised emission."""
        try:
            q = read_map(path, "Q", unit=component.unit, ordering=component.ordering)
        except ConfigError as error:
            if "has no field" in str(error):
                return None
            raise
        return q, read_map(path, "U", unit=component.unit, ordering=component.ordering)


def _bands(channels: Sequence[Channel]) -> Iterator[list[int]]:
    """Give the rows of each band; the fields of one follow one another."""
    for _, rows in groupby(range(len(channels)), key=lambda row: (channels[row].frequencies, channels[row].weights)):
        yield list(rows)


def _to_uK_RJ(component: TemplateComponent, unit: str, key: str) -> float:
    to_cmb = units.to_uK_CMB(component.frequency, unit, key)
    return to_cmb / units.to_uK_CMB(component.frequency, "uK_RJ")


def _lowered(maps: dict[str, np.ndarray], nside: int) -> dict[str, np.ndarray]:
    """Bring RING maps to a lower nside, through their coefficients up to the 2 nside that it carries exactly."""
    lmax = 2 * nside
    out = {name: synthesis(analysis(values, lmax), nside, lmax) for name, values in maps.items() if name not in "QU"}
    if "Q" in maps:
        out["Q"], out["U"] = synthesis_qu(*analysis_qu(maps["Q"], maps["U"], lmax), nside, lmax)
    return out
