"""Whether all processes of a training have the same data before them."""

from collections.abc import Mapping
from typing import Any

from lightning import Trainer

from cmb_lightning.errors import ConfigError


def check_agreement(trainer: Trainer | None, seen: Mapping[str, Any]) -> None:
    """Compares what this process sees of each split with what the others see.

    Args:
        trainer: The trainer, with its processes connected; None for a process alone.
        seen: What tells the data of a split from others, by its name; small, picklable and comparable.

    Raises:
        ConfigError: They differ; it is raised in all processes, so that none waits for another.
    """
    if trainer is None or trainer.world_size == 1:
        return
    first = trainer.strategy.broadcast(dict(seen))
    differ = sorted(name for name in first.keys() | seen.keys() if first.get(name) != seen.get(name))
    if trainer.strategy.reduce_boolean_decision(not differ):
        return
    which = f"process {trainer.global_rank} sees another {' and '.join(differ)}" if differ else "another one does not"
    raise ConfigError(
        f"root: not all processes have the data of the first one ({which}); give them the same configuration and cache."
    )
