"""The benchmarks run, on maps so small that the times mean nothing."""

import csv
import importlib.util
import re
import runpy
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cmb_lightning.networks import deepsphere
from cmb_lightning.sphere.graph import laplacian
from tests.command.application import invoke

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(name, *arguments):
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def load(name) -> ModuleType:
    """A script as a module."""
    loader = SourceFileLoader(name, str(SCRIPTS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module  # dataclasses look for the module that they are in
    if str(SCRIPTS) not in sys.path:
        sys.path.append(str(SCRIPTS))  # where Python looks when it runs one
    loader.exec_module(module)
    return module


def tables(text):
    """Cells of each row, by table."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    rows = [[[cell.strip() for cell in line.strip("| ").split("|")] for line in block.splitlines()] for block in blocks]
    assert all(len({len(row) for row in block}) == 1 for block in rows)
    return [block[2:] for block in rows]


def test_simulation(tmp_path):
    arguments = (
        "--nside",
        8,
        "--fields",
        "I",
        "--repeats",
        1,
        "--growth",
        2,
        "--growth-nside",
        8,
        "--growth-repeats",
        1,
    )
    simulations, growth = tables(run("benchmark_simulation", *arguments, "--folder", tmp_path))
    assert [row[:3] for row in simulations] == [
        ["8", "T", sky] for sky in ("fixed templates", "varied templates", "random Galaxy")
    ]
    assert float(simulations[0][11]) < 1e-4  # the maps are those of the recipe
    assert [row[:3] for row in growth] == [["8", "1", "2"], ["8", "2", "2"]]
    assert not list(tmp_path.iterdir())


def test_reading(tmp_path):
    arguments = ("--nside", 8, "--n-sims", 2, "--repeats", 1, "--patch-nside", 8, "--scan-nside", 8, "--n-maps", 9)
    samples, copies, patch, extremes = tables(run("benchmark_reading", *arguments, "--folder", tmp_path))
    assert len(samples) == 6 and len(copies) == 1 and len(extremes) == 4
    wanted, read = map(int, patch[0][:2])
    assert wanted == 28 * 64 * 4 and wanted < read <= wanted + 8192  # and the header
    assert not list(tmp_path.iterdir())


def test_networks():
    published, equal = tables(run("benchmark_networks", "--nside", 16, "--repeats", 1))
    for table, rows in ((published, 9), (equal, 7)):
        assert len(table) == rows and [row[3] for row in table].count("1.00") >= 1
        assert table[0][0] == "zero-padded U-Net (floor)" and table[0][1] == table[1][1]  # the same weights
        assert all(float(cell) > 0 for row in table for cell in row[1:6])


def test_both_ways_of_computing_deepsphere_are_one():
    script = runpy.run_path(str(SCRIPTS / "benchmark_networks"))
    matrix = tuple(torch.from_numpy(part) for part in laplacian(8))
    torch.manual_seed(0)
    conv, maps = deepsphere.ChebyshevConv(3, 5, kernel_size=4), torch.randn(768, 2, 3, requires_grad=True)
    ways = [conv(maps, matrix), script["as_its_authors"](conv, maps, matrix)]
    torch.testing.assert_close(*ways)
    gradients = [torch.autograd.grad(way.square().mean(), [maps, conv.weight]) for way in ways]
    torch.testing.assert_close(*gradients)


def test_comparing():
    ((row,),) = tables(run("benchmark_compare", "--nside", 8, "--n_sims", 2, "--n_workers", 1))
    assert abs(float(row[4]) - 3) < 0.3  # the error that the predictions were given


TINY = """
data:
  class_path: SkyDataModule
  init_args:
    dataset: tiny
    instrument: real_sky_64
    fields: [I, Q, U]
    nside: 16
    scale_from_nside: 64
    bands: ["44", "100", "217", "353"]
    splits: {train: {n_sims: 3}, valid: {n_sims: 1}, test: {n_sims: 2}}
    run_inference_on: [test]
    n_workers: 1
trainer: {logger: false}
figures: {every_n_epochs: 0}
"""


def test_accuracy(tmp_path, monkeypatch, capsys):
    """Commands run in this process, since starting one takes as long as its work, by a clock of 2 s an epoch."""
    script, called = load("benchmark_accuracy"), []

    def execute(*words):
        called.append(words)
        ended = invoke(tmp_path, list(words))
        assert ended.status == 0, ended.err
        seconds = 2 * int(words[words.index("--trainer.max_epochs") + 1]) if words[0] == "fit" else 0
        return 10 + seconds + (0 if "--data.init_args.n_sims_cap" in words else 4), 0.5, ended.out

    monkeypatch.setattr(script, "execute", execute)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    rows = ["--networks", "default_error_bars", "--methods", "pixel_ilc"]
    monkeypatch.setattr(sys, "argv", ["", "--minutes", "0.07", "--config", "tiny.yaml", *rows, "--folder", "runs"])
    script.main()
    out = capsys.readouterr().out
    *scores, (cost,) = tables(out)
    assert re.findall(r"\ntest(.*): noise alone", out) == ["", ", E", ", B"]
    for field, table in zip("IEB", scores, strict=True):
        floors = []
        for (name, rmse, *_, coverage, ratio), method in zip(table, ("network", "pixel ILC"), strict=True):
            with (tmp_path / "runs" / name / "test/scores.csv").open() as file:
                values = [float(row["RMSE"]) for row in csv.DictReader(file)
                          if (row["method"], row["field"], row["region"]) == (method, field, "b20")]  # fmt: skip
            assert len(values) == 2 and float(rmse.split()[0]) == pytest.approx(np.mean(values), rel=0.02)
            floors.append(np.mean(values) / float(ratio))
            assert bool(coverage) == (method == "network")
        assert floors[0] == pytest.approx(floors[1], rel=0.02)
        assert 20 < float(table[0][-2].split()[0]) <= 100
        assert all(0 < abs(float(row[5])) <= 1 and row[7:11] == [""] * 4 for row in table)  # l of 50 is not there
    # 4.2 of 2 seconds an epoch are 2 epochs, in 18 seconds; predictions take 14 seconds for two maps and 10 for one.
    assert cost[0] == "default_error_bars" and cost[2:] == ["2", "0.3", "0.5", "4.00"]
    assert float(cost[1].split()[0]) > 0.1
    called.clear()
    script.train(script.Network("again", tmp_path / "runs/default_error_bars", (), ()), 1)
    assert not called  # what was trained is not trained again


def test_the_accuracy_benchmark_runs_commands_and_measures_them():
    seconds, memory, text = load("benchmark_accuracy").execute("compare", "--help")
    assert seconds > 0.1 and 0.05 < memory < 4 and text.startswith("usage: cmb-lightning compare")
