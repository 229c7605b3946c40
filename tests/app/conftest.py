"""Two small trained runs that the tests of commands share."""

from contextlib import chdir
from pathlib import Path

import pytest
import yaml

from cmb_lightning.cli import main

CONFIG = {
    "data": {
        "class_path": "SkyDataModule",
        "init_args": {
            "dataset": "tiny",
            "instrument": "real_sky_64",
            "scale_from_nside": 64,
            "nside": 8,
            "bands": ["30", "100", "143", "353"],
            "splits": {
                "train": {"n_sims": 4},
                "valid": {"n_sims": 1},
                "test": {"n_sims": 3},
                "gains": {"n_sims": 3, "gain_errors": 1},
            },
            "run_inference_on": ["test", "gains"],
            "samples_per_epoch": 4,
            "n_workers": 1,
        },
    },
    "model": {"network": {"class_path": "HealpixUNet", "init_args": {"width": 4, "depth": 2}}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False},
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with two runs, `runs/a` and `runs/b`, and their cleaned maps; commands are to be run in it."""
    folder = tmp_path_factory.mktemp("trained")
    with chdir(folder):
        Path("tiny.yaml").write_text(yaml.safe_dump(CONFIG))
        for run, more in (("a", []), ("b", ["--model.network.width=2"])):
            for command in ("fit", "predict"):
                main([command, "--config=tiny.yaml", f"--run=runs/{run}", *more])
    return folder


@pytest.fixture
def inside(trained, monkeypatch) -> Path:
    """That folder, as the current one."""
    monkeypatch.chdir(trained)
    return trained
