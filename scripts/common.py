"""What the benchmarks of runs share: cleaning splits of their own with what was trained before, and tables."""

import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def with_splits(run: Path, splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The run's own configuration with these splits in place of those it tests.

    Args:
        run: Folder of a run that trained or cleaned.
        splits: What each has that the first one that the run tests has not, or otherwise.
    """
    known = [path for word in ("fit", "predict") if (path := run / word / "config.yaml").is_file()]
    if not known:
        sys.exit(f"{run}: is no run, or one that nothing was cleaned with; run fit, or predict, first")
    config = yaml.safe_load(known[0].read_text())
    data = config["data"]["init_args"]
    like = data["splits"][data["run_inference_on"][0]]
    own = {name: like | {"n_sims_cap": None} | dict(split) for name, split in splits.items()}
    kept = {name: split for name, split in data["splits"].items() if name == "train"}  # it fixes trained weights
    data |= {"splits": kept | own, "run_inference_on": list(own), "n_sims_cap": None}
    return config


def trained(run: Path) -> list[str]:
    """The argument that names the run's checkpoint, if it has one."""
    checkpoint = run / "checkpoints" / "last.ckpt"
    return ["--ckpt_path", str(checkpoint)] if checkpoint.is_file() else []


def application(*words: str) -> None:
    """Run `cmb-lightning`; its progress is seen, what it prints is not."""
    subprocess.run([sys.executable, "-m", "cmb_lightning", *words], check=True, stdout=subprocess.DEVNULL)


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table."""
    print(f"\n{title}\n")
    for row in (columns, [":--", *["--:"] * (len(columns) - 1)], *rows):
        print(f"| {' | '.join(map(str, row))} |", flush=True)
