"""Reading HEALPix maps from FITS: what the header says is taken at its word or refused, never guessed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from ..errors import ConfigError
from .transforms import check_nside, nest_to_ring


@dataclass(frozen=True)
class MapHeader:
    """What a FITS file says about its maps."""

    path: Path
    nside: int
    ordering: str
    units: Mapping[str, str | None]
    """Unit of every column, by name; None where the file states none."""
    keys: Mapping[str, object]
    """All header keywords."""

    def column(self, wanted: str | Sequence[str]) -> str:
        """Return the file's own name of a column; case does not matter, the first of several names that is there wins."""
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        for name in names:
            for own in self.units:
                if own.upper() == name.upper():
                    return own
        raise ConfigError(f"{self.path}: no column {' or '.join(names)}; it has {', '.join(self.units)}")


def _open(path: Path) -> fits.HDUList:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the folder and the file name in the configuration")
    try:
        return fits.open(path, memmap=True)
    except OSError as error:
        raise ConfigError(f"{path}: not a FITS file ({error})") from error


def read_header(path: str | Path, ordering: str | None = None) -> MapHeader:
    """Read what a FITS file says about its maps, without reading them.

    Args:
        path: a file with a binary table of full-sky HEALPix maps in its first extension.
        ordering: RING or NESTED, for files that do not say; must not contradict one that does.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: not such a file, or its header contradicts itself.
    """
    path = Path(path)
    with _open(path) as hdus:
        if len(hdus) < 2 or not isinstance(hdus[1], fits.BinTableHDU):
            raise ConfigError(f"{path}: no table of HEALPix maps in the first extension")
        header, columns = hdus[1].header, hdus[1].columns
        if header.get("INDXSCHM", "IMPLICIT").upper() != "IMPLICIT":
            raise ConfigError(f"{path}: covers a part of the sky (INDXSCHM EXPLICIT); give a full-sky map")
        npix = header["NAXIS2"] * int(np.prod(columns.dtype[0].shape))
        nside = check_nside(int(header.get("NSIDE", round((npix / 12) ** 0.5))), f"{path}: NSIDE")
        if 12 * nside**2 != npix:
            raise ConfigError(f"{path}: NSIDE {nside} asks for {12 * nside**2} pixels, the table has {npix}")
        stated = {"RING": "RING", "NEST": "NESTED", "NESTED": "NESTED"}.get(str(header.get("ORDERING", "")).upper())
        given = ordering and ordering.upper()
        if given not in (None, "RING", "NESTED"):
            raise ConfigError(f"ordering: {ordering!r} is unknown; give RING or NESTED")
        if stated and given and stated != given:
            raise ConfigError(f"{path}: ORDERING is {stated}, but the configuration says {given}; remove one")
        if not (stated or given):
            raise ConfigError(f"{path}: no ORDERING in the header; state `ordering: RING` or `ordering: NESTED`")
        units = {column.name: column.unit or None for column in columns}
        return MapHeader(path, nside, stated or given, units, dict(header))


def read_columns(header: MapHeader, names: Sequence[str]) -> np.ndarray:
    """Read maps.

    Args:
        header: from `read_header`.
        names: columns, as the file calls them.

    Returns:
        (column, npix), RING, float64 in the file's own unit.

    Raises:
        ConfigError: the file is cut off, or has pixels that are NaN, infinite or UNSEEN.
    """
    with _open(header.path) as hdus:
        try:
            data = hdus[1].data
            maps = np.stack([np.asarray(data[name], dtype=np.float64).ravel() for name in names])
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{header.path}: cannot be read, perhaps cut off ({error})") from error
    for name, values in zip(names, maps, strict=True):
        bad = np.count_nonzero(~np.isfinite(values) | (values < -1e30))
        if bad:
            raise ConfigError(
                f"{header.path}: column {name} has {bad} of {values.size} pixels that are NaN, infinite or UNSEEN (-1.6375e30); "
                "fill them or use a full-sky map"
            )
    return nest_to_ring(maps) if header.ordering == "NESTED" else maps


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the folder and the file name in the configuration")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
