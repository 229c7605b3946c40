"""Extremes of maps: from headers or by a scan, and as YAML with units."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.content import Statistics
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing import observe
from cmb_lightning.data.publish import replace
from cmb_lightning.data.tensorfile import TensorFile
from cmb_lightning.data.work import Task, over_simulations
from cmb_lightning.errors import ConfigError

if TYPE_CHECKING:
    from astropy.units import Quantity


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest value of each channel, or field, over many maps.

    Attributes:
        names: Names of the channels or fields.
        vmin: Smallest value of each.
        vmax: Largest value of each.
        unit: Unit of the values.
    """

    names: tuple[str, ...]
    vmin: tuple[float, ...]
    vmax: tuple[float, ...]
    unit: str = "uK_CMB"

    @classmethod
    def of(cls, statistics: Statistics, names: Iterable[str], unit: str = "uK_CMB") -> "Extremes":
        """The extremes in statistics of maps whose channels, or fields, have these names."""
        return cls(tuple(names), statistics.minimum, statistics.maximum, unit)

    def quantities(self) -> dict[str, tuple["Quantity", "Quantity"]]:
        """vmin and vmax of each name, with their unit."""
        from cmb_lightning.sky.units import parse

        low, high = ([parse(f"{v!r} {self.unit}", self.unit, "extremes") for v in side] for side in self._sides())
        return {name: pair for name, *pair in zip(self.names, low, high, strict=True)}

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """vmin and vmax as float32 arrays, which hold them exactly when the maps were float32."""
        return tuple(np.asarray(side, dtype=np.float32) for side in self._sides())

    def constant(self) -> list[str]:
        """Names whose maps are constant, so that they cannot be scaled by their width."""
        return [name for name, low, high in zip(self.names, *self._sides(), strict=True) if not high > low]

    def _sides(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.vmin, self.vmax


def joined_extremes(summaries: Sequence[Mapping[str, Statistics]], layout: Layout) -> dict[str, Extremes]:
    """The extremes of `inputs` and `target` over some splits; without `observed` maps the inputs are the target."""
    merged = {group: found.joined(*(one[group] for one in summaries[1:])) for group, found in summaries[0].items()}
    inputs = merged.get("observed", merged["target"])
    return {
        "inputs": Extremes.of(inputs, layout.channels, layout.unit),
        "target": Extremes.of(merged["target"], layout.fields, layout.unit),
    }


def write_extremes(path: Path, extremes: Mapping[str, Extremes], recipes: Mapping[str, str]) -> None:
    """Writes extremes as YAML: under `recipes` the splits and their recipes' names, then a block for each group.

    Each channel has `vmin` and `vmax` with unit, such as `-312.5 uK_CMB`. A file that says the same is left alone.

    Args:
        path: The file; its folder is made.
        extremes: By group, such as `inputs` and `target`.
        recipes: Name of the recipe of each split that the extremes are over.
    """
    content: dict[str, dict] = {"recipes": dict(recipes)}
    for group, found in extremes.items():
        rows = zip(found.names, found.vmin, found.vmax, strict=True)
        content[group] = {
            name: {"vmin": f"{low!r} {found.unit}", "vmax": f"{high!r} {found.unit}"} for name, low, high in rows
        }
    text = yaml.safe_dump(content, sort_keys=False).encode()
    if path.is_file() and path.read_bytes() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, text)


def read_extremes(path: Path, recipes: Mapping[str, str] | None = None) -> dict[str, Extremes]:
    """Reads what `write_extremes` wrote, by group.

    Args:
        path: The file.
        recipes: Recipes that it must be of; any when None.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It is not such a file, or is of other recipes.
    """
    from cmb_lightning.sky.units import parse

    if not path.is_file():
        raise FileNotFoundError(f"{path}: there are no extremes; `cmb-lightning simulate` writes them.")
    try:
        content = yaml.safe_load(path.read_text())
        found = content.pop("recipes")
        if recipes is not None and dict(recipes) != found:
            raise ConfigError(f"{path}: it is of {found}, not of {dict(recipes)}; `cmb-lightning simulate` renews it.")
        extremes = {}
        for group, channels in content.items():
            units = {value["vmin"].split(" ", 1)[1] for value in channels.values()}
            (unit,) = units
            sides = [
                [float(parse(c[key], unit, str(path)).value) for c in channels.values()] for key in ("vmin", "vmax")
            ]
            extremes[group] = Extremes(tuple(channels), tuple(sides[0]), tuple(sides[1]), unit)
    except ConfigError:
        raise
    except (yaml.YAMLError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: it does not hold extremes with units ({error}).") from None
    return extremes


def scan(tasks: Iterable[Task], n_workers: int | None = None, description: str = "scanning") -> Statistics | None:
    """Statistics over maps, read one by one: for maps that bring no header of ours.

    Args:
        tasks: Each reads maps of shape (channel, pixel).
        n_workers: Processes; the cores given to the job when None. The result is the same to the bit with any number.
        description: Text beside the progress bar.

    Returns:
        The statistics, or None without tasks.
    """
    return over_simulations(_statistics, tasks, n_workers=n_workers, reduce=Statistics.joined, description=description)


def scan_tasks(cache: SplitCache, n_sims: int, reader: Callable[[str], np.ndarray]) -> list[Task]:
    """Tasks that read the first simulations of a split."""
    return [Task(cache.split, index, str(cache.path(index)), reader) for index in range(n_sims)]


def read_observed(path: str) -> np.ndarray:
    """The observed maps of a simulation, shape (channel, pixel)."""
    with TensorFile(path) as file:
        return observe({name: file.read(name) for name in file.entries if name in _PARTS})


def read_target(path: str) -> np.ndarray:
    """The target of a simulation, shape (field, pixel)."""
    with TensorFile(path) as file:
        return file.read("target")


_PARTS = ("cmb", "foregrounds", "noise", "gain")


def _statistics(task: Task) -> Statistics:
    return Statistics.of(task.read())
