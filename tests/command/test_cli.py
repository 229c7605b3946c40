"""The commands, one after the other, and what each leaves behind."""

import csv
import hashlib
import json
import re
import subprocess
import sys

import healpy
import lightning as L
import numpy as np
import pytest
import torch
import yaml
from astropy.io import fits
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cmb_lightning.console import ProgressBar
from tests.command.application import Application

COMMANDS = ("simulate", "fit", "validate", "test", "predict")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which every command was run, and what each said."""
    application = Application(
        tmp_path_factory.mktemp("project"),
        trainer={"logger": None, "log_every_n_steps": 1},
        figures={"every_n_epochs": 5},
        checkpoint={"save_top_k": -1},
    )
    return application, {command: application(command) for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_leaves_its_record(project, command):
    application, said = project
    assert said[command].status == 0
    folder = application.folder / "run" / command
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["init_args"]["nside"] == 8 and config["model"]["network"]["init_args"]["max_width"] == 128
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["command"] == ["cmb-lightning", command, "--config", "tiny.yaml"]
    assert re.fullmatch("[0-9a-f]{40}", environment["git_commit"]) or environment["git_commit"] is None
    assert f"cmb-lightning {command} --config tiny.yaml" in application.log(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_console_is_quiet(project, command):
    said = project[1][command]
    assert said.err == "" and said.warned == []
    if command not in ("validate", "test"):  # which show a table
        assert len(said.out.splitlines()) <= 1


def test_simulations_are_made_once(project):
    application, _ = project
    for split in ("train", "valid", "test"):
        assert re.search(rf"{split}: 3 simulations made \(\d+ bytes, [\d.]+ s\), 0 found", application.log("simulate"))
    for command, split in (("fit", "train"), ("fit", "valid"), ("validate", "valid"), ("test", "test")):
        assert re.search(rf"{split}: 0 simulations made \(0 bytes, [\d.]+ s\), 3 found", application.log(command))
    assert len(application.simulations()) == 9


def test_extremes_are_written_beside_data_and_run(project):
    folder = project[0].folder
    texts = [(folder / place / "extremes.yaml").read_text() for place in ("cache/tiny", "run")]
    assert texts[0] == texts[1]
    assert yaml.safe_load(texts[0])["inputs"]["30_I"]["vmin"].endswith(" uK_CMB")


def test_tensorboard_has_losses_metrics_and_figures(project):
    events = EventAccumulator(str(project[0].folder / "run/tensorboard")).Reload()
    scalars = events.Tags()["scalars"]
    assert {"train/loss", "val/loss", "val/network/RMSE/b20", "val/ilc/RMSE/full", "val/linear/R2/full"} <= {*scalars}
    assert [event.step for event in events.Scalars("val/loss")] == [2, 5]
    assert {"maps/I", "residual pixels/I", "RMSE/I"} <= {*events.Tags()["images"]}


def test_scores_are_shown_and_kept(project):
    application, said = project
    folder = application.folder / "run/test"
    rows = json.loads((folder / "scores.json").read_text())
    assert {row["method"] for row in rows} == {"network", "ilc", "linear", "local"}
    assert {row["n_sims"] for row in rows} == {3}
    table = (folder / "scores.md").read_text()
    assert "| test | network |" in table and "RMSE / pixel ILC" in table
    assert "trained linear" in said["test"].out and "RMSE" in said["test"].out


def test_predictions_are_the_maps_that_were_scored(project):
    application, _ = project
    checkpoint = hashlib.sha256((application.folder / "run/checkpoints/last.ckpt").read_bytes()).hexdigest()
    with open(application.folder / "run/test/scores.csv") as file:
        rows = [row for row in csv.DictReader(file) if (row["method"], row["region"]) == ("network", "full")]
    for row in rows:
        sim = int(row["sim"])
        path = application.folder / f"run/predictions/tiny/test/sim{sim:04d}/cmb_map_pred_1.fits"
        header = fits.getheader(path, 1)
        expected = {"ORDERING": "RING", "NSIDE": 8, "TUNIT1": "uK_CMB", "EPOCH": 1, "SPLIT": "test", "SIM": sim}
        assert {key: header[key] for key in expected} == expected
        assert header["CHECKPT"] == checkpoint and header["FWHM"] == pytest.approx(960)
        (simulation,) = application.folder.glob(f"cache/tiny/test-{header['DATAID']}/sim{sim:06d}.safetensors")
        truth = healpy.reorder(load_file(simulation)["target"][0], n2r=True)
        rms = np.sqrt(np.mean((healpy.read_map(path) - truth.astype(float)) ** 2))
        assert rms == pytest.approx(float(row["RMSE"]), rel=1e-5)


def test_predictions_of_several_epochs_are_one_command(project, tmp_path):
    application = project[0].copy(tmp_path)
    assert application("predict", "--epochs", "[0, 1]").status == 0
    maps = [tmp_path / f"run/predictions/tiny/test/sim0000/cmb_map_pred_{epoch}.fits" for epoch in (0, 1)]
    assert [fits.getval(path, "EPOCH", 1) for path in maps] == [0, 1]
    assert fits.getval(maps[0], "CHECKPT", 1) != fits.getval(maps[1], "CHECKPT", 1)
    missing = application("predict", "--epochs", "[0, 7]")
    assert missing.status == 2 and "epoch0007" in missing.err and "epoch0000, epoch0001" in missing.err


def test_the_same_fit_again_is_finished(trained):
    before = trained.simulations(), trained.weights()
    again = trained("fit")
    assert (again.status, again.err) == (0, "") and "is finished after 2 epochs" in again.out
    assert trained.simulations() == before[0] and trained.checkpoint()["global_step"] == 6


def test_more_epochs_go_on_from_the_last_checkpoint(trained):
    more = trained("fit", "--trainer.max_epochs", 3)
    assert more.status == 0 and "Going on from run/checkpoints/last.ckpt" in more.out
    assert trained.checkpoint()["epoch"] == 2 and trained.checkpoint()["global_step"] == 9
    assert "3 simulations made" not in trained.log("fit").split("Going on from")[1]
    assert "is finished after 3 epochs" in trained("fit", "--trainer.max_epochs", 3).out


def test_another_configuration_stops_and_lists_the_keys(trained):
    record = (trained.folder / "run/fit/config.yaml").read_text()
    changed = trained("fit", "--model.regions", 3, "--data.init_args.seed", 5, "--trainer.max_epochs", 4)
    assert changed.status == 2 and len(changed.err.splitlines()) == 1
    assert "model.regions: 2 there, 3 here" in changed.err and "data.init_args.seed: 0 there, 5 here" in changed.err
    assert "max_epochs" not in changed.err and "--run" in changed.err
    assert trained.checkpoint()["epoch"] == 1 and (trained.folder / "run/fit/config.yaml").read_text() == record
    assert "model.regions" in trained("test", "--model.regions", 3).err
    assert trained("fit", "--model.regions", 3, "--run", "other").status == 0


def test_how_it_is_run_may_change(trained):
    changes = ("--data.init_args.n_workers", 2, "--trainer.enable_progress_bar", "false", "--checkpoint.save_top_k", -1)
    assert trained("fit", "--trainer.max_epochs", 3, *changes).status == 0


def test_a_fast_run_makes_one_map_of_each_split(app):
    assert app("fit", "--trainer.fast_dev_run", "true").status == 0
    first = app.simulations()
    assert sorted(path.split("-")[0] for path in first) == ["tiny/train", "tiny/valid"]
    assert "is finished" not in app("test").out and not app.folder.joinpath("run/checkpoints/last.ckpt").exists()
    assert app("fit").status == 0
    assert len(app.simulations()) == 6 and first.items() <= app.simulations().items()


def test_a_fast_run_leaves_a_trained_run_as_it_is(trained):
    assert trained("fit", "--trainer.fast_dev_run", "true", "--model.regions", 3).status == 0
    assert "is finished" in trained("fit").out and trained("test").status == 0


def test_a_cap_limits_what_is_used_not_what_is_made(trained):
    assert trained("predict", "--data.init_args.n_sims_cap", 2).status == 0
    assert len([*trained.folder.rglob("cmb_map_pred_1.fits")]) == 2
    assert sum("test-" in path for path in trained.simulations()) == 3
    assert trained("test", "--data.init_args.n_sims_cap", 9).status == 0
    assert "9 is above the 3 simulations of test; all are used" in trained.log("test")


def test_splits_for_inference_are_named(trained):
    assert trained("test", "--data.init_args.run_inference_on", "[Valid, test]").status == 0
    rows = json.loads((trained.folder / "run/test/scores.json").read_text())
    assert {row["split"] for row in rows} == {"valid", "test"}
    unknown = trained("predict", "--data.init_args.run_inference_on", "[tset]")
    assert unknown.status == 2 and "no split 'tset'; there are test, train, valid" in unknown.err


def test_simulations_do_not_depend_on_the_workers(app, tmp_path_factory):
    other = Application(tmp_path_factory.mktemp("other"))
    assert app("simulate").status == other("simulate", "--data.init_args.n_workers", 2).status == 0
    assert app.simulations() == other.simulations() and len(app.simulations()) == 9


def test_the_program_s_own_warnings_are_sentences():
    """Those of others keep the line of code that they come from."""
    code = """
import warnings
from cmb_lightning import console
console.quiet()
warnings.warn_explicit("my.fits: check its unit.", UserWarning, console.__file__, 3)
warnings.warn("of another")
"""
    own, other, *_ = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.splitlines()
    assert own == "cmb-lightning: warning: my.fits: check its unit."
    assert re.fullmatch(r"<string>:6: .*of another", other)


def test_the_progress_bar_shows_no_version(tmp_path):
    trainer = L.Trainer(logger=TensorBoardLogger(tmp_path, version="tensorboard"), accelerator="cpu")
    assert "v_num" in RichProgressBar().get_metrics(trainer, None) and not ProgressBar().get_metrics(trainer, None)
