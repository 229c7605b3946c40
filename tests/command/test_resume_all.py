"""All that has a state goes on where it stood: averaged weights, added gradients, dropout, schedule, TensorBoard."""

import csv
import math
import os
import shutil
import signal

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command.application import Application, equal
from tests.command.test_resume import DROPOUT, interrupt, stop_at, tell_in_validation

AVERAGED = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.7, "use_buffers": False}}
EVERYTHING = {
    "data": {"init_args": {"samples_per_epoch": 5}},
    "trainer": {
        "max_epochs": 3,  # of 5 batches in 3 steps: two, two and one
        "accumulate_grad_batches": 2,
        "callbacks": [AVERAGED],
        "logger": True,
        "log_every_n_steps": 1,
    },
    "figures": {"every_n_epochs": 1},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nothing stopped."""
    application = Application(tmp_path_factory.mktemp("everything"), **DROPOUT, **EVERYTHING)
    assert application("fit").status == 0
    return application


def scalars(application):
    """What TensorBoard shows, by step: files of one second are read in any order."""
    events = EventAccumulator(str(application.folder / "run/tensorboard"), {"scalars": 0, "images": 0}).Reload()
    shown = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    shown |= {tag: [(e.step, None) for e in events.Images(tag)] for tag in events.Tags()["images"]}
    return {tag: sorted(points, key=lambda point: point[0]) for tag, points in shown.items()}


def test_told_in_a_validation_it_logs_the_same(whole, tmp_path, monkeypatch):
    """Of averaged weights, by random passes."""
    stopped = whole.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    with monkeypatch.context() as patched:
        begun = tell_in_validation(patched, epoch=1, batch=1)
        assert stopped("fit").status == 143 and begun == [0, 1]
    assert stopped.checkpoint()["global_step"] == 6
    assert stopped("fit").status == 0
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert equal(stopped.checkpoint()[part], whole.checkpoint()[part]), part
    np.testing.assert_equal(scalars(stopped), scalars(whole))  # to which one NaN equals another


def test_stopped_in_three_ways_it_ends_the_same(whole, tmp_path, monkeypatch):
    stopped = whole.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    calls = []

    def told_between_added_gradients():
        calls.append(None)
        if len(calls) == 1:  # step 1 begins with the third batch of the epoch
            os.kill(os.getpid(), signal.SIGTERM)

    stop_at(monkeypatch, 1, told_between_added_gradients)
    assert stopped("fit").status == 143 and stopped.checkpoint()["global_step"] == 2
    stop_at(monkeypatch, 5, interrupt)  # as if killed: what was logged of step 3 and 4 is done again
    assert stopped("fit").status == 130 and stopped.checkpoint()["global_step"] == 3
    stop_at(monkeypatch, 7, interrupt)
    assert stopped("fit", "--checkpoint.every_n_train_steps", 1).status == 130
    assert stopped.checkpoint()["global_step"] == 7
    assert stopped("fit").status == 0
    ended, expected = stopped.checkpoint(), whole.checkpoint()
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert equal(ended[part], expected[part]), part
    moments = (checkpoint["optimizer_states"][0]["state"] for checkpoint in (ended, expected))
    for mine, other in zip(*(state.values() for state in moments), strict=True):
        assert equal(mine, other)
    assert ended["lr_schedulers"] == expected["lr_schedulers"]
    np.testing.assert_equal(scalars(stopped), scalars(whole))  # to which one NaN equals another
    assert [step for step, _ in scalars(whole)["train/loss"]][-1] == 8
    assert all(math.isfinite(value) for _, value in scalars(whole)["val/network/RMSE/full"])


def test_averaged_weights_are_validated_kept_and_used(tmp_path):
    """What `validate` finds with the kept weights is what the training's last validation found."""
    application = Application(tmp_path, trainer={"callbacks": [AVERAGED], "logger": True})
    for command in ("fit", "validate", "predict"):
        ended = application(command)
        assert (ended.status, ended.err) == (0, "") and not ended.warned
    assert not equal(application.checkpoint()["state_dict"], application.checkpoint()["current_model_state"])
    with open(tmp_path / "run/validate/scores.csv") as file:
        rows = [row for row in csv.DictReader(file) if (row["method"], row["region"]) == ("network", "full")]
    values = [float(row["RMSE"]) for row in rows]
    logged = scalars(application)["val/network/RMSE/full"][-1][1]
    assert sum(values) / len(values) == pytest.approx(logged, rel=1e-6)


def test_an_end_between_two_checkpoints_keeps_both_weights(whole, tmp_path):
    """Lightning puts the averaged weights into the model at the end of a training; to go on needs its own."""
    seldom = whole.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    assert seldom("fit", "--checkpoint.every_n_epochs", 7).status == 0
    for part in ("state_dict", "current_model_state"):
        assert equal(seldom.checkpoint()[part], whole.checkpoint()[part]), part
