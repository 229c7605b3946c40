"""A configuration runs no code but that of trusted packages, unless the command line says so."""

import re
import sys
from pathlib import Path

import pytest

from tests.command.application import Application

CONTRIBUTING = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
CALLBACK = "[{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {on_fit_start: %s}}]"
HOSTILE = {
    "network": ("--model.network", "another.TwoLayers"),
    "network with arguments": ("--model.network", "{class_path: another.TwoLayers, init_args: {width: 4}}"),
    "loss": ("--model.loss", "another.TwoLayers"),
    "optimizer": ("--model.optimizer", "another.TwoLayers"),
    "schedule": ("--model.scheduler", "another.TwoLayers"),
    "method": ("--model.method", "another.TwoLayers"),
    "data": ("--data", "another.TwoLayers"),
    "part of the data": ("--data.init_args.sky.cmb", "another.TwoLayers"),
    "callback": ("--trainer.callbacks", "another.TwoLayers"),
    "function of a callback": ("--trainer.callbacks", CALLBACK % "another.TwoLayers"),
    "logger": ("--trainer.logger", "[{class_path: another.TwoLayers}]"),
    "help": ("--model.network.help", "another.TwoLayers"),
    "Python's own": ("--trainer.callbacks", CALLBACK % "os.system"),
    "built in": ("--trainer.callbacks", CALLBACK % "builtins.exec"),
    "through a trusted module": ("--trainer.callbacks", CALLBACK % "cmb_lightning.console.os.system"),
    "what loads code": ("--trainer.callbacks", CALLBACK % "torch.hub.load"),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A folder with the network of CONTRIBUTING.md in two files, which leave a mark when they are imported.

    `my_file.py` is trusted by a test, and stays so in a process; `another.py` never is.
    """
    application = Application(tmp_path_factory.mktemp("trust"))
    (code,) = re.findall(r"```python\n(.*?)```", CONTRIBUTING, flags=re.DOTALL)
    for name in ("my_file", "another"):
        marked = f"import os\n\nopen({str(application.folder / name)!r}, 'w').close()\n\n{code}"
        (application.folder / f"{name}.py").write_text(marked)
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
    assert ("--trust another" in ended.err) == ("another" in HOSTILE[case][1])
    assert not (app.folder / "another").exists() and "another" not in sys.modules


def test_a_network_of_one_s_own_is_trained_at_one_s_word(app, importable):
    assert "--trust my_file" in CONTRIBUTING
    arguments = ("--config", "network.yaml", "--trust", "my_file", "--trainer.fast_dev_run", "true")
    ended = app("fit", *arguments)
    assert (ended.status, ended.err) == (0, ""), ended.err
    assert (app.folder / "my_file").exists()
    ended = app("fit", "--trust=my_file", "--trainer.callbacks", CALLBACK % "my_file.os.system")
    assert ended.status == 2 and "posix.system is not imported" in ended.err
