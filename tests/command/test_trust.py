"""A configuration runs no code but that of trusted packages, unless the command line says so."""

import re
import sys
from pathlib import Path

import pytest

from tests.command.application import Application

CONTRIBUTING = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
CALLBACK = "[{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {on_fit_start: %s}}]"
HOSTILE = {
    "network": ("--model.network", "my_file.TwoLayers"),
    "network with arguments": ("--model.network", "{class_path: my_file.TwoLayers, init_args: {width: 4}}"),
    "loss": ("--model.loss", "my_file.TwoLayers"),
    "optimizer": ("--model.optimizer", "my_file.TwoLayers"),
    "schedule": ("--model.scheduler", "my_file.TwoLayers"),
    "method": ("--model.method", "my_file.TwoLayers"),
    "data": ("--data", "my_file.TwoLayers"),
    "part of the data": ("--data.init_args.sky.cmb", "my_file.TwoLayers"),
    "callback": ("--trainer.callbacks", "my_file.TwoLayers"),
    "function of a callback": ("--trainer.callbacks", CALLBACK % "my_file.TwoLayers"),
    "logger": ("--trainer.logger", "[{class_path: my_file.TwoLayers}]"),
    "help": ("--model.network.help", "my_file.TwoLayers"),
    "Python's own": ("--trainer.callbacks", CALLBACK % "os.system"),
    "built in": ("--trainer.callbacks", CALLBACK % "builtins.exec"),
    "through a trusted module": ("--trainer.callbacks", CALLBACK % "cmb_lightning.console.os.system"),
    "what loads code": ("--trainer.callbacks", CALLBACK % "torch.hub.load"),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A folder with the network of CONTRIBUTING.md in `my_file.py`, which leaves a mark when it is imported."""
    application = Application(tmp_path_factory.mktemp("trust"))
    (code,) = re.findall(r"```python\n(.*?)```", CONTRIBUTING, flags=re.DOTALL)
    marker = application.folder / "marker"
    (application.folder / "my_file.py").write_text(f"import os\n\nopen({str(marker)!r}, 'w').close()\n\n{code}")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", CONTRIBUTING, flags=re.DOTALL)
    (application.folder / "network.yaml").write_text(yaml)
    return application


@pytest.fixture
def importable(app, monkeypatch):
    monkeypatch.syspath_prepend(str(app.folder))
    yield
    sys.modules.pop("my_file", None)


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_trusted_is_refused_before_it_is_imported(app, importable, case):
    ended = app("fit", "--trainer.fast_dev_run", "true", *HOSTILE[case])
    assert ended.status == 2 and len(ended.err.splitlines()) == 1, ended.err
    assert "is not imported" in ended.err and len(ended.err) < 400
    assert ("--trust my_file" in ended.err) == ("my_file" in HOSTILE[case][1])
    assert not (app.folder / "marker").exists() and "my_file" not in sys.modules


def test_a_network_of_one_s_own_is_trained_at_one_s_word(app, importable):
    """The last of this file: what is trusted stays so in a process."""
    assert "--trust my_file" in CONTRIBUTING
    arguments = ("--config", "network.yaml", "--trust", "my_file", "--trainer.fast_dev_run", "true")
    ended = app("fit", *arguments)
    assert (ended.status, ended.err) == (0, ""), ended.err
    assert (app.folder / "marker").exists()
    ended = app("fit", "--trust=my_file", "--trainer.callbacks", CALLBACK % "my_file.os.system")
    assert ended.status == 2 and "posix.system is not imported" in ended.err
