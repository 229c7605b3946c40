"""The command, run in this process on maps that are made in a moment."""

import contextlib
import copy
import hashlib
import io
import logging
import shutil
import signal
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data._utils import signal_handling

from cmb_lightning.cli import main

TINY: dict[str, Any] = {
    "run": "run",
    "data": {
        "class_path": "SkyDataModule",
        "init_args": {
            "dataset": "tiny",
            "instrument": "real_sky_64",
            "scale_from_nside": 64,
            "bands": ["30", "100", "353"],
            "nside": 8,
            "sky": {
                "cmb": {"class_path": "cmb_lightning.sky.PolynomialSpectrum", "init_args": {"coefficients": [50.0]}},
                "foregrounds": [{"class_path": "cmb_lightning.sky.StatisticalGalaxy"}],
            },
            "splits": {"train": {"n_sims": 3}, "valid": {"n_sims": 3}, "test": {"n_sims": 3}},
            "run_inference_on": ["test"],
            "n_workers": 1,
            "batch_size": 1,
        },
    },
    "model": {"network": {"class_path": "HealpixUNet", "init_args": {"width": 4, "depth": 1}}, "regions": 2},
    "trainer": {"max_epochs": 2, "logger": False},
    "figures": {"every_n_epochs": 0},
}


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str
    warned: list[str]


class Application:
    """A folder to run commands in, with the configuration `tiny.yaml`."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.write("tiny.yaml", merge(TINY, changes))

    def write(self, name: str, configuration: dict) -> None:
        (self.folder / name).write_text(yaml.safe_dump(configuration))

    def __call__(self, command: str, *arguments: Any, config: str = "tiny.yaml") -> Outcome:
        """Run `cmb-lightning command --config config arguments`."""
        return invoke(self.folder, [command, "--config", config, *map(str, arguments)])

    def copy(self, folder: Path) -> "Application":
        """The same folder with all that was done in it, elsewhere."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        other = copy.copy(self)
        other.folder = folder
        return other

    def log(self, command: str) -> str:
        return (self.folder / "run" / command / "log.txt").read_text()

    def simulations(self) -> dict[str, str]:
        """Hashes of the simulations, by path."""
        return hashes(self.folder / "cache", "sim*.safetensors")

    def checkpoint(self, name: str = "last") -> dict[str, Any]:
        return torch.load(self.folder / f"run/checkpoints/{name}.ckpt", weights_only=True)

    def weights(self) -> dict[str, torch.Tensor]:
        return self.checkpoint()["state_dict"]


def invoke(folder: Path, arguments: list[str]) -> Outcome:
    """Run the command as a shell would."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    changed = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD)
    signals = {number: signal.getsignal(number) for number in changed}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a background job, as tests may be
    argv, sys.argv = sys.argv, ["cmb-lightning", *arguments]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with warnings.catch_warnings(record=True) as warned:
                try:
                    main()
                except SystemExit as leaving:
                    status = leaving.code or 0
    finally:
        sys.argv = argv
        for number, handler in signals.items():
            signal.signal(number, handler)
        signal_handling._SIGCHLD_handler_set = False  # torch sets its own anew, as in a new process
        logger = logging.getLogger("cmb_lightning")
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True  # other tests read the log through pytest
    return Outcome(status, out.getvalue(), err.getvalue(), [str(w.message) for w in warned])


def merge(base: dict, changes: dict) -> dict:
    """Nested mappings, the second one's values over the first one's."""
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        inner = isinstance(value, dict) and isinstance(merged.get(key), dict) and "class_path" not in value
        merged[key] = merge(merged[key], value) if inner else value
    return merged


def hashes(folder: Path, pattern: str) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
    }


def equal(one: dict[str, torch.Tensor | float], other: dict[str, torch.Tensor | float]) -> bool:
    """Whether weights, or an optimizer's moments and counts, are equal to the bit."""
    pairs = ((torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)
    return one.keys() == other.keys() and all(torch.equal(*pair) for pair in pairs)
