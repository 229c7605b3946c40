"""Finding the cleaned maps that a run or another program left in a folder."""

import re
from collections.abc import Sequence
from pathlib import Path

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import read_header
from cmb_lightning.results.sources import FitsMaps, Statements

_FITS = re.compile(r"\.fits?(\.gz)?$")


def find_predictions(
    path: str | Path, fields: Sequence[str] = ("I",), statements: Statements | None = None
) -> dict[str, dict[int, FitsMaps]]:
    """The cleaned maps in a folder, sorted by what their headers say.

    Args:
        path: A run's folder, a folder of FITS files, one file, or a template with `{sim}`: `maps/sim{sim:03d}.fits`.
        fields: Fields to read.
        statements: What the files do not say, if anything.

    Returns:
        Split (empty where the files do not say) and epoch (-1 where they do not) to maps.

    Raises:
        FileNotFoundError: If there is nothing.
        ConfigError: If two files claim to be the same map, or which simulation a file is of cannot be told.
    """
    files = _numbered(str(path))
    groups: dict[str, dict[int, dict[int, Path]]] = {}
    for file, number in files:
        header = read_header(file)
        sim = int(header["SIM"]) if "SIM" in header else number
        if sim is None:
            if len(files) > 1:
                raise ConfigError(f"{file}: cannot tell which simulation it is of: give a template with {{sim}}.")
            sim = 0
        split, epoch = str(header.get("SPLIT", "")), int(header.get("EPOCH", -1))
        members = groups.setdefault(split, {}).setdefault(epoch, {})
        if sim in members:
            raise ConfigError(f"{file}: is of the same simulation, split and epoch as {members[sim]}: keep one.")
        members[sim] = file
    return {
        split: {
            epoch: FitsMaps(dict(sorted(paths.items())), tuple(fields), statements or Statements())
            for epoch, paths in sorted(epochs.items())
        }
        for split, epochs in sorted(groups.items())
    }


def _numbered(text: str) -> list[tuple[Path, int | None]]:
    """Files, each with the simulation's number that its path tells."""
    if "{" in text:
        literal = re.split(r"(\{[^}]*\})", text)
        pattern = "".join(r"(\d+)" if part.startswith("{sim") else re.escape(part) for part in literal)
        root = Path(literal[0]).parent
        matches = ((file, re.fullmatch(pattern, str(file))) for file in sorted(root.rglob("*")))
        files = [(file, int(match[1])) for file, match in matches if match]
    elif Path(text).is_dir():
        made = Path(text) / "predictions"
        found = (file for file in (made if made.is_dir() else Path(text)).rglob("*") if _FITS.search(file.name))
        files = [(file, _sim_of(str(file))) for file in sorted(found)]
    else:
        files = [(Path(text), _sim_of(Path(text).name))] if Path(text).is_file() else []
    if not files:
        raise FileNotFoundError(f"{text}: there are no FITS maps: check the path.")
    return files


def _sim_of(path: str) -> int | None:
    match = re.search(r"sim[_-]?(\d+)", path, re.IGNORECASE)
    return int(match[1]) if match else None
