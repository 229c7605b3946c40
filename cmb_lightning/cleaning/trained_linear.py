"""The trained linear estimate as a module, so that a checkpoint carries it."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from cmb_lightning.cleaning.linear import LinearEstimate, LinearWeights
from cmb_lightning.data.layout import Layout


class TrainedLinear(nn.Module):
    """The trained linear estimate's weights as buffers, so that they travel in the checkpoint.

    They are NaN until `store` or a checkpoint fills them.

    Args:
        layout: The maps' layout.
        regions: How many regions of brightness.
    """

    weights: Tensor
    levels: Tensor
    pair: Tensor
    scale: Tensor
    needlet_scale: Tensor
    error: Tensor
    colours: Tensor
    colour_scatter: Tensor

    def __init__(self, layout: Layout, regions: int = 8) -> None:
        super().__init__()
        self.untrained = LinearEstimate(layout, regions=regions)
        scales, channels = len(self.untrained.needlets), len(layout.channels)
        self.register_buffer("weights", torch.full((scales, regions, channels), torch.nan, dtype=torch.float64))
        self.register_buffer("levels", torch.full((regions,), torch.nan, dtype=torch.float64))
        self.register_buffer("pair", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("scale", torch.full((channels,), torch.nan))
        self.register_buffer("needlet_scale", torch.full((scales, channels), torch.nan))
        self.register_buffer("error", torch.tensor(torch.nan))
        self.register_buffer("colours", torch.full((channels - 1,), torch.nan, dtype=torch.float64))
        self.register_buffer("colour_scatter", torch.full((channels - 1,), torch.nan, dtype=torch.float64))

    @property
    def ready(self) -> bool:
        """Whether the weights are there."""
        return bool(self.weights.isfinite().all())

    def fit(
        self, samples: Iterable[tuple[np.ndarray, np.ndarray]], pixels: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Weights that fit known errors, as arrays to keep and to `store`; see `LinearEstimate.fit`."""
        return self.untrained.fit(samples, pixels).weights.arrays()

    def store(self, weights: LinearWeights | dict[str, np.ndarray]) -> None:
        """Fill the buffers."""
        weights = weights if isinstance(weights, LinearWeights) else LinearWeights.of(weights)
        self.weights.copy_(torch.from_numpy(weights.weights))
        self.levels.copy_(torch.from_numpy(weights.levels))
        self.pair.copy_(torch.tensor(weights.pair))
        self.scale.copy_(torch.from_numpy(np.asarray(weights.scale)))
        self.needlet_scale.copy_(torch.from_numpy(np.asarray(weights.needlet_scale)))
        self.error.fill_(weights.error)
        self.colours.copy_(torch.from_numpy(weights.colours))
        self.colour_scatter.copy_(torch.from_numpy(weights.colour_scatter))

    def estimate(self) -> LinearEstimate:
        """The estimate, for data sets and workers.

        Raises:
            RuntimeError: If the weights are not there.
        """
        if not self.ready:
            raise RuntimeError("The linear weights are not there: train first, or name a checkpoint with --ckpt_path.")
        pair = tuple(self.pair.tolist())
        arrays = {name: getattr(self, name).cpu().numpy() for name in ("weights", "levels", "scale", "needlet_scale")}
        colours = {name: getattr(self, name).cpu().numpy() for name in ("colours", "colour_scatter")}
        weights = LinearWeights(**arrays, **colours, pair=pair, error=float(self.error))
        return LinearEstimate(self.untrained.layout, weights, self.untrained.peaks, self.untrained.regions)
