"""Two processes: each simulation is made once, scored once and cleaned once, and all end when one fails."""

import csv
import os
import shutil
import signal
import time

import pytest

from tests.command.application import Application, equal, hashes
from tests.command.processes import Command

TWO = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder in which two processes trained, scored and cleaned three simulations."""
    application = Application(
        tmp_path_factory.mktemp("pair"),
        data={"init_args": {"samples_per_epoch": 21, "splits": {"valid": {"n_sims": 5}}}},
        trainer={"max_epochs": 8, "check_val_every_n_epoch": 4},
    )
    commands = []
    for command in ("fit", "test", "predict"):
        commands += [command, "--config", "tiny.yaml", *TWO, "then"]
    with Command(application.folder, *commands) as process:
        assert process.wait(200) == (0, "")
    return application


def test_each_simulation_is_made_once(pair):
    assert len(pair.simulations()) == 11 and not [*pair.folder.rglob(".bad-*")]
    assert pair.checkpoint()["global_step"] == 80  # epochs of 21 samples over two processes


def test_scores_are_those_of_one_process(pair, tmp_path):
    single = pair.copy(tmp_path)
    assert single("test").status == 0
    together, alone = (scores(application) for application in (pair, single))
    assert together.keys() == alone.keys() and len({sim for _, sim, _ in together}) == 3
    for key, values in together.items():
        assert values == pytest.approx(alone[key], rel=1e-6)


def test_predictions_are_those_of_one_process(pair, tmp_path):
    single = pair.copy(tmp_path)
    maps = hashes(pair.folder, "cmb_map_pred_*.fits")
    for path in tmp_path.rglob("cmb_map_pred_*.fits"):
        path.unlink()
    assert single("predict").status == 0
    assert len(maps) == 3 and hashes(tmp_path, "cmb_map_pred_*.fits") == maps
    assert "wrote 2 cleaned maps" in pair.log("predict")  # by the first process; the other one wrote the third
    assert "Cleaned maps: 3 files in " in pair.log("predict")


def test_told_to_end_both_do_and_go_on_to_the_same_weights(pair, tmp_path):
    stopped = pair.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    with Command(tmp_path, "fit", "--config", "tiny.yaml", *TWO) as process:
        while process.process.is_alive() and not (tmp_path / "run/checkpoints/last.ckpt").exists():
            time.sleep(0.01)
        os.kill(process.process.pid, signal.SIGTERM)  # not to the other one
        assert process.wait(100) == (143, "")
    assert 10 <= stopped.checkpoint()["global_step"] < 80
    with Command(tmp_path, "fit", "--config", "tiny.yaml", *TWO) as process:
        assert process.wait(200) == (0, "")
    assert stopped.checkpoint()["global_step"] == 80 and equal(stopped.weights(), pair.weights())


def test_one_told_in_a_validation_both_leave_it_and_begin_it_again(pair, tmp_path):
    stopped = pair.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    with Command(tmp_path, "fit", "--config", "tiny.yaml", *TWO, fault="1:40:told") as process:  # it has fewer
        assert process.wait(100) == (143, "")
    assert stopped.checkpoint()["global_step"] == 40
    validated = stopped.checkpoint()["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]["total"]
    assert validated["started"] == validated["processed"] + 1
    with Command(tmp_path, "fit", "--config", "tiny.yaml", *TWO) as process:
        assert process.wait(200) == (0, "")
    assert stopped.checkpoint()["global_step"] == 80 and equal(stopped.weights(), pair.weights())


def test_all_end_when_the_first_one_fails(app):
    (app.folder / "cache").write_text("not a folder")
    with Command(app.folder, "fit", "--config", "tiny.yaml", *TWO) as process:
        status, errors = process.wait()
    assert status == 2
    assert "cannot be made: Not a directory" in errors and "Traceback" not in errors


@pytest.mark.parametrize("rank", [0, 1])
def test_all_end_when_one_fails_in_training(pair, tmp_path, rank):
    pair.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    with Command(tmp_path, "fit", "--config", "tiny.yaml", *TWO, fault=f"{rank}:7") as process:
        status, errors = process.wait()
        assert status != 0 and errors.count("RuntimeError: the sky fell") == 1
        assert errors.count("Traceback") == 1  # and none of what the other one waited in
        assert gone(process)


def test_all_end_when_one_is_killed_in_training(pair, tmp_path):
    pair.copy(tmp_path)
    shutil.rmtree(tmp_path / "run")
    with Command(tmp_path, "fit", "--config", "tiny.yaml", *TWO) as process:
        while process.process.is_alive() and not (tmp_path / "run/checkpoints/last.ckpt").exists():
            time.sleep(0.01)
        (other,) = process.others()
        os.kill(other, signal.SIGKILL)
        status, errors = process.wait()
    assert status != 0 and len(errors.splitlines()) <= 1, errors


def gone(process: Command) -> bool:
    """Whether all of its processes end within a minute."""
    deadline = time.monotonic() + 60
    while process.others() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not process.others()


def scores(application):
    with open(application.folder / "run/test/scores.csv") as file:
        rows = [*csv.DictReader(file)]
    names = ("MAE", "RMSE", "NRMSE", "PSNR", "R2", "Pearson")
    return {(row["method"], row["sim"], row["region"]): [float(row[name]) for name in names] for row in rows}
