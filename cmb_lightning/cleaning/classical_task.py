"""The LightningModule of classical methods: nothing but, where asked for, their weights is trained."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmb_lightning.cleaning.classical import ClassicalMethod
from cmb_lightning.cleaning.each_field import each_field
from cmb_lightning.cleaning.fitted import FIT_SIMS, known_errors, load_weights, save_weights
from cmb_lightning.cleaning.left import left_parts
from cmb_lightning.cleaning.metrics import SkyMetrics
from cmb_lightning.cleaning.needlet_ilc import NeedletILC
from cmb_lightning.cleaning.preparation import Cleaned
from cmb_lightning.cleaning.scored import ScoredTask
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError


class ClassicalTask(ScoredTask):
    """Cleans with a classical method, for test, validate and predict as a network is used, but with no checkpoint.

    A test also says what each part of the sky leaves: the method is applied to CMB, foregrounds and noise one by one,
    with the weights of the whole, and the three add up to the error.

    Args:
        layout: What the maps look like; the data module gives it.
        method: The method, such as `PixelILC` or `NeedletILC`.
        trained: Fix the weights on the known foregrounds and noise of the training split, in place of taking them from
            each map. They are fitted once and kept in the run's folder.
        hedge: Fraction of the training's calibration errors that trained weights are fitted with.
        latitude_cut: Scores are also given above this Galactic latitude.
        mask: The part of the sky that counts for the weights and has scores of its own: a FITS map in Galactic
            coordinates, 1 to keep, or a Galactic latitude such as `20 deg` to stay above. All when None.
        apodisation: Distance from the mask's edge over which pixels gain weight.

    Raises:
        ConfigError: If the method cannot be used on these maps, or the mask does not fit them.
    """

    trains = False

    def __init__(
        self,
        layout: Layout,
        method: Callable[[Layout, Any], ClassicalMethod] = NeedletILC,
        trained: bool = False,
        hedge: float = 0.1,
        latitude_cut: str = "20 deg",
        mask: str | None = None,
        apodisation: str = "0 deg",
    ) -> None:
        super().__init__(layout, latitude_cut, mask, apodisation)
        if not self.combines:
            raise ConfigError(
                f"task: ClassicalTask combines two or more bands of each field, not {list(layout.channels)}."
            )
        pixels = None if self.mask is None else self.mask.weight
        self.method = each_field(lambda one: method(one, pixels), layout)
        self.trained, self.hedge = trained, hedge
        self.method_name = f"trained {self.method.name}" if trained else self.method.name
        self._parts: dict[tuple[str, str], SkyMetrics] = {}

    # Trained weights

    def prepare_data(self) -> None:
        """Fit the weights on the training split's known parts, unless the run's folder has them."""
        data, path = self.trainer.datamodule, self._weights_file()
        if not self.trained:
            return
        if "train" not in getattr(data, "splits", {}):
            if not path.is_file():
                raise ConfigError(
                    f"model.trained: there is no split `train` to fit weights on, and none are kept in {path.parent}; "
                    "run test with the training's data first, in the same --run."
                )
            return
        key = self._key()
        if path.is_file() and np.array_equal(load_weights(path)["key"], key):
            return
        data.prepare_splits(["train"])
        errors = known_errors(data.training_parts(FIT_SIMS), self.layout, self.hedge)
        save_weights(path, self.method.fit(errors) | {"key": key})

    def setup(self, stage: str) -> None:
        """Take the trained weights."""
        if self.trained:
            self.method.weights = {name: v for name, v in load_weights(self._weights_file()).items() if name != "key"}

    def _weights_file(self) -> Path:
        return Path(self.trainer.default_root_dir) / "classical_weights.safetensors"

    def _key(self) -> np.ndarray:
        """A hash of all that trained weights depend on, uint8, shape (32,)."""
        data = self.trainer.datamodule
        pixels = None if self.mask is None else hashlib.sha256(self.mask.weight.tobytes()).hexdigest()
        told = [data.identity["train"], min(FIT_SIMS, data.n_sims("train")), self.hedge, pixels]
        told += [type(self.method).__qualname__, self.method.settings(), self.layout.to_dict()]
        return np.frombuffer(hashlib.sha256(json.dumps(told).encode()).digest(), np.uint8)

    # Cleaning

    def preparation(self, scored: bool) -> Cleaned:
        """Cleans the maps as they are loaded, in the loader's processes."""
        return Cleaned(self.method, self.layout)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Cleaned maps [uK_CMB], shape (batch, field, npix), NESTED, from a prepared batch."""
        return batch["cleaned"]

    # What is left of each part

    def on_test_start(self) -> None:
        super().on_test_start()
        self._parts = {
            (split, part): SkyMetrics(self.regions, self.layout.scalars).to(self.device)
            for split in self.trainer.datamodule.inference_splits
            if {"foregrounds", "noise"} <= self.trainer.datamodule.splits[split].cache.read(0).keys()
            for part in ("CMB", "foregrounds", "noise")
        }

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        super().test_step(batch, batch_idx, dataloader_idx)
        split = self.trainer.datamodule.inference_splits[dataloader_idx]
        if (split, "noise") not in self._parts:
            return
        for index in batch["index"]:
            left = left_parts(self.method, self.trainer.datamodule.splits[split].cache.read(int(index)), self.layout)
            for part, maps in left.items():
                found = torch.from_numpy(maps)[None]
                self._parts[split, part].update(found, torch.zeros_like(found), index[None])

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.parts = {key: metric.compute() for key, metric in self._parts.items()}
