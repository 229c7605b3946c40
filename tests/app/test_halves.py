"""Spectra without noise bias, by commands alone: simulate halves of the data, predict, compare."""

import csv
import shutil
from pathlib import Path

import healpy
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from cmb_lightning.cli import main
from cmb_lightning.results.fits import read_header
from tests.app.conftest import CONFIG
from tests.app.test_observations_command import observed, predict, wmap_style  # noqa: F401  fixture

NSIDE, LMAX = 8, 16


@pytest.fixture
def compared(inside, tmp_path) -> Path:
    """The folder of predictions and of a comparison of run `a` on a split whose data come in halves."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    config["data"]["init_args"] |= {"dataset": "halved", "run_inference_on": ["test"]}
    config["data"]["init_args"]["splits"]["test"]["halves"] = True
    (tmp_path / "halved.yaml").write_text(yaml.safe_dump(config))
    path = f"--predictions.path={tmp_path}/cleaned/{{split}}/sim{{sim:04d}}_{{epoch}}.fits"
    shutil.copytree("runs/a", tmp_path / "a")  # a run remembers what it predicted last, and others share this one
    main(["predict", f"--config={tmp_path}/halved.yaml", f"--run={tmp_path}/a", path])
    words = (
        f"a={tmp_path}/cleaned",
        "ilc",
        "--data",
        f"{tmp_path}/halved.yaml",
        "--splits",
        "test",
        "--n_workers",
        "1",
    )
    main(["compare", *words, "--out", f"{tmp_path}/page"])
    return tmp_path


def test_from_simulations_to_spectra_without_noise_bias(compared):
    """The spectra are those that healpy takes across the two halves, and lie below those of the whole."""
    rows = list(csv.DictReader((compared / "page" / "spectra.csv").open()))
    own = [row for row in rows if (row["sky"], row["method"], row["spectrum"]) == ("full sky", "a", "TT")]
    ell = np.arange(LMAX + 1)
    across, whole = [], []
    for sim in range(3):
        (stored,) = Path("cache/halved").glob(f"test-*/sim{sim:06d}.safetensors")
        truth = healpy.reorder(load_file(stored)["target"][0].astype(float), n2r=True)
        paths = [compared / "cleaned" / "test" / f"sim{sim:04d}_0{half}.fits" for half in ("_half1", "_half2", "")]
        left = [healpy.read_map(path, dtype=float) - truth for path in paths]
        across.append(healpy.anafast(left[0], left[1], lmax=LMAX))
        whole.append(healpy.anafast(left[2], lmax=LMAX))
    across, whole = (np.mean(cl, axis=0) * ell * (ell + 1) / 2 / np.pi for cl in (across, whole))
    for row in own:
        low, high = int(row["ell_low"]), int(row["ell_high"])
        weights = 2 * ell[low : high + 1] + 1
        expected = np.sum(across[low : high + 1] * weights) / weights.sum()
        assert float(row["residual"]) == pytest.approx(expected, rel=1e-5, abs=1e-5 * np.abs(across).max())
    assert across[2:].mean() < 0.95 * whole[2:].mean()
    assert "a, pixel ILC: spectra of the prediction" in (compared / "page" / "report.html").read_text()


@pytest.mark.filterwarnings("ignore:.*rms of")
def test_observed_halves_are_named_and_cleaned_alike(tmp_path, observed, capsys):  # noqa: F811
    files = wmap_style(tmp_path, observed)
    with pytest.raises(SystemExit):
        predict(tmp_path, files, observations={"mine_half1": files}, unit="mK_CMB")
    assert "mine_half1: there is no mine_half2; name both, or neither" in capsys.readouterr().err
    names = ("mine", "mine_half1", "mine_half2")
    predict(tmp_path, files, observations=dict.fromkeys(names, files), unit="mK_CMB")
    cards = [read_header(path) for path in sorted((tmp_path / "cleaned").glob("*.fits"))]
    assert [(card["SIM"], card.get("HALF")) for card in cards] == [(0, None), (0, 1), (0, 2)]
    # A run that cleaned observations last is compared on its simulations all the same.
    main(["compare", "runs/a", "--splits", "test", "--out", f"{tmp_path}/page", "--n_workers", "1"])
    assert (tmp_path / "page" / "report.html").is_file()
