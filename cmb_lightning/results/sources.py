"""Where the maps of a comparison come from: the truth in the cache, methods run on the spot, and FITS files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.lowering import lower
from cmb_lightning.data.mixing import observe
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import read_header, read_map
from cmb_lightning.results.healpix_map import HealpixMap
from cmb_lightning.sky.beams import gaussian_beam


@dataclass(frozen=True)
class Identity:
    """What two sets of maps must share to be compared; None where nobody knows.

    Attributes:
        data: Identity of the observed sky: the recipe of the split.
        nside: HEALPix resolution.
        fwhm: Beam of the maps [arcmin].
        sims: Numbers of the simulations.
        mask: Identity of the pixels that the method was trained for, empty for all.
    """

    data: str | None
    nside: int
    fwhm: float | None
    sims: tuple[int, ...]
    mask: str | None = None


class MapSource(Protocol):
    """Maps of simulations; small and picklable."""

    def identity(self) -> Identity:
        """What it must share with the truth."""
        ...

    def read(self, sim: int) -> dict[str, np.ndarray]:
        """`maps`, and perhaps `sigma` (their errors) [uK_CMB], shape (field, npix), NESTED, NaN without data.

        `halves`, shape (2, field, npix), are two versions with independent noise.
        """
        ...

    def about(self) -> dict[str, Any]:
        """What a report says of it."""
        ...


@dataclass(frozen=True)
class CachedTruth:
    """The truth of a split.

    Attributes:
        cache: The split.
        n_sims: How many simulations, from the first.
    """

    cache: SplitCache
    n_sims: int

    def identity(self) -> Identity:
        """That of the split."""
        layout = self.cache.layout
        return Identity(self.cache.id, layout.nside, layout.target_fwhm, tuple(range(self.n_sims)))

    def read(self, sim: int) -> dict[str, np.ndarray]:
        """The target."""
        return {"maps": self.cache.read(sim, ("target",))["target"]}

    def foregrounds(self, sim: int) -> np.ndarray:
        """A map of the foregrounds' strength: the rms over channels in units of each channel's median, (npix,)."""
        maps = self.cache.read(sim, ("foregrounds",))["foregrounds"]
        return np.sqrt(np.mean((maps / np.median(np.abs(maps), axis=1, keepdims=True)) ** 2, axis=0))

    def about(self) -> dict[str, Any]:
        """Data set, split and recipe."""
        return {"dataset": self.cache.dataset, "split": self.cache.split, "data": self.cache.id}


@dataclass(frozen=True)
class CachedMethod:
    """A method that is run on the observed maps of a split while they are compared, such as the pixel ILC.

    Attributes:
        cache: The split.
        n_sims: How many simulations, from the first.
        method: Takes observed maps (channel, npix) to cleaned ones (field, npix), both [uK_CMB], NESTED; picklable.
        description: What a report says of it.
    """

    cache: SplitCache
    n_sims: int
    method: Callable[[np.ndarray], np.ndarray]
    description: str = "run on the observed maps"

    def identity(self) -> Identity:
        """That of the split."""
        return CachedTruth(self.cache, self.n_sims).identity()

    def read(self, sim: int) -> dict[str, np.ndarray]:
        """The cleaned map."""
        parts = self.cache.read(sim)
        observed = observe(parts)
        made = {"maps": self.method(observed)}
        if "difference" in parts:
            halves = (observed + parts["difference"], observed - parts["difference"])
            made["halves"] = np.stack([self.method(half) for half in halves])
        return made

    def about(self) -> dict[str, Any]:
        """Its description, and whether it has halves."""
        return {"method": self.description} | ({"halves": True} if self.cache.holds("difference") else {})


@dataclass(frozen=True)
class Statements:
    """What a user states of FITS maps that do not say it themselves, or wrongly.

    Attributes:
        unit: Unit, a CMB temperature.
        ordering: `RING` or `NESTED`.
        coordinates: `G`; maps in others must be turned first.
        fwhm: Beam [arcmin].
    """

    unit: str | None = None
    ordering: str | None = None
    coordinates: str | None = None
    fwhm: float | None = None


@dataclass(frozen=True)
class FitsMaps:
    """Cleaned maps in FITS files, made by this program or another.

    The monopole of maps that another program made is removed, as it is from every other map here.

    Attributes:
        paths: File of each simulation.
        fields: Fields to read; a column `I_SIGMA` beside `I` holds its error.
        statements: What the files do not say.
    """

    paths: Mapping[int, Path]
    fields: tuple[str, ...] = ("I",)
    statements: Statements = Statements()

    @cached_property
    def _header(self) -> dict[str, Any]:
        return read_header(next(iter(self.paths.values())))

    @property
    def _own(self) -> bool:
        return str(self._header.get("CREATOR", "")).startswith("cmb_lightning")

    def identity(self) -> Identity:
        """That in the header of the first file."""
        sim, stated = next(iter(self.paths)), self.statements.fwhm
        nside = self._map(sim, self.fields[0]).nside
        found = self._header.get("FWHM") if stated is None else stated
        fwhm = None if found is None else float(found)
        mask = self._header.get("MASK", "" if self._own else None)
        return Identity(self._header.get("DATAID"), nside, fwhm, tuple(sorted(self.paths)), mask)

    def read(self, sim: int) -> dict[str, np.ndarray]:
        """The maps, and their errors where the file has them."""
        maps = np.stack([self._map(sim, name).values for name in self.fields])
        if not self._own:
            maps -= np.nanmean(maps, axis=1, keepdims=True, dtype=np.float64).astype(maps.dtype)
        columns = {str(value).strip() for key, value in self._header.items() if key.startswith("TTYPE")}
        if all(f"{name}_SIGMA" in columns for name in self.fields):
            return {"maps": maps, "sigma": np.stack([self._map(sim, f"{name}_SIGMA").values for name in self.fields])}
        return {"maps": maps}

    def about(self) -> dict[str, Any]:
        """What the header says of its making."""
        keys = {"CREATOR": "made by", "CHECKPT": "checkpoint", "EPOCH": "epoch", "FWHM": "beam [arcmin]"}
        known = {name: self._header[key] for key, name in keys.items() if key in self._header}
        removed = {} if self._own else {"monopole": "removed"}
        return {"files": str(next(iter(self.paths.values())).parent), **known, **removed}

    def _map(self, sim: int, name: str) -> HealpixMap:
        path, stated = self.paths[sim], self.statements
        found = read_map(path, name, unit=stated.unit, ordering=stated.ordering, coordinates=stated.coordinates)
        if not found.unit.endswith("K_CMB"):
            raise ConfigError(
                f"{path}: the unit of {name} is {found.unit!r}: state its CMB temperature unit, as uK_CMB."
            )
        if found.coordinates != "G":
            raise ConfigError(
                f"{path}: its coordinates are {found.coordinates or 'not stated'}: turn it to Galactic, or state G."
            )
        # A CMB temperature converts alike at any frequency; at 300 GHz nobody expects the rms of a CMB.
        return found.in_uK_CMB(300.0).nested()


@dataclass(frozen=True)
class Lowered:
    """Maps of a finer resolution, brought to that of a layout and, where theirs is finer, to its target's beam.

    Attributes:
        source: The maps; errors that they state are left out.
        layout: What they are brought to.
    """

    source: MapSource
    layout: Layout

    def identity(self) -> Identity:
        """That of the maps, at the new resolution and beam."""
        own = self.source.identity()
        fwhm = None if own.fwhm is None else max(own.fwhm, self.layout.target_fwhm)
        return replace(own, nside=self.layout.nside, fwhm=fwhm)

    def read(self, sim: int) -> dict[str, np.ndarray]:
        """The lowered maps."""
        found = self.source.read(sim)
        made = {"maps": self._lowered(found["maps"])}
        if "halves" in found:
            made["halves"] = np.stack([self._lowered(half) for half in found["halves"]])
        return made

    def _lowered(self, maps: np.ndarray) -> np.ndarray:
        layout, old, new = self.layout, self.source.identity().fwhm, self.identity().fwhm
        windows = [
            [gaussian_beam(fwhm, layout.lmax, 0 if field == "I" else 2) for field in layout.fields]
            for fwhm in (new, old)
        ]
        lowered, bad = lower(maps, np.isnan(maps).any(axis=0), layout.fields, layout.nside, np.divide(*windows))
        return np.where(bad, np.nan, lowered - np.mean(lowered, axis=1, where=~bad, keepdims=True))

    def about(self) -> dict[str, Any]:
        """What the source says."""
        return self.source.about() | {"lowered from nside": self.source.identity().nside}


@dataclass(frozen=True)
class Halves:
    """A method whose maps come in two halves of the data too, with independent noise.

    It is judged by the maps of all data; by the mean of the halves where there are none.

    Attributes:
        first: One half.
        second: The other.
        whole: The maps of all data.
    """

    first: MapSource
    second: MapSource
    whole: MapSource | None = None

    def identity(self) -> Identity:
        """That of the maps, which must agree; the halves of observed skies are different data.

        Raises:
            ConfigError: If they do not.
        """
        one, *others = (source.identity() for source in (self.whole, self.first, self.second) if source is not None)
        for other in others:
            if replace(other, data=one.data) != one:
                raise ConfigError(f"The two halves and the whole are not alike: {one} and {other}.")
        return one

    def read(self, sim: int) -> dict[str, np.ndarray]:
        """The maps, and both halves."""
        halves = np.stack([half.read(sim)["maps"] for half in (self.first, self.second)])
        found = {"maps": halves.mean(axis=0)} if self.whole is None else self.whole.read(sim)
        return found | {"halves": halves}

    def about(self) -> dict[str, Any]:
        """What the first says."""
        return (self.whole or self.first).about() | {"halves": True}
