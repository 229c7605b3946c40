"""Polarised skies through the command: networks see E and B, scores and maps are those of Q and U as well."""

import csv
import json

import healpy
import numpy as np
import pytest
from safetensors.numpy import load_file

from cmb_lightning.results.fits import read_map
from cmb_lightning.sky.spectra import save_spectrum
from tests.command.application import Application, invoke


@pytest.mark.parametrize("fields", ["QU", "IQU"])
def test_polarised_skies_are_trained_on_scored_cleaned_and_compared(tmp_path, fields):
    degree = np.arange(30)
    save_spectrum(tmp_path / "cl.txt", np.array([5000, 50, 5, 100])[:, None] / (degree + 1.0) ** 2 * (degree > 1))
    cmb = {"class_path": "cmb_lightning.sky.FileSpectrum", "init_args": {"path": "cl.txt"}}
    data = {"init_args": {"fields": list(fields), "sky": {"cmb": cmb}}}
    app = Application(tmp_path, data=data, trainer={"max_epochs": 1})
    assert app("fit").status == 0
    ended = app("test")
    assert (ended.status, ended.warned) == (0, [])
    assert "test, E: noise alone" in ended.out and "test, B: noise alone" in ended.out
    records = json.loads((tmp_path / "run/test/scores.json").read_text())
    rmse = {(r["method"], r["field"]): r["mean"] for r in records if (r["metric"], r["region"]) == ("RMSE", "full")}
    named = [*fields, "E", "B"]
    assert set(rmse) == {(method, field) for method in ("network", "ilc", "linear", "local") for field in named}
    for method in ("network", "ilc", "linear", "local"):  # the same power, once turned
        power = [rmse[method, field] ** 2 for field in "QUEB"]
        assert power[0] + power[1] == pytest.approx(power[2] + power[3], rel=0.05)
    assert rmse["network", "E"] == pytest.approx(rmse["local", "E"], rel=0.5)
    assert app("predict").status == 0
    (path,) = tmp_path.glob("run/predictions/tiny/test/sim0000/*.fits")
    cleaned = np.stack([read_map(path, field).values for field in fields])
    (stored,) = tmp_path.glob("cache/tiny/test-*/sim000000.safetensors")
    error = healpy.reorder(cleaned, r2n=True) - load_file(stored)["target"]
    scored = [r["RMSE"] for r in _rows(tmp_path) if (r["method"], r["sim"], r["region"]) == ("network", "0", "full")]
    np.testing.assert_allclose(np.sqrt((error**2).mean(axis=1)), np.array(scored, float)[: len(fields)], rtol=1e-3)
    ended = invoke(tmp_path, ["compare", "run", "ilc", "linear", "--n_workers", "1"])
    assert (ended.status, ended.err) == (0, "")
    spectra = (tmp_path / "comparison/spectra.csv").read_text()
    assert all(kind in spectra for kind in ("EE", "BB"))


def _rows(folder):
    with (folder / "run/test/scores.csv").open() as file:
        return list(csv.DictReader(file))
