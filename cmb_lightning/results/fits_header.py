"""What a FITS header says of a map, or the user in its place: one of them must, and nothing is guessed."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.healpix_map import Ordering

NSIDES = [2**k for k in range(14)]
PIXEL_COLUMNS = {"PIXEL", "PIX", "HPXINDEX"}
_FIELD_NAMES = {
    "I": ("I_STOKES", "TEMPERATURE", "INTENSITY", "I_STOKES_PROC", "SIGNAL", "T"),
    "Q": ("Q_STOKES", "Q_POLARISATION", "Q_POLARIZATION", "Q-POLARISATION", "Q-POLARIZATION"),
    "U": ("U_STOKES", "U_POLARISATION", "U_POLARIZATION", "U-POLARISATION", "U-POLARIZATION"),
}
ORDERINGS: dict[str, Ordering] = {"RING": "RING", "NESTED": "NESTED", "NEST": "NESTED"}
COORDINATES = {"G": "G", "GALACTIC": "G", "E": "E", "ECLIPTIC": "E", "C": "C", "CELESTIAL": "C", "EQUATORIAL": "C"}


def resolution(header: Mapping[str, Any], path: Path, stated: int | None, finer: bool = False) -> int:
    """nside, from the header or as stated; a finer one where that will do."""
    found = header.get("NSIDE", stated)
    if found is None:
        raise ConfigError(f"{path}: has no keyword NSIDE: state nside.")
    if found not in NSIDES:
        raise ConfigError(f"{path}: nside {found!r} is not a power of two between 1 and {NSIDES[-1]}.")
    if stated is not None and stated != found and not (finer and found > stated):
        wanted = f"{stated} or finer" if finer else f"{stated}"
        raise ConfigError(f"{path}: has nside {found} where {stated} is needed: give a map of nside {wanted}.")
    return int(found)


def column_number(columns: Sequence[str], path: Path, field: str | int | None) -> int:
    """Number of the column that a field is in, by its own name or a usual one; of the first map for None."""
    names = [name.upper() for name in columns]
    maps = [k for k, name in enumerate(names) if name not in PIXEL_COLUMNS]
    if field is None and maps:
        return maps[0]
    if isinstance(field, int) and 0 <= field < len(names):
        return field
    if isinstance(field, str):
        for candidate in (field.upper(), *_FIELD_NAMES.get(field.upper(), ())):
            if candidate in names:
                return names.index(candidate)
    raise ConfigError(f"{path}: has no field {field!r}: choose one of {', '.join(columns)}.")


def word(key: str, stated: str | None, found: Any, words: Mapping[str, Any], path: Path) -> Any:
    """A keyword from what the user stated, else from the header; None where neither says."""
    values = []
    for text in (stated, found):
        word = words.get(str(text).strip().upper()) if text is not None else None
        if text is not None and word is None and (text is stated or stated is None):
            allowed = ", ".join(dict.fromkeys(words.values()))
            raise ConfigError(f"{path}: {key} {str(text)!r} is not known: state one of {allowed}.")
        values.append(word)
    if None not in values and values[0] != values[1]:
        warnings.warn(f"{path}: {key} is {values[1]} in the header, taken as {values[0]} as stated.", stacklevel=4)
    return values[0] if values[0] is not None else values[1]
