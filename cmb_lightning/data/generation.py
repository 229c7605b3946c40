"""Making the simulations that a split lacks."""

import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.manifest import seal, take_stock
from cmb_lightning.data.publish import sweep
from cmb_lightning.data.shard import Shard
from cmb_lightning.data.splits import Generator
from cmb_lightning.data.work import Task, over_simulations
from cmb_lightning.errors import ConfigError

log = logging.getLogger(__name__)

LARGE = 8 * 2**30
"""Bytes to simulate above which several processes of a training job refuse to: they would wait for one."""

_COMMANDS = ("fit", "validate", "test", "predict")


@dataclass(frozen=True)
class Report:
    """What was done for a split.

    Attributes:
        split: Its name.
        made: Simulations made now.
        found: Simulations that were there.
        seconds: Time it took.
        bytes: Bytes written.
    """

    split: str
    made: int
    found: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class _Maker:
    """Makes one simulation, unless another process has done so in the meantime; returns the bytes written."""

    cache: SplitCache
    generator: Generator

    def __call__(self, task: Task) -> int:
        if self.cache.fault(task.index) is None:
            return 0
        self.cache.heal(task.index)
        made = self.cache.publish(task.index, self.generator.simulate(task.split, task.index))
        return self.cache.path(task.index).stat().st_size if made else 0


def make_split(
    cache: SplitCache,
    generator: Generator,
    n_sims: int,
    n_workers: int | None = None,
    shard: Shard | None = None,
    cluster: str | None = None,
) -> Report:
    """Makes what is missing of the first `n_sims` simulations, and nothing else.

    A complete split is only read, and sealed where it is not. The simulations do not depend on the number of workers,
    on other simulations, or on how often the work was interrupted.

    Args:
        cache: Where the split is kept.
        generator: Makes a simulation.
        n_sims: How many there shall be.
        n_workers: Processes; the cores given to the job when None.
        shard: Which of several jobs this is that make the split together.
        cluster: Address of a Dask scheduler whose workers simulate.

    Raises:
        ConfigError: The cache cannot be written.
        OSError: There is too little space.
        SimulationError: Some simulations could not be made; it names them.
    """
    start = time.monotonic()
    missing = list(take_stock(cache, n_sims).faults)
    written: list[int] = []
    if missing:
        if cache.folder.is_dir() and not os.access(cache.folder, os.W_OK):
            raise ConfigError(
                f"root: {len(missing)} of {n_sims} simulations of {cache.split} are missing in {cache.folder}, which "
                "cannot be written; make them with `cmb-lightning simulate` where it can."
            )
        cache.make_folder()
        cache.check_space(len(missing))
        tasks = [Task(cache.split, index) for index in (shard or Shard()).order(missing)]
        options = {"n_workers": n_workers, "cluster": cluster, "description": f"simulating {cache.split}"}
        written = over_simulations(_Maker(cache, generator), tasks, **options)
    seal(cache, n_sims)
    if os.access(cache.folder, os.W_OK):
        sweep(cache.folder)  # what a process left that was killed while it sealed
    made = sum(size > 0 for size in written)
    report = Report(cache.split, made, n_sims - made, time.monotonic() - start, sum(written))
    log.info(
        "%s: %d simulations made (%d bytes, %.1f s), %d found, in %s",
        *(report.split, report.made, report.bytes, report.seconds, report.found, cache.folder),
    )
    return report


def refuse_large(splits: Sequence[tuple[SplitCache, int]]) -> None:
    """Refuses to let processes wait for one that simulates for long.

    Args:
        splits: Where splits are kept, and how many simulations of each are needed.

    Raises:
        ConfigError: More than `LARGE` are missing; it says the command that makes them.
    """
    missing = [len(cache.missing(n_sims)) for cache, n_sims in splits]
    size = sum(count * cache.size() for count, (cache, _) in zip(missing, splits, strict=True))
    if size > LARGE:
        arguments = ["simulate" if word in _COMMANDS else word for word in sys.argv[1:]]
        raise ConfigError(
            f"{sum(missing)} simulations ({size / 2**30:.0f} GiB) are missing in {splits[0][0].root}, more than "
            f"several processes should wait for; make them first: {shlex.join(['cmb-lightning', *arguments])}"
        )
