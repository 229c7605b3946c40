"""What data modules of skies in parts have in common: samples mixed anew in each epoch."""

import logging
import math
from pathlib import Path

import numpy as np

from cmb_lightning.data.datasets import FixedDataset, MixedDataset, Preparation, PreparedParts, Unprepared, WithHalves
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.patches import PatchDataset, PatchGrid
from cmb_lightning.data.paths import PathTemplate
from cmb_lightning.data.reference_files import ReferenceFiles, export
from cmb_lightning.data.simulated import SimulatedDataModule
from cmb_lightning.data.splits import SplitData
from cmb_lightning.data.work import default_workers
from cmb_lightning.errors import ConfigError

log = logging.getLogger(__name__)


class MixingDataModule(SimulatedDataModule):
    """Skies kept as CMB, foregrounds and noise, which training mixes.

    Args:
        layout: What the maps look like.
        splits: The splits, by name in lower case.
        gain_scatter: Standard deviation of the relative calibration error in training, shape (channel,).
        seed: Seed of the mixing and of the order of training.
        run_inference_on: Splits for test and predict; the validation split, or the first there is, when None.
        samples_per_epoch: Training samples in an epoch; as many as there are training simulations when None.
        repeats: How many of an epoch's samples are of the same sky.
        symmetries: Turn and mirror training samples by the exact symmetries of HEALPix.
        patches: Train on single patches, as the network cuts them: each sample another one in every epoch.
        batch_size: Maps in a batch.
        num_workers: Processes that load data; 0 for a thread of the training's own.
        n_workers: Processes that simulate; the cores given to the job when None.
        keep: Memory [GiB] in which a training may keep prepared maps, and as much for those of validation.
        extremes: Where the extremes of the training maps are written.
    """

    def __init__(
        self,
        layout: Layout,
        splits: dict[str, SplitData],
        gain_scatter: np.ndarray,
        seed: int,
        run_inference_on: list[str] | None,
        samples_per_epoch: int | None,
        repeats: int,
        symmetries: bool,
        patches: bool,
        batch_size: int,
        num_workers: int,
        n_workers: int | None,
        keep: float,
        extremes: str,
    ) -> None:
        if samples_per_epoch is not None and samples_per_epoch < 1:
            raise ConfigError(f"samples_per_epoch: {samples_per_epoch} must be at least 1.")
        if repeats < 1:
            raise ConfigError(f"repeats: {repeats} must be at least 1.")
        if samples_per_epoch is not None and samples_per_epoch % repeats:
            raise ConfigError(f"samples_per_epoch: {samples_per_epoch} is not a multiple of repeats, {repeats}.")
        if patches and symmetries:
            raise ConfigError("symmetries: they are of whole skies; leave out this or patches.")
        if keep < 0:
            raise ConfigError(f"keep: {keep} must be 0 GiB or more.")
        super().__init__(
            layout,
            splits,
            scaled_by=("train",),
            seed=seed,
            batch_size=batch_size,
            num_workers=num_workers,
            n_workers=n_workers,
            run_inference_on=run_inference_on or ["valid" if "valid" in splits else next(iter(splits))],
            extremes_path=PathTemplate(extremes, "extremes", optional=("root", "dataset")),
        )
        self._gain_scatter = gain_scatter
        self._samples_per_epoch, self.repeats = samples_per_epoch, repeats
        self._symmetries, self._patches = symmetries, patches
        self._keep_bytes = int(keep * 2**30)

    def export(self, folder: Path) -> None:
        """Writes all splits as FITS files, with the names that CMB-ML gives them."""
        for data in self.splits.values():
            export(data, ReferenceFiles(folder), self.n_workers)

    def training_dataset(self) -> MixedDataset:
        """Mixed anew in each epoch; prepared maps are kept in memory if they fit."""
        train, n_sims = self.splits["train"], self.n_sims("train")
        preparation = self._preparation(scored=False)
        size = PreparedParts.size(train, n_sims, preparation)
        parts = None
        if size <= self._keep_bytes:
            parts = PreparedParts(train, n_sims, preparation, self.n_workers or default_workers())
        else:
            log.info("keep: prepared training maps would take %.1f GiB; each sample is prepared anew.", size / 2**30)
        n_samples = self._samples_per_epoch or self.repeats * math.ceil(n_sims / self.repeats)
        arguments = (train, n_sims, n_samples, self.seed, self._gain_scatter, preparation, parts)
        if self._patches:
            return PatchDataset(self._grid(), *arguments, repeats=self.repeats)
        return MixedDataset(*arguments, self._symmetries, self.repeats)

    def _grid(self) -> PatchGrid:
        """The patches that the network cuts."""
        task = None if self.trainer is None else self.trainer.lightning_module
        if task is None or task.patch_grid is None:
            raise ConfigError("patches: the network takes whole skies; use one of patches, such as PatchUNet.")
        if task.mask is not None:
            raise ConfigError("patches: model.mask is one of whole skies; leave out one of the two.")
        return task.patch_grid

    def evaluation_dataset(self, split: str) -> FixedDataset:
        """The simulations as they are, with linear results beside them when scored, and halves when predicted."""
        predicting = self._stage == "predict"
        preparation = self._preparation(scored=not predicting)
        keep_bytes = self._keep_bytes if self._stage == "fit" else 0  # elsewhere each sky is wanted once
        kind = WithHalves if predicting and self.splits[split].has_halves else FixedDataset
        return kind(self.splits[split], self.n_used(split), preparation, keep_bytes)

    def _preparation(self, scored: bool) -> Preparation:
        return Unprepared() if self.trainer is None else self.trainer.lightning_module.preparation(scored=scored)
