"""Sharing the work of simulating between machines, which need nothing but the cache's folder in common."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cmb_lightning.data.mixing import stream
from cmb_lightning.errors import ConfigError

_RANKS = (
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("RANK", "WORLD_SIZE"),  # torchrun
)


@dataclass(frozen=True)
class Shard:
    """One of several jobs that make the same data.

    Attributes:
        index: Its number, from 1.
        count: How many there are.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ConfigError(
                f"shard: {self.index}/{self.count} must be from 1/{self.count} to {self.count}/{self.count}."
            )

    @classmethod
    def parse(cls, text: str | None, environment: Mapping[str, str] = os.environ) -> "Shard":
        """The shard that a text like `2/8` names, or `auto` finds.

        `auto` looks at the variables of a SLURM array, and of the tasks that SLURM, MPI or torchrun start; None is one
        shard of one.

        Raises:
            ConfigError: The text is neither.
        """
        if text is None:
            return cls()
        if text == "auto":
            return cls._found(environment)
        if not (match := re.fullmatch(r"(\d+)/(\d+)", text)):
            raise ConfigError(f"shard: {text!r} must be like 2/8, the second of eight jobs, or auto.")
        return cls(int(match[1]), int(match[2]))

    def order(self, missing: Sequence[int]) -> list[int]:
        """What to make, and in which order: its own block first, then the others', in an order of its own.

        So that all is made also when other shards are late or killed, and two shards seldom work on the same.
        """
        first, last = (len(missing) * i // self.count for i in (self.index - 1, self.index))
        others = [*missing[:first], *missing[last:]]
        order = stream("shard", self.index, self.count).permutation(len(others))
        return [*missing[first:last], *(others[i] for i in order)]

    @classmethod
    def _found(cls, environment: Mapping[str, str]) -> "Shard":
        def number(name: str, default: int) -> int:
            value = environment.get(name, "")
            return int(value) if value.isdigit() else default

        step = max(number("SLURM_ARRAY_TASK_STEP", 1), 1)
        array = (number("SLURM_ARRAY_TASK_ID", 0) - number("SLURM_ARRAY_TASK_MIN", 0)) // step
        arrays = number("SLURM_ARRAY_TASK_COUNT", 1)
        rank, ranks = next(((number(r, 0), number(n, 1)) for r, n in _RANKS if r in environment), (0, 1))
        return cls(array * ranks + rank + 1, arrays * ranks)
