"""Bad input ends in one sentence with the key, the value and the remedy, before any work, and damages nothing."""

import numpy as np
import pytest
import torch
import yaml
from torch._utils import ExceptionWrapper

from cmb_lightning.parser import condense
from tests.command.application import Application, invoke

D = "--data.init_args."
SPLITS = f"{D}splits"
SKY = "{class_path: cmb_lightning.sky.%s, init_args: {%s}}"

CONFIGURATION = {
    "unknown band": ([f"{D}bands", "['30', '31']"], "bands", "'31'", "30, 44"),
    "band twice": ([f"{D}bands", "['30', '30']"], "bands", "30"),
    "unknown field": ([f"{D}fields", "[X]"], "fields", "'X'", "IQU"),
    "nside no power of two": ([f"{D}nside", 12], "nside", "12", "power of two"),
    "lmax too high": ([f"{D}lmax", 40], "lmax", "40", "23"),
    "no unit": (["--model.latitude_cut", "20"], "latitude_cut", "'20'", "deg"),
    "wrong unit": ([f"{D}target_fwhm", "20 kg"], "target_fwhm", "20 kg", "arcmin"),
    "unit of predictions": (["--predictions.unit", "kg"], "predictions.unit", "kg", "uK_CMB"),
    "no simulations": (
        [SPLITS, "{train: {n_sims: 0}, valid: {n_sims: 1}, test: {n_sims: 1}}"],
        "n_sims",
        "0",
        "at least 1",
    ),
    "fewer than none": ([SPLITS, "{train: {n_sims: -2}, valid: {n_sims: 1}}"], "n_sims", "-2", "at least 1"),
    "a cap of nothing": ([f"{D}n_sims_cap", 0], "n_sims_cap", "0", "at least 1"),
    "split twice": ([SPLITS, "{train: {n_sims: 1}, Train: {n_sims: 1}}"], "splits", "'Train'", "case"),
    "split that is a path": ([SPLITS, "{../x: {n_sims: 1}}"], "splits", "'../x'", "letters"),
    "no splits": ([SPLITS, "{}"], "splits", "train"),
    "data set that is a path": ([f"{D}dataset", "a/b"], "dataset", "'a/b'", "letters"),
    "unknown split": ([f"{D}run_inference_on", "[nosuch]"], "run_inference_on", "'nosuch'", "test, train, valid"),
    "unknown instrument": ([f"{D}instrument", "nosuch"], "instrument", "'nosuch'", "real_sky_64"),
    "negative spectrum": ([f"{D}sky.cmb.init_args.coefficients", "[-1.0]"], "coefficients", "-1", "0 or more"),
    "missing spectrum": (
        [f"{D}sky.cmb", SKY % ("FileSpectrum", "path: nosuch.txt")],
        "path",
        "nosuch.txt",
        "check the path",
    ),
    "network too deep": (["--model.network.depth", 7], "depth", "7", "0 to 3"),
    "no regions": (["--model.regions", 0], "regions", "0", "at least 1"),
    "placeholder missing": (["--predictions.path", "{split}/{sim}"], "predictions.path", "{epoch}"),
    "placeholder unknown": (["--predictions.path", "{split}{sim}{epoch}{x}"], "predictions.path", "{x}", "{dataset}"),
    "unknown key of the data": ([f"{D}nosuch", 1], "data", "'nosuch'", "--data.help SkyDataModule"),
    "unknown key of a split": ([SPLITS, "{train: {nsims: 3}}"], "data.splits", "'nsims'", "help"),
    "unknown key of the network": (["--model.network.nosuch", 1], "model.network", "'nosuch'", "help"),
    "unknown key": (["--model.nosuch", 1], "--model.nosuch", "fit --help"),
    "unknown section": (["--config", "unknown.yaml"], "datum.nside", "fit --help"),
    "wrong type": ([f"{D}batch_size", "many"], "data.batch_size", "int", "many"),
    "wrong type of the trainer": (["--trainer.max_epochs", "two"], "trainer.max_epochs", "int", "two"),
    "wrong type in a split": ([f"{SPLITS}.train.n_sims", "x"], "data.splits.n_sims", "int", "x"),
    "wrong type in the sky": (
        [f"{D}sky.cmb", SKY % ("PolynomialSpectrum", "coefficients: x")],
        "data.sky.cmb.coefficients",
        "list",
        "x",
    ),
    "required key missing": ([f"{D}sky.foregrounds", "[" + SKY % ("Templates", "") + "]"], "foregrounds", "components"),
    "unknown class": (["--model.network", "Nosuch"], "model.network", "'Nosuch'", "import path"),
    "class of another kind": (["--model.network", "cmb_lightning.sky.Templates"], "model.network", "Templates"),
    "unknown data": (["--data", "Nosuch"], "data", "'Nosuch'", "import path"),
    "configuration missing": (["--config", "nosuch.yaml"], "config", "nosuch.yaml"),
    "configuration broken": (["--config", "broken.yaml"], "line 2"),
    "run that is a file": (["--run", "tiny.yaml"], "run", "tiny.yaml"),
    "device missing": (["--trainer.devices", 0], "devices", "0"),
    "callback": (["--figures.every_n_epochs", -1], "figures.every_n_epochs", "-1", "0 (never)"),
    "monitor of nothing": (
        ["--checkpoint.monitor", "val/los"],
        "checkpoint.monitor",
        "'val/los'",
        "val/loss",
    ),
    "monitor of nothing in a callback": (
        ["--trainer.callbacks", "[{class_path: EarlyStopping, init_args: {monitor: val/network/RMS/full}}]"],
        "trainer.callbacks.monitor",
        "val/network/RMSE/full",
    ),
    "averages of tables": (
        ["--trainer.callbacks", "[{class_path: EMAWeightAveraging}]"],
        "trainer.callbacks",
        "EMAWeightAveraging",
        "use_buffers: false",
    ),
    "command to run": (
        ["--model.loss", "os.system", "--model.loss.command", "touch marker"],
        "model.loss",
        "os.system",
    ),
    "trust of anything": (["--trust", "os", "--model.loss", "os.system"], "trust", "'os'"),
    "trust of no module": (["--trust", "a b"], "trust", "'a b'"),
    "trust by the configuration": (["--config", "trusting.yaml"], "trust", "command line"),
    "checkpoint missing": (["--ckpt_path", "nosuch.ckpt"], "ckpt_path", "nosuch.ckpt"),
    "last checkpoint missing": (["--ckpt_path", "last"], "ckpt_path", "no trained model"),
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A folder in which nothing was run, for commands that leave it so."""
    application = Application(tmp_path_factory.mktemp("fresh"))
    application.write("unknown.yaml", {"datum": {"nside": 8}})
    application.write("trusting.yaml", {"trust": "my_file"})
    (application.folder / "broken.yaml").write_text("data: [1\nmodel: }")
    return application


@pytest.mark.parametrize("case", CONFIGURATION)
def test_bad_configuration(fresh, case):
    arguments, *telling = CONFIGURATION[case]
    before = sorted(fresh.folder.rglob("*"))
    refused(fresh("fit", *arguments), *telling)
    left = [path for path in sorted(fresh.folder.rglob("*")) if path not in before]
    assert not any(path.suffix in (".safetensors", ".ckpt") or path.name in ("cache", "marker") for path in left)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_model_must_be_trained(fresh, command):
    refused(fresh(command), "ckpt_path", "no trained model", "run fit first")
    refused(fresh(command, "--ckpt_path", "nosuch.ckpt"), "ckpt_path", "nosuch.ckpt")
    assert not (fresh.folder / "cache").exists()


def test_no_command_or_an_unknown_one(tmp_path):
    for arguments in ([], ["nosuch"]):
        refused(invoke(tmp_path, arguments), "fit", "predict")


OTHER = {
    "bands": ([f"{D}bands", "['30', '100', '143']"], "channels", "353_I", "143_I"),
    "fewer bands": ([f"{D}bands", "['30', '100']"], "channels", "353_I"),
    "resolution": ([f"{D}nside", 16], "nside", "16 here, 8 there"),
    "beam of the target": ([f"{D}target_fwhm", "1200 arcmin"], "target_fwhm", "1200"),
    "network": (["--model.network.width", 8], "another model", "network."),
    "method": (["--model.method", "cmb_lightning.cleaning.methods.Direct"], "another model"),
}


@pytest.mark.parametrize("case", OTHER)
def test_a_checkpoint_of_something_else(trained, case):
    arguments, *telling = OTHER[case]
    before = trained.simulations()
    for command in ("test", "predict", "fit") if case == "bands" else ("test",):
        path = "run/checkpoints/last.ckpt"
        refused(trained(command, "--run", "other", "--ckpt_path", path, *arguments), "ckpt_path", *telling)
    assert trained.simulations() == before  # none was made for it


def test_a_checkpoint_trained_on_other_data(trained):
    """Same maps to look at, other skies: no training goes on with them, and what is scored is said to be others."""
    arguments = ("--run", "other", "--ckpt_path", "run/checkpoints/last.ckpt", f"{D}seed", 5)
    before = trained.simulations()
    refused(trained("fit", *arguments), "ckpt_path", "other data", "train.recipe.seed: 5 here, 0 there", "--run")
    assert trained.simulations() == before
    scored = trained("test", *arguments)
    assert scored.status == 0 and "trained on other data" in scored.out and "train.recipe.seed: 5" in scored.out
    grown = ("--run", "other", "--ckpt_path", "run/checkpoints/last.ckpt", f"{SPLITS}.train.n_sims", 4)
    refused(trained("fit", *grown), "train.n_sims: 4 here, 3 there")


def test_other_bands_in_the_same_run(trained):
    refused(trained("test", f"{D}bands", "['30', '100', '143']"), "ckpt_path", "channels")


class Malice:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("open('marker', 'w').close()",)


@pytest.mark.parametrize(("place", "command"), [("state_dict", "test"), ("hyper_parameters", "fit")])
def test_a_checkpoint_that_would_run_code(trained, place, command):
    torch.save(trained.checkpoint() | {place: Malice()}, trained.folder / "evil.ckpt")
    refused(trained(command, "--run", "other", "--ckpt_path", "evil.ckpt"), "evil.ckpt", "not read")
    assert not (trained.folder / "marker").exists()


@pytest.mark.parametrize("key", ["_class_path", "_instantiator"])
def test_a_checkpoint_does_not_choose_classes(trained, key):
    torch.save(
        trained.checkpoint() | {"hyper_parameters": {key: "os.system", "command": "touch marker"}},
        trained.folder / "evil.ckpt",
    )
    assert trained("test", "--ckpt_path", "evil.ckpt").status == 0
    assert not (trained.folder / "marker").exists()


def test_a_foreign_checkpoint(trained):
    torch.save({"state_dict": {}}, trained.folder / "foreign.ckpt")
    torch.save({"a": 1}, trained.folder / "old.ckpt", _use_new_zipfile_serialization=False)
    for name, telling in (("foreign", "not one of this program"), ("old", "damaged")):
        refused(trained("test", "--ckpt_path", f"{name}.ckpt"), "ckpt_path", telling)


def test_templates_of_another_ordering_or_with_holes(app, tmp_path):
    from cmb_lightning.results.fits import write_map

    values = np.ones((1, 768), dtype=np.float32)
    values[0, 5] = np.nan
    write_map(tmp_path / "dust.fits", values, ["I"], "uK_RJ", {})
    component = {
        "name": "dust",
        "file": "dust.fits",
        "reference": "353 GHz",
        "law": {"class_path": "cmb_lightning.sky.PowerLaw", "init_args": {"beta": -3.0}},
    }
    sky = {"foregrounds": [{"class_path": "cmb_lightning.sky.Templates", "init_args": {"components": [component]}}]}
    (tmp_path / "sky.yaml").write_text(yaml.safe_dump(sky))
    refused(app("fit", f"{D}sky", "sky.yaml", f"{D}templates", "."), "dust.fits", "1")
    assert not app.simulations()


def test_what_a_process_that_loads_data_met_is_one_line():
    with pytest.raises(FileNotFoundError) as met:
        try:
            raise FileNotFoundError("sim000001.safetensors is missing")
        except FileNotFoundError:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()
    assert condense(str(met.value)) == "FileNotFoundError: sim000001.safetensors is missing"


def refused(outcome, *telling):
    """One line on stderr with all that is telling, and status 2."""
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1 and outcome.err.startswith("cmb-lightning: "), outcome.err
    assert len(outcome.err) < 500 and outcome.warned == [], outcome.warned
    for word in telling:
        assert str(word) in outcome.err
