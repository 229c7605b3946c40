"""Looking for damage in a split, and making again what is damaged."""

import json
import logging
from dataclasses import dataclass

from cmb_lightning.data.cache import SplitCache
from cmb_lightning.data.determinism import NotDeterministic
from cmb_lightning.data.generation import make_split
from cmb_lightning.data.manifest import Manifest
from cmb_lightning.data.splits import Generator
from cmb_lightning.data.tensorfile import BadFile, TensorFile, digest
from cmb_lightning.data.versions import versions
from cmb_lightning.data.work import Task, over_simulations

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """A simulation that cannot be used.

    Attributes:
        split: Its split.
        index: Its number.
        file: Where it should be.
        reason: Why not.
    """

    split: str
    index: int
    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.split} simulation {self.index} ({self.file}): {self.reason}"


@dataclass(frozen=True)
class _Verifier:
    """Why a simulation cannot be trusted, or None."""

    cache: SplitCache
    full: bool

    def __call__(self, task: Task) -> str | None:
        reason = self.cache.fault(task.index)
        if reason is not None or not self.full:
            return reason
        checksums = self.cache.header(task.index)["sha256"]
        with TensorFile(self.cache.path(task.index)) as file:
            for name in file.entries:
                try:
                    if digest(file.read(name)) != checksums.get(name):
                        return f"the checksum of '{name}' is wrong"
                except (BadFile, OSError) as error:
                    return str(error)
        return None


def verify(cache: SplitCache, n_sims: int, full: bool = False, n_workers: int | None = None) -> list[Fault]:
    """Every simulation, of the first `n_sims`, that cannot be used.

    Args:
        cache: Where the split is kept.
        n_sims: How many there should be.
        full: Compare the checksum of every tensor; otherwise headers and lengths only.
        n_workers: Processes; the cores given to the job when None.
    """
    tasks = [Task(cache.split, index) for index in range(n_sims)]
    verifier = _Verifier(cache, full)
    reasons = over_simulations(verifier, tasks, n_workers=n_workers, description=f"verifying {cache.split}")
    return [Fault(cache.split, index, str(cache.path(index)), reason) for index, reason in enumerate(reasons) if reason]


def repair(
    cache: SplitCache, generator: Generator, n_sims: int, full: bool = False, n_workers: int | None = None
) -> list[Fault]:
    """Makes again what `verify` finds, and compares it with the checksums of the sealed manifest, where there are any.

    Damaged files are kept beside, under names that start with `.bad-`.

    Returns:
        What was wrong.

    Raises:
        NotDeterministic: What was made again is not what had been sealed on this kind of machine.
    """
    faults = verify(cache, n_sims, full, n_workers)
    sealed = Manifest.of(cache)
    for fault in faults:
        cache.set_aside(fault.index, fault.reason)
    make_split(cache, generator, n_sims, n_workers)
    for fault in faults:
        expected = sealed.checksums(cache, fault.index) if sealed is not None else None
        found = cache.header(fault.index)["sha256"]
        if expected is not None and any(found[name] != value for name, value in expected.items()):
            message = f"{fault.split} simulation {fault.index}, made again, is not what had been sealed"
            if _same_kind(cache, n_sims, {fault.index for fault in faults}):
                raise NotDeterministic(f"{message}: the generator is not deterministic.")
            log.warning("%s, by other versions or on another kind of processor.", message)
    return faults


def _same_kind(cache: SplitCache, n_sims: int, remade: set[int]) -> bool:
    """Whether the simulations that were not made again come from this kind of machine and these versions."""
    kept = next((index for index in range(n_sims) if index not in remade), None)
    return kept is not None and json.loads(cache.header(kept)["versions"]) == versions()
