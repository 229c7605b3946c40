"""What the command says on the console, and what it keeps off it."""

import logging
import os
import warnings

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from cmb_lightning.run import hold_log

log = logging.getLogger(__name__)


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
        # Those of a training, which other commands do not need.
        ".*callbacks used to create the checkpoint need to be provided.*",
        "You're using the WeightAveraging callback, but loading a checkpoint outside.*",
    ):
        warnings.filterwarnings("ignore", pattern)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
