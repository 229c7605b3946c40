"""Instruments: tables of bands with units, and the channels made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from . import units
from .transforms import check_nside

TABLES = Path(__file__).with_name("instruments")
FIELDS = ("I", "Q", "U")


@dataclass(frozen=True)
class Channel:
    """One field of one band: a row of every array (channel, pixel)."""

    band: str
    field: str
    """I, Q or U."""
    frequency: float
    """Centre [GHz]."""
    fwhm: float
    """Gaussian beam [arcmin]."""
    noise: float
    """White noise [uK_CMB per pixel]; the mean level where there is a variance map."""
    frequencies: tuple[float, ...]
    """Where the bandpass is sampled [GHz]."""
    weights: tuple[float, ...]
    """The band's signal is sum(weight * T_RJ(frequency)) [uK_CMB per uK_RJ]."""
    gain_error: float = 0.0
    """Relative scatter of the calibration, over simulations."""
    variance_map: str = ""
    """FITS file and column of the noise variance, `file.fits:column`; empty for homogeneous noise."""

    @property
    def name(self) -> str:
        """Such as `30_I`."""
        return f"{self.band}_{self.field}"

    @property
    def spin(self) -> int:
        """0 for I, 2 for Q and U."""
        return 0 if self.field == "I" else 2


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
        cls, name_or_path: str, nside: int, bands: Sequence[str] | None = None, fields: Sequence[str] = ("I",)
    ) -> Instrument:
        """Read an instrument table.

        Args:
            name_or_path: name of a table of the project (`reference`, `planck`, ...), or a path to one's own: ECSV with
                columns `band`, `frequency`, `fwhm`, `fields` (I or IQU), and for I and P (Q and U) at least one of
                `depth_I` (such as uK_CMB arcmin), `depth_I_intensity` (such as kJy deg / sr), `noise_I` (per pixel) and
                `variance_I` (file.fits:column, relative to the table); optionally `gain_error`.
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
        table, path = _read_table(str(name_or_path))
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
            channels += [_channel(row, field, nside, path) for field in measured]
        if missing := set(fields) - {channel.field for channel in channels}:
            raise ConfigError(f"fields: no band among {', '.join(wanted)} measures {', '.join(sorted(missing))}")
        return cls(path.stem, tuple(channels), nside)

    def scaled(self, nside: int, max_fwhm: float | None = None) -> Instrument:
        """Return the same experiment with larger or smaller pixels: beams grow with them, noise per pixel stays.

        Args:
            nside: of the new maps.
            max_fwhm: no beam becomes wider than this [arcmin]; None for no limit.
        """
        factor = self.nside / check_nside(nside)
        limit = np.inf if max_fwhm is None else max_fwhm
        channels = tuple(replace(channel, fwhm=min(channel.fwhm * factor, limit)) for channel in self.channels)
        if any(channel.variance_map for channel in channels):
            raise ConfigError(f"instrument {self.name}: has variance maps, which cannot be scaled to nside {nside}")
        return Instrument(self.name, channels, nside)


def _read_table(name_or_path: str):
    """Read an ECSV table with units, all of them known."""
    import pysm3.units  # noqa: F401  # before reading: without it astropy takes uK_CMB for unknown, silently
    from astropy.table import QTable

    path = TABLES / f"{name_or_path}.ecsv"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in TABLES.glob("*.ecsv")))
        raise FileNotFoundError(f"instrument: no table {name_or_path!r}; name an .ecsv file or one of {known}")
    try:
        table = QTable.read(path, format="ascii.ecsv")
    except Exception as error:  # astropy raises many kinds
        raise ConfigError(f"{path}: not an ECSV table ({error})") from error
    for column in ("band", "frequency", "fwhm", "fields"):
        if column not in table.colnames:
            raise ConfigError(f"{path}: no column {column!r}; it has {', '.join(table.colnames)}")
    for column in table.colnames:
        if table[column].dtype.kind == "f":
            units.unit(table[column].unit, f"{path}: column {column}")
    return table, path


def _value(row, column: str, unit: str, path: Path) -> float | None:
    """Return a number of a row in a unit, None where the column or the number is missing."""
    if column not in row.colnames or np.ma.is_masked(row[column]) or not np.isfinite(getattr(row[column], "value", 0)):
        return None
    return float(units.parse(row[column], unit, f"{path}: column {column}").value)


def _channel(row, field: str, nside: int, path: Path) -> Channel:
    band = str(row["band"])
    kind = "I" if field == "I" else "P"
    frequency, fwhm = _value(row, "frequency", "GHz", path), _value(row, "fwhm", "arcmin", path)
    if not (frequency and frequency > 0) or fwhm is None or fwhm < 0:
        raise ConfigError(f"{path}: band {band} needs a frequency above 0 and a fwhm of 0 or more")
    per_rj = units.to_uK_CMB(frequency, "uK_RJ")
    noise = _value(row, f"noise_{kind}", "uK_CMB", path)
    pixel = float(np.rad2deg(np.sqrt(4 * np.pi / (12 * nside**2))))  # its side [deg]
    if noise is None and (depth := _value(row, f"depth_{kind}", "uK_CMB deg", path)) is not None:
        noise = depth / pixel
    if noise is None and (depth := _value(row, f"depth_{kind}_intensity", "MJy deg / sr", path)) is not None:
        noise = depth / pixel * units.to_uK_CMB(frequency, "MJy / sr")
    variance = "" if f"variance_{kind}" not in row.colnames else str(row[f"variance_{kind}"] or "")
    if noise is None and not variance:
        raise ConfigError(f"{path}: band {band} states no noise for {field}; fill depth_{kind} or noise_{kind}")
    if noise is not None and noise < 0:
        raise ConfigError(f"{path}: band {band} has negative noise for {field}")
    gain_error = _value(row, "gain_error", "", path) or 0.0
    return Channel(
        band,
        field,
        frequency,
        fwhm,
        noise or 0.0,
        (frequency,),
        (per_rj,),
        gain_error,
        str(path.parent / variance) if variance else "",
    )
