"""A whole run, `simulate`, `fit` and `predict` after one another, killed as often as wanted and started again."""

import hashlib
import random
import time
from collections import Counter
from pathlib import Path

import torch
from astropy.io import fits

from tests.command.application import Application, hashes
from tests.command.processes import Command

SPLITS = {"train": {"n_sims": 8}, "valid": {"n_sims": 3}, "test": {"n_sims": 4}}
LOGS = ("log.txt", "environment.json", "finished.json", "stdout.txt", "stderr.txt")
"""Files that hold times, and so differ from run to run."""


class WholeRun:
    """A run in a folder of its own.

    Args:
        folder: The folder, which is made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        data = {"init_args": {"splits": SPLITS, "n_workers": 1}}
        self.application = Application(folder, data=data, trainer={"max_epochs": 3})
        self.folder = folder

    def start(self) -> Command:
        """All three commands, from wherever the run stands."""
        config = ("--config", "tiny.yaml")
        fit = ("fit", *config, "--checkpoint.every_n_train_steps", 1)
        return Command(self.folder, "simulate", *config, "then", *fit, "then", "predict", *config)

    def kill_after(self, seconds: float) -> bool:
        """Start it and kill it after so many seconds; False if it had ended by then."""
        with self.start() as command:
            command.process.join(seconds)
            if running := command.process.is_alive():
                command.kill()
            elif command.process.exitcode:
                raise AssertionError(f"it ended with {command.process.exitcode}: {command.errors}")
        return running

    def command(self) -> str:
        """Which of the three commands was the last to write into its log."""
        logs = {path.parent.name: path.stat().st_mtime_ns for path in self.folder.glob("run/*/log.txt")}
        return max(logs, key=logs.get, default="start")

    def finish(self) -> float:
        """Start it, wait for its end, and return the seconds that it took."""
        started = time.monotonic()
        with self.start() as command:
            status, errors = command.wait(1800)
        assert status == 0, errors
        return time.monotonic() - started

    def differences(self, golden: "WholeRun") -> list[str]:
        """What is not as in a run that nobody killed: files, their bytes, and the weights in checkpoints."""
        here, there = self._files(), golden._files()
        found = [f"{name} is there" for name in sorted(here.keys() - there.keys())]
        found += [f"{name} is missing" for name in sorted(there.keys() - here.keys())]
        return found + [f"{name} differs" for name in sorted(here.keys() & there.keys()) if here[name] != there[name]]

    def _files(self) -> dict[str, str]:
        """Hashes of the files by path; of logs, which hold times, that they are there."""
        found = hashes(self.folder, "*.*")
        for name in found:
            if name.endswith(LOGS):
                found[name] = ""
            elif name.endswith(".ckpt"):
                found[name] = _weights(self.folder / name)
            elif name.endswith(".fits"):
                found[name] = _cleaned(self.folder / name)
        return found


def _weights(path: Path) -> str:
    """A hash of a checkpoint's weights, without the paths and the times that it holds."""
    weights = torch.load(path, weights_only=True)["state_dict"]
    return hashlib.sha256(b"".join(name.encode() + weights[name].numpy().tobytes() for name in weights)).hexdigest()


def _cleaned(path: Path) -> str:
    """A hash of a cleaned map, without the hash of the checkpoint that it names."""
    with fits.open(path) as (_, table):
        cards = [str(card) for card in table.header.cards if card.keyword not in ("CHECKPT", "CHECKSUM")]
        return hashlib.sha256("\n".join(cards).encode() + table.data.tobytes()).hexdigest()


def kill_runs(folder: Path, golden: WholeRun, kills: int, longest: float, seed: int = 0) -> list[str]:
    """Kill runs at random times, so often in all, each run until it has ended, and compare them with one left alone.

    The times get longer where none comes to its end, and shorter where one does: other work on the machine changes.

    Args:
        folder: Where the runs are, each in a folder of its own.
        golden: The run that nobody killed.
        kills: How many times.
        longest: Seconds after which a process is killed at the latest, to begin with; earlier ones are as likely.
        seed: Seed of the times.

    Returns:
        What differs.
    """
    dice = random.Random(seed)
    found, done, number = [], 0, 0
    while done < kills:
        run, number, during = WholeRun(folder / f"killed{number}"), number + 1, Counter()
        while done < kills and run.kill_after(dice.uniform(0, longest)):
            during[run.command()] += 1
            done += 1
            if during.total() % 5 == 0:
                longest *= 1.5
        longest /= 1.5
        run.finish()
        differences = run.differences(golden)
        outcome = "; ".join(differences) or "as one left alone"
        where = ", ".join(f"{count} in {command}" for command, count in during.items())
        print(f"run {number}, killed {during.total()} times ({where}): {outcome}", flush=True)
        found += [f"{run.folder.name}: {difference}" for difference in differences]
    return found
