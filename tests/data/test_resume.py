"""Training goes on where it stood, whatever the moment of the checkpoint, and on several processes."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from tests.data.fakes import Toy
from tests.data.toy_training import SPLITS, Interrupt, Notebook, ToyModule, checkpoints, trainer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """What a training that is not interrupted sees, 3 epochs of 4 batches."""
    model = Notebook()
    trainer(tmp_path_factory.mktemp("whole"), enable_checkpointing=False).fit(model, ToyModule(root))
    assert len(model.notes) == 12
    return model.notes


def test_each_epoch_shows_every_cmb_once_in_another_order_and_mix(whole):
    epochs = [[note for note in whole if note[0] == epoch] for epoch in range(3)]
    orders = [[index for note in epoch for index in note[1]] for epoch in epochs]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert len({note[2] for note in whole}) == 12


MOMENTS = {
    "in the middle of an epoch": (6, {"every_n_train_steps": 6}),
    "after its last batch": (8, {"every_n_train_steps": 8}),
    "at its end": (8, {"every_n_epochs": 1, "save_on_train_epoch_end": True}),
    "after its validation": (8, {"every_n_epochs": 1, "save_on_train_epoch_end": False}),
}


@pytest.mark.parametrize(
    ("moment", "num_workers"),
    [*((moment, 0) for moment in MOMENTS), ("in the middle of an epoch", 1)],
)
def test_an_interrupted_training_sees_the_rest(root, tmp_path, whole, moment, num_workers):
    step, when = MOMENTS[moment]
    before, after = Notebook(), Notebook()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, callbacks=(checkpoints(tmp_path, **when), Interrupt(step + 1))).fit(before, ToyModule(root))
    trainer(tmp_path).fit(after, ToyModule(root, num_workers=num_workers), ckpt_path=tmp_path / "last.ckpt")
    assert before.notes == whole[: step + 1]
    assert after.notes == whole[step:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_interrupted_between_samples_of_the_same_skies_it_sees_the_rest(root, tmp_path, num_workers):
    data = partial(ToyModule, root, num_workers=num_workers, repeats=2)
    complete, before, after = Notebook(), Notebook(), Notebook()
    trainer(tmp_path, enable_checkpointing=False).fit(complete, data())
    saves = checkpoints(tmp_path, every_n_train_steps=5)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, callbacks=(saves, Interrupt(6))).fit(before, data())
    trainer(tmp_path).fit(after, data(), ckpt_path=tmp_path / "last.ckpt")
    assert len(complete.notes) == 12 and len({note[2] for note in complete.notes}) == 6
    assert before.notes == complete.notes[:6] and after.notes == complete.notes[5:]


def two_processes(root, trouble: str = "") -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.data.toy_training", str(root), trouble]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        errors = process.communicate(timeout=200)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, errors


def test_two_processes_share_the_work(tmp_path, whole):
    code, errors = two_processes(tmp_path)
    assert code == 0, errors
    notes = [json.loads((tmp_path / f"notes{rank}.json").read_text()) for rank in (0, 1)]
    for epoch in (0, 1):
        shares = [[index for note in mine if note[0] == epoch for index in note[1]] for mine in notes]
        order = [index for note in whole if note[0] == epoch for index in note[1]]
        assert shares == [order[0:6:2], order[1:6:2]]
    for stage in ("test", "predict"):
        shares = [[index for note in mine if note[0] == stage for index in note[1]] for mine in notes]
        assert shares == [[0, 2, 4], [1, 3]]
    assert len(list(tmp_path.rglob("sim*"))) == sum(SPLITS.values())
    assert not list(tmp_path.rglob(".*"))


def test_when_the_simulation_fails_both_processes_end(tmp_path):
    code, errors = two_processes(tmp_path, "raises")
    assert code != 0
    assert "train simulation 3: the sky fell" in errors
    assert not list(tmp_path.glob("notes*"))


def test_processes_that_do_not_see_the_same_data_all_end_at_once(tmp_path):
    for seed in (1, 2):
        ToyModule(tmp_path, Toy(seed=seed)).make()
    code, errors = two_processes(tmp_path, "other data")
    assert code != 0
    assert "not all processes have the data of the first one (process 1 sees another train and valid)" in errors
    assert not list(tmp_path.glob("notes*"))
