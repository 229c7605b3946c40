"""A data set in CMB-ML's files is taken in, trained on, scored and cleaned by the commands, as a simulated one is."""

import json

import healpy
import numpy as np
import pytest
import yaml

from cmb_lightning.data.reference_files import ReferenceFiles, extremes
from cmb_lightning.sky import Instrument
from tests.command.application import TINY, Application

BANDS = [30, 100, 353]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A folder in which simulations were given out as files, and every command was run on those."""
    folder = tmp_path_factory.mktemp("reference")
    app = Application(
        folder, data={"init_args": {"scale_from_nside": None, "bands": BANDS, "sky": {"gain_errors": 1.0}}}
    )
    assert app("simulate", "--export", "files").status == 0
    keys = ("bands", "instrument", "nside", "splits", "run_inference_on", "n_workers", "batch_size")
    options = {key: TINY["data"]["init_args"][key] for key in keys} | {"bands": BANDS, "folder": "files"}
    data = {"class_path": "ReferenceDataModule", "init_args": options}
    app.write("imported.yaml", TINY | {"run": "imported", "data": data})
    said = {name: app(name, config="imported.yaml") for name in ("fit", "test", "predict")}
    assert [(one.status, one.err) for one in said.values()] == [(0, "")] * 3
    return app, said


def test_it_is_scored_beside_the_linear_methods(imported):
    app, said = imported
    rows = json.loads((app.folder / "imported/test/scores.json").read_text())
    rmse = {row["method"]: row["mean"] for row in rows if (row["metric"], row["region"]) == ("RMSE", "full")}
    assert set(rmse) == {"network", "ilc", "linear", "local"} and all(0 < value < 1e4 for value in rmse.values())
    assert "noise alone" not in said["test"].out  # which nobody knows of imported maps


def test_each_simulation_is_cleaned(imported):
    folder = imported[0].folder
    for index in range(3):
        (path,) = folder.glob(f"imported/predictions/reference/test/sim{index:04d}/*.fits")
        cleaned, truth = (
            healpy.read_map(p) for p in (path, folder / f"files/Simulation/Test/sim{index:04d}/cmb_map_fid.fits")
        )
        assert np.isfinite(cleaned).all() and 0 < np.std(cleaned - truth) < 1e4


def test_the_scan_of_the_files_finds_the_extremes_of_the_training(imported):
    folder = imported[0].folder
    channels = Instrument.load("real_sky_64", 8, BANDS).channels
    found = extremes(ReferenceFiles(folder / "files"), "train", 3, channels, n_workers=2)
    written = yaml.safe_load((folder / "imported/extremes.yaml").read_text())["inputs"]
    for channel, low, high in zip(channels, found.minimum, found.maximum, strict=True):
        for key, value in (("vmin", low), ("vmax", high)):
            assert float(written[channel.name][key].split()[0]) == pytest.approx(value, rel=1e-4, abs=1e-2)
