"""Work over simulations: one function, many small tasks, several processes.

Generation, scans and comparisons all run through `over_simulations`, and so can a user's own:

    def hottest(task: Task) -> float:
        return float(task.read().max())

    over_simulations(hottest, [Task("train", i, path, read_map) for i, path in enumerate(paths)], reduce=max)
"""

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cmb_lightning.data.cluster import on_cluster
from cmb_lightning.data.pool import Failure, SimulationError, crew, describe, pool, serial

__all__ = ["SimulationError", "Task", "default_workers", "over_simulations"]

PATIENCE = 5.0
"""Seconds of work that are done before processes are started, unless their number was given: starting takes as long."""


@dataclass(frozen=True)
class Task:
    """One simulation to work on: small, and picklable if `reader` is.

    Attributes:
        split: Name of its split.
        index: Its number in the split.
        path: Where it is, for work that reads.
        reader: Reads `path`.
    """

    split: str
    index: int
    path: str | None = None
    reader: Callable[[str], Any] | None = None

    def read(self) -> Any:
        """What `reader` finds at `path`."""
        if self.reader is None or self.path is None:
            raise ValueError(f"{self}: reading needs a reader and a path.")
        return self.reader(self.path)

    def __str__(self) -> str:
        return f"{self.split} simulation {self.index}"


def default_workers() -> int:
    """The cores given to this job: SLURM's count where there is one, else those the process may run on."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(given) if given.isdigit() and int(given) > 0 else len(os.sched_getaffinity(0))


def over_simulations(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    *,
    n_workers: int | None = None,
    cluster: str | None = None,
    threads: bool = False,
    reduce: Callable[[Any, Any], Any] | None = None,
    description: str | None = "",
) -> Any:
    """Applies a function to every task, in several processes.

    The first task runs in this process, so that a mistake shows at once; the rest run in any order. When some fail the
    others are finished first. A worker that is killed is replaced, up to three times. Workers import the main module:
    keep what a script does under `if __name__ == "__main__":`.

    Args:
        function: Picklable; sent once to each worker, so that it may carry something large.
        tasks: Small picklable descriptions of the work, such as `Task`; `str(task)` names one in errors.
        n_workers: Processes; 1 for none beside this one. When None the cores given to the job, if it is worth it.
        cluster: Address of a Dask scheduler, such as `tcp://host:8786`, whose workers are used in place of processes.
        threads: Use threads in place of processes, which start at once: for work that is mostly done outside the
            interpreter, such as reading.
        reduce: Joins two results; applied in the order of the tasks, so that the outcome does not depend on timing.
        description: Text beside the progress bar, which is shown on a terminal only; None for no bar.

    Returns:
        The results in the order of the tasks or, with `reduce`, the one they reduce to (None without tasks).

    Raises:
        SimulationError: A task failed, or its worker was killed again and again.
    """
    tasks = list(tasks)
    workers = default_workers() if n_workers is None else n_workers
    if n_workers is not None and n_workers < 1:
        raise ValueError(f"n_workers: {n_workers} must be at least 1.")
    results = _Results(reduce)
    if not tasks:
        return results.value()
    with _bar(description, len(tasks)) as advance:
        try:
            results.add(0, function(tasks[0]))
        except Exception as error:
            raise SimulationError(f"{tasks[0]}: {describe(error)}") from error
        advance()
        rest = deque(range(1, len(tasks)))
        failures: list[tuple[int, Exception]] = []
        if cluster is not None:
            finished = on_cluster(function, tasks, rest, cluster)
        elif threads:
            finished = crew(function, tasks, rest, workers)
        else:
            patience = math.inf if workers == 1 else PATIENCE if n_workers is None else 0.0
            finished = chain(serial(function, tasks, rest, patience), pool(function, tasks, rest, workers))
        for index, outcome in finished:
            if isinstance(outcome, Failure):
                failures.append((index, outcome.error))
            else:
                results.add(index, outcome)
            advance()
    if failures:
        failures.sort(key=lambda failure: failure[0])
        lines = "; ".join(f"{tasks[index]}: {describe(error)}" for index, error in failures[:5])
        more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise SimulationError(lines + more) from failures[0][1]
    return results.value()


class _Results:
    """Results brought back into the order of their tasks, and reduced as soon as that order allows."""

    def __init__(self, reduce: Callable[[Any, Any], Any] | None) -> None:
        self._reduce = reduce
        self._waiting: dict[int, Any] = {}
        self._done: list[Any] = []
        self._next = 0

    def add(self, index: int, result: Any) -> None:
        self._waiting[index] = result
        while self._next in self._waiting:
            result = self._waiting.pop(self._next)
            self._next += 1
            if self._reduce is not None and self._done:
                result = self._reduce(self._done.pop(), result)
            self._done.append(result)

    def value(self) -> Any:
        if self._reduce is None:
            return self._done
        return self._done[0] if self._done else None


@contextmanager
def _bar(description: str | None, total: int) -> Iterator[Callable[[], None]]:
    console, hidden = Console(stderr=True), description is None or not sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=hidden) as progress:
        bar = progress.add_task(description or "simulations", total=total)
        yield lambda: progress.advance(bar)
