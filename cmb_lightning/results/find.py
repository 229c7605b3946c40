"""Finding the cleaned maps that a run or another program left in a folder."""

import re
from collections.abc import Sequence
from pathlib import Path

from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import read_header
from cmb_lightning.results.sources import FitsMaps, Halves, MapSource, Statements

_FITS = re.compile(r"\.fits?(\.gz)?$")


def find_predictions(
    path: str | Path, fields: Sequence[str] = ("I",), statements: Statements | None = None
) -> dict[str, dict[int, MapSource]]:
    """The cleaned maps in a folder, sorted by what their headers say.

    Args:
        path: A run's folder, a folder of FITS files, one file, or a template with `{sim}`: `maps/sim{sim:03d}.fits`.
            Where maps come in two halves with independent noise too, `{half}` is 1 or 2: `maps/sim{sim}_{half}.fits`.
        fields: Fields to read.
        statements: What the files do not say, if anything.

    Returns:
        Split (empty where the files do not say) and epoch (-1 where they do not) to maps.

    Raises:
        FileNotFoundError: If there is nothing.
        ConfigError: If two files claim to be the same map, which simulation a file is of cannot be told, or one half
            of the data is there without the other.
    """
    files = _numbered(str(path))
    groups: dict[str, dict[int, dict[int, dict[int, Path]]]] = {}
    for file, number, half in files:
        header = read_header(file)
        sim = int(header["SIM"]) if "SIM" in header else number
        if sim is None:
            if len(files) > 1:
                raise ConfigError(f"{file}: cannot tell which simulation it is of: give a template with {{sim}}.")
            sim = 0
        split, epoch = str(header.get("SPLIT", "")), int(header.get("EPOCH", -1))
        half = int(header.get("HALF", half))
        members = groups.setdefault(split, {}).setdefault(epoch, {}).setdefault(half, {})
        if sim in members:
            raise ConfigError(f"{file}: is of the same simulation, split and epoch as {members[sim]}: keep one.")
        members[sim] = file
    return {
        split: {
            epoch: _joined(
                {
                    half: FitsMaps(dict(sorted(paths.items())), tuple(fields), statements or Statements())
                    for half, paths in halves.items()
                }
            )
            for epoch, halves in sorted(epochs.items())
        }
        for split, epochs in sorted(groups.items())
    }


def _joined(found: dict[int, FitsMaps]) -> MapSource:
    """Maps as they are (0), or with their two halves (1 and 2)."""
    if set(found) == {0}:
        return found[0]
    for half, other in ((1, 2), (2, 1)):
        if half not in found:
            paths = next(iter(found[other].paths.values()))
            raise ConfigError(
                f"{paths}: is one half of the data, and half {half} is not there: predict it, or move it."
            )
    return Halves(found[1], found[2], found.get(0))


def _numbered(text: str) -> list[tuple[Path, int | None, int]]:
    """Files, each with the number of the simulation and of the half of the data that its path tells."""
    if "{" in text:
        literal = re.split(r"(\{[^}]*\})", text)
        groups = {"{sim": r"(?P<sim>\d+)", "{half": "(?P<half>[12])"}
        pattern = "".join(groups.get(part.rstrip("}").partition(":")[0], re.escape(part)) for part in literal)
        root = Path(literal[0]).parent
        matches = ((file, re.fullmatch(pattern, str(file))) for file in sorted(root.rglob("*")))
        found = [(file, match.groupdict()) for file, match in matches if match]
        files = [(file, int(parts["sim"]), int(parts.get("half", 0))) for file, parts in found]
    elif Path(text).is_dir():
        made = Path(text) / "predictions"
        found = (file for file in (made if made.is_dir() else Path(text)).rglob("*") if _FITS.search(file.name))
        files = [(file, _sim_of(str(file)), 0) for file in sorted(found)]
    else:
        files = [(Path(text), _sim_of(Path(text).name), 0)] if Path(text).is_file() else []
    if not files:
        raise FileNotFoundError(f"{text}: there are no FITS maps: check the path.")
    return files


def _sim_of(path: str) -> int | None:
    match = re.search(r"sim[_-]?(\d+)", path, re.IGNORECASE)
    return int(match[1]) if match else None
