"""Two processes: each simulation is made once, scored once and cleaned once, and all end when one fails."""

import csv

import pytest

from tests.command.application import hashes
from tests.command.processes import Command

TWO = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder in which two processes trained, scored and cleaned three simulations."""
    from tests.command.application import Application

    application = Application(tmp_path_factory.mktemp("pair"))
    commands = []
    for command in ("fit", "test", "predict"):
        commands += [command, "--config", "tiny.yaml", *TWO, "then"]
    with Command(application.folder, *commands) as process:
        assert process.wait(200) == (0, "")
    return application


def test_each_simulation_is_made_once(pair):
    assert len(pair.simulations()) == 9 and not [*pair.folder.rglob(".bad-*")]
    assert pair.checkpoint()["global_step"] == 2  # epochs of three samples over two processes


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


def test_all_end_when_the_first_one_fails(app):
    (app.folder / "cache").write_text("not a folder")
    with Command(app.folder, "fit", "--config", "tiny.yaml", *TWO) as process:
        status, errors = process.wait(100)
    assert status == 2
    assert "cannot be made: Not a directory" in errors and "Traceback" not in errors


def scores(application):
    with open(application.folder / "run/test/scores.csv") as file:
        rows = [*csv.DictReader(file)]
    names = ("MAE", "RMSE", "NRMSE", "PSNR", "R2", "Pearson")
    return {(row["method"], row["sim"], row["region"]): [float(row[name]) for name in names] for row in rows}
