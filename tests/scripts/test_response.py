"""The response to the CMB: that of a method whose response is known, and of a trained network."""

import sys

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from cmb_lightning.sky.spectra import save_spectrum
from tests.command.application import TINY, Application, invoke, merge
from tests.scripts.test_benchmarks import load, run, tables


def number(cell):
    return float(cell.split()[0])


def test_the_best_channel_answers_by_its_gain_and_as_it_is_where_there_is_none(tmp_path, monkeypatch, capsys):
    """Without foregrounds and noise, the map of least variance is the CMB times the smallest gain."""
    cmb = {"class_path": "cmb_lightning.sky.PolynomialSpectrum", "init_args": {"coefficients": [50.0]}}
    sky = {"cmb": cmb, "foregrounds": [], "noise": False}
    bands = ["353", "545", "857"]  # of one beam
    simulated = {key: value for key, value in TINY.items() if key != "model"}
    method = {"task": "ClassicalTask", "model": {"method": "SingleChannel"}}
    given = merge(simulated | method, {"data": {"init_args": {"sky": sky, "bands": bands}}})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(given))
    assert invoke(tmp_path, ["predict", "--config", "tiny.yaml", "--run", "run/channel"]).status == 0
    script = load("benchmark_response")
    monkeypatch.setattr(script, "application", lambda *words: invoke(tmp_path, list(words)))
    monkeypatch.chdir(tmp_path)
    flags = ["--n_sims", "5", "--gain_errors", "0", "2.5", "--bins", "3"]
    monkeypatch.setattr(sys, "argv", ["benchmark_response", "run/channel", *flags])
    script.main()
    transfer, ((name, none, some),) = tables(capsys.readouterr().out)
    assert [row[0] for row in transfer] == ["2 to 6", "7 to 11", "12 to 16"] and name == "channel"
    assert all(abs(number(row[1])) < 0.01 for row in transfer) and abs(number(none)) < 0.01
    (folder,) = (tmp_path / "cache/tiny").glob("gains2_5-*")
    gains = np.array([load_file(path)["gain"].min() for path in sorted(folder.glob("sim*.safetensors"))])
    assert len(gains) == 5 and gains.std() > 1e-3
    mean, _, error, spread = some.replace("(", "").replace(")", "").split()
    assert float(mean) == pytest.approx(100 * gains.mean(), rel=0.1, abs=0.005)
    assert float(spread) == pytest.approx(100 * gains.std(ddof=1), rel=0.1)
    assert float(error) == pytest.approx(float(spread) / np.sqrt(5), rel=0.1)


def test_a_network_keeps_the_cmb_of_every_field(tmp_path):
    """A CMB far above Galaxy and noise comes through as it is, however short the training."""
    degree = np.arange(30)
    spectra = 1e6 * np.array([5000, 50, 20, 100])[:, None] / (degree + 1.0) ** 2 * (degree > 1)
    save_spectrum(tmp_path / "cl.txt", spectra)
    cmb = {"class_path": "cmb_lightning.sky.FileSpectrum", "init_args": {"path": str(tmp_path / "cl.txt")}}
    data = {"fields": ["I", "Q", "U"], "sky": {"cmb": cmb}}
    app = Application(tmp_path, data={"init_args": data}, trainer={"max_epochs": 1})
    assert app("fit").status == 0
    made = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    flags = ["--n_sims", 2, "--bins", 3, "--gain_errors", 0, "--arguments", "--data.init_args.root", tmp_path / "cache"]
    found = tables(run("benchmark_response", tmp_path / "run", *flags))
    assert [len(table) for table in found] == [3, 1] * 3  # T, E and B
    assert all(abs(number(row[1])) < 2 for table in found for row in table)
    assert made == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
