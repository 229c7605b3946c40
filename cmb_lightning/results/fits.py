"""HEALPix maps in FITS files: nothing is guessed, and no file is believed beyond what can be checked."""

import io
import os
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from cmb_lightning.data.publish import replace
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits_header import (
    COORDINATES,
    NSIDES,
    ORDERINGS,
    PIXEL_COLUMNS,
    column_number,
    resolution,
    word,
)
from cmb_lightning.results.healpix_map import HealpixMap, Ordering, is_misordered, known_unit

UNSEEN = -1.6375e30
"""HEALPix's value for a pixel without data."""

_SPARSEST = 100_000  # a patch of half a square degree; a tiny file must not ask for gigabytes
_GZIP_MAX_RATIO = 1032  # what deflate can reach: no file can honestly hold more
_DAMAGE = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, zlib.error, fits.VerifyError)
_STRUCTURE = re.compile(
    r"XTENSION|BITPIX|NAXIS\d*|[PG]COUNT|TFIELDS|T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM)\d+|(CHECK|DATA)SUM"
    r"|PIXTYPE|ORDERING|COORDSYS|NSIDE|(FIRST|LAST)PIX|INDXSCHM|OBJECT|EXTNAME|COMMENT|HISTORY|"
)


def read_map(
    path: str | Path,
    field: str | int | None = None,
    *,
    unit: str | None = None,
    ordering: str | None = None,
    coordinates: str | None = None,
    nside: int | None = None,
    finer: bool = False,
) -> HealpixMap:
    """Read one map of a FITS file.

    What the header says is taken from it, and what it does not say must be stated. A statement has the last word: it
    also mends a header that is wrong (with a warning if it reverses the ordering or the coordinates).

    Args:
        path: A FITS file with a HEALPix table, possibly gzipped; the full sphere or a part of it.
        field: Column by name (`I`, `Q` and `U` also find their usual long names) or number from 0; None is the first.
        unit: Unit of the map (`uK_CMB`, `K_RJ`, `MJy/sr`; `1` for none).
        ordering: `RING` or `NESTED`.
        coordinates: `G`, `E` or `C`.
        nside: HEALPix resolution the map must have.
        finer: Whether a finer resolution will do, too.

    Returns:
        The map in the file's own ordering and unit; pixels that are UNSEEN, BAD_DATA, NaN or infinite are marked bad.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If the file is damaged or no FITS map, something is not known or not recognised, or nside differs.
    """
    path = Path(path)
    _check_start(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy warns here of what is refused below
            hdus = fits.open(path, memmap=not _is_gzip(path))
            table = _find_table(hdus, path)
            _check_content(table, path)
        with hdus:
            return _read_table(table, path, field, unit, ordering, coordinates, nside, finer)
    except ConfigError:
        raise
    except _DAMAGE as error:
        raise ConfigError(f"{path}: not a readable FITS file ({error}): fetch or make it again.") from error


def read_header(path: str | Path) -> dict[str, Any]:
    """All keywords of the table of maps in a FITS file, without reading the maps.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it is no FITS map.
    """
    path = Path(path)
    _check_start(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path) as hdus:
                return dict(_find_table(hdus, path).header)
    except ConfigError:
        raise
    except _DAMAGE as error:
        raise ConfigError(f"{path}: not a readable FITS file ({error}): fetch or make it again.") from error


def write_map(
    path: str | Path,
    maps: np.ndarray,
    names: Sequence[str],
    unit: str,
    header: Mapping[str, Any] | None = None,
    *,
    ordering: Ordering = "NESTED",
    coordinates: str = "G",
) -> None:
    """Write maps as the columns of a FITS file: RING, float32, with checksums, whole or not at all.

    The same input gives the same bytes; a file of that name is replaced.

    Args:
        path: The file; its folder is made if missing.
        maps: Pixels in `unit`, shape (map, npix); what is not finite becomes UNSEEN.
        names: Name of each map, such as `I`.
        unit: Unit of all maps.
        header: More keywords (8 characters at most), each with a value or a (value, comment) pair.
        ordering: The ordering of `maps`; the file is always RING.
        coordinates: `G`, `E` or `C`.

    Raises:
        ConfigError: If the shape is no set of HEALPix maps, or names and maps differ in number.
    """
    maps = np.asarray(maps)
    nside = int(round((maps.shape[-1] / 12) ** 0.5)) if maps.ndim == 2 else 0
    if nside not in NSIDES or maps.shape != (len(names), 12 * nside**2):
        raise ConfigError(f"{path}: maps of shape {maps.shape} with names {list(names)} are not (map, npix).")
    columns = []
    for name, values in zip(names, maps, strict=True):
        bad = ~np.isfinite(values)
        full = HealpixMap(values, nside, ordering, unit, coordinates, bad).ordered("RING")
        ring = np.where(full.bad, np.float32(UNSEEN), full.values.astype(np.float32))
        columns.append(fits.Column(name=name, format="E", unit=unit, array=ring))
    table = fits.BinTableHDU.from_columns(columns)
    cards = {
        "PIXTYPE": ("HEALPIX", "HEALPix pixelisation"),
        "ORDERING": ("RING", "pixel ordering scheme"),
        "COORDSYS": (coordinates, "G galactic, E ecliptic, C equatorial"),
        "NSIDE": (nside, "HEALPix resolution"),
        "FIRSTPIX": (0, "first pixel"),
        "LASTPIX": (12 * nside**2 - 1, "last pixel"),
        "INDXSCHM": ("IMPLICIT", "every pixel is there"),
        "OBJECT": ("FULLSKY", "sky coverage"),
        "BAD_DATA": (UNSEEN, "value of pixels without data"),
        **(header or {}),
    }
    for key, value in cards.items():
        table.header[key] = value
    table.add_checksum(when="of this table")  # the default comment holds the date: no two files would be alike
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, buffer.getvalue())


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _check_start(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file: check the path.")
    with path.open("rb") as file:
        start = file.read(9)
    if not start.startswith((b"SIMPLE  =", b"\x1f\x8b")):
        what = "an empty file" if not start else "no FITS file"
        raise ConfigError(f"{path}: {what}: give a FITS file with a HEALPix map.")


def _find_table(hdus: fits.HDUList, path: Path) -> fits.BinTableHDU:
    tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU) and hdu.header.get("TFIELDS", 0) > 0]
    marked = [hdu for hdu in tables if {"PIXTYPE", "ORDERING", "NSIDE"} & set(hdu.header)]
    if not tables:
        raise ConfigError(f"{path}: has no table of HEALPix pixels, or is cut short: give a complete HEALPix map.")
    return (marked or tables)[0]


def _read_table(
    table: fits.BinTableHDU,
    path: Path,
    field: str | int | None,
    unit: str | None,
    ordering: str | None,
    coordinates: str | None,
    nside: int | None,
    finer: bool,
) -> HealpixMap:
    header = table.header
    found = resolution(header, path, nside, finer)
    column = column_number(table.columns.names, path, field)
    name = table.columns.names[column]
    text = unit if unit is not None else header.get(f"TUNIT{column + 1}")
    if text is None:
        raise ConfigError(
            f"{path}: column {name} has no unit (TUNIT{column + 1}): state the unit by `unit`, such as mK_CMB."
        )
    text = known_unit(str(text), f"{path}, column {name}")
    order = word("ordering", ordering, header.get("ORDERING"), ORDERINGS, path)
    if order is None:
        raise ConfigError(f"{path}: has no keyword ORDERING: state the ordering, RING or NESTED.")
    frame = word("coordinates", coordinates, header.get("COORDSYS"), COORDINATES, path)
    values, bad = _pixels(table, column, found, path)
    if is_misordered(values, found, order):
        other = "NESTED" if order == "RING" else "RING"
        warnings.warn(
            f"{path}: column {name} is called {order} but looks like {other}: check it, and state the ordering.",
            stacklevel=3,
        )
    rest = {key: value for key, value in header.items() if not _STRUCTURE.fullmatch(key)}
    return HealpixMap(values, found, order, text, frame, bad, name, str(path), rest)


def _check_content(table: fits.BinTableHDU, path: Path) -> None:
    """Refuse a header that promises more than the file can hold, before anything is allocated for it."""
    info = table.fileinfo()
    held = os.path.getsize(path) * (_GZIP_MAX_RATIO if _is_gzip(path) else 1)
    if table.size < 0 or info["datLoc"] + info["datSpan"] > held:
        raise ConfigError(
            f"{path}: its header promises {table.size} bytes of pixels, which the file does not hold:"
            " it is cut short; fetch or make it again."
        )
    if 0 in (table.verify_datasum(), table.verify_checksum()):
        raise ConfigError(f"{path}: its checksum does not fit its content: it is damaged; fetch or make it again.")


def _pixels(table: fits.BinTableHDU, column: int, nside: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The values of the full sphere in native float32 with NaN where there are none, and a mask of those."""
    npix = 12 * nside**2
    header = table.header
    explicit = str(header.get("INDXSCHM", "")).strip() == "EXPLICIT" or header.get("OBJECT") == "PARTIAL"
    repeat, kind = re.fullmatch(r"(\d*)([A-Z]).*", str(table.columns[column].format)).groups()
    if kind not in "BIJKED":
        raise ConfigError(f"{path}: column {table.columns[column].name} holds no numbers: choose another field.")
    count = header["NAXIS2"] * int(repeat or 1)
    if not explicit and count != npix:
        raise ConfigError(f"{path}: holds {count} pixels, nside {nside} has {npix}: it is cut short or misnamed.")
    if explicit and npix > _SPARSEST * count:
        raise ConfigError(f"{path}: holds {count} pixels of a sphere of {npix}: too few to be worth a map of them all.")
    read = np.asarray(table.data.field(column)).ravel()
    if explicit:
        numbers = [k for k, name in enumerate(table.columns.names) if name.upper() in PIXEL_COLUMNS]
        where = np.asarray(table.data.field(numbers[0])).ravel().astype(np.int64) if numbers else None
        if where is None or where.size != read.size or (read.size and (where.min() < 0 or where.max() >= npix)):
            raise ConfigError(f"{path}: covers a part of the sky, without a column PIXEL of numbers below {npix}.")
        values = np.full(npix, np.nan, dtype=np.float32)
        values[where] = read
    else:
        values = read.astype(np.float32)
    bad = ~np.isfinite(values) | np.isclose(values, UNSEEN, rtol=1e-5, atol=0)
    marker = header.get("BAD_DATA")
    if isinstance(marker, int | float):
        bad |= np.isclose(values, marker, rtol=1e-5, atol=0)
    values[bad] = np.nan
    return values, bad
