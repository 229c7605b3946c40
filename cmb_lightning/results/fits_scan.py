"""Smallest and largest values of maps in FITS files, without the maps.

Most HEALPix files are one plain table of floats. That is read here, a piece at a time that stays in the processor's
cache and mostly outside the interpreter, so that threads can share the work. Any other file, and any fault, is left to
`read_map`, which explains it.
"""

import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cmb_lightning.data.content import Statistics
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import UNSEEN, read_map
from cmb_lightning.results.fits_header import NSIDES, column_number
from cmb_lightning.results.healpix_map import known_unit

_BLOCK = 2880
_PIECE = 1 << 20  # bytes
_CARD = re.compile(r"(\S+) *= *(?:'((?:[^']|'')*)'|([^/ ]+))")


@dataclass(frozen=True)
class MapExtremes:
    """Extremes of some maps of a file.

    Attributes:
        statistics: Smallest and largest good value of each map, in its unit, and how many pixels are bad.
        units: Unit of each map.
    """

    statistics: Statistics
    units: tuple[str, ...]


def map_extremes(path: str | Path, fields: Sequence[str | int], unit: str | None = None) -> MapExtremes:
    """Find the extremes of maps in a FITS file, as `read_map` would give them.

    Args:
        path: A FITS file with a HEALPix table.
        fields: Columns by name (`I`, `Q` and `U` also find their usual long names) or number from 0.
        unit: Unit of the maps, for a file that does not state it.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If the file is damaged or no FITS map, or something is not known or not recognised.
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            table = _plain_table(file, path, fields, unit)
            if table is not None and (found := _scan(file, table)) is not None:
                return MapExtremes(found, table.units)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*ORDERING.*|.*looks like.*")  # does not matter here
        maps = [read_map(path, field, unit=unit, ordering="RING") for field in fields]
    joined = [Statistics.of(found.values[None]) for found in maps]
    rows = ([row for one in joined for row in getattr(one, key)] for key in ("minimum", "maximum", "bad"))
    return MapExtremes(Statistics(*rows), tuple(found.unit for found in maps))


@dataclass(frozen=True)
class _Table:
    """Where the maps are in a file, and what they should sum to."""

    start: int
    n_rows: int
    row: np.dtype
    units: tuple[str, ...]
    datasum: int | None


def _plain_table(file: BinaryIO, path: Path, fields: Sequence[str | int], unit: str | None) -> _Table | None:
    """The table of a file that is as simple as most; None for any other."""
    try:
        if _cards(file)["NAXIS"] != "0":
            return None
        cards = _cards(file)
        if cards["XTENSION"].strip() != "BINTABLE" or cards.get("PCOUNT") != "0" or int(cards["NSIDE"]) not in NSIDES:
            return None
        partial = cards.get("INDXSCHM", "").strip() == "EXPLICIT" or cards.get("OBJECT", "").strip() == "PARTIAL"
        if partial or not np.isclose(float(cards.get("BAD_DATA", UNSEEN)), UNSEEN):
            return None
        numbers = range(1, int(cards["TFIELDS"]) + 1)
        if any(f"{key}{n}" in cards for key in ("TSCAL", "TZERO", "TNULL") for n in numbers):
            return None
        forms = {n: re.fullmatch(r"(\d*)([ED])\s*", cards[f"TFORM{n}"]).groups() for n in numbers}
        whole = np.dtype([(f"{n}", f">f{4 if form[1] == 'E' else 8}", int(form[0] or 1)) for n, form in forms.items()])
        wanted = [column_number([cards[f"TTYPE{n}"].strip() for n in numbers], path, field) for field in fields]
        units = [unit if unit is not None else cards[f"TUNIT{n + 1}"] for n in wanted]
        n_rows, start, row = int(cards["NAXIS2"]), file.tell(), whole[[f"{n + 1}" for n in wanted]]
        npix = {n_rows * int(np.prod(row[name].shape)) for name in row.names}
        if whole.itemsize != int(cards["NAXIS1"]) or npix != {12 * int(cards["NSIDE"]) ** 2}:
            return None
        datasum = int(cards["DATASUM"]) if "DATASUM" in cards else None
        return _Table(start, n_rows, row, tuple(known_unit(text, str(path)) for text in units), datasum)
    except (KeyError, ValueError, AttributeError, ConfigError):
        return None


def _cards(file: BinaryIO) -> dict[str, str]:
    """Keywords of the header that starts here, as text; the file is left at the data."""
    cards: dict[str, str] = {}
    for _ in range(200):
        block = file.read(_BLOCK)
        if len(block) < _BLOCK:
            break
        text = block.decode("ascii")
        for first in range(0, _BLOCK, 80):
            card = text[first : first + 80]
            if card.rstrip() == "END":
                return cards
            if match := _CARD.match(card):
                cards[match[1]] = match[3] if match[2] is None else match[2]
    raise ValueError("the header has no end")


def _scan(file: BinaryIO, table: _Table) -> Statistics | None:
    """Extremes of the maps of a table; None where it is cut short or damaged."""
    if os.fstat(file.fileno()).st_size < table.start + table.n_rows * table.row.itemsize:
        return None
    step = max(_PIECE // table.row.itemsize, 1)
    buffer = np.empty(min(step, table.n_rows) * table.row.itemsize, np.uint8)
    found: list[Statistics] = []
    total = 0
    for first in range(0, table.n_rows, step):
        piece = buffer[: min(step, table.n_rows - first) * table.row.itemsize]
        if file.readinto(piece) != piece.size:
            return None
        if table.datasum is not None:
            total += int(piece.view(np.uint32).sum(dtype=np.uint64))
        rows = piece.view(table.row)
        values = np.empty((len(table.row.names), rows.size, rows[0][0].size), np.float32)
        for native, name in zip(values, table.row.names, strict=True):
            native[...] = rows[name].reshape(native.shape)
        found.append(Statistics.of(values.reshape(len(values), -1)))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    # Such a sum may be taken in either byte order, and its bytes turned at the end (RFC 1071).
    if table.datasum not in (None, int(np.uint32(total).byteswap() if sys.byteorder == "little" else total)):
        return None
    return found[0].joined(*found[1:])
