"""The residual method, scale by scale."""

import numpy as np
import torch
from torch import Tensor

from cmb_lightning.cleaning.methods import Residual
from cmb_lightning.cleaning.needlets import default_peaks
from cmb_lightning.cleaning.preparation import Differences, to_maps
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError


class ScaleDifferences(Differences):
    """The bands less the local estimate, scale by scale, and that estimate.

    Args:
        estimate: The local estimate.
    """

    def sample(self, prepared: np.ndarray, estimate: np.ndarray, weights: list[np.ndarray]) -> dict[str, np.ndarray]:
        """`inputs` and `templates` (scale * channel, npix), `local` (1, npix): the estimate; uK_CMB, NESTED."""
        differences = self.estimate.linear.differences(prepared, estimate)
        parts, weights = zip(*self.estimate.by_scale(differences, weights), strict=True)
        inputs = np.concatenate(parts)
        return {
            "inputs": inputs,
            "templates": inputs * np.concatenate(weights),
            "local": to_maps(estimate[None], self.layout),
        }


class ByScale(Residual):
    """The residual method, scale by scale.

    The estimate is a sum over bands and needlet scales, each with its weight, and the network says pixel by pixel by
    which fraction to change each of them, and what more there is to subtract.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        if layout.fields != ("I",):
            raise ConfigError(f"model.method: ByScale cleans temperature, not {list(layout.fields)}; use Residual.")
        scales, channels = len(default_peaks(layout.lmax)), len(layout.channels)
        self.register_buffer("scale", torch.full((scales * channels, 1), torch.nan))

    @property
    def network_channels(self) -> tuple[int, int]:
        return 2 * len(self.scale), len(self.scale) + 1

    def preparation(self, linear: TrainedLinear) -> ScaleDifferences:
        return ScaleDifferences(linear.local())

    def _sizes(self, linear: TrainedLinear) -> Tensor:
        return linear.needlet_scale
