"""The benchmarks run, on maps so small that the times mean nothing."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import torch

from cmb_lightning.networks import deepsphere
from cmb_lightning.sphere.graph import laplacian

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(name, *arguments):
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


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
    for table, rows in ((published, 6), (equal, 4)):
        assert len(table) == rows and [row[3] for row in table].count("1.00") >= 1
        assert table[0][0] == "zero-padded U-Net (floor)" and table[0][1] == table[1][1]  # the same weights
        assert all(float(cell) > 0 for row in table for cell in row[1:6])


def test_the_products_of_the_benchmark_of_networks_are_one():
    script = runpy.run_path(str(SCRIPTS / "benchmark_networks"))
    matrix = tuple(torch.from_numpy(part) for part in laplacian(8))
    columns = torch.randn(768, 5)
    torch.testing.assert_close(script["by_torch_sparse"](matrix, columns), deepsphere._times(matrix, columns))


def test_comparing():
    ((row,),) = tables(run("benchmark_compare", "--nside", 8, "--n_sims", 2, "--n_workers", 1))
    assert abs(float(row[4]) - 3) < 0.3  # the error that the predictions were given


TINY = """
data:
  class_path: SkyDataModule
  init_args:
    dataset: tiny
    instrument: real_sky_64
    nside: 16
    scale_from_nside: 64
    bands: ["44", "100", "217", "353"]
    splits: {train: {n_sims: 3}, valid: {n_sims: 1}, test: {n_sims: 2}}
    run_inference_on: [test]
"""


def test_accuracy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    arguments = ("--minutes", 1e-4, "--config", "tiny.yaml", "--networks", "default", "--methods", "pixel_ilc")
    scores, costs = tables(run("benchmark_accuracy", *arguments, "--folder", "runs"))
    assert [row[0] for row in scores] == ["default", "pixel_ilc"] and costs[0][0] == "default"
    alone = [float(row[1].split()[0]) for row in scores]
    assert [float(row[-1]) for row in scores] == [round(value / alone[0] * float(scores[0][-1]), 2) for value in alone]
    assert float(costs[0][1].split()[0]) > 0.1 and int(costs[0][2]) >= 1
