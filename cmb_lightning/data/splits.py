"""Splits: named sets of simulations, as configured and as kept on disk."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.content import Statistics
from cmb_lightning.data.manifest import take_stock
from cmb_lightning.data.names import check_name
from cmb_lightning.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass
class Split:
    """How many simulations a split has.

    Args:
        n_sims: Simulations to make.
        n_sims_cap: How many of them, the first ones, are used for inference; all when None.
    """

    n_sims: int
    n_sims_cap: int | None = None

    def __post_init__(self) -> None:
        if self.n_sims < 1:
            raise ConfigError(f"n_sims: {self.n_sims} must be at least 1.")
        check_cap(self.n_sims_cap)


class Generator(Protocol):
    """Makes simulations; picklable."""

    def simulate(self, split: str, index: int) -> dict[str, np.ndarray]:
        """The tensors of one simulation, which depend on nothing but the generator and these arguments."""
        ...


class SplitData:
    """A split and its simulations on disk; iterating gives them, a dict of tensors each, with its `index`.

    Args:
        cache: Where they are kept.
        generator: Makes them.
        split: How many there are.
        n_sims_cap: How many are used for inference, unless the split itself says.
    """

    def __init__(self, cache: SplitCache, generator: Generator, split: Split, n_sims_cap: int | None = None) -> None:
        self.cache = cache
        self.generator = generator
        self.n_sims = split.n_sims
        cap = split.n_sims_cap if split.n_sims_cap is not None else n_sims_cap
        self.n_used = split.n_sims if cap is None else min(cap, split.n_sims)
        if cap is not None and cap > split.n_sims:
            log.info("n_sims_cap: %d is above the %d simulations of %s; all are used.", cap, split.n_sims, self.name)

    @property
    def name(self) -> str:
        """Name of the split, in lower case."""
        return self.cache.split

    @property
    def has_halves(self) -> bool:
        """Whether simulations know how the noise of two halves of the data differs (`sky.halves`)."""
        return self.cache.holds("difference")

    def __len__(self) -> int:
        return self.n_sims

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.cache.read(range(self.n_sims)[index])

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for index in range(self.n_sims):
            yield {**self.cache.read(index), "index": np.int64(index)}

    def summary(self, n_sims: int) -> dict[str, Statistics]:
        """Extremes over the first simulations: `observed` and `target`, where there are such maps; no map is read.

        Raises:
            ConfigError: Some are missing or damaged; it says how many, and the command that makes them.
        """
        found = take_stock(self.cache, n_sims, sealed=True)
        if found.faults:
            index, reason = next(iter(found.faults.items()))
            raise ConfigError(
                f"splits.{self.name}: {len(found.faults)} of {n_sims} simulations cannot be used in "
                f"{self.cache.folder} (the first is simulation {index}: {reason}); make them with "
                "`cmb-lightning simulate` and the same configuration."
            )
        return found.statistics


S = TypeVar("S", bound=Split)


def check_splits(splits: Mapping[str, S]) -> dict[str, S]:
    """The splits by name in lower case.

    Raises:
        ConfigError: There are none, or a name cannot be used, or is used twice.
    """
    if not splits:
        raise ConfigError("splits: there are none; name at least one, such as `train: {n_sims: 100}`.")
    checked: dict[str, S] = {}
    for name, split in splits.items():
        lower = check_name(name, "splits")
        if lower in checked:
            raise ConfigError(f"splits: {name!r} is there twice; case does not matter.")
        checked[lower] = split
    return checked


def check_cap(cap: int | None) -> None:
    """Refuses a cap below 1.

    Raises:
        ConfigError: It is.
    """
    if cap is not None and cap < 1:
        raise ConfigError(f"n_sims_cap: {cap} must be at least 1; leave it out to use all simulations.")


def choose_splits(names: Sequence[str], known: Sequence[str], key: str) -> list[str]:
    """Names of splits in lower case.

    Raises:
        ConfigError: One is not known, or there are none.
    """
    chosen = [str(name).lower() for name in names]
    for name in chosen:
        if name not in known:
            raise ConfigError(f"{key}: there is no split {name!r}; there are {', '.join(known)}.")
    if not chosen or len(set(chosen)) != len(chosen):
        raise ConfigError(f"{key}: {list(names)} must name at least one split, each once.")
    return chosen
