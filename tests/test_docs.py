"""The documentation builds without a warning, names what there is, and its tutorial runs."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
import yaml

import cmb_lightning
from cmb_lightning.compare_command import parser
from cmb_lightning.data.observations import ObservationsDataModule

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIAL = json.loads((DOCS / "tutorial.ipynb").read_text())


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="no sphinx to build the documentation with")
def test_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "-q", "-b", "html", "-d", tmp_path / "tree"]
    built = subprocess.run([*command, DOCS, tmp_path / "html"], capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {page.relative_to(tmp_path / "html").with_suffix("").as_posix() for page in tmp_path.glob("html/**/*.html")}
    assert {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.glob("**/*.rst")} <= pages
    assert "ObservationsDataModule" in (tmp_path / "html" / "api" / "data.html").read_text()
    assert list(tmp_path.glob("html/_downloads/*/tutorial.ipynb"))


def test_api_pages_name_modules_that_exist():
    named = re.findall(r"automodule:: (\S+)", "".join(page.read_text() for page in DOCS.glob("api/*.rst")))
    assert len(named) > 50 and len(set(named)) == len(named)
    for module in named:
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module


def test_what_the_package_offers_is_on_the_api_pages():
    named = re.findall(r"automodule:: (\S+)", "".join(page.read_text() for page in DOCS.glob("api/*.rst")))
    for name in set(cmb_lightning.__all__) - {"__version__"}:
        assert getattr(cmb_lightning, name).__module__ in named, name


def test_files_and_options_that_pages_name_exist():
    text = "".join(page.read_text() for page in DOCS.glob("*.rst"))
    for name in re.findall(r"(?:configs|scripts|cmb_lightning)/[\w/]+(?:\.\w+)?", text):
        assert (ROOT / name).exists(), name
    commands = re.findall(r"^   cmb-lightning compare ((?:.*\\\n)*.*)", text, flags=re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        assert parser().parse_intermixed_args(shlex.split(command.replace("\\\n", " "))).sources


def test_the_drawing_is_one():
    root = ElementTree.parse(DOCS / "architecture.svg").getroot()
    words = " ".join(root.itertext())
    for folder in ("sky", "data", "sphere", "networks", "cleaning", "results"):
        assert folder in words and (ROOT / "cmb_lightning" / folder).is_dir()


def test_planck_s_files_are_those_of_the_page():
    """The configuration and the page name the same files, and each band has a beam finer than the model's."""
    config = yaml.safe_load((ROOT / "configs" / "planck_maps.yaml").read_text())["data"]["init_args"]
    (files,) = config["observations"].values()
    page = (DOCS / "observations.rst").read_text()
    for path in files.values():
        assert f"`{Path(path).name}`" in page
    with pytest.raises(FileNotFoundError, match="observations.full_mission.30: there is no file planck/LFI_SkyMap_030"):
        ObservationsDataModule(**config)


def test_the_tutorial_runs(tmp_path, monkeypatch):
    """Its code cells in order, from the table of an instrument to a cleaned map."""
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in TUTORIAL["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6 and not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    space: dict = {"__name__": "__main__"}
    with matplotlib.rc_context({"backend": "agg"}):
        for cell in cells:
            exec(compile("".join(cell["source"]), "tutorial", "exec"), space)
    rms = space["rms"]
    assert rms["cleaned"] < rms["143 GHz"]
