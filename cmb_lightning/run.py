"""The folder of a run: what every command leaves beside its output, and whether a command fits what is there."""

import importlib
import importlib.metadata
import json
import logging
import logging.handlers
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from cmb_lightning.data.publish import replace
from cmb_lightning.errors import ConfigError
from cmb_lightning.trust import TRUSTED
from cmb_lightning.version import __version__

PACKAGES = ("torch", "lightning", "jsonargparse", "torchmetrics", "numpy", "ducc0", "healpy", "astropy", "pysm3")
# What may change between two commands of one run without changing what is trained.
FREE = (
    "run",
    "ckpt_path",
    "checkpoint",
    "figures",
    "predictions",
    "weights_only",
    "epochs",
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.check_val_every_n_epoch",
    "trainer.num_sanity_val_steps",
    "trainer.enable_checkpointing",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.logger",
    "trainer.profiler",
    "model.compile",
    "data.init_args.root",
    "data.init_args.paths",
    "data.init_args.num_workers",
    "data.init_args.n_workers",
    "data.init_args.n_sims_cap",
    "data.init_args.run_inference_on",
)
# What a training alone depends on, and no command that uses what it left.
TRAINING = ("model.optimizer", "model.scheduler")


class RunFolder:
    """One run's folder: `<command>/config.yaml, environment.json, log.txt`, checkpoints, TensorBoard, predictions.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    def saved(self) -> list[Path]:
        """Checkpoints of the training, the newest first."""
        last, best = self.checkpoints / "last.ckpt", self.checkpoints / "best.ckpt"
        epochs = sorted(self.checkpoints.glob("epoch*.ckpt"), reverse=True)
        return [path for path in (last, *epochs, best) if path.is_file()]

    def begin(self, command: str, config: str) -> None:
        """Write the resolved configuration and environment of a command and start its log.

        Raises:
            ConfigError: If the folder cannot be made.
        """
        folder = self.path / command
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run: the folder {folder} cannot be made: {error.strerror}.") from error
        replace(folder / "config.yaml", config.encode())
        replace(folder / "environment.json", json.dumps(environment(), indent=2).encode())
        handler = logging.FileHandler(folder / "log.txt")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("cmb_lightning")
        held, logger.handlers = logger.handlers, [handler]
        logger.info("cmb-lightning %s", " ".join(sys.argv[1:]))
        for old in held:
            if isinstance(old, logging.handlers.MemoryHandler):
                old.setTarget(handler)
            old.close()

    def check_config(self, config: str, defaults: str, training: bool) -> None:
        """Refuse a configuration that is not the one this run was trained with.

        Args:
            config: The resolved configuration, YAML.
            defaults: The program's defaults, YAML: a key that is new since the run began must be at its own.
            training: Whether to train on; what only uses the model need have the same `model` alone, and of it not how
                it was trained.

        Raises:
            ConfigError: If keys differ; it lists them.
        """
        trained = self.path / "fit" / "config.yaml"
        if not trained.is_file() or not self.saved():
            return
        free = FREE if training else (*FREE, *TRAINING)
        there, here, default = (flatten(yaml.safe_load(text)) for text in (trained.read_text(), config, defaults))
        differ = [
            f"{key}: {there.get(key)!r} there, {here.get(key)!r} here"
            for key in sorted(there.keys() | here.keys())
            if _value(key, there.get(key)) != _value(key, here.get(key))
            and (training or key.startswith("model."))
            and not (key not in there and key in default and here[key] == default[key])
            and not any(key == one or key.startswith(one + ".") for one in free)
        ]
        if differ:
            raise ConfigError(
                f"run: {self.path} was trained with another configuration; give another --run, or these values: "
                + "; ".join(differ)
            )

    def finish_fit(self, epochs: int) -> None:
        """Note that training has reached its end."""
        replace(self.path / "fit" / "finished.json", json.dumps({"epochs": epochs, "at": time.time()}).encode())

    def finished_epochs(self) -> int:
        """Epochs of a training that reached its end, 0 for none."""
        path = self.path / "fit" / "finished.json"
        return json.loads(path.read_text())["epochs"] if path.is_file() else 0


def hold_log() -> None:
    """Keep what is logged in memory until `RunFolder.begin` gives it a file."""
    logger = logging.getLogger("cmb_lightning")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(logging.handlers.MemoryHandler(1000, flushLevel=logging.CRITICAL + 1))
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _value(key: str, value: Any) -> Any:
    """A configuration value as it is compared: a class may be importable by several paths."""
    trusted = isinstance(value, str) and value.partition(".")[0] in TRUSTED  # what is not is not imported for this
    if not key.endswith("class_path") or not trusted:
        return value
    module, _, name = value.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return value
    return f"{found.__module__}.{found.__qualname__}"


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings and lists under dotted keys."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None or not tree:
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def environment() -> dict[str, Any]:
    """Versions, machine, command and git commit."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "cmb_lightning": __version__,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain")),
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "versions": versions,
    }


def _git(*arguments: str) -> str | None:
    # Else `git status` writes the index, and killed while it does leaves it locked for good.
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent)]
    result = subprocess.run([*git, *arguments], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None
