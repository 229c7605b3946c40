"""Simulations in the files of CMB-ML: a FITS file for each band's observed map, and one for the CMB alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.content import Statistics
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.recipe import file_digest
from cmb_lightning.data.splits import SplitData
from cmb_lightning.data.work import Task, over_simulations
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import read_map, write_map
from cmb_lightning.results.fits_scan import map_extremes
from cmb_lightning.results.healpix_map import HealpixMap
from cmb_lightning.sky.beams import gaussian_beam, window
from cmb_lightning.sky.channel import Channel
from cmb_lightning.sky.foregrounds import analyse, synthesise
from cmb_lightning.sky.transforms import almxfl, ring_to_nest
from cmb_lightning.sky.units import to_uK_CMB

_CMB_NAMES = {"I": "TEMPERATURE", "Q": "Q_POLARISATION", "U": "U_POLARISATION"}
_LARGEST_RATIO = 10.0  # of beam windows: by how much noise of the files may be amplified
_ANY = 143.0  # GHz: the CMB's units are the same at all frequencies


@dataclass(frozen=True)
class ReferenceFiles:
    """Where the maps of a simulation are: `Simulation/{Split}/sim0000/obs_{band}_map.fits` and `cmb_map_fid.fits`.

    Attributes:
        root: Folder of the data set.
    """

    root: Path

    def folder(self, split: str, index: int) -> Path:
        """Of one simulation; the folder of a split is found whatever its case."""
        splits = self.root / "Simulation"
        found = [p.name for p in splits.iterdir() if p.name.lower() == split] if splits.is_dir() else []
        return splits / (found[0] if found else split.capitalize()) / f"sim{index:04d}"

    def observed(self, split: str, index: int, band: str) -> Path:
        """The file of a band, with noise."""
        return self.folder(split, index) / f"obs_{band}_map.fits"

    def cmb(self, split: str, index: int) -> Path:
        """The file of the CMB alone."""
        return self.folder(split, index) / "cmb_map_fid.fits"

    def all(self, split: str, index: int, bands: Sequence[str]) -> list[Path]:
        """Every file of a simulation."""
        return [*(self.observed(split, index, band) for band in bands), self.cmb(split, index)]


# Out of the cache


def export(data: SplitData, files: ReferenceFiles, n_workers: int | None = None) -> None:
    """Write a split as FITS files: RING, float32, uK_CMB, with the reference's names of files and columns.

    The map of the CMB is the target, at the target's beam, which its header states as FWHM [arcmin].
    """
    tasks = [Task(data.name, index) for index in range(data.n_sims)]
    exporter = _Exporter(data.cache, files)
    over_simulations(exporter, tasks, n_workers=n_workers, description=f"exporting {data.name}")


@dataclass(frozen=True)
class _Exporter:
    cache: SplitCache
    files: ReferenceFiles

    def __call__(self, task: Task) -> None:
        layout = self.cache.layout
        observed, target = self.cache.observed(task.index)
        channels = [channel.rpartition("_") for channel in layout.channels]
        for band, rows in groupby(range(len(channels)), key=lambda row: channels[row][0]):
            rows = list(rows)
            names = [f"{channels[row][2]}_STOKES" for row in rows]
            path = self.files.observed(task.split, task.index, band)
            write_map(path, observed[rows], names, layout.unit, _beam(layout.fwhm[rows[0]]))
        names = [_CMB_NAMES[field] for field in layout.fields]
        write_map(self.files.cmb(task.split, task.index), target, names, layout.unit, _beam(layout.target_fwhm))


def _beam(fwhm: float) -> dict[str, Any]:
    return {"FWHM": (fwhm, "beam [arcmin]")}


# Into the cache


@dataclass(frozen=True)
class Importer:
    """Reads simulations from the files, as a generator that makes them.

    What is not CMB in an observed map is called foregrounds, noise with it, and the part called noise is zero: so a
    training sample can join one simulation's CMB with the rest of another.

    Attributes:
        files: Where they are.
        channels: Bands and fields, with the beams that the files have.
        layout: What the maps look like.
        unit: Unit of all maps, or by band and `cmb`, for files that do not state it.
        ordering: RING or NESTED, for files that do not state it.
    """

    files: ReferenceFiles
    channels: tuple[Channel, ...]
    layout: Layout
    unit: Mapping[str, str | None]
    ordering: str | None = None

    @property
    def bands(self) -> tuple[str, ...]:
        """In the order of the channels."""
        return tuple(dict.fromkeys(channel.band for channel in self.channels))

    def recipe(self, split: str) -> dict[str, Any]:
        """Describe where the maps of a split come from; the files of its first simulation stand for the others."""
        return {
            "imported": [file_digest(path) for path in self.files.all(split, 0, self.bands)],
            "split": split,
            "frequencies": [channel.frequency for channel in self.channels],
            "unit": dict(self.unit),
            "ordering": self.ordering,
        }

    def check(self, split: str, n_sims: int) -> None:
        """Raise FileNotFoundError where the first or the last simulation of a split is not whole."""
        for index in (0, n_sims - 1):
            for path in self.files.all(split, index, self.bands):
                if not path.is_file():
                    raise FileNotFoundError(f"splits.{split}: there is no {path}; check folder, bands and n_sims.")

    def simulate(self, split: str, index: int) -> dict[str, np.ndarray]:
        """Read one simulation; see `Simulator.simulate`.

        Raises:
            FileNotFoundError: A file is missing.
            ConfigError: A file is damaged, has pixels without data, or is not what is expected.
        """
        observed = np.stack([self._observed(split, index, channel) for channel in self.channels])
        cmb, target = self._cmb(split, index)
        made = {"cmb": cmb, "foregrounds": observed - cmb, "noise": np.zeros_like(cmb), "target": target}
        return made | {"gain": np.zeros(len(cmb), np.float32)}

    def _observed(self, split: str, index: int, channel: Channel) -> np.ndarray:
        """An observed map, (pixel,), NESTED, without monopole."""
        found = self._read(self.files.observed(split, index, channel.band), channel.field, channel.band)
        values = found.in_uK_CMB(channel.frequency).nested().values
        return values - values.mean(dtype=np.float64).astype(np.float32) if channel.field == "I" else values

    def _cmb(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The CMB as the channels see it, and the target."""
        path, layout = self.files.cmb(split, index), self.layout
        read = [self._read(path, field, "cmb") for field in layout.fields]
        stated = float(read[0].header.get("FWHM", 0.0))

        def seen(fwhm: float) -> tuple[Channel, ...]:
            return tuple(Channel("cmb", field, 0.0, fwhm, 0.0, (), ()) for field in layout.fields)

        maps = np.stack([found.in_uK_CMB(_ANY).ordered("RING").values for found in read]).astype(np.float64)
        alm = dict(zip(layout.fields, analyse(seen(stated), maps, layout.lmax), strict=True))
        every = (*self.channels, *seen(layout.target_fwhm))
        ratio = np.stack([window(c, layout.lmax) / gaussian_beam(stated, layout.lmax, c.spin) for c in every])
        if ratio.max() > _LARGEST_RATIO:
            raise ConfigError(
                f"{path}: its beam of {stated:g} arcmin is too wide for a band or target of "
                f"{min(c.fwhm for c in every):g} arcmin; leave that out, or lower lmax."
            )
        coefficients = almxfl(np.stack([alm[channel.field] for channel in every]), ratio)
        coefficients[:, 0] = 0
        made = ring_to_nest(synthesise(every, coefficients.astype(np.complex64), layout.nside, layout.lmax))
        for row, channel in zip(made, every, strict=True):
            if channel.field == "I":
                row -= row.mean(dtype=np.float64)
        return made[: len(self.channels)], made[len(self.channels) :]

    def _read(self, path: Path, field: str, key: str) -> HealpixMap:
        found = read_map(path, field, unit=self.unit.get(key), ordering=self.ordering, nside=self.layout.nside)
        if found.bad.any():
            raise ConfigError(f"{path}: column {found.name} has {found.bad.sum()} pixels without data; fill them.")
        return found


# Extremes, without the cache


def extremes(
    files: ReferenceFiles,
    split: str,
    n_sims: int,
    channels: Sequence[Channel],
    unit: Mapping[str, str | None] | None = None,
    n_workers: int | None = None,
) -> Statistics:
    """Find the extremes of the observed maps of the first simulations of a split [uK_CMB], by channel.

    Args:
        files: Where they are.
        split: Name of the split, in lower case.
        n_sims: How many simulations, from the first.
        channels: Bands and fields.
        unit: Unit of the maps by band, for files that do not state it.
        n_workers: Threads; the cores given to the job when None.
    """
    scanner = _Scanner(files, tuple(channels), unit or {})
    tasks = [Task(split, index) for index in range(n_sims)]
    return over_simulations(
        scanner, tasks, n_workers=n_workers, threads=True, reduce=Statistics.joined, description=f"scanning {split}"
    )


@dataclass(frozen=True)
class _Scanner:
    files: ReferenceFiles
    channels: tuple[Channel, ...]
    unit: Mapping[str, str | None]

    def __call__(self, task: Task) -> Statistics:
        rows: dict[str, list] = {"minimum": [], "maximum": [], "bad": []}
        for band, group in groupby(self.channels, key=lambda channel: channel.band):
            channels = list(group)
            path = self.files.observed(task.split, task.index, band)
            found = map_extremes(path, [channel.field for channel in channels], self.unit.get(band))
            for channel, unit, *values in zip(channels, found.units, *vars(found.statistics).values(), strict=True):
                factor = 1.0 if unit == "uK_CMB" else to_uK_CMB(channel.frequency, unit, str(path))
                for key, value in zip(rows, values, strict=True):
                    rows[key].append(value if key == "bad" else value * factor)
        return Statistics(**rows)
