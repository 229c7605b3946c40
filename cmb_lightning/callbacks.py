"""Whether the callbacks of a configuration can work, before any work is done."""

from difflib import get_close_matches

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging

from cmb_lightning.checkpointing import EpochCheckpoint
from cmb_lightning.errors import ConfigError


class ScaledAverages(L.Callback):
    """Gives callbacks that average weights what the model has learned from the data before its first step.

    They copy the model before it has, and would validate with scales that are no numbers until their first average.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging) and not callback._average_model.n_averaged:
                pairs = zip(callback._average_model.module.buffers(), pl_module.buffers(), strict=True)
                for average, current in pairs:
                    average.copy_(current)


def check_callbacks(trainer: L.Trainer, logged: set[str]) -> None:
    """Refuse callbacks that would fail after the first epoch, or do harm without a word.

    Args:
        trainer: The trainer with its callbacks.
        logged: Names of what the training logs.

    Raises:
        ConfigError: One waits for what is never logged, or averages what are no weights.
    """
    for callback in trainer.callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in logged:
            key = "checkpoint" if isinstance(callback, EpochCheckpoint) else "trainer.callbacks"
            near = ", ".join(get_close_matches(monitor, sorted(logged), 3, 0))
            raise ConfigError(f"{key}.monitor: nothing logs {monitor!r}; nearest are {near}.")
        # Tables of neighbours are buffers too; their averages, cut to integers, point elsewhere.
        if isinstance(callback, WeightAveraging) and callback._use_buffers:
            name = type(callback).__name__
            raise ConfigError(f"trainer.callbacks: {name} averages more than weights; give it `use_buffers: false`.")
