"""Several commands after one another in one process: their arguments, with `then` between them."""

import sys
import warnings
from itertools import groupby

from cmb_lightning.cli import main


def run(arguments: list[str]) -> None:
    warnings.filterwarnings("ignore", "LightningCLI's args parameter.*")  # sys.argv holds all of them
    for separator, command in groupby(arguments, lambda argument: argument == "then"):
        if not separator:
            main(list(command))


if __name__ == "__main__":
    run(sys.argv[1:])
