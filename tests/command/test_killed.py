"""Killed at any moment, the same command carries on, and data and weights end the same."""

import random
import shutil
import time

import pytest
import torch

from cmb_lightning.checkpointing import check_whole
from tests.command.application import Application, equal
from tests.command.processes import Command
from tests.command.whole_run import WholeRun, kill_runs

SPLITS = {"splits": {"train": {"n_sims": 10}, "valid": {"n_sims": 3}, "test": {"n_sims": 3}}}
TRAINING = ("fit", "--config", "tiny.yaml", "--trainer.max_epochs", 4, "--checkpoint.every_n_train_steps", 1)


def killed(command, folder, pattern, count, delay):
    """Kill a command some time after it has written so many files of a kind; False when it was done before."""
    deadline = time.monotonic() + 300
    while command.process.is_alive() and time.monotonic() < deadline:
        if len([*folder.rglob(pattern)]) >= count:
            time.sleep(delay)
            command.kill()
            return True
        time.sleep(0.002)
    return False


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """What a process that nobody killed makes."""
    application = Application(tmp_path_factory.mktemp("golden"), data={"init_args": SPLITS})
    assert application("simulate").status == 0
    assert application("fit", "--trainer.max_epochs", 4).status == 0
    return application


def test_killed_while_simulating(golden, app):
    dice = random.Random(1)
    shutil.copy(golden.folder / "tiny.yaml", app.folder)
    command = ("simulate", "--config", "tiny.yaml", "--data.init_args.n_workers", 2)
    for count in sorted(dice.sample(range(1, 16), 2)):
        with Command(app.folder, *command) as process:
            assert killed(process, app.folder / "cache", "sim*.safetensors", count, dice.uniform(0, 0.01))
        assert app.simulations().items() <= golden.simulations().items()  # every published file is whole
    with Command(app.folder, *command) as process:
        assert process.wait() == (0, "")
    assert app.simulations() == golden.simulations() and not [*app.folder.rglob(".tmp-*")]


def test_killed_while_training(golden, tmp_path):
    dice = random.Random(3)
    application = golden.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    for _ in range(3):
        before = steps(application)
        more = dice.randint(2, 9)
        with Command(tmp_path, *TRAINING) as process:
            while process.process.is_alive() and steps(application) < before + more:
                time.sleep(0.002)
            time.sleep(dice.uniform(0, 0.02))
            process.kill()
        check_whole(tmp_path / "run/checkpoints/last.ckpt")
        assert before < steps(application) < 40
    with Command(tmp_path, *TRAINING) as process:
        assert process.wait() == (0, "")
    assert steps(application) == 40 and equal(application.weights(), golden.weights())
    assert application.simulations() == golden.simulations()


def steps(application):
    path = application.folder / "run/checkpoints/last.ckpt"
    return torch.load(path, weights_only=True)["global_step"] if path.exists() else 0


def test_a_whole_run_killed_ends_as_one_left_alone(tmp_path):
    """The short form of `scripts/stress_kills`."""
    golden = WholeRun(tmp_path / "golden")
    seconds = golden.finish()
    assert kill_runs(tmp_path, golden, kills=2, longest=seconds) == []
