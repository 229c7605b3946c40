"""Several commands after one another in one process: their arguments, with `then` between them.

`FAULT=1:7` in the environment lets process 1 fail at step 7 of a training, `FAULT=1:7:told` lets it get SIGTERM in the
validation after step 7.
"""

import os
import signal
import sys
import warnings
from itertools import groupby

from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.cli import main


def run(arguments: list[str]) -> None:
    warnings.filterwarnings("ignore", "LightningCLI's args parameter.*")  # sys.argv holds all of them
    if os.environ.get("FAULT"):
        rank, step, *told = os.environ["FAULT"].split(":")
        (tell if told else fail)(int(rank), int(step))
    for separator, command in groupby(arguments, lambda argument: argument == "then"):
        if not separator:
            main(list(command))


def fail(rank: int, step: int) -> None:
    original = CleaningTask.training_step

    def training_step(self, batch, batch_idx):
        if (self.global_rank, self.global_step) == (rank, step):
            raise RuntimeError("the sky fell")
        return original(self, batch, batch_idx)

    CleaningTask.training_step = training_step


def tell(rank: int, step: int) -> None:
    original = CleaningTask.validation_step

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        if (self.global_rank, self.global_step) == (rank, step):
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx, dataloader_idx)

    CleaningTask.validation_step = validation_step


if __name__ == "__main__":
    run(sys.argv[1:])
