"""The trained linear estimate, and the local one that is built on it, as a module: a checkpoint carries them."""

import numpy as np
import torch
from torch import Tensor, nn

from cmb_lightning.cleaning.fitted import Known
from cmb_lightning.cleaning.linear import LinearEstimate, LinearWeights
from cmb_lightning.cleaning.local_estimate import LocalEstimate, LocalWeights
from cmb_lightning.cleaning.local_fit import calibrated, fit_local, shapes
from cmb_lightning.data.layout import Layout

SPECTRAL_ERROR = 0.001
"""Relative error that foregrounds are given in each band where local weights are fitted: without any, these would trust
spectra that other skies do not have."""

DRAWS = 4  # calibration errors that each sky is given


class TrainedLinear(nn.Module):
    """The weights of the trained linear estimate and of the local one as buffers: they travel in the checkpoint.

    They are NaN until `store` or a checkpoint fills them.

    Args:
        layout: The maps' layout.
        regions: How many regions of brightness.
    """

    weights: Tensor
    levels: Tensor
    pair: Tensor
    error: Tensor

    def __init__(self, layout: Layout, regions: int = 8) -> None:
        super().__init__()
        self.untrained = LinearEstimate(layout, regions=regions)
        scales, channels = len(self.untrained.needlets), len(layout.channels)
        self.register_buffer("weights", torch.full((scales, regions, channels), torch.nan, dtype=torch.float64))
        self.register_buffer("levels", torch.full((regions,), torch.nan, dtype=torch.float64))
        self.register_buffer("pair", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("error", torch.tensor(torch.nan))
        for name, shape in shapes(scales, channels).items():
            self.register_buffer(f"local_{name}", torch.full(shape, torch.nan, dtype=torch.float64))

    @property
    def ready(self) -> bool:
        """Whether the weights are there."""
        return bool(self.weights.isfinite().all())

    def fit(self, known: Known, pixels: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Weights that fit known errors, as arrays to keep and to `store`.

        Args:
            known: Training skies, of one field.
            pixels: How much each pixel counts, from 0 to 1, shape (npix,), NESTED; all alike when None.
        """
        linear = self.untrained.fit(known.errors(), pixels)
        local = fit_local(linear, known.errors(SPECTRAL_ERROR), known.noise(), pixels)
        local = calibrated(local, known.miscalibrated(DRAWS), DRAWS, pixels)
        return linear.weights.arrays() | {f"local_{name}": v for name, v in local.weights.arrays().items()}

    def store(self, weights: dict[str, np.ndarray]) -> None:
        """Fill the buffers with what `fit` gave."""
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.from_numpy(np.asarray(weights[name])).reshape(buffer.shape))

    def estimate(self) -> LinearEstimate:
        """The estimate, for data sets and workers.

        Raises:
            RuntimeError: If the weights are not there.
        """
        if not self.ready:
            raise RuntimeError("The linear weights are not there: train first, or name a checkpoint with --ckpt_path.")
        pair = tuple(self.pair.tolist())
        arrays = {name: getattr(self, name).cpu().numpy() for name in ("weights", "levels")}
        weights = LinearWeights(**arrays, pair=pair, error=float(self.error))
        return LinearEstimate(self.untrained.layout, weights, self.untrained.peaks, self.untrained.regions)

    def local(self) -> LocalEstimate:
        """The local estimate, for data sets and workers.

        Raises:
            RuntimeError: If the weights are not there.
        """
        names = [name for name, _ in self.named_buffers() if name.startswith("local_")]
        arrays = {name.removeprefix("local_"): getattr(self, name).cpu().numpy() for name in names}
        return LocalEstimate(self.estimate(), LocalWeights.of(arrays))
