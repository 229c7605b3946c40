"""Cleaned maps as FITS files, written while they are made."""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from astropy.io import fits
from lightning.pytorch.callbacks import BasePredictionWriter

from cmb_lightning.data.paths import PathTemplate
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.fits import write_map
from cmb_lightning.sky import units
from cmb_lightning.version import __version__

log = logging.getLogger(__name__)


class PredictionWriter(BasePredictionWriter):
    """Writes one FITS file per simulation: RING, with unit, beam, checkpoint and data set in its header.

    Every process writes the simulations it cleaned. A file appears whole or not at all, and the same checkpoint gives
    the same bytes.

    Args:
        path: Where to, with the placeholders `{root}` (the run's folder), `{dataset}`, `{split}`, `{sim}` and
            `{epoch}`; split, sim and epoch must be among them.
        unit: Unit of the maps, a CMB temperature such as `uK_CMB` or `K_CMB`.
    """

    def __init__(
        self,
        path: str = "{root}/predictions/{dataset}/{split}/sim{sim:04d}/cmb_map_pred_{epoch}.fits",
        unit: str = "uK_CMB",
    ) -> None:
        super().__init__(write_interval="batch")
        self.path = PathTemplate(path, "predictions.path", ("split", "sim", "epoch"), ("root", "dataset"))
        self.unit = unit
        self._factor = 1.0 if unit == "uK_CMB" else from_uK_CMB(unit, "predictions.unit")
        self._epoch, self._checkpoint = 0, ""
        self._written, self._started = 0, 0.0
        self._total, self._paths = 0, []  # of all epochs: of all processes, and of this one

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the epoch that the weights are of: a trainer that predicts does not know it."""
        self._epoch = int(checkpoint["epoch"])

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note which checkpoint it is, by content."""
        self._started, self._written = time.monotonic(), 0
        self._checkpoint = ""
        if trainer.ckpt_path:
            with Path(trainer.ckpt_path).open("rb") as file:
                self._checkpoint = hashlib.file_digest(file, "sha256").hexdigest()

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: dict[str, Any],
        batch_indices: Sequence[int] | None,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write a batch: `prediction` (batch, field, npix) [uK_CMB], NESTED, `index` (batch,), `split`, maybe `sigma`.

        A `bad` mask (batch, npix) in the batch marks pixels that the input had no data for; they become UNSEEN. Where
        `half` (batch,) is 1 or 2, the map is that of one half of the data, and its file's name says so.
        """
        layout, data, split = pl_module.layout, trainer.datamodule, prediction["split"]
        names, maps = list(layout.fields), prediction["prediction"]
        if "sigma" in prediction:
            names += [f"{field}_SIGMA" for field in layout.fields]
            maps = torch.cat([maps, prediction["sigma"]], dim=1)
        bad = batch["bad"].cpu().numpy() if "bad" in batch else [False] * len(maps)
        mask = getattr(pl_module, "mask", None)
        halves = batch["half"].tolist() if "half" in batch else [0] * len(maps)
        sims = prediction["index"].tolist()
        for sim, half, values, holes in zip(sims, halves, maps.float().cpu().numpy(), bad, strict=True):
            root = trainer.default_root_dir
            path = self.path(root=root, dataset=data.dataset, split=split, sim=sim, epoch=self._epoch)
            if half:
                stem, dot, end = path.name.partition(".fits")
                path = path.with_name(f"{stem}_half{half}{dot}{end}")
            refuse_foreign(path)
            header = {
                "FWHM": (layout.target_fwhm, "[arcmin] Gaussian beam of the map"),
                "LMAX": (layout.lmax, "highest multipole"),
                "DATASET": (data.dataset, "data set"),
                "DATAID": (data.identity[split], "recipe of the data"),
                "SPLIT": (split, "split of the data set"),
                "SIM": (sim, "number of the simulation in the split"),
                **({} if mask is None else {"MASK": (mask.identity, "pixels that the model was trained for")}),
                **({"HALF": (half, "half of the data, with noise of its own")} if half else {}),
                "METHOD": (getattr(pl_module, "method_name", type(pl_module).__name__), "what made the map"),
                "CREATOR": (f"cmb_lightning {__version__}", "program that made the file"),
            }
            if self._checkpoint:
                header["EPOCH"] = (self._epoch, "epoch of the checkpoint, from 0")
                header["CHECKPT"] = self._checkpoint  # its sha256, which leaves no room for a comment
            scaled = np.where(holes, np.nan, values * np.float32(self._factor))
            write_map(path, scaled, names, self.unit, header)
            self._written += 1
            self._paths.append(path)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log how many maps this process wrote and how long it took."""
        seconds = time.monotonic() - self._started
        log.info("wrote %d cleaned maps of epoch %d in %.1f s", self._written, self._epoch, seconds)
        written = torch.tensor(self._written, device=pl_module.device)
        self._total += int(trainer.strategy.reduce(written, reduce_op="sum"))

    def summary(self) -> str:
        """Where the maps are, in words: how many files all processes wrote, their folder, and the name of one."""
        if not self._paths:
            return "no simulations to clean."
        first = self._paths[0]
        if self._total == 1:
            return str(first)
        folder = Path(os.path.commonpath([path.parent for path in self._paths]))
        return f"{self._total} files in {folder}, such as {first.relative_to(folder)}"


def from_uK_CMB(unit: str, key: str) -> float:
    """The factor from uK_CMB to another CMB temperature.

    Raises:
        ConfigError: If it is none.
    """
    one = units.to_uK_CMB(100.0, unit, key)
    if not np.isclose(one, units.to_uK_CMB(200.0, unit, key), rtol=1e-12):
        raise ConfigError(f"{key}: {unit!r} depends on a frequency, which a cleaned map has not; give uK_CMB or K_CMB.")
    return 1 / one


def refuse_foreign(path: Path) -> None:
    """Refuse to replace a file that is no cleaned map of this program.

    Raises:
        ConfigError: If there is one.
    """
    if path.exists():
        try:
            creator = str(fits.getval(path, "CREATOR", ext=1))
        except (OSError, KeyError, IndexError):
            creator = ""
        if not creator.startswith("cmb_lightning"):
            raise ConfigError(f"{path}: is no cleaned map of this program; move it away or change predictions.path.")
