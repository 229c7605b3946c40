"""What all ways of cleaning share: scores on every split, beside baselines, and predictions."""

from itertools import islice
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from cmb_lightning.cleaning.debeaming import noise_floor
from cmb_lightning.cleaning.error_bars import Cleaned
from cmb_lightning.cleaning.masks import Mask
from cmb_lightning.cleaning.metrics import SkyCalibration, SkyMetrics
from cmb_lightning.cleaning.preparation import harmonics, to_fields
from cmb_lightning.cleaning.regions import latitude_bands, sky_regions
from cmb_lightning.cleaning.scores import CALIBRATION, Scores, gather_scores
from cmb_lightning.data.datasets import Preparation
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.units import parse


class ScoredTask(L.LightningModule):
    """Cleans maps, scores them on the data module's splits and predicts them; how it cleans is its subclass's.

    A subclass has `forward`, which takes a prepared batch to cleaned maps [uK_CMB], shape (batch, field, npix), NESTED,
    and `preparation`; where it states error bars, also `clean`. Its fields, and those of baselines and target in the
    batch, are I, E and B.

    Args:
        layout: What the maps look like; the data module gives it.
        latitude_cut: Scores are also given above this Galactic latitude.
        mask: The part of the sky that counts and has scores of its own: a FITS map in Galactic coordinates, 1 to keep,
            or a Galactic latitude such as `20 deg` to stay above. All when None.
        apodisation: Distance from the mask's edge over which pixels gain weight.

    Attributes:
        scores: After a validation or test: by split and method, the task's own method first.
        parts: After a test of a linear method: what each part of the sky leaves, by split and part; its RMSE counts.
        calibration: After them, where error bars are stated: what these are worth, by split and method, over the sky
            and in bands of Galactic latitude.
        latitude_cut: The Galactic latitude [degrees] of that name.
        last_example: The first batch of the last validation: `index` (batch,), `truth`, the maps of the task's own
            method and of the baselines, and `sigma`, the errors that it states, if any, (batch, field, npix).

    Raises:
        ConfigError: If the mask does not fit the maps.
    """

    method_name = "network"
    """What the task's own predictions are called in tables."""

    baselines: tuple[str, ...] = ()
    """Entries of a scored batch that are scored beside the predictions."""

    trains = True
    """Whether there is something to train, and a checkpoint without which nothing can be cleaned."""

    states_errors = False
    """Whether `clean` gives standard errors."""

    def __init__(self, layout: Layout, latitude_cut: str, mask: str | None, apodisation: str) -> None:
        super().__init__()
        self.layout = layout
        self.mask = None if mask is None else Mask.load(mask, layout.nside, apodisation)
        self.latitude_cut = float(parse(latitude_cut, "deg", "latitude_cut").value)
        self.regions = sky_regions(layout.nside, (self.latitude_cut,))
        if self.mask is not None:
            self.regions["mask"] = self.mask.kept
        self.metrics: dict[tuple[str, str], SkyMetrics] = {}
        self.scores: dict[tuple[str, str], Scores] = {}
        self.parts: dict[tuple[str, str], Scores] = {}
        self.calibration_metrics: dict[tuple[str, str], SkyCalibration] = {}
        self.calibration: dict[tuple[str, str], Scores] = {}
        self.last_example: dict[str, Tensor] = {}

    @property
    def combines(self) -> bool:
        """Whether linear methods work here: one channel of a field leaves nothing to combine."""
        return all(len(self.layout.rows(field)) > 1 for field in self.layout.fields)

    @property
    def scored_fields(self) -> tuple[str, ...]:
        """Fields that have scores: those of the target, and E and B."""
        return tuple(dict.fromkeys((*self.layout.fields, *self.layout.scalars)))

    def clean(self, batch: dict[str, Tensor]) -> Cleaned:
        """Cleaned maps of a prepared batch and, where they are stated, their standard errors."""
        return Cleaned(self(batch))

    def preparation(self, scored: bool) -> Preparation:
        """What a data set does with the maps.

        Args:
            scored: Also make the baselines.
        """
        raise NotImplementedError

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint for other maps or of another model.

        Raises:
            ConfigError: It is one; the message lists what differs.
        """
        raise NotImplementedError

    def logged(self) -> set[str]:
        """Names under which a training logs what callbacks can wait for."""
        none = gather_scores({}, self.scored_fields, tuple(self.regions)).means()
        methods = (self.method_name, *self.baselines)
        names = {"train/loss", "val/loss", "epoch", "step", *(f"val/{name}/{key}" for name in methods for key in none)}
        if self.states_errors:
            none = gather_scores({}, self.layout.scalars, tuple(self._bands()), CALIBRATION).means()
            names |= {f"val/{self.method_name}/{key}" for key in none}
        return names

    def _bands(self) -> dict[str, np.ndarray]:
        return latitude_bands(self.layout.nside, None if self.mask is None else self.mask.kept)

    def on_validation_start(self) -> None:
        # For every split in every process, also one without a simulation of it: they are computed together.
        self.metrics = {
            (split, name): SkyMetrics(self.regions, self.scored_fields).to(self.device)
            for split in self.trainer.datamodule.inference_splits
            for name in (self.method_name, *self.baselines)
        }
        bands = self._bands()
        self.calibration_metrics = {
            (split, name): SkyCalibration(bands, self.layout.scalars).to(self.device)
            for split, name in self.metrics
            if self.states_errors and name == self.method_name
        }

    def on_test_start(self) -> None:
        self.on_validation_start()

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._validated(batch, self._score(batch, dataloader_idx), batch_idx, dataloader_idx)

    def _validated(self, batch: dict[str, Any], cleaned: Cleaned, batch_idx: int, dataloader_idx: int) -> None:
        """Keep the first batch, for pictures."""
        if batch_idx == 0 and dataloader_idx == 0:
            maps = {"truth": batch["target"], self.method_name: cleaned.maps}
            maps |= {name: batch[name] for name in self.baselines}
            shown = {name: self._in_fields(one, self.layout.fields) for name, one in maps.items()}
            shown |= {} if cleaned.sigma is None or self._turns else {"sigma": cleaned.sigma}
            self.last_example = {"index": batch["index"]} | shown

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._score(batch, dataloader_idx)

    def _score(self, batch: dict[str, Any], dataloader_idx: int) -> Cleaned:
        split = self.trainer.datamodule.inference_splits[dataloader_idx]
        cleaned = self.clean(batch)
        target = self._in_fields(batch["target"], self.scored_fields)
        for (scored, name), metric in self.metrics.items():
            if scored == split:
                maps = cleaned.maps if name == self.method_name else batch[name]
                metric.update(self._in_fields(maps, self.scored_fields), target, batch["index"])
        if cleaned.sigma is not None:
            bars = self.calibration_metrics[split, self.method_name]
            bars.update(cleaned.maps, batch["target"], batch["index"], cleaned.sigma)
        return cleaned

    @property
    def _turns(self) -> bool:
        """Whether cleaned maps are Q and U, made of E and B, whose error bars do not become theirs pixel by pixel."""
        return self.layout.fields != self.layout.scalars

    def _in_fields(self, maps: Tensor, fields: tuple[str, ...]) -> Tensor:
        """Some of I, Q, U, E and B from the I, E and B that methods give, shape (batch, field, npix)."""
        if fields == self.layout.scalars:
            return maps
        scalars = maps.detach().float().cpu().numpy()
        made = [np.concatenate([to_fields(one, self.layout), one]) for one in scalars]
        names = (*self.layout.fields, *self.layout.scalars)
        rows = [names.index(field) for field in fields]
        return torch.from_numpy(np.stack([one[rows] for one in made])).to(maps.device)

    def on_validation_epoch_end(self) -> None:
        self._gather("val")

    def on_test_epoch_end(self) -> None:
        self._gather("test")

    def _gather(self, stage: str) -> None:
        self.scores = {key: metric.compute() for key, metric in self.metrics.items()}
        self.calibration = {key: metric.compute() for key, metric in self.calibration_metrics.items()}
        splits = {split for split, _ in self.scores}
        for (split, name), scores in (*self.scores.items(), *self.calibration.items()):
            place = f"{stage}/{split}" if len(splits) > 1 else stage
            for key, value in scores.means().items():
                self.log(f"{place}/{name}/{key}", value, sync_dist=True, add_dataloader_idx=False)

    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        split = self.trainer.datamodule.inference_splits[dataloader_idx]
        cleaned = self.clean(batch)
        maps = self._in_fields(cleaned.maps.float(), self.layout.fields)
        errors = {} if cleaned.sigma is None or self._turns else {"sigma": cleaned.sigma.float()}
        return {"prediction": maps, "index": batch["index"], "split": split} | errors

    def noise_floor(self, split: str, n_sims: int = 8, field: str | None = None) -> float | None:
        """RMSE [uK_CMB] that noise alone leaves at best, from a split's first simulations.

        None for a single band, and where there is no noise or, in imported maps, none that is known.

        Args:
            split: The split.
            n_sims: How many of its simulations, from the first.
            field: I, E or B; the first of them that there is when None.
        """
        if not self.combines:
            return None
        noise = [part["noise"] for part in islice(self.trainer.datamodule.splits[split], n_sims)]
        if not np.any(noise):
            return None
        place = 0 if field is None else self.layout.scalars.index(field)
        rows, own = self.layout.rows(self.layout.fields[place]), self.layout.only(self.layout.fields[place])
        return noise_floor(np.stack([harmonics(one, self.layout)[rows] for one in noise]), own)
