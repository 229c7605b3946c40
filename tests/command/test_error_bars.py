"""Error bars through the command: stated, scored, written and compared."""

import csv

import numpy as np
import pytest

from cmb_lightning.results.fits import read_header, read_map
from tests.command.application import invoke

LIKELIHOOD = ("--model.loss", "GaussianLikelihood")


@pytest.fixture(scope="module")
def stated(trained_once, tmp_path_factory):
    """A run with error bars, scored and with its maps, on the data of another."""
    application = trained_once.copy(tmp_path_factory.mktemp("stated"))
    for command in ("fit", "test", "predict"):
        ended = application(command, "--run", "bars", *LIKELIHOOD)
        assert (ended.status, ended.err) == (0, "")
    application.printed = application("test", "--run", "bars", *LIKELIHOOD).out
    return application


def test_the_test_reports_coverage_by_latitude(stated):
    with (stated.folder / "bars/test/calibration.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert {row["sim"] for row in rows} == {"0", "1", "2"}
    assert [row["region"] for row in rows[:5]] == ["full", "b0-10", "b10-20", "b20-40", "b40-90"]
    assert all(0 <= float(row["coverage68"]) <= float(row["coverage95"]) <= 1 for row in rows)
    assert "Error bars, mean ± spread over 3 simulations" in stated.printed and "|b| 10° to 20°" in stated.printed


def test_the_maps_carry_their_errors_and_a_comparison_reads_them(stated):
    paths = sorted(stated.folder.glob("bars/predictions/*/test/*/*.fits"))
    assert len(paths) == 3 and read_header(paths[0])["TUNIT2"] == "uK_CMB"
    sigma = read_map(paths[0], "I_SIGMA")
    assert sigma.unit == "uK_CMB" and (sigma.values > 0).all() and np.ptp(sigma.values) > 0
    ended = invoke(stated.folder, ["compare", "bars", "ilc", "--out", "comparison"])
    assert (ended.status, ended.err) == (0, "")
    assert "Error bars" in (stated.folder / "comparison/report.html").read_text()


def test_a_run_without_error_bars_has_none(trained):
    assert trained("test").status == 0
    assert not (trained.folder / "run/test/calibration.csv").exists()


def test_error_bars_and_none_are_not_one_run(trained):
    ended = trained("fit", *LIKELIHOOD)
    assert ended.status == 2 and "model.loss" in ended.err


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("torch.nn.L1Loss", ()),
        ("torch.nn.MSELoss", ()),
        ("torch.nn.HuberLoss", ("--model.loss.delta", 2)),
        ("GaussianLikelihood", ("--model.loss.beta", 0)),
        ("HarmonicLikelihood", ("--model.loss.lmax", 12)),
        ("HarmonicLikelihood", ("--model.mask", "30 deg")),
    ],
)
def test_losses_are_chosen_by_their_class(trained, loss, options):
    ended = trained("fit", "--run", "other", "--model.loss", loss, *options, "--trainer.fast_dev_run", "true")
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize("scaling", ["standard", "robust", "asinh"])
def test_the_direct_method_s_scaling_is_a_choice(trained, scaling):
    method = ("--model.method", "Direct", "--model.method.scaling", scaling)
    ended = trained("fit", "--run", "other", *method, *LIKELIHOOD, "--trainer.fast_dev_run", "true")
    assert (ended.status, ended.err) == (0, "")
