"""A training that was stopped, in whatever way, goes on to the same weights to the bit."""

import logging
import multiprocessing
import os
import shutil
import signal

import pytest
import torch
from torch.utils.data._utils import signal_handling

from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.data.loaders import AheadLoader
from cmb_lightning.sky.simulator import Simulator
from tests.command.application import Application, equal

EPOCHS = {"trainer": {"max_epochs": 3}}  # of 3 steps
DROPOUT = {
    "model": {
        "network": {
            "class_path": "MonteCarloDropout",
            "init_args": {
                "rate": 0.3,
                "passes": 2,
                "network": {"class_path": "HealpixUNet", "init_args": {"width": 4, "depth": 1}},
            },
        }
    }
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nothing stopped, and its data."""
    application = Application(tmp_path_factory.mktemp("whole"), **EPOCHS)
    assert application("fit").status == 0
    return application


@pytest.fixture
def stopped(whole, tmp_path):
    """A folder with the data, in which nothing was trained."""
    application = whole.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    return application


def stop_at(monkeypatch, step, how):
    """Let `how` happen in a training step, once."""
    original, done = CleaningTask.training_step, []

    def training_step(self, batch, batch_idx):
        if self.global_step == step and not done:
            done.append(step)
            how()
        return original(self, batch, batch_idx)

    monkeypatch.setattr(CleaningTask, "training_step", training_step)


def interrupt():
    raise KeyboardInterrupt


MOMENTS = {
    "in an epoch": (5, ["--checkpoint.every_n_train_steps", 2]),
    "after an epoch's last batch": (4, ["--checkpoint.every_n_train_steps", 3]),
    "after an epoch": (4, []),
    "after an epoch without validation": (4, ["--trainer.check_val_every_n_epoch", 3]),
    "before the first checkpoint": (2, []),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_resumed_weights_are_equal_to_the_bit(whole, stopped, monkeypatch, moment):
    step, arguments = MOMENTS[moment]
    stop_at(monkeypatch, step, interrupt)
    assert stopped("fit", *arguments).status == 130
    resumed = stopped("fit", *arguments)
    assert resumed.status == 0 and ("Going on from" in resumed.out) == (step > 2)
    assert stopped.checkpoint()["global_step"] == 9
    assert equal(stopped.weights(), whole.weights())


def test_stopped_again_and_again_also_in_a_validation(whole, stopped, monkeypatch):
    arguments = ["--checkpoint.every_n_train_steps", 1]
    for step in (3, 4, 8):
        stop_at(monkeypatch, step, interrupt)
        assert stopped("fit", *arguments).status == 130
    original = CleaningTask.validation_step

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 1 and not self.trainer.sanity_checking:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx, dataloader_idx)

    with monkeypatch.context() as patched:
        patched.setattr(CleaningTask, "validation_step", validation_step)
        assert stopped("fit", *arguments).status == 130
    assert stopped("fit", *arguments).status == 0
    assert stopped.checkpoint()["global_step"] == 9 and equal(stopped.weights(), whole.weights())


def test_an_end_between_two_checkpoints_is_kept_and_goes_on(whole, stopped):
    assert stopped("fit", "--checkpoint.every_n_train_steps", 2).status == 0
    assert stopped.checkpoint()["global_step"] == 9 and equal(stopped.weights(), whole.weights())
    assert stopped("fit", "--checkpoint.every_n_train_steps", 2, "--trainer.max_epochs", 4).status == 0
    assert stopped.checkpoint()["global_step"] == 12 and stopped.checkpoint()["epoch"] == 3


def test_dropout_goes_on_with_the_same_random_numbers(app, monkeypatch, tmp_path_factory):
    application = Application(app.folder, **DROPOUT, **EPOCHS)
    uninterrupted = application.copy(tmp_path_factory.mktemp("uninterrupted"))
    assert uninterrupted("fit").status == 0
    stop_at(monkeypatch, 5, interrupt)
    assert application("fit", "--checkpoint.every_n_train_steps", 2).status == 130
    assert application("fit", "--checkpoint.every_n_train_steps", 2).status == 0
    assert equal(application.weights(), uninterrupted.weights())


@pytest.mark.parametrize(
    ("step", "number"), [(4, signal.SIGTERM), (5, signal.SIGTERM), (8, signal.SIGTERM), (4, signal.SIGUSR1)]
)
def test_told_to_end_it_saves_after_the_batch(whole, stopped, monkeypatch, step, number):
    stop_at(monkeypatch, step, lambda: os.kill(os.getpid(), number))
    ended = stopped("fit")
    assert (ended.status, ended.err) == (128 + number, "")
    assert stopped.checkpoint()["global_step"] == step + 1
    assert stopped("fit").status == 0 and equal(stopped.weights(), whole.weights())


def test_told_twice_it_ends_at_once(stopped, monkeypatch):
    stop_at(monkeypatch, 4, lambda: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)])
    ended = stopped("fit")
    assert (ended.status, ended.err) == (143, "") and stopped.checkpoint()["global_step"] == 3


def test_interrupted_it_saves_after_the_batch_and_says_so(whole, stopped, monkeypatch, capfd):
    stop_at(monkeypatch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
    ended = stopped("fit")
    assert (ended.status, ended.err) == (130, "")
    assert "Stopping after this batch" in capfd.readouterr().err
    assert "Saved at step 5; the same command goes on" in ended.out
    again = stopped("fit")
    assert again.status == 0 and "Going on from run/checkpoints/last.ckpt, step 5." in again.out
    assert equal(stopped.weights(), whole.weights())


def test_interrupted_twice_it_ends_at_once(stopped, monkeypatch):
    stop_at(monkeypatch, 4, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    ended = stopped("fit")
    assert (ended.status, ended.err) == (130, "") and stopped.checkpoint()["global_step"] == 3


def tell_in_validation(monkeypatch, epoch=0, sanity=False, batch=0):
    """SIGTERM in a batch of a validation; the batches of it that were begun."""
    original, begun = CleaningTask.validation_step, []

    def validation_step(self, batch_, batch_idx, dataloader_idx=0):
        if (self.trainer.sanity_checking, self.current_epoch) == (sanity, epoch):
            begun.append(batch_idx)
            if batch_idx == batch:
                os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch_, batch_idx, dataloader_idx)

    monkeypatch.setattr(CleaningTask, "validation_step", validation_step)
    return begun


@pytest.mark.parametrize("arguments", [[], ["--trainer.val_check_interval", 2]], ids=["after", "within"])
@pytest.mark.parametrize("batch", [0, 2])
def test_told_in_a_validation_it_leaves_it_and_begins_it_again(whole, stopped, monkeypatch, batch, arguments):
    with monkeypatch.context() as patched:
        begun = tell_in_validation(patched, epoch=1, batch=batch)
        ended = stopped("fit", *arguments)
    assert (ended.status, ended.err) == (143, "") and begun == [*range(batch + 1)]
    last = batch == 2  # it ends by itself then, and the epoch too
    assert stopped.checkpoint()["global_step"] == (5 if arguments and not last else 6)
    begun = tell_in_validation(monkeypatch, epoch=1, batch=-1)
    assert stopped("fit", *arguments).status == 0 and equal(stopped.weights(), whole.weights())
    assert begun == ([] if last else [0, 1, 2])


def test_told_in_the_check_before_training_it_ends(whole, stopped, monkeypatch):
    with monkeypatch.context() as patched:
        begun = tell_in_validation(patched, sanity=True)
        ended = stopped("fit")
    assert (ended.status, ended.err) == (143, "") and begun == [0]
    assert not [*stopped.folder.rglob("*.ckpt")]
    assert stopped("fit").status == 0 and equal(stopped.weights(), whole.weights())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_in_simulating_end_it_quietly(app, monkeypatch, number, status):
    original = Simulator.simulate

    def simulate(self, split, index):
        if index == 2:
            os.kill(os.getpid(), number)
        return original(self, split, index)

    with monkeypatch.context() as patched:
        patched.setattr(Simulator, "simulate", simulate)
        ended = app("simulate")
    assert ended.status == status and "Traceback" not in ended.err
    assert len(app.simulations()) == 2 and not [*app.folder.rglob(".tmp-*")]
    assert app("simulate").status == 0 and len(app.simulations()) == 9
    assert "test: 1 simulations made" in app.log("simulate")


def test_a_killed_process_that_loads_data_ends_it_in_one_line(stopped, monkeypatch):
    def another():
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    def emit(handler, record, original=logging.FileHandler.emit):
        if record.levelno == logging.ERROR:  # the process of another loader ends just as the first end is told
            monkeypatch.setattr(signal_handling, "_error_if_any_worker_fails", another)
            os.kill(os.getpid(), signal.SIGCHLD)
        original(handler, record)

    monkeypatch.setattr(logging.FileHandler, "emit", emit)
    stop_at(monkeypatch, 4, lambda: [os.kill(child.pid, signal.SIGKILL) for child in multiprocessing.active_children()])
    ended = stopped("fit", "--data.init_args.num_workers", 1)
    assert ended.status == 1 and len(ended.err.splitlines()) == 1 and "num_workers" in ended.err
    assert stopped.checkpoint()["global_step"] == 3


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_process_that_is_killed_as_it_hands_over_a_batch_ends_it_in_one_line(stopped, monkeypatch, error):
    def lost():
        raise error

    stop_at(monkeypatch, 1, lost)
    ended = stopped("fit")
    assert ended.status == 1 and len(ended.err.splitlines()) == 1 and "num_workers" in ended.err


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_simulation_that_is_damaged_in_training_is_named(stopped, monkeypatch, damage):
    def spoil():
        for path in stopped.folder.glob("cache/tiny/train-*/sim*.safetensors"):
            path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-100])

    stop_at(monkeypatch, 1, spoil)
    ended = stopped("fit")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1, ended.err
    assert "cache/tiny/train-" in ended.err and "simulate` with the same configuration" in ended.err
    assert stopped("fit").status == 0  # which makes them again


def test_a_loss_that_is_no_number_stops_and_leaves_the_last_checkpoint(stopped, monkeypatch):
    original = CleaningTask._loss

    def loss(self, prediction, target):
        return original(self, prediction, target) * (torch.nan if self.global_step == 4 else 1)

    monkeypatch.setattr(CleaningTask, "_loss", loss)
    ended = stopped("fit")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1 and "step 4" in ended.err
    assert stopped.checkpoint()["epoch"] == 0


def test_told_while_it_starts_processes_that_load_it_ends_quietly(stopped, monkeypatch):
    """Lightning cannot tear down then what is not there yet, and would hide the signal behind an error of its own."""
    monkeypatch.setattr(AheadLoader, "__iter__", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    ended = stopped("fit", "--trainer.num_sanity_val_steps", 0)
    assert (ended.status, ended.err) == (143, "")
