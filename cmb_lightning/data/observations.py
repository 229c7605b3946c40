"""A user's own maps, to be cleaned by a trained model."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset

from cmb_lightning.data.datasets import Preparation, Unprepared
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.lowering import fill, lower
from cmb_lightning.data.names import check_name
from cmb_lightning.data.recipe import file_digest, recipe_id
from cmb_lightning.data.sampler import EvaluationSampler
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import read_map
from cmb_lightning.results.healpix_map import HealpixMap
from cmb_lightning.sky import Channel, Instrument
from cmb_lightning.sky.beams import gaussian_beam, window
from cmb_lightning.sky.foregrounds import analyse, synthesise
from cmb_lightning.sky.transforms import nest_to_ring, ring_to_nest, rotate_alm
from cmb_lightning.sky.units import arcmin

log = logging.getLogger(__name__)


class ObservationsDataModule(L.LightningDataModule):
    """Observed maps in FITS files, for `predict`.

    Unit, ordering and coordinates come from the headers, or are stated here. Maps are brought to NESTED order, Galactic
    coordinates and uK_CMB; finer ones are lowered to `nside` and the instrument's beam. Pixels without data are filled
    for the transforms and masked in the output; the monopole (outside them) is removed and logged.

    Args:
        observations: Files by name of the observation and band: `{planck: {30: 30GHz.fits, 44: 44GHz.fits}}`. Those
            named `planck_half1` and `planck_half2` are two halves of `planck`, whose noise is independent.
        instrument: Name of a table that is shipped, or path of one: beams and frequencies of the maps.
        nside: HEALPix resolution of the cleaned map, that of the maps or lower.
        lmax: Highest multipole that is used; 2 nside when None.
        bands: Bands of the instrument; all when None.
        fields: Fields of them: I, Q, U.
        target_fwhm: Beam of the cleaned map, such as `20 arcmin`; the smallest of the instrument when None.
        unit: Unit of all maps, or by band, for files that do not state it.
        ordering: RING or NESTED, for files that do not state it.
        coordinates: G, E or C, for files that do not state it.
        map_fwhm: Beam of all maps, or by band, where it is finer than the instrument's, such as `7.2 arcmin`: they are
            smoothed to that of the instrument.
        remove_dipole: Also remove the dipole from maps of I.
        dataset: Name of the data set, a folder among the predictions.
        batch_size: Maps in a batch.

    Raises:
        ConfigError: A value cannot work, or a map is missing.
        FileNotFoundError: A file is missing.
    """

    def __init__(
        self,
        observations: dict[str, dict[str, str]],
        instrument: str,
        nside: int,
        lmax: int | None = None,
        bands: list[str | int] | None = None,
        fields: list[str] | None = None,
        target_fwhm: str | None = None,
        unit: str | dict[str, str] | None = None,
        ordering: str | None = None,
        coordinates: str | None = None,
        map_fwhm: str | dict[str, str] | None = None,
        remove_dipole: bool = False,
        dataset: str = "observations",
        batch_size: int = 1,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.dataset = check_name(dataset, "dataset")
        if batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} must be at least 1.")
        loaded = Instrument.load(instrument, nside, bands, tuple(fields or "I"))
        self.channels = loaded.channels
        target = arcmin(target_fwhm, "target_fwhm")
        self.layout = Layout.of(
            self.channels,
            nside=nside,
            lmax=2 * nside if lmax is None else lmax,
            fields=loaded.fields,
            target_fwhm=min(c.fwhm for c in self.channels) if target is None else target,
        )
        if not observations:
            raise ConfigError("observations: there are none; name at least one and its files.")
        self.names = list(observations)
        self.places = places(self.names)
        self.files = [self._files(name, files, loaded.bands) for name, files in observations.items()]
        self._units = _by_band(unit, loaded.bands, "unit")
        beams = _by_band(map_fwhm, loaded.bands, "map_fwhm")
        self._fwhm = {band: arcmin(text, "map_fwhm") for band, text in beams.items()}
        for channel in self.channels:
            if (self._fwhm.get(channel.band) or 0.0) > channel.fwhm:
                raise ConfigError(
                    f"map_fwhm: {beams[channel.band]} is broader than the {channel.fwhm:g} arcmin of the instrument at"
                    f" band {channel.band}; use a model for broader beams."
                )
        self._ordering, self._coordinates = ordering, coordinates
        self._remove_dipole, self._batch_size = remove_dipole, batch_size
        self._maps: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def inference_splits(self) -> list[str]:
        """The one name that stands for the split of these maps."""
        return ["observations"]

    @property
    def identity(self) -> dict[str, str]:
        """A name for the content of the files."""
        digests = {f"{name}/{b}": file_digest(p) for name, f in zip(self.names, self.files, strict=True) for b, p in f}
        return {"observations": recipe_id(digests)}

    def setup(self, stage: str | None = None) -> None:
        """Reads the maps.

        Raises:
            ConfigError: A map cannot be used, or the stage needs a truth.
        """
        if stage != "predict":
            raise ConfigError(f"data: observations have no truth, so `{stage}` cannot be done with them; use predict.")
        self._maps = [self._read(name, dict(files)) for name, files in zip(self.names, self.files, strict=True)]

    def predict_dataloader(self) -> DataLoader:
        """Loads the observations, in the order of the configuration."""
        preparation = Unprepared() if self.trainer is None else self.trainer.lightning_module.preparation(scored=False)
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        sampler = EvaluationSampler(len(self._maps), rank, world_size)
        return DataLoader(
            ObservedMaps(self._maps, self.places, preparation), batch_size=self._batch_size, sampler=sampler
        )

    def _files(self, name: str, files: dict[str, str], bands: tuple[str, ...]) -> list[tuple[str, Path]]:
        check_name(name, "observations")
        files = {str(band): Path(path) for band, path in files.items()}
        for band in bands:
            if band not in files:
                raise ConfigError(f"observations.{name}: no file for band {band}; leave it out of `bands` or name one.")
            if not files[band].is_file():
                raise FileNotFoundError(f"observations.{name}.{band}: there is no file {files[band]}: check the path.")
        if unknown := sorted(set(files) - set(bands)):
            raise ConfigError(f"observations.{name}: {unknown[0]} is not among the bands {', '.join(bands)}.")
        return [(band, files[band]) for band in bands]

    def _read(self, name: str, files: dict[str, Path]) -> tuple[np.ndarray, np.ndarray]:
        """Maps (channel, pixel) and where any has no data (pixel,), both NESTED."""
        found = {band: self._read_band(path, band) for band, path in files.items()}
        read = [found[channel.band][channel.field] for channel in self.channels]
        if len(frames := {found.coordinates for found in read}) > 1:
            raise ConfigError(f"observations.{name}: maps are in different coordinates, {', '.join(sorted(frames))}.")
        bad = np.any([found.bad for found in read], axis=0)
        if bad.all():
            raise ConfigError(f"observations.{name}: no pixel has data in every band.")
        maps = fill(np.stack([np.where(bad, 0, found.values) for found in read]).astype(np.float32), bad)
        if frames != {"G"}:
            maps, bad = to_galactic(maps, bad, frames.pop(), self.channels, self.layout.lmax)
        for channel, row in zip(self.channels, maps, strict=True):
            if channel.field == "I":
                moments = remove_moments(row, bad, self._remove_dipole)
                log.info("%s, %s: removed %s uK_CMB (monopole, dipole x y z)", name, channel.name, np.round(moments, 3))
        log.info("%s: %d of %d pixels without data", name, bad.sum(), bad.size)
        return maps, bad

    def _read_band(self, path: Path, band: str) -> dict[str, HealpixMap]:
        """The fields of a band, NESTED, at the instrument's beam and the resolution wanted."""
        channels = [channel for channel in self.channels if channel.band == band]
        read = {}
        for channel in channels:
            one = read_map(
                path,
                channel.field,
                unit=self._units.get(band),
                ordering=self._ordering,
                coordinates=self._coordinates,
                nside=self.layout.nside,
                finer=True,
            )
            if one.coordinates is None:
                raise ConfigError(f"{path}: it does not say its coordinates; state `coordinates`: G, E or C.")
            read[channel.field] = one.in_uK_CMB(channel.frequency).nested()
        maps, own = list(read.values()), self._fwhm.get(band)
        nside, lmax = self.layout.nside, self.layout.lmax
        transfer = np.ones((len(channels), lmax + 1))
        if own is not None:
            transfer = np.stack([window(one, lmax) / gaussian_beam(own, lmax, one.spin) for one in channels])
        if maps[0].nside == nside and (transfer == 1).all():
            return read
        bad = np.any([one.bad for one in maps], axis=0)
        lowered, bad = lower(np.stack([one.values for one in maps]), bad, list(read), nside, transfer)
        log.info("%s: from nside %d to %d, its beam to %g arcmin", path, maps[0].nside, nside, channels[0].fwhm)
        return {
            field: replace(one, values=row, nside=nside, bad=bad)
            for (field, one), row in zip(read.items(), lowered, strict=True)
        }


class ObservedMaps(Dataset):
    """Observed maps as samples: the entries of the preparation, `observed`, `bad`, `index`, `half` and `split`.

    Args:
        maps: Maps (channel, pixel) and where they have no data (pixel,).
        places: Number and half of each.
        preparation: What the method does with the maps.
    """

    def __init__(
        self, maps: list[tuple[np.ndarray, np.ndarray]], places: list[tuple[int, int]], preparation: Preparation
    ) -> None:
        self._maps, self._places, self._preparation = maps, places, preparation

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        maps, bad = self._maps[index]
        number, half = map(np.int64, self._places[index])
        prepared = self._preparation.prepare(maps)
        if half:
            other = self._maps[self._places.index((int(number), 3 - int(half)))][0]
            whole = self._preparation.prepare((maps + other) / 2)
            sample: dict[str, Any] = self._preparation.finish_half(prepared, whole)
        else:
            sample = self._preparation.finish(prepared)
        place = {"index": number, "half": half, "split": "observations"}
        return {**sample, "observed": maps, "bad": bad, **place}


def places(names: list[str]) -> list[tuple[int, int]]:
    """Number of each observation, and 1 or 2 for halves, whose names end in `_half1` and `_half2`: they share one.

    Raises:
        ConfigError: One half is without the other.
    """
    parts = [re.fullmatch(r"(.*?)(?:_half([12]))?", name).groups() for name in names]
    numbers = list(dict.fromkeys(name for name, _ in parts))
    for name, half in parts:
        if half and (name, other := "21"[int(half) - 1]) not in parts:
            raise ConfigError(f"observations.{name}_half{half}: there is no {name}_half{other}; name both, or neither.")
    return [(numbers.index(name), int(half or 0)) for name, half in parts]


def _by_band(value: str | dict[str, str] | None, bands: tuple[str, ...], key: str) -> dict[str, str | None]:
    """A value for each band, from one for all or some of each."""
    if not isinstance(value, dict):
        return dict.fromkeys(bands, value)
    found = {str(band): text for band, text in value.items()}
    if unknown := sorted(set(found) - set(bands)):
        raise ConfigError(f"{key}: there is no band {unknown[0]!r}; there are {', '.join(bands)}.")
    return found


def to_galactic(
    maps: np.ndarray, bad: np.ndarray, frame: str, channels: tuple[Channel, ...], lmax: int
) -> tuple[np.ndarray, np.ndarray]:
    """Turns maps (channel, pixel) and their mask (pixel,), NESTED, from a frame (E or C) to Galactic coordinates."""
    import healpy

    matrix = healpy.Rotator(coord=[frame, "G"]).mat
    nside = healpy.npix2nside(bad.size)
    alm = rotate_alm(analyse(channels, nest_to_ring(maps).astype(np.float64), lmax), lmax, matrix)
    turned = ring_to_nest(synthesise(channels, alm, nside, lmax)).astype(np.float32)
    directions = np.stack(healpy.pix2vec(nside, np.arange(bad.size), nest=True))
    return turned, bad[healpy.vec2pix(nside, *(matrix.T @ directions), nest=True)]


def remove_moments(values: np.ndarray, bad: np.ndarray, dipole: bool) -> np.ndarray:
    """Removes the monopole, and the dipole if wanted, of the good pixels from a map, in place.

    Args:
        values: A map, NESTED, shape (pixel,).
        bad: Where it has no data, shape (pixel,).
        dipole: Whether the dipole is removed too.

    Returns:
        What was removed: the monopole, and the x, y and z of the dipole.
    """
    terms = [np.ones(values.size)]
    if dipole:
        import healpy

        terms += healpy.pix2vec(healpy.npix2nside(values.size), np.arange(values.size), nest=True)
    basis = np.stack(terms)
    good = basis[:, ~bad]
    moments = np.linalg.solve(good @ good.T, good @ values[~bad].astype(np.float64))
    values -= (moments @ basis).astype(values.dtype)
    return moments
