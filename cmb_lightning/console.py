"""What the command says on the console, and what it keeps off it."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from cmb_lightning.run import hold_log

log = logging.getLogger(__name__)

_FORMAT = warnings.formatwarning


class ProgressBar(RichProgressBar):
    """Lightning's, without the end of the logger's folder, which it shows as a version."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


def tell(message: str) -> None:
    """Say something to the user and the log, once over all processes."""
    if rank_zero_only.rank == 0:
        print(message)
        log.info(message)


def quiet() -> None:
    """Keep adverts and warnings that ask for nothing off the console."""
    hold_log()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*isinstance.treespec.*",
        ".*smaller than the logging interval.*",
        "Checkpoint directory .* exists and is not empty.*",
        "The dirpath has changed from.*",  # `EpochCheckpoint` goes on in a run that was moved
        # Those of a training, which other commands do not need.
        ".*callbacks used to create the checkpoint need to be provided.*",
        "You're using the WeightAveraging callback, but loading a checkpoint outside.*",
    ):
        warnings.filterwarnings("ignore", pattern)
    warnings.formatwarning = _as_sentence
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


def _as_sentence(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of this program as its errors are shown; the line of code is of use in those of others only."""
    if Path(filename).is_relative_to(Path(__file__).parent):
        return f"cmb-lightning: warning: {message}\n"
    return _FORMAT(message, category, filename, lineno, line)
