"""What happens when the command is told to end, with SIGTERM as batch systems do, or with Ctrl-C."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from cmb_lightning.checkpointing import checkpoint_path, steps_now


def leave(number: int, *_: Any) -> None:
    """End this process, with the status that says which signal did it."""
    sys.exit(128 + number)


def end_others(trainer: L.Trainer, seconds: float = 10) -> None:
    """After a failure, end the processes that this one started: they may wait for it for ever.

    Args:
        trainer: The trainer that started them.
        seconds: What they have to end by themselves.
    """
    for process in getattr(trainer.strategy.launcher, "procs", ()):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()


class StopWhenTold(Checkpoint):
    """Ends a training that gets SIGTERM, SIGUSR1 or Ctrl-C after the batch, saved, in all processes.

    One of them need be told. A validation is left after a batch too, and begun again by the training that goes on. It
    replaces Lightning's own handlers, which wait for processes that wait for others, or save in the middle of a batch.
    A second signal ends at once. It is a Checkpoint because Lightning calls those after all other callbacks.
    """

    def __init__(self) -> None:
        self._told = 0
        self._common_batches = 0
        """How many batches of a validation are left that all processes have: so often they can agree."""

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._tell)

    on_train_start = on_sanity_check_start

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        signal.signal(signal.SIGTERM, leave)

    on_predict_start = on_test_start

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            signal.signal(signal.SIGTERM, leave)
            return
        batches = sum(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)
        count = torch.tensor(batches, device=pl_module.device)
        self._common_batches = int(trainer.strategy.reduce(count, reduce_op="min"))

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.state.fn == "validate" or not self._common_batches:
            return
        self._common_batches -= 1
        if self._all_told(trainer):
            if not trainer.sanity_checking:
                begin_validation_again(trainer, pl_module)
                self._save(trainer)
            self._leave()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, leave)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if steps_now(trainer, batch_idx) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            # Elsewhere Lightning does not go on to the same weights: see EpochCheckpoint.
            self._stop(trainer, trainer._logger_connector.update_train_step_metrics)  # it logs a batch after this

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop(trainer)

    def _tell(self, number: int, *_: Any) -> None:
        if self._told:
            leave(number)
        self._told = number
        if number == signal.SIGINT and rank_zero_only.rank == 0:
            os.write(2, b"\nStopping after this batch; Ctrl-C again stops at once.\n")

    def _stop(self, trainer: L.Trainer, finish: Callable[[], None] = lambda: None) -> None:
        if self._all_told(trainer):
            self._save(trainer, finish)
            self._leave()

    def _all_told(self, trainer: L.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(bool(self._told), all=False)

    def _save(self, trainer: L.Trainer, finish: Callable[[], None] = lambda: None) -> None:
        if not trainer.fast_dev_run:
            trainer.save_checkpoint(checkpoint_path(trainer, "last"))
            finish()
            if self._told == signal.SIGINT and trainer.is_global_zero:
                print(f"Saved at step {trainer.global_step}; the same command goes on from there.")

    def _leave(self) -> None:
        leave(self._told or signal.SIGTERM)


def begin_validation_again(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """In a validation, bring everything to where a checkpoint leads back to its start."""
    for callback in trainer.callbacks:
        if isinstance(callback, WeightAveraging):
            callback.on_validation_epoch_end(trainer, pl_module)  # averages and weights have changed places until then
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.current.reset()
    # What Lightning takes for a validation that was interrupted, in its first batch.
    progress.total.ready = progress.total.started = progress.total.processed + 1
    progress.total.completed = progress.total.processed
