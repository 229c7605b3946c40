"""Classical methods through the command: no training, no checkpoint, the same scores and maps."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from cmb_lightning.cleaning.fitted import load_weights
from cmb_lightning.results.fits import read_header, read_map
from tests.command.application import TINY, Application, invoke, merge

METHODS = sorted((Path(__file__).parents[2] / "configs" / "methods").glob("*.yaml"))
SIMULATED = {key: value for key, value in TINY.items() if key != "model"}


def classical(tmp_path, **changes) -> Application:
    app = Application(tmp_path)
    app.write("tiny.yaml", merge(SIMULATED | {"task": "ClassicalTask"}, changes))
    return app


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_a_method_is_scored_on_top_of_a_configuration(tmp_path, path):
    app = Application(tmp_path)
    app.write("data.yaml", SIMULATED)
    ended = invoke(tmp_path, ["test", "--config", "data.yaml", "--config", str(path)])
    assert (ended.status, ended.err) == (0, "")
    folder = tmp_path / yaml.safe_load(path.read_text())["run"] / "test"
    name = path.stem.replace("_", " ").replace("ilc", "ILC")
    assert name in (folder / "scores.md").read_text() and f"{name} / floor" in ended.out
    rows = (folder / "parts.md").read_text().splitlines()
    assert sum("| test |" in row for row in rows) == 3 and "foregrounds" in ended.out


def test_the_model_of_a_configuration_for_networks_is_left_out(tmp_path):
    app = Application(tmp_path, model={"method": "Residual"})
    app.write("method.yaml", {"task": "ClassicalTask", "run": "method", "model": {"method": "PixelILC"}})
    ended = app("test", "--config", "method.yaml")
    assert (ended.status, ended.err) == (0, "") and "pixel ILC" in ended.out
    app.write("other.yaml", {"model": {"network": "HealpixUNet"}})  # said after the task, it is a mistake
    ended = app("test", "--config", "method.yaml", "--config", "other.yaml")
    assert ended.status == 2 and "network" in ended.err


def test_validate_and_predict_need_no_checkpoint_and_compare_finds_the_maps(tmp_path):
    app = classical(tmp_path, model={"method": "PixelILC"})
    assert app("validate").status == app("predict").status == app("test").status == 0
    files = sorted(tmp_path.glob("run/predictions/tiny/test/*/*.fits"))
    assert len(files) == 3
    header = read_header(files[0])
    assert header["METHOD"] == "pixel ILC" and "CHECKPT" not in header
    ended = invoke(tmp_path, ["compare", "run", "ilc", "hilc", "channel", "--n_workers", "1"])
    assert (ended.status, ended.err) == (0, "")
    found = {path: list(csv.DictReader(path.open())) for path in tmp_path.rglob("scores.csv")}
    tested, compared = found[tmp_path / "run/test/scores.csv"], found[tmp_path / "comparison/scores.csv"]
    regions = {row["region"] for row in tested}
    own, again = (
        [float(row["RMSE"]) for row in compared if row["method"] == name and row["region"] in regions]
        for name in ("run", "pixel ILC")
    )
    np.testing.assert_allclose(own, again, rtol=1e-5)
    np.testing.assert_allclose(own, [float(row["RMSE"]) for row in tested], rtol=1e-5)


def test_trained_weights_are_kept_and_made_anew_for_other_data(tmp_path):
    app = classical(tmp_path, model={"method": "PixelILC", "trained": True})
    kept = tmp_path / "run" / "classical_weights.safetensors"
    assert app("predict").status == 0
    before = kept.stat().st_mtime_ns, load_weights(kept)
    np.testing.assert_allclose(before[1]["weights"].sum(-1), 1, atol=1e-6)
    assert app("test").status == 0 and kept.stat().st_mtime_ns == before[0]
    assert app("test", "--model.hedge", "0").status == 0 and kept.stat().st_mtime_ns > before[0]
    with_hedge = load_weights(kept)
    assert app("test", "--data.init_args.seed", "7").status == 0
    assert not np.array_equal(load_weights(kept)["weights"], with_hedge["weights"])


def test_what_cannot_be_done_is_said_in_a_line(tmp_path):
    app = classical(tmp_path)
    ended = app("fit")
    assert ended.status == 2 and "ClassicalTask has nothing to train; use test or predict." in ended.err
    ended = app("test", "--ckpt_path", "some.ckpt")
    assert ended.status == 2 and "ckpt_path: ClassicalTask has no checkpoints" in ended.err
    ended = app("test", "--task", "NoSuchTask")
    assert ended.status == 2 and "task: there is no 'NoSuchTask'; give CleaningTask or ClassicalTask." in ended.err
    ended = app("test", "--model.network", "HealpixUNet")
    assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1
    ended = app("test", "--model.method", "NeedletILC", "--model.method.bias", "2")
    assert ended.status == 2 and "bias 2.0 must lie between 0 and 1" in ended.err
    assert not (tmp_path / "run" / "predictions").exists()


def test_a_method_does_not_write_into_the_run_of_a_network(trained):
    ended = invoke(trained.folder, ["test", "--config", "tiny.yaml", "--config", str(METHODS[0]), "--run", "run"])
    assert ended.status == 2 and ended.err.strip()


def test_a_mask_has_scores_and_counts(tmp_path):
    app = classical(tmp_path, model={"method": "PixelILC"})
    assert app("predict").status == 0
    (path, *_) = sorted(tmp_path.glob("run/predictions/tiny/test/*/*.fits"))
    whole = read_map(path, "I").values
    assert app("predict", "--model.mask", "30 deg").status == app("test", "--model.mask", "30 deg").status == 0
    assert np.abs(read_map(path, "I").values - whole).max() > 1e-3
    assert "mask, mean ± spread over 3 simulations" in (tmp_path / "run/test/scores.md").read_text()
