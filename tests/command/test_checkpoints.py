"""Checkpoints: plain data, whole whatever happens, and refused when they are not."""

import errno
import os
import shutil
import warnings

import pytest
import torch

from cmb_lightning import checkpointing
from cmb_lightning.checkpointing import FORMAT, EpochCheckpoint, WholeCheckpointIO, read_checkpoint
from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.data import publish
from cmb_lightning.errors import ConfigError
from tests.command.test_resume import interrupt, stop_at


def kept(application):
    return sorted(os.listdir(application.folder / "run/checkpoints"))


def validate_to(monkeypatch, *losses):
    """Let validations come to these losses, one after the other, the check before training apart."""
    following = iter(losses)
    loss, start = CleaningTask._loss, CleaningTask.on_validation_start

    def told(self, prediction, target):
        if self.trainer.training or self.trainer.sanity_checking:
            return loss(self, prediction, target)
        return torch.tensor(self.worth)

    def on_validation_start(self):
        if not self.trainer.sanity_checking:
            self.worth = next(following)
        return start(self)

    monkeypatch.setattr(CleaningTask, "_loss", told)
    monkeypatch.setattr(CleaningTask, "on_validation_start", on_validation_start)


def test_checkpoints_are_plain_data(trained):
    for name in ("last", "epoch0001"):
        checkpoint = trained.checkpoint(name)  # with weights_only
        assert checkpoint["layout"]["channels"] == ["30_I", "100_I", "353_I"]
        assert "hyper_parameters" not in checkpoint


def test_a_damaged_checkpoint_gives_way_to_the_one_before(trained):
    last = trained.folder / "run/checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    resumed = trained("fit", "--trainer.max_epochs", 3)
    assert resumed.status == 0 and "last.ckpt is damaged" in resumed.out
    assert "Going on from run/checkpoints/epoch0001.ckpt" in resumed.out
    assert trained.checkpoint()["epoch"] == 2
    assert kept(trained) == ["best.ckpt", "epoch0002.ckpt", "last.ckpt"]


@pytest.mark.parametrize("command", ["fit", "test"])
def test_no_whole_checkpoint_is_an_error(trained, command):
    for path in (trained.folder / "run/checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:5000])
    ended = trained(command, "--trainer.max_epochs", 3)
    assert ended.status == 2 and "damaged" in ended.err and len(ended.err.splitlines()) == 1


def test_a_named_checkpoint_that_is_damaged_is_refused(trained):
    path = trained.folder / "flipped.ckpt"
    content = bytearray((trained.folder / "run/checkpoints/last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    ended = trained("test", "--ckpt_path", "flipped.ckpt")
    assert ended.status == 2 and "flipped.ckpt is damaged" in ended.err


def test_no_cut_and_no_flipped_byte_goes_unnoticed(tmp_path):
    path = tmp_path / "whole.ckpt"
    WholeCheckpointIO().save_checkpoint({"weights": torch.arange(4.0), "epoch": 3}, path)
    content, refused = path.read_bytes(), 0
    for position in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        for damaged in (content[:position], flipped):
            path.write_bytes(damaged)
            try:
                found = read_checkpoint(path)
            except ConfigError as error:
                assert "damaged" in str(error)
                refused += 1
            else:  # only the checksum itself was hit
                assert torch.equal(found["weights"], torch.arange(4.0)) and found["epoch"] == 3
    assert refused > 2 * len(content) / 3 - 8


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch, trouble):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def fail(*_):
        raise trouble

    monkeypatch.setattr(publish.os, "replace", fail)  # between the temporary file and its name
    with pytest.raises(type(trouble)):
        WholeCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert read_checkpoint(path) == {"epoch": 1, "format": FORMAT} and os.listdir(tmp_path) == ["last.ckpt"]


def test_another_format_is_refused_in_one_sentence(trained, monkeypatch):
    last = trained.folder / "run/checkpoints/last.ckpt"
    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "FORMAT", FORMAT + 1)
        WholeCheckpointIO().save_checkpoint(trained.checkpoint(), last)
    ended = trained("test", "--ckpt_path", last)
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert f"last.ckpt is of format {FORMAT + 1}" in ended.err and f"reads {FORMAT}" in ended.err
    ended = trained("test", "--ckpt_path", "run/checkpoints/epoch0001.ckpt")
    assert ended.status == 0


def test_the_best_is_kept_beside_the_last(trained_once, app, monkeypatch):
    shutil.copytree(trained_once.folder / "cache", app.folder / "cache")
    validate_to(monkeypatch, 3.0, 1.0, 2.0)
    assert app("fit", "--trainer.max_epochs", 2).status == app("fit", "--trainer.max_epochs", 3).status == 0
    assert app.checkpoint("best")["epoch"] == 1 and app.checkpoint()["epoch"] == 2
    assert kept(app) == ["best.ckpt", "epoch0002.ckpt", "last.ckpt"]
    monkeypatch.undo()
    assert app("predict", "--ckpt_path", "best").status == 0
    assert [*app.folder.rglob("cmb_map_pred_1.fits")] and not [*app.folder.rglob("cmb_map_pred_2.fits")]


def test_the_best_is_kept_though_stopped_between_its_validation_and_the_end_of_the_epoch(
    trained_once, app, monkeypatch
):
    shutil.copytree(trained_once.folder / "cache", app.folder / "cache")
    arguments = ("fit", "--trainer.val_check_interval", 1, "--checkpoint.every_n_train_steps", 1)
    validate_to(monkeypatch, 1.0, *[2.0] * 5)
    with monkeypatch.context() as patched:
        stop_at(patched, 2, interrupt)
        assert app(*arguments).status == 130
    assert kept(app) == ["epoch0000.ckpt", "last.ckpt"] and app.checkpoint()["global_step"] == 2
    assert app(*arguments).status == 0
    assert kept(app) == ["best.ckpt", "epoch0001.ckpt", "last.ckpt"] and app.checkpoint("best")["global_step"] == 3


@pytest.mark.parametrize(
    ("before", "there"),
    [
        ((EpochCheckpoint, "_save_last_checkpoint"), ["best.ckpt", "epoch0000.ckpt"]),
        ((WholeCheckpointIO, "remove_checkpoint"), ["best.ckpt", "epoch0000.ckpt", "epoch0001.ckpt", "last.ckpt"]),
    ],
    ids=["the last", "the old one goes"],
)
def test_stopped_before_it_leaves_the_checkpoints_of_a_whole_run(trained_once, app, monkeypatch, before, there):
    shutil.copytree(trained_once.folder / "cache", app.folder / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(*before, lambda *_: interrupt())
        assert app("fit").status == 130
    assert kept(app) == there
    assert app("fit").status == 0 and kept(app) == kept(trained_once)


def test_a_full_disk_stops_with_one_line(trained, monkeypatch):
    before = trained.weights()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(publish.os, "replace", fail)
        patched.setattr("cmb_lightning.run.replace", lambda *_: None)
        patched.setattr("cmb_lightning.cleaning.task.save_weights", lambda *_: None)
        ended = trained("fit", "--trainer.max_epochs", 3)
    assert ended.status == 2 and "No space left" in ended.err and len(ended.err.splitlines()) == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.weights().items())


def test_a_moved_run_goes_on(trained, tmp_path):
    shutil.move(tmp_path / "run", tmp_path / "moved")
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as on a console: pytest ignores lightning's
        ended = trained("fit", "--run", "moved", "--trainer.max_epochs", 3)
    assert ended.status == 0 and not any("dirpath" in warning for warning in ended.warned)
    assert torch.load(tmp_path / "moved/checkpoints/last.ckpt", weights_only=True)["epoch"] == 2
    assert sorted(os.listdir(tmp_path / "moved/checkpoints")) == ["best.ckpt", "epoch0002.ckpt", "last.ckpt"]
