"""The residual method with needlet weights that adapt to the sky at hand."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cmb_lightning.cleaning.methods import Residual
from cmb_lightning.cleaning.needlets import default_peaks
from cmb_lightning.cleaning.preparation import Differences, to_maps
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from cmb_lightning.networks.moments import MomentWeights
from cmb_lightning.sky.transforms import ring_to_nest


class ScaleDifferences(Differences):
    """The bands less the trained linear estimate, scale by scale, and that estimate.

    Args:
        estimate: The trained linear estimate.
    """

    def finish(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """`inputs` and `templates` (scale * channel, npix), `linear` (1, npix): the estimate; uK_CMB, NESTED.

        And `colours` (channel - 1,).
        """
        estimate = self.estimate(prepared)
        differences = self.estimate.differences(prepared, estimate)
        inputs, weights = zip(*self.estimate.by_scale(prepared, differences), strict=True)
        inputs = ring_to_nest(np.concatenate(inputs))
        return {
            "inputs": inputs,
            "templates": inputs * ring_to_nest(np.concatenate(weights)),
            "colours": self.estimate.colours(differences).astype(np.float32),
            "linear": to_maps(estimate[None], self.estimate.layout),
        }


class Adaptive(Residual):
    """The residual method, scale by scale.

    The estimate is a sum over bands and needlet scales, each with its weight. What is wrong with a weight is seen in
    how the differences of the bands vary together, around a place and over the sky: from these moments a small network
    of the method's own says by which fraction of each weight to correct the estimate. The network proper, whichever it
    is, adds fractions of its own, pixel by pixel, and what more there is to subtract. All of this is made of
    differences between bands, at one beam: whatever has been learned, the CMB passes untouched.
    """

    step: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        if layout.fields != ("I",):
            raise ConfigError(f"model.method: Adaptive cleans temperature, not {list(layout.fields)}; use Residual.")
        scales, channels = len(default_peaks(layout.lmax)), len(layout.channels)
        self.moments = MomentWeights(scales, channels, layout.nside)
        self.register_buffer("scale", torch.full((scales * channels, 1), torch.nan))
        self.register_buffer("step", torch.full((scales * channels, 1), torch.nan))

    @property
    def network_channels(self) -> tuple[int, int]:
        return 2 * len(self.scale) + len(self.colour_scatter), len(self.scale) + 1

    def preparation(self, linear: TrainedLinear) -> ScaleDifferences:
        return ScaleDifferences(linear.estimate())

    def learn_scales(self, extremes: Mapping[str, tuple[np.ndarray, np.ndarray]], linear: TrainedLinear) -> None:
        self.scale.copy_(linear.needlet_scale.reshape(-1, 1))
        self.error.copy_(linear.error)
        self.colour_scatter.copy_(linear.colour_scatter)
        # A fraction that changes the estimate by a third of its error: what the moments' network says is in this unit.
        template = linear.weights.abs().mean(1) * linear.needlet_scale / linear.error
        self.step.copy_((0.3 / template.clamp(min=0.03)).reshape(-1, 1))

    def _differences(self, batch: dict[str, Tensor]) -> Tensor:
        ratio = batch["inputs"].float() / self.scale
        return ratio.sign() * (ratio.abs() + (ratio.square() + 1).sqrt()).log()  # asinh, a third of its time on a CPU

    def _fractions(self, said: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return said + self.step * self.moments(self._differences(batch))
