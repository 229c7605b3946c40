"""Every shipped configuration parses and trains for a step on small maps."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from cmb_lightning.results.fits import read_map, write_map
from tests.command.application import Application, invoke

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
NETWORKS = {path.stem: path for path in sorted((FOLDER / "networks").glob("*.yaml"))}
SMALL = ["--run", "run", "--data.init_args.root", "cache", "--data.init_args.nside", "8"]
NETWORK = ["--model.network", "HealpixUNet", "--model.network.width", "4", "--model.network.depth", "1"]


def data_of(path):
    return yaml.safe_load(path.read_text())["data"]


@pytest.mark.parametrize("name", [name for name, path in CONFIGS.items() if "splits" in data_of(path)["init_args"]])
def test_a_configuration_trains_for_a_step(tmp_path, request, name):
    arguments = ["fit", "--config", str(CONFIGS[name]), *SMALL, *NETWORK, "--trainer.fast_dev_run", "true"]
    if "templates" in data_of(CONFIGS[name])["init_args"]:
        templates = str(request.getfixturevalue("real_sky"))
        arguments += ["--data.init_args.templates", templates, "--data.init_args.sky_nside", "64"]
    ended = invoke(tmp_path, arguments)
    assert (ended.status, ended.err, ended.warned) == (0, "", [])
    assert len([*tmp_path.rglob("sim000000.safetensors")]) == 2


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_can_be_put_into_a_configuration(tmp_path, name):
    arguments = ["fit", "--config", str(CONFIGS["quickstart"]), "--config", str(NETWORKS[name]), "--print_config"]
    printed = invoke(tmp_path, arguments)
    assert printed.status == 0
    wanted = yaml.safe_load(NETWORKS[name].read_text())["model"]["network"]["class_path"]
    assert yaml.safe_load(printed.out)["model"]["network"]["class_path"].rpartition(".")[2] == wanted


def test_own_maps_are_cleaned_as_simulations_are(tmp_path):
    """A simulated sky written as FITS maps, of `configs/observations.yaml`, gives what it gives as a simulation."""
    data = {"scale_from_nside": None, "bands": None, "target_fwhm": None}
    app = Application(tmp_path, data={"init_args": data}, trainer={"max_epochs": 1})
    assert app("fit").status == app("predict").status == 0
    (path,) = tmp_path.glob("cache/tiny/test-*/sim000000.safetensors")
    parts = load_file(path)
    sky = (1 + parts["gain"][:, None]) * (parts["cmb"] + parts["foregrounds"]) + parts["noise"]
    (tmp_path / "maps").mkdir()
    for band, observed in zip(data_of(CONFIGS["observations"])["init_args"]["observations"]["mine"], sky, strict=True):
        write_map(tmp_path / f"maps/{band}.fits", observed[None] + 7, ["I"], "uK_CMB", {})
    model = [*NETWORK, "--model.regions", "2"]
    arguments = ["--config", str(CONFIGS["observations"]), "--run", "run", "--data.init_args.nside", "8", *model]
    ended = invoke(tmp_path, ["predict", *arguments])
    assert (ended.status, ended.err) == (0, "")
    (own,) = tmp_path.glob("run/predictions/my_maps/observations/sim0000/*.fits")
    (simulated,) = tmp_path.glob("run/predictions/tiny/test/sim0000/*.fits")
    maps = [read_map(path, "I").values for path in (own, simulated)]
    assert np.ptp(maps[1]) > 10 and np.abs(maps[0] - maps[1]).max() < 1e-2
    assert "monopole" in app.log("predict")
