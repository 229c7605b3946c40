"""The LightningModule of networks: a method, a network, a loss, and scores beside the linear results."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cmb_lightning.cleaning.classical import PixelILC
from cmb_lightning.cleaning.each_field import each_field
from cmb_lightning.cleaning.error_bars import Cleaned, ErrorBars, predictive
from cmb_lightning.cleaning.fields import scalar_extremes
from cmb_lightning.cleaning.fitted import FIT_SIMS, Known, load_weights, save_weights
from cmb_lightning.cleaning.joint import Joint, TrainedFields
from cmb_lightning.cleaning.losses import GaussianLikelihood, HarmonicLikelihood  # noqa: F401  known by their names
from cmb_lightning.cleaning.masks import MaskedLoss
from cmb_lightning.cleaning.methods import Method, Residual
from cmb_lightning.cleaning.optimizers import MuonAdamW
from cmb_lightning.cleaning.preparation import WithBaselines
from cmb_lightning.cleaning.schedules import WarmupCosine
from cmb_lightning.cleaning.scored import ScoredTask
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.datasets import Preparation
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from cmb_lightning.networks.bayesian import MonteCarloDropout
from cmb_lightning.networks.isotropic import IsotropicUNet
from cmb_lightning.sphere.patches import Patches, PatchGrid

SCALE_SIMS = 8  # skies that tell how maps are scaled: each has pixels enough


class CleaningTask(ScoredTask):
    """Learns to take the CMB out of a multi-frequency sky.

    Args:
        layout: What the maps look like; the data module gives it.
        method: How the network is used: `Residual` corrects the local estimate, `Direct` maps bands to the CMB.
        network: Class of the network; it is given input channels, output channels and nside.
        loss: Class of the loss, taken on (prediction, target) in units of the method's typical error. With the
            likelihood `GaussianLikelihood` the network states error bars too, and the loss is given them.
        optimizer: Class of the optimizer; it is given the parameters.
        scheduler: Class of the learning-rate schedule, stepped every batch; it is given the optimizer and the number
            of steps.
        regions: Regions of foreground brightness for the trained linear estimate.
        hedge: Fraction of the training's calibration errors that the weights of both estimates are fitted with. None at
            all lets them collapse under the smallest error; all of them costs accuracy where there are none.
        latitude_cut: Scores are also given above this Galactic latitude.
        mask: The part of the sky that counts for the linear weights and the loss and has scores of its own: a FITS map
            in Galactic coordinates, 1 to keep, or a Galactic latitude such as `20 deg` to stay above. All when None.
        apodisation: Distance from the mask's edge over which pixels gain weight in training.
        compile: Compile the network with torch.compile, which takes a minute and needs a C++ compiler on a CPU.

    Raises:
        ConfigError: If the network cannot be built for these maps, or the mask does not fit them.
    """

    def __init__(
        self,
        layout: Layout,
        method: Callable[[Layout], Method] = Residual,
        network: Callable[[int, int, int], nn.Module] = IsotropicUNet,
        loss: Callable[[], nn.Module] = nn.HuberLoss,
        optimizer: Callable[[Any], Optimizer] = MuonAdamW,
        scheduler: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
        regions: int = 8,
        hedge: float = 0.1,
        latitude_cut: str = "20 deg",
        mask: str | None = None,
        apodisation: str = "0 deg",
        compile: bool = False,
    ) -> None:
        super().__init__(layout, latitude_cut, mask, apodisation)
        several = len(layout.fields) > 1
        self.method = Joint(layout, method) if several else method(layout)
        if regions < 1:
            raise ConfigError(f"model.regions: {regions} must be at least 1.")
        trained = TrainedFields if several else TrainedLinear
        self.linear = trained(layout, regions) if self.combines else None
        starts_local = any(isinstance(part, Residual) for part in self.method.modules())
        self.baselines = () if self.linear is None else ("ilc", "linear", *(["local"] if starts_local else []))
        if self.linear is None and starts_local:
            raise ConfigError(
                f"model.method: Residual compares two or more bands of each field, not {list(layout.channels)}; "
                "give it more bands, or use Direct."
            )
        error = loss()
        self.error_bars = ErrorBars(len(layout.fields)) if getattr(error, "states_errors", False) else None
        channels, outputs = self.method.network_channels
        outputs += len(layout.fields) if self.error_bars is not None else 0
        self.network = network(channels, outputs, layout.nside)
        if compile:
            self.network.compile()  # in place: a compiled copy would have other names in a checkpoint
        draws = isinstance(self.network, MonteCarloDropout) and self.network.passes > 1
        self.states_errors = self.error_bars is not None or draws
        self.loss = error if self.mask is None else MaskedLoss(error, self.mask)
        self.hedge = hedge
        self.optimizer, self.scheduler = optimizer, scheduler

    # What is learned before the first step

    def prepare_data(self) -> None:
        """Fit the estimates on the training split's known parts and keep their weights in the run's folder."""
        if self.trainer.state.fn == "fit" and self.linear is not None:
            pixels = None if self.mask is None else self.mask.weight
            known = Known(partial(self.trainer.datamodule.training_parts, FIT_SIMS), self.layout, self.hedge)
            save_weights(self._weights_file(), self.linear.fit(known, pixels))

    def setup(self, stage: str) -> None:
        """Take scales and linear weights from the training data; a checkpoint, read later, overrides them."""
        if stage != "fit":
            return
        if self.linear is not None:
            self.linear.store(load_weights(self._weights_file()))
        data = self.trainer.datamodule
        one = len(self.layout.fields) == 1
        extremes = data.scaling() if one else scalar_extremes(data.training_parts(SCALE_SIMS), self.layout)
        self.method.learn_scales(extremes, self.linear)
        self.method.learn_pixels(self._skies)
        if self.error_bars is not None:
            self.error_bars.learn(self.method, self._skies())

    def _skies(self) -> Iterator[dict[str, Tensor]]:
        """The first training skies, prepared, each a batch of one."""
        skies = self.trainer.datamodule.evaluation_dataset("train")
        for index in range(min(len(skies), SCALE_SIMS)):
            maps = {name: value for name, value in skies[index].items() if isinstance(value, np.ndarray)}
            yield {name: torch.from_numpy(value)[None] for name, value in maps.items()}

    def _weights_file(self) -> Path:
        return Path(self.trainer.default_root_dir) / "linear_weights.safetensors"

    def preparation(self, scored: bool) -> Preparation:
        """What a data set does with the maps.

        Args:
            scored: Also make the linear results that stand beside the network's.
        """
        inner = self.method.preparation(self.linear)
        if not scored or self.linear is None:
            return inner
        pixels = None if self.mask is None else self.mask.weight
        ilc = each_field(lambda layout: PixelILC(layout, pixels), self.layout)
        return WithBaselines(inner, {"ilc": ilc, "linear": self.linear.estimate()}, self.layout)

    @property
    def patch_grid(self) -> PatchGrid | None:
        """Where the patches lie that the network cuts; None for a network of whole skies."""
        return next((part.grid for part in self.network.modules() if isinstance(part, Patches)), None)

    # Steps

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Seed random numbers, such as dropout's, for this batch alone, so that a resumed training draws the same."""
        self._seed(self.current_epoch, batch_idx)

    def _seed(self, *place: int) -> None:
        torch.manual_seed(_number(*place, self.global_rank))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Cleaned maps [uK_CMB], shape (batch, field, npix), NESTED, from a prepared batch."""
        return self.clean(batch).maps

    def clean(self, batch: dict[str, Tensor]) -> Cleaned:
        """Cleaned maps, and their standard errors where the loss is a likelihood or the network draws random passes."""
        inputs = self.method.inputs(batch)
        if isinstance(self.network, MonteCarloDropout) and not self.training:
            passes = (self.network.draw(inputs) for _ in range(self.network.passes))
            return predictive(self._cleaned(outputs, batch) for outputs in passes)
        return self._cleaned(self.network(inputs), batch)

    def _cleaned(self, outputs: Tensor, batch: dict[str, Tensor]) -> Cleaned:
        if self.error_bars is None:
            return Cleaned(self.method.cleaned(outputs, batch))
        outputs, errors = outputs.tensor_split([-len(self.layout.fields)], dim=1)
        sigma = self.error_bars(errors, self.method.brightness(batch))
        return Cleaned(self.method.cleaned(outputs, batch), sigma)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        # Whatever the batch and the process that a sample is in, it is given the same key.
        keys = [_number(self.current_epoch, index) for index in batch["index"].tolist()]
        cleaned, target = self.clean(batch | {"key": torch.tensor(keys)}), batch["target"]
        if cleaned.maps.shape[-1] != target.shape[-1]:  # a patch, whose halo does not count
            cleaned = Cleaned(*(self.patch_grid.without_halo(maps) for maps in cleaned if maps is not None))
        loss = self._loss(cleaned, target)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {float(loss)} at step {self.global_step}: lower the learning rate or look at the data; "
                "the last checkpoint is still good."
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["target"]))
        return loss

    def _loss(self, cleaned: Cleaned, target: Tensor) -> Tensor:
        maps = [cleaned.maps, target] + ([] if self.error_bars is None else [cleaned.sigma])
        return self.loss(*(values / self.method.unit for values in maps))

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer(self.parameters())
        steps = int(min(self.trainer.estimated_stepping_batches, 2**40))
        schedule = self.scheduler(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_start(self) -> None:
        self._check_trained()
        self._seed(self.global_step)  # so that random passes are those of a validation that was interrupted
        super().on_validation_start()

    def on_predict_start(self) -> None:
        self._check_trained()

    def _check_trained(self) -> None:
        if not torch.isfinite(self.method.unit).all():
            raise ConfigError("This model was never trained: name a checkpoint with --ckpt_path.")

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        cleaned = self._score(batch, dataloader_idx)
        loss = self._loss(cleaned, batch["target"])
        self.log("val/loss", loss, sync_dist=True, batch_size=len(cleaned.maps), add_dataloader_idx=False)
        self._validated(batch, cleaned, batch_idx, dataloader_idx)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["layout"] = self.layout.to_dict()
        checkpoint["mask"] = None if self.mask is None else self.mask.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_checkpoint(checkpoint)

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint for other maps or of another network.

        Raises:
            ConfigError: It is one; the message lists what differs.
        """
        if not {"layout", "state_dict"} <= checkpoint.keys():
            raise ConfigError("ckpt_path: the checkpoint is not one of this program.")
        if differences := self.layout.differences(Layout.from_dict(checkpoint["layout"])):
            raise ConfigError(
                f"ckpt_path: the checkpoint is for other maps (data here, checkpoint there): {'; '.join(differences)};"
                " give the data the checkpoint's values, or name another --run."
            )
        trained = checkpoint.get("mask")
        if None not in (self.mask, trained) and self.mask.identity != trained:
            raise ConfigError(
                "model.mask: it keeps other pixels than the mask that the checkpoint was trained with; give that one "
                "or train anew."
            )
        states = self.state_dict(), checkpoint["state_dict"]
        here, there = ({name: tuple(tensor.shape) for name, tensor in state.items()} for state in states)
        if differ := [name for name in sorted(here.keys() | there.keys()) if here.get(name) != there.get(name)]:
            name = differ[0]
            raise ConfigError(
                f"ckpt_path: the checkpoint is of another model, {len(differ)} of its tensors differ: the first is "
                f"{name}, {here.get(name, 'missing')} here, {there.get(name, 'missing')} there."
            )


def _number(*place: int) -> int:
    """A random number below 2^63 that depends on the training's seed and the place, and on nothing else."""
    key = [int(os.environ.get("PL_GLOBAL_SEED", 0)), *place]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
