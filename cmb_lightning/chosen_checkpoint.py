"""Which checkpoint a command uses: whole, and of its model and data."""

from pathlib import Path
from typing import Any

import lightning as L

from cmb_lightning.checkpointing import read_checkpoint
from cmb_lightning.cleaning.scored import ScoredTask
from cmb_lightning.console import tell
from cmb_lightning.data.simulated import SimulatedDataModule
from cmb_lightning.errors import ConfigError
from cmb_lightning.run import RunFolder


def wanted_checkpoint(given: str | None, run: RunFolder, model: ScoredTask, data: L.LightningDataModule) -> str | None:
    """The checkpoint to score or clean with, None for a model that needs none; see `checkpoint_and_step`."""
    if model.trains:
        return checkpoint_and_step(given, run, model, data, training=False)[0]
    if given is not None:
        raise ConfigError(f"ckpt_path: {type(model).__name__} has no checkpoints; leave it out.")
    return None


def checkpoint_and_step(
    given: str | None, run: RunFolder, model: ScoredTask, data: L.LightningDataModule, training: bool
) -> tuple[str, int]:
    """The checkpoint to use, whole and of this model: the one given, else the newest of the run that is whole.

    Args:
        given: A path, `last`, `best`, or None for the last.
        run: Where to look for it.
        model: The model that goes on from it.
        data: Its data.
        training: Whether it shall be trained on.

    Returns:
        Its path, and the step of the training that it is of.

    Raises:
        ConfigError: There is none that can be used.
    """
    named = run.checkpoints / "best.ckpt" if given == "best" else Path(given or "")
    paths = run.saved() if given in (None, "last") else [named]
    if not paths:
        raise ConfigError(f"ckpt_path: {run.path} holds no trained model; run fit first or name a checkpoint.")
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"ckpt_path: there is no file {path}.")
        try:
            checkpoint = read_checkpoint(path)
        except ConfigError as error:
            if path == paths[-1]:
                raise
            tell(f"{error} Trying the one before.")
        else:
            _check(checkpoint, model, data, training)
            return str(path), checkpoint["global_step"]


def _check(checkpoint: dict[str, Any], model: ScoredTask, data: L.LightningDataModule, training: bool) -> None:
    """Refuse a checkpoint of another model, and to train on from one on other data; say so in other commands."""
    model.check_checkpoint(checkpoint)
    state = checkpoint.get(type(data).__qualname__)
    if isinstance(data, SimulatedDataModule) and (differ := data.differences(state)):
        listed = "; ".join(differ[:8]) + (f" and {len(differ) - 8} more" if len(differ) > 8 else "")
        if training:
            raise ConfigError(f"ckpt_path: the checkpoint was trained on other data: {listed}; give another --run.")
        tell(f"The model was trained on other data than this configuration's: {listed}.")
