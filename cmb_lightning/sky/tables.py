"""Reading instrument tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError
from . import bandpass, units
from .channel import Channel

if TYPE_CHECKING:
    from astropy.table import QTable, Row

TABLES = Path(__file__).with_name("instruments")
PLAIN = ("l_knee_I", "l_knee_P", "alpha_I", "alpha_P")
"""Columns of numbers without unit."""


def read_table(name_or_path: str) -> tuple[QTable, Path]:
    """Read an ECSV table with units, all of them known; return it and where it was found.

    Raises:
        FileNotFoundError: no such table.
        ConfigError: no such kind of table, or an unknown or missing unit.
    """
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
        if table[column].dtype.kind in "fi" and column not in ("band", *PLAIN):
            units.unit(table[column].unit, f"{path}: column {column}")
    return table, path


def channel_of(row: Row, field: str, nside: int, path: Path) -> Channel:
    """Make the channel of one field from a row of a table.

    Args:
        row: from `read_table`.
        field: I, Q or U.
        nside: of the maps.
        path: of the table, for errors and for the files it names.

    Raises:
        ConfigError: something is missing or makes no sense.
    """
    kind = "I" if field == "I" else "P"
    band = str(row["band"])
    where = f"{path}: band {band}"
    frequency, fwhm = _value(row, "frequency", "GHz", path), _value(row, "fwhm", "arcmin", path)
    if not (frequency and frequency > 0) or fwhm is None or fwhm < 0:
        raise ConfigError(f"{where} needs a frequency above 0 and a fwhm of 0 or more")
    frequencies, weights = _bandpass(row, frequency, path)
    noise = _noise(row, kind, frequency, nside, path)
    variance, spectrum = _file(row, f"variance_{kind}", path), _file(row, f"spectrum_{kind}", path)
    if noise is None and not variance and not spectrum:
        raise ConfigError(f"{where} states no noise for {field}; fill depth_{kind} or noise_{kind}")
    l_knee, alpha = (_value(row, f"{key}_{kind}", "", path) or 0.0 for key in ("l_knee", "alpha"))
    for key, value in (("noise", noise or 0.0), ("l_knee", l_knee), ("alpha", alpha)):
        if value < 0:
            raise ConfigError(f"{where} has negative {key} for {field}: {value}")
    return Channel(
        band=band,
        field=field,
        frequency=frequency,
        fwhm=fwhm,
        noise=noise or 0.0,
        frequencies=frequencies,
        weights=weights,
        **{key: _value(row, key, "", path) or 0.0 for key in ("gain_error", "beam_error", "bandpass_error")},
        l_knee=l_knee,
        alpha=alpha,
        variance_map=variance,
        noise_spectrum=spectrum,
        beam_file=_file(row, "beam", path),
    )


def _value(row: Row, column: str, unit: str, path: Path) -> float | None:
    """Return a number of a row in a unit, None where the column or the number is missing."""
    if column not in row.colnames or np.ma.is_masked(row[column]) or not np.isfinite(getattr(row[column], "value", 0)):
        return None
    return float(units.parse(row[column], unit, f"{path}: column {column}").value)


def _file(row: Row, column: str, path: Path) -> str:
    """Return a file that a row names, relative to the table; empty where it names none."""
    name = "" if column not in row.colnames or np.ma.is_masked(row[column]) else str(row[column])
    return str(path.parent / name) if name else ""


def _bandpass(row: Row, frequency: float, path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if file := _file(row, "bandpass", path):
        return bandpass.tabulated(Path(file))
    if (width := _value(row, "bandwidth", "GHz", path)) is not None:
        return bandpass.top_hat(frequency, width, f"{path}: column bandwidth")
    return bandpass.delta(frequency)


def _noise(row: Row, kind: str, frequency: float, nside: int, path: Path) -> float | None:
    """Return the white noise [uK_CMB per pixel], stated as such or as a depth; None where it is not stated."""
    if (noise := _value(row, f"noise_{kind}", "uK_CMB", path)) is not None:
        return noise
    pixel = float(np.rad2deg(np.sqrt(4 * np.pi / (12 * nside**2))))  # its side [deg]
    if (depth := _value(row, f"depth_{kind}", "uK_CMB deg", path)) is not None:
        return depth / pixel
    if (depth := _value(row, f"depth_{kind}_intensity", "MJy deg / sr", path)) is not None:
        return depth / pixel * units.to_uK_CMB(frequency, "MJy / sr")
    return None
