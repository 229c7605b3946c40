"""Checkpoints that are whole whatever happens while they are written."""

import hashlib
import io
import mmap
import pickle
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from cmb_lightning.checkpoint_content import BadContent, check_content
from cmb_lightning.data.publish import replace
from cmb_lightning.errors import ConfigError

SEAL = b"sha256:"
"""Begins the comment of the archive that a checkpoint is: the digest of all that is before it."""


class EpochCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that saves at the end of an epoch what is due after its last batch.

    Lightning cannot go on to the same weights from between the two.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_batch_end(trainer, pl_module, None, None, 0)
        super().on_train_epoch_end(trainer, pl_module)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs and renames; reads only what passes its checksum, without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        digest_size = 2 * hashlib.sha256().digest_size
        buffer.seek(-2, io.SEEK_END)  # the last two bytes of a zip file are the length of its comment
        buffer.write((len(SEAL) + digest_size).to_bytes(2, "little"))
        buffer.write(SEAL + hashlib.sha256(buffer.getvalue()).hexdigest().encode())
        replace(path, buffer.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(path, map_location)


def read_checkpoint(path: str | Path, map_location: Any | None = None) -> dict[str, Any]:
    """Read a checkpoint, if it is whole and holds nothing but data, and no more than its file.

    Raises:
        ConfigError: If it is damaged, could run code, or asks for more memory than its file is long.
    """
    check_whole(path)
    try:
        check_content(path)
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except (BadContent, pickle.UnpicklingError) as error:
        why = error if isinstance(error, BadContent) else "it holds more than numbers and text"
        raise ConfigError(f"ckpt_path: {path} was not read: {why}, so it is no checkpoint of this program.") from error
    except Exception as error:  # whatever an entry leads to that is not where it should be
        raise _damaged(path, "its structure") from error


def check_whole(path: str | Path) -> None:
    """Refuse a checkpoint that is cut short or has a flipped byte, which `torch.load` would accept.

    Raises:
        ConfigError: If it is not whole.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            seal = archive.comment
            if seal.startswith(SEAL):
                bad = None if seal == SEAL + _digest_before(path, seal) else "its checksum"
            else:
                bad = archive.testzip()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError):
        bad = "its structure"  # whatever a broken length, name or flag leads to
    if bad:
        raise _damaged(path, bad)


def _digest_before(path: str | Path, seal: bytes) -> bytes:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        with memoryview(content)[: -len(seal)] as view:
            return hashlib.sha256(view).hexdigest().encode()


def _damaged(path: str | Path, where: str) -> ConfigError:
    return ConfigError(f"ckpt_path: {path} is damaged ({where}): use another checkpoint of the run, or train again.")
