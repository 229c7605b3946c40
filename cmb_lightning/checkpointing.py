"""Checkpoints that are whole whatever happens while they are written."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from cmb_lightning.data.publish import replace
from cmb_lightning.errors import ConfigError


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs and renames; reads only what passes its checksums, without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        replace(path, buffer.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(path, map_location)


def read_checkpoint(path: str | Path, map_location: Any | None = None) -> dict[str, Any]:
    """Read a checkpoint, if it is whole and holds nothing but data.

    Raises:
        ConfigError: If it is damaged, or could run code.
    """
    check_whole(path)
    try:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ConfigError(
            f"ckpt_path: {path} was not read: it holds more than numbers and text, so no checkpoint of this program."
        ) from error


def check_whole(path: str | Path) -> None:
    """Refuse a checkpoint that is cut short or has a flipped byte, which `torch.load` would accept.

    Raises:
        ConfigError: If it is not whole.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError):
        bad = "its structure"  # whatever a broken length, name or flag leads to
    if bad:
        raise ConfigError(f"ckpt_path: {path} is damaged ({bad}): use another checkpoint of the run, or train again.")
