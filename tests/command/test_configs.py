"""Every shipped configuration parses and trains for a step on small maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from cmb_lightning.results.fits import read_map, write_map
from tests.command.application import Application, invoke

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
NETWORKS = {path.stem: path for path in sorted((FOLDER / "networks").glob("*.yaml"))}
PUBLISHED = {path.stem: path for path in sorted((FOLDER / "published").glob("*.yaml"))}
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


@pytest.fixture(scope="module")
def network_data(tmp_path_factory, real_sky):
    """Arguments for two skies of the trial on the real Galaxy on small maps, made once."""
    splits = "{train: {n_sims: 2}, valid: {n_sims: 1}}"
    given = {"nside": 16, "templates": real_sky, "sky_nside": 64, "splits": splits, "run_inference_on": "[valid]"}
    given["root"] = tmp_path_factory.mktemp("networks") / "cache"
    data = [word for key, value in given.items() for word in (f"--data.init_args.{key}", str(value))]
    return [*data, "--trainer.max_epochs", "1", "--figures.every_n_epochs", "0", "--trainer.logger", "false"]


# What would take most of the time and the disk.
SMALLER = {
    "unet8": ["--model.network.width", "2"],
    "deepsphere": ["--model.network.width", "8"],
    "bayesian": ["--model.network.passes", "1", "--model.network.network.width", "8"],
}


def trained(folder, data, path):
    """The checkpoint of a network's configuration put after that of the trial, trained for an epoch of one batch."""
    configs = ["--config", str(CONFIGS["real_sky_64"]), "--config", str(path)]
    ended = invoke(folder, ["fit", *configs, "--run", "run", *data, *SMALLER.get(path.stem, [])])
    assert (ended.status, ended.err) == (0, ""), ended.err
    return torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_on_the_real_sky(tmp_path, network_data, name):
    checkpoint = trained(tmp_path, network_data, NETWORKS[name])
    weights = [value for key, value in checkpoint["state_dict"].items() if key.startswith("network.")]
    assert len(weights) > 10 and all(torch.isfinite(value).all() for value in weights)
    wanted = yaml.safe_load(NETWORKS[name].read_text())["model"]["network"]["class_path"]
    record = yaml.safe_load((tmp_path / "run/fit/config.yaml").read_text())
    assert record["model"]["network"]["class_path"].rpartition(".")[2] == wanted


TRAINING = {  # rate at the start and after the end
    "unet5": (1e-1, 1e-6),
    "unet8": (1e-1, 1e-6),
    "patch_unet": (2e-4, 2e-4),
    "deepsphere": (1e-3, 1e-3),
    "bayesian": (1e-3, 1e-3),
}
LOSSES = {"bayesian": "GaussianLikelihood", "deepsphere": "MSELoss"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_training_runs(tmp_path, network_data, name):
    checkpoint = trained(tmp_path, network_data, PUBLISHED[name])
    first, last = TRAINING[name]
    schedule = checkpoint["lr_schedulers"][0]
    assert schedule["base_lrs"] == [first] and schedule["_last_lr"] == pytest.approx([last])
    optimizer = checkpoint["optimizer_states"][0]["param_groups"][0]
    assert ("betas" in optimizer) == (name != "deepsphere") and optimizer.get("amsgrad", False) == (name == "bayesian")
    record = yaml.safe_load((tmp_path / "run/fit/config.yaml").read_text())
    assert record["model"]["method"]["class_path"].rpartition(".")[2] == "Direct"
    assert record["model"]["loss"]["class_path"].rpartition(".")[2] == LOSSES.get(name, "L1Loss")
    assert record["trainer"].get("gradient_clip_val") is None and record["trainer"]["precision"] == "32-true"


@pytest.mark.parametrize("name", ["observations", "planck_maps"])
def test_own_maps_are_cleaned_by_the_network_of_the_trial(name):
    trial, own = (yaml.safe_load(CONFIGS[one].read_text()) for one in ("real_sky_64", name))
    assert own["run"] == trial["run"] and own["model"] == trial["model"]


def test_own_maps_are_cleaned_as_simulations_are(tmp_path):
    """A simulated sky written as FITS maps, of `configs/observations.yaml`, gives what it gives as a simulation."""
    data = {"scale_from_nside": None, "bands": None, "target_fwhm": None}
    # The optimizer, which a training alone depends on, is not the one of that configuration.
    model = {"network": {"init_args": {"max_width": 128}}, "optimizer": {"class_path": "torch.optim.AdamW"}}
    app = Application(tmp_path, data={"init_args": data}, model=model, trainer={"max_epochs": 1})
    assert app("fit").status == app("predict").status == 0
    (path,) = tmp_path.glob("cache/tiny/test-*/sim000000.safetensors")
    parts = load_file(path)
    sky = (1 + parts["gain"][:, None]) * (parts["cmb"] + parts["foregrounds"]) + parts["noise"]
    (tmp_path / "maps").mkdir()
    for band, observed in zip(data_of(CONFIGS["observations"])["init_args"]["observations"]["mine"], sky, strict=True):
        # An offset that float32 adds to the brightest pixels, 4e8 uK in steps of 32 uK, without rounding.
        write_map(tmp_path / f"maps/{band}.fits", observed[None] + 1024, ["I"], "uK_CMB", {})
    small = ["--data.init_args.nside", "8", *NETWORK, "--model.regions", "2"]
    ended = invoke(tmp_path, ["predict", "--config", str(CONFIGS["observations"]), "--run", "run", *small])
    assert (ended.status, ended.err) == (0, "")
    (own,) = tmp_path.glob("run/predictions/my_maps/observations/sim0000/*.fits")
    (simulated,) = tmp_path.glob("run/predictions/tiny/test/sim0000/*.fits")
    maps = [read_map(path, "I").values for path in (own, simulated)]
    assert np.ptp(maps[1]) > 10 and np.abs(maps[0] - maps[1]).max() < 1e-2
    assert "monopole" in app.log("predict")
