"""The ways of using a network: correct the local estimate, or map bands to the CMB."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cmb_lightning.cleaning.contradiction import borne_out, follows_sky
from cmb_lightning.cleaning.needlets import default_peaks
from cmb_lightning.cleaning.preparation import Bands, Differences
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.datasets import Preparation
from cmb_lightning.data.layout import Layout
from cmb_lightning.sky.transforms import analysis, nest_to_ring

DOUBT = 0.3
"""Relative errors of templates in training, whose samples have a `key` for them: a network that lets templates cancel
each other would trust spectra too much."""

BLOCK = 2**22  # numbers of a map's rows that are worked on at a time


class Method(nn.Module, ABC):
    """How a network is used.

    Args:
        layout: The maps' layout.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    @property
    @abstractmethod
    def network_channels(self) -> tuple[int, int]:
        """Channels into and out of the network."""

    @property
    @abstractmethod
    def input_rows(self) -> int:
        """Rows of a prepared sample's `inputs`, and of its `templates` where there are any."""

    @abstractmethod
    def preparation(self, linear: TrainedLinear) -> Preparation:
        """What a data set does with the maps before the method sees them."""

    @abstractmethod
    def learn_scales(self, extremes: Mapping[str, tuple[np.ndarray, np.ndarray]], linear: TrainedLinear) -> None:
        """Take what scales inputs and outputs from the training data, once, before training."""

    def learn_pixels(self, skies: Callable[[], Iterable[dict[str, Tensor]]]) -> None:
        """Take what extremes do not tell from some prepared training skies with their `target`: here nothing."""

    @property
    @abstractmethod
    def unit(self) -> Tensor:
        """The size of the errors that training works on [uK_CMB]: the loss is taken in this unit."""

    @abstractmethod
    def inputs(self, batch: dict[str, Tensor]) -> Tensor:
        """What the network sees of a prepared batch, shape (batch, channel in, npix), NESTED."""

    @abstractmethod
    def cleaned(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Cleaned maps [uK_CMB], shape (batch, field, npix), NESTED, from what the network says of the batch."""

    def brightness(self, batch: dict[str, Tensor]) -> Tensor:
        """What the errors before training go with, shape (batch, field, npix), NESTED.

        The rms of the templates, what the estimate takes off; where there are none, nothing.
        """
        if "templates" in batch:
            return batch["templates"].float().square().mean(dim=1, keepdim=True).sqrt()
        inputs = batch["inputs"]
        return torch.ones(len(inputs), len(self.layout.fields), inputs.shape[-1], device=inputs.device)

    def forward(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Cleaned maps [uK_CMB], shape (batch, field, npix), NESTED."""
        return self.cleaned(network(self.inputs(batch)), batch)


class Residual(Method):
    """The network corrects the local estimate from what holds no CMB.

    It sees the sky in modes of contrast, scale by scale: differences of the bands that hold no CMB, in which the
    foregrounds come one after the other, from the brightest to the faintest, each as sharp as its own noise allows,
    where in the bands themselves the brightest would drown all others. They are compressed with asinh over their median
    absolute value. It sees, too, what the estimate takes off of each but the second, the templates; and says, pixel by
    pixel, which fraction of every template to subtract besides, and what more. None of this holds any CMB: whatever the
    network has learned, the CMB passes untouched, in E and B by the weights of the sky at hand (see `LocalEstimate`).

    In E and B a trained network's correction is taken back as far as the sky surely speaks against it, see `borne_out`:
    under other spectra than those of training, where the estimate has followed the sky, a correction that has not does
    harm. This costs the CMB next to nothing; in T it is so bright that nothing would show.
    """

    scale: Tensor
    error: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        scales, modes = len(default_peaks(layout.lmax)), len(layout.channels) - 1
        # What there is to learn from the second mode's templates holds for training's spectra only: under other laws
        # a network that sees them does harm, the more the longer it has trained.
        self.seen = [row for row in range(scales * modes) if row % modes != 1]
        self.register_buffer("scale", torch.full((scales * modes, 1), torch.nan))
        self.register_buffer("error", torch.tensor(torch.nan))

    @property
    def network_channels(self) -> tuple[int, int]:
        return self.input_rows + len(self.seen), self.input_rows + 1

    @property
    def input_rows(self) -> int:
        return len(self.scale)

    def preparation(self, linear: TrainedLinear) -> Differences:
        return Differences(linear.local())

    def learn_scales(self, extremes: Mapping[str, tuple[np.ndarray, np.ndarray]], linear: TrainedLinear) -> None:
        self.error.copy_(linear.error)

    def learn_pixels(self, skies: Callable[[], Iterable[dict[str, Tensor]]]) -> None:
        sizes = torch.stack([sky["inputs"].abs().median(dim=-1).values.mean(dim=0) for sky in skies()]).mean(dim=0)
        # A scale that too few bands reach has modes that are zero.
        self.scale.copy_(torch.where(sizes > 0, sizes, 1)[:, None])

    @property
    def unit(self) -> Tensor:
        return self.error

    def inputs(self, batch: dict[str, Tensor]) -> Tensor:
        # float32 outside autocast: the differences span five orders of magnitude
        with torch.autocast(batch["inputs"].device.type, enabled=False):
            inputs, templates = batch["inputs"], batch["templates"]
            seen = inputs.new_empty((len(inputs), self.network_channels[0], inputs.shape[-1]), dtype=torch.float32)
            modes, taken = seen[:, : self.input_rows], seen[:, self.input_rows :]
            for rows in self._blocks(batch):
                modes[:, rows] = _asinh(inputs[:, rows].float() / self.scale[rows])
                taken[:, rows] = self._compressed(templates[:, self.seen[rows]].float())
            return seen

    def cleaned(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        with torch.autocast(batch["inputs"].device.type, enabled=False):  # the subtraction must be exact
            fractions, correction = outputs.float().split([self.input_rows, 1], dim=1)
            if "key" in batch:
                fractions = fractions * (1 + DOUBT * _drawn(batch["key"], fractions))
            for rows in self._blocks(batch):
                templates = self._compressed(batch["templates"][:, rows].float())
                correction = correction + (fractions[:, rows] * templates).sum(dim=1, keepdim=True)
            correction = self.error * correction
            if follows_sky(self.layout) and not self.training:
                correction = correction * self._borne_out(batch["local"], correction)
            return batch["local"] - correction

    def _borne_out(self, local: Tensor, correction: Tensor) -> Tensor:
        """How much of its correction each sky bears out, shape (batch, 1, 1)."""
        pairs = nest_to_ring(torch.cat([local, correction], dim=1).detach().cpu().numpy())
        factors = [borne_out(*analysis(pair, self.layout.lmax, 1)) for pair in pairs]
        return torch.tensor(factors, device=correction.device)[:, None, None]

    def _blocks(self, batch: dict[str, Tensor]) -> Iterator[slice]:
        """Rows to work on at a time: those of large maps, all at once, would need their memory several times."""
        step = max(1, BLOCK // batch["inputs"].shape[-1])
        return (slice(first, first + step) for first in range(0, self.input_rows, step))

    def _compressed(self, templates: Tensor) -> Tensor:
        """Linear where faint, a square root where bright, so that the Galactic plane does not outweigh the sky."""
        templates = templates / self.error
        return templates.abs().add_(1).sqrt_().sub_(1).mul_(2).copysign_(templates)


class Direct(Method):
    """Bands in, CMB out, both scaled by what their maps are like in training.

    Args:
        layout: The maps' layout.
        scaling: `minmax`: from the extremes to 0 ... 1, as in CMB-ML. `standard`: to mean 0 and standard deviation 1.
            `robust`: to median 0 and median absolute deviation 1 (as a standard deviation), which a bright Galaxy does
            not change. `asinh`: as robust, then the bands' asinh, so that the Galaxy does not outweigh the sky.
    """

    low: Tensor
    span: Tensor
    target_low: Tensor
    target_span: Tensor

    def __init__(self, layout: Layout, scaling: Literal["minmax", "standard", "robust", "asinh"] = "minmax") -> None:
        super().__init__(layout)
        self.scaling = scaling
        # `low` becomes 0 and `low` + `span` becomes 1.
        for name, count in (("low", len(layout.channels)), ("target_low", len(layout.fields))):
            self.register_buffer(name, torch.full((count, 1), torch.nan))
            self.register_buffer(name.replace("low", "span"), torch.full((count, 1), torch.nan))

    @property
    def network_channels(self) -> tuple[int, int]:
        return self.input_rows, len(self.layout.fields)

    @property
    def input_rows(self) -> int:
        return len(self.layout.channels)

    def preparation(self, linear: TrainedLinear) -> Preparation:
        return Bands()

    def learn_scales(self, extremes: Mapping[str, tuple[np.ndarray, np.ndarray]], linear: TrainedLinear) -> None:
        for prefix, name in (("", "inputs"), ("target_", "target")):
            low, high = (torch.from_numpy(np.asarray(v, dtype=np.float32))[:, None] for v in extremes[name])
            self._scale(prefix, low, high - low)

    def learn_pixels(self, skies: Callable[[], Iterable[dict[str, Tensor]]]) -> None:
        if self.scaling == "minmax":
            return
        known = list(skies())
        for prefix, name in (("", "inputs"), ("target_", "target")):
            pixels = torch.cat([sky[name].transpose(0, 1).flatten(1) for sky in known], dim=1)
            self._scale(prefix, *(_standard(pixels) if self.scaling == "standard" else _robust(pixels)))

    def _scale(self, prefix: str, low: Tensor, span: Tensor) -> None:
        getattr(self, prefix + "low").copy_(low)
        # A constant channel carries nothing: any width will do, but not zero.
        getattr(self, prefix + "span").copy_(torch.where(span > 0, span, torch.ones_like(span)))

    @property
    def unit(self) -> Tensor:
        return self.target_span

    def inputs(self, batch: dict[str, Tensor]) -> Tensor:
        scaled = (batch["inputs"] - self.low) / self.span
        return torch.asinh(scaled) if self.scaling == "asinh" else scaled

    def cleaned(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return outputs.float() * self.target_span + self.target_low


def _asinh(values: Tensor) -> Tensor:
    """In a third of the time that torch's own takes on a CPU."""
    size = values.abs()
    return size.square().add_(1).sqrt_().add_(size).log_().copysign_(values)


def _drawn(keys: Tensor, maps: Tensor) -> Tensor:
    """Normal numbers (batch, map, 1) for maps (batch, map, npix), each sample's decided by its key alone."""
    rows = [torch.randn(maps.shape[1], 1, generator=torch.Generator().manual_seed(key)) for key in keys.tolist()]
    return torch.stack(rows).to(maps)


def _standard(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each row, shape (row, 1)."""
    deviation, mean = torch.std_mean(pixels.double(), dim=1, keepdim=True)
    return mean, deviation


def _robust(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Median of each row, and its median absolute deviation as that of a Gaussian, shape (row, 1)."""
    median = pixels.median(dim=1, keepdim=True).values
    return median, 1.4826 * (pixels - median).abs().median(dim=1, keepdim=True).values
