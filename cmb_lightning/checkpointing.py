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
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from cmb_lightning.checkpoint_content import BadContent, check_content
from cmb_lightning.data.publish import replace
from cmb_lightning.errors import ConfigError

SEAL = b"sha256:"
"""Begins the comment of the archive that a checkpoint is: the digest of all that is before it."""


FORMAT = 4  # since 4 networks see no templates of the second mode
"""Raised when what a checkpoint holds can no longer be read by programs that knew the one before."""


def steps_now(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether a batch's gradients have been used, and are not kept to be added up with those of the next."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def checkpoint_path(trainer: L.Trainer, name: str) -> Path:
    """Where a checkpoint is kept beside those of the epochs."""
    (folder,) = {one.dirpath for one in trainer.checkpoint_callbacks if isinstance(one, EpochCheckpoint)}
    return Path(folder) / f"{name}.ckpt"


class EndCheckpoint(L.Callback):
    """Leaves the end of a training as the last checkpoint, also where it falls between two of them.

    It must be called before callbacks that average weights: at the end of a training they replace the model's own.
    """

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:
            return
        last = checkpoint_path(trainer, "last")
        if not last.is_file() or read_checkpoint(last)["global_step"] != trainer.global_step:
            trainer.save_checkpoint(last)


class BestCheckpoint(Checkpoint):
    """Keeps the checkpoint with the least validation loss, as `best.ckpt`."""

    def __init__(self) -> None:
        self._least, self._due = float("inf"), False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = float(trainer.callback_metrics.get("val/loss", "nan"))
        if not trainer.sanity_checking and loss < self._least:
            self._least, self._due = loss, True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        due, self._due = self._due, False
        if due and not trainer.fast_dev_run:
            trainer.save_checkpoint(checkpoint_path(trainer, "best"))

    def state_dict(self) -> dict[str, float | bool]:
        return {"least": self._least, "due": self._due}  # due is what a validation within an epoch found best

    def load_state_dict(self, state_dict: dict[str, float | bool]) -> None:
        self._least, self._due = state_dict["least"], state_dict.get("due", False)


class EpochCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that saves at the end of an epoch what is due after its last batch.

    Lightning cannot go on to the same weights from between the two, nor from between batches whose gradients are added
    up, which it does not keep.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if steps_now(trainer, batch_idx) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_batch_end(trainer, pl_module, None, None, 0)
        super().on_train_epoch_end(trainer, pl_module)

    def _should_remove_checkpoint(self, trainer: L.Trainer, previous: str, current: str) -> bool:
        """Whether a checkpoint goes, now that another one is in its place.

        Lightning spares the one that the training went on from: after a kill there would be one too many for good.
        """
        return previous != current and Path(self.dirpath) in Path(previous).absolute().parents

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on, and remove what is no longer wanted from where the run's folder is now."""
        super().load_state_dict(state_dict)
        if self.best_model_path:
            self.best_model_path = str(Path(self.dirpath) / Path(self.best_model_path).name)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing: `EndCheckpoint` has done it, before weights were replaced by their averages."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs and renames; reads only what passes its checksum, without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save({**checkpoint, "format": FORMAT}, buffer)
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
        checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except (BadContent, pickle.UnpicklingError) as error:
        why = error if isinstance(error, BadContent) else "it holds more than numbers and text"
        raise ConfigError(f"ckpt_path: {path} was not read: {why}, so it is no checkpoint of this program.") from error
    except Exception as error:  # whatever an entry leads to that is not where it should be
        raise _damaged(path, "its structure") from error
    found = checkpoint.get("format", FORMAT) if isinstance(checkpoint, dict) else None  # a foreign one is refused later
    if found != FORMAT:
        raise ConfigError(
            f"ckpt_path: {path} is of format {found}, and this version of the program reads {FORMAT}: use the version "
            "that wrote it, or train again."
        )
    return checkpoint


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
