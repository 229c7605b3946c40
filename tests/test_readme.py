"""Every command of the README is run, on maps small enough for a test."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cmb_lightning.cli import main

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in BLOCKS
    for line in block.splitlines()
    if shlex.split(line, comments=True)
]
SMALL = {
    "quickstart": [
        "nside=8",
        "samples_per_epoch=4",
        *(f"splits.{split}.n_sims=2" for split in ("train", "valid", "test")),
    ],
    "real_sky_64": [
        "samples_per_epoch=2",
        "batch_size=2",
        *(f"splits.{split}.n_sims=2" for split in ("train", "valid", "test", "test_laws", "test_turned", "test_gains")),
    ],
    "spectrum_demo": ["nside=8", "splits.train.n_sims=3", "splits.valid.n_sims=2"],
}


def smaller(command: list[str]) -> list[str]:
    """The command with few and small maps and a network that fits them."""
    if command[1] == "compare":
        return command[1:]
    name = next(name for name in SMALL if any(f"{name}.yaml" in word for word in command))
    extra = [f"--data.init_args.{option}" for option in SMALL[name]]
    if command[1] != "simulate":
        extra += [
            "--trainer.max_epochs=1",
            "--trainer.check_val_every_n_epoch=1",
            "--trainer.enable_progress_bar=false",
        ]
    if not any(folder in word for word in command for folder in ("networks/", "methods/")):
        extra += ["--model.network.width=4", "--model.network.depth=2"]
    return [*command[1:], *extra]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder to work in, with the project's configurations, shared so that commands find what earlier ones left."""
    folder = tmp_path_factory.mktemp("readme") / "project"
    folder.mkdir()
    (folder / "configs").symlink_to(ROOT / "configs")
    shared = ROOT.parent / "shared"
    if shared.is_dir():
        (folder.parent / "shared").symlink_to(shared)
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if command[0].startswith("scripts/"):  # they install an environment; this test runs inside the second one
        script = ROOT / command[0]
        assert script.stat().st_mode & 0o100
        subprocess.run(["bash", "-n", script], check=True)
        return
    assert command[0] == "cmb-lightning"
    if any("real_sky" in word for word in command) and not (folder.parent / "shared").is_dir():
        pytest.skip("no real sky beside the project")
    main(smaller(command))


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 10
