"""What a split holds, at a glance: the headers of its simulations in one file, sealed when the split is complete."""

import errno
import hashlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cmb_lightning.data import publish
from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.content import Statistics
from cmb_lightning.data.tensorfile import BadFile, TensorFile, digest, dump

log = logging.getLogger(__name__)

FORMAT = "cmb_lightning manifest 1"
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass
class Inventory:
    """The state of the first simulations of a split.

    Attributes:
        faults: Why a simulation cannot be used, by its number.
        statistics: Of those that can: `observed` and `target`, where there are such maps.
    """

    faults: dict[int, str] = field(default_factory=dict)
    statistics: dict[str, Statistics] = field(default_factory=dict)


def take_stock(cache: SplitCache, n_sims: int, sealed: bool = False) -> Inventory:
    """Which simulations of a split are there, and their extremes, from their headers.

    Args:
        cache: Where the split is kept.
        n_sims: How many simulations, from the first.
        sealed: Take the headers from the sealed manifest where that names the file that is there, with its length. (Who
            reads the simulation itself looks at its header all the same.)
    """
    manifest = Manifest.of(cache) if sealed else None
    faults: dict[int, str] = {}
    found: dict[str, list[Statistics]] = {}
    trusted = [] if manifest is None else [index for index in range(n_sims) if manifest.fits(cache, index)]
    for index in sorted(set(range(n_sims)) - set(trusted)):
        try:
            for name, statistics in cache.header(index)["statistics"].items():
                found.setdefault(name, []).append(statistics)
        except FileNotFoundError:
            faults[index] = "it is missing"
        except (BadFile, OSError) as error:
            faults[index] = str(error)
    if trusted:
        for name, statistics in manifest.statistics(trusted).items():
            found.setdefault(name, []).append(statistics)
    return Inventory(faults, {name: several[0].joined(*several[1:]) for name, several in found.items()})


def seal(cache: SplitCache, n_sims: int) -> bool:
    """Writes the manifest of a complete split, unless there is one that covers as much.

    Returns:
        True when it was written; False also where the folder cannot be written.
    """
    known = Manifest.of(cache)
    if known is not None and len(known) >= n_sims and all(known.fits(cache, index) for index in range(n_sims)):
        return False
    rows: dict[str, list] = {"size": [], "sha256": []}
    groups: list[str] = []
    for index in range(n_sims):
        header = cache.header(index)
        groups = sorted(header["statistics"])
        rows["size"].append(cache.path(index).stat().st_size)
        rows["sha256"].append([list(bytes.fromhex(header["sha256"][name])) for name in sorted(cache.tensors)])
        for name in groups:
            for key, values in vars(header["statistics"][name]).items():
                rows.setdefault(f"{name}.{key}", []).append(values)
    types = {"size": np.int64, "sha256": np.uint8, **{f"{name}.bad": np.int64 for name in groups}}
    tensors = {name: np.array(values, dtype=types.get(name, np.float64)) for name, values in rows.items()}
    metadata = {"format": FORMAT, "recipe": cache.id, "check": _check(tensors)}
    file = io.BytesIO()
    dump(file, tensors, metadata)
    try:
        publish.replace(_path(cache), file.getvalue())
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        return False
    log.info("%s: manifest of %d simulations sealed", cache.split, n_sims)
    return True


class Manifest:
    """A sealed manifest.

    Args:
        tensors: For each simulation a row: `size` of its file, `sha256` of its tensors in the order of their names, and
            the statistics of its maps.
    """

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self._tensors = tensors
        self._groups = sorted({name.partition(".")[0] for name in tensors if "." in name})

    def __len__(self) -> int:
        return len(self._tensors["size"])

    @classmethod
    def of(cls, cache: SplitCache) -> "Manifest | None":
        """The manifest of a split, or None when there is none that is whole."""
        path = _path(cache)
        try:
            with TensorFile(path) as file:
                tensors = {name: file.read(name) for name in file.entries}
                expected = {"format": FORMAT, "recipe": cache.id, "check": _check(tensors)}
                if file.metadata != expected:
                    raise BadFile("it is of other data, or damaged")
        except FileNotFoundError:
            return None
        except (BadFile, OSError) as error:
            log.warning("%s is not used: %s. The simulations' own headers are read instead.", path, error)
            return None
        return cls(tensors)

    def fits(self, cache: SplitCache, index: int) -> bool:
        """Whether the simulation is in the manifest, and its file there with the length that it says."""
        if index >= len(self):
            return False
        try:
            found = os.stat(cache.path(index), follow_symlinks=False)
        except OSError:
            return False
        return found.st_size == self._tensors["size"][index]

    def statistics(self, indices: Sequence[int]) -> dict[str, Statistics]:
        """The statistics of some simulations together."""

        def rows(name: str, key: str) -> np.ndarray:
            return self._tensors[f"{name}.{key}"][indices]

        return {
            name: Statistics(
                np.fmin.reduce(rows(name, "minimum")).tolist(),
                np.fmax.reduce(rows(name, "maximum")).tolist(),
                rows(name, "bad").sum(axis=0).tolist(),
            )
            for name in self._groups
        }

    def checksums(self, cache: SplitCache, index: int) -> dict[str, str] | None:
        """SHA-256 of each tensor of a simulation when it was sealed; None when it was not."""
        if index >= len(self):
            return None
        rows = self._tensors["sha256"][index]
        return {name: row.tobytes().hex() for name, row in zip(sorted(cache.tensors), rows, strict=True)}


def _path(cache: SplitCache) -> Path:
    return cache.folder / "manifest.safetensors"


def _check(tensors: dict[str, np.ndarray]) -> str:
    parts: Iterator[str] = (f"{name}:{digest(tensors[name])}" for name in sorted(tensors))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
