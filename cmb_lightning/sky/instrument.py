"""Instruments: tables of bands with units, and the channels made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ConfigError
from .channel import FIELDS, Channel
from .tables import channel_of, read_table
from .transforms import check_nside


@dataclass(frozen=True)
class Instrument:
    """A set of channels at one nside."""

    name: str
    channels: tuple[Channel, ...]
    nside: int

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in order, each once."""
        return tuple(dict.fromkeys(channel.band for channel in self.channels))

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of which there is at least one channel, in the order I, Q, U."""
        return tuple(field for field in FIELDS if any(channel.field == field for channel in self.channels))

    @classmethod
    def load(
        cls, name_or_path: str, nside: int, bands: Sequence[str | int] | None = None, fields: Sequence[str] = ("I",)
    ) -> Instrument:
        """Read an instrument table.

        Args:
            name_or_path: name of a table of the project (`reference`, `planck`, ...), or a path to one's own: ECSV with
                columns `band`, `frequency`, `fwhm`, `fields` (I or IQU), and for I and P (Q and U) at least one of
                `depth_I` (such as uK_CMB arcmin), `depth_I_intensity` (such as kJy deg / sr), `noise_I` (per pixel) and
                `variance_I` (file.fits:column) and `spectrum_I` (file of l and N_l). Optional columns: `gain_error`,
                `beam_error` and `bandpass_error` (scatter of calibration, width and frequency, in percent), `l_knee_I`
                and `alpha_I` (correlated noise), `bandwidth` of a flat band or `bandpass` (file of frequency [GHz] and
                transmission), `beam` (file of l and b_l). Files are relative to the table.
            nside: of the maps; turns a depth into noise per pixel.
            bands: those wanted, in that order; None for all.
            fields: those wanted, of I, Q, U; a band without Q and U has only I.

        Raises:
            FileNotFoundError: no such table.
            ConfigError: unknown band, field or unit, or no noise for a channel.
        """
        check_nside(nside)
        fields = tuple(fields)
        if not fields or set(fields) - set(FIELDS) or ("Q" in fields) != ("U" in fields):
            raise ConfigError(f"fields: {''.join(fields)!r} is not possible; give I, QU or IQU")
        table, path = read_table(str(name_or_path))
        names = [str(name) for name in table["band"]]
        if len(set(names)) != len(names):
            raise ConfigError(f"{path}: a band is there twice: {', '.join(names)}")
        wanted = names if bands is None else [str(band) for band in bands]
        for band in wanted:
            if band not in names:
                raise ConfigError(f"bands: no band {band!r} in {path.name}; it has {', '.join(names)}")
        if len(set(wanted)) != len(wanted) or not wanted:
            raise ConfigError(f"bands: {', '.join(wanted) or 'none'}; name at least one band, each once")
        channels = []
        for row in (table[names.index(band)] for band in wanted):
            if str(row["fields"]) not in ("I", "IQU"):
                raise ConfigError(f"{path}: fields of band {row['band']} are {str(row['fields'])!r}; write I or IQU")
            measured = [field for field in FIELDS if field in fields and field in str(row["fields"])]
            channels += [channel_of(row, field, nside, path) for field in measured]
        if missing := set(fields) - {channel.field for channel in channels}:
            raise ConfigError(f"fields: no band among {', '.join(wanted)} measures {', '.join(sorted(missing))}")
        return cls(path.stem, tuple(channels), nside)

    def scaled(self, nside: int, max_fwhm: float | None = None) -> Instrument:
        """Return the same experiment with larger or smaller pixels: beams grow with them, noise per pixel stays.

        The multipole of correlated noise moves along.

        Args:
            nside: of the new maps.
            max_fwhm: no beam becomes wider than this [arcmin]; None for no limit.
        """
        factor = self.nside / check_nside(nside)
        limit = np.inf if max_fwhm is None else max_fwhm
        for channel in self.channels:
            if file := channel.variance_map or channel.noise_spectrum or channel.beam_file:
                raise ConfigError(f"instrument {self.name}: {file} cannot be scaled to nside {nside}; leave it out")
        channels = tuple(
            replace(channel, fwhm=min(channel.fwhm * factor, limit), l_knee=channel.l_knee / factor)
            for channel in self.channels
        )
        return Instrument(self.name, channels, nside)
