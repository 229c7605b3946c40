"""What happens when the command is told to end with SIGTERM, as batch systems do."""

import signal
import sys
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

STATUS = 128 + signal.SIGTERM


def leave(*_: Any) -> None:
    """End this process, with the status that says why."""
    sys.exit(STATUS)


class StopOnTerm(Checkpoint):
    """Ends a training that gets SIGTERM after the batch, saved, and in all processes, whichever was told.

    It replaces Lightning's own handler, which waits for processes that wait for others. A validation is finished first;
    a second signal ends at once. It is a Checkpoint because Lightning calls those after all other callbacks.
    """

    def __init__(self) -> None:
        self._told = False

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        signal.signal(signal.SIGTERM, self._tell)

    on_train_start = on_sanity_check_start

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        signal.signal(signal.SIGTERM, leave)

    on_predict_start = on_test_start

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            signal.signal(signal.SIGTERM, leave)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:  # see EpochCheckpoint
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop(trainer)

    def _tell(self, *_: Any) -> None:
        if self._told:
            leave()
        self._told = True

    def _stop(self, trainer: L.Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self._told, all=False):
            if not trainer.fast_dev_run:
                trainer.save_checkpoint(Path(trainer.checkpoint_callback.dirpath) / "last.ckpt")
            leave()
