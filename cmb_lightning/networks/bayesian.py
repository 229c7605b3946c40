"""Bayesian variants of any network: dropout that stays on when predicting, at a fixed or a learned rate."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..sphere import IsotropicConv2d, ReachingConv2d
from .deepsphere import ChebyshevConv
from .isotropic import IsotropicUNet
from .unet import PixelLinear

# Layers whose inputs are dropped, with the places of (sample, channel) among the input's dimensions.
LAYERS = {
    nn.Conv2d: (0, 1),
    IsotropicConv2d: (0, 1),
    ReachingConv2d: (0, 1),
    nn.ConvTranspose2d: (0, 1),
    PixelLinear: (0, 1),
    ChebyshevConv: (1, 2),
}


class MonteCarloDropout(nn.Module):
    """Drops whole channels before every layer of a network but the first (Gal and Ghahramani 2016).

    A channel is dropped over the whole sky at once: face by face or pixel by pixel would draw seams or noise. In
    training every call is one random pass; in evaluation it is the mean of several, and `draw` gives single ones for
    their spread.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps.
        network: Class of the network; it is given the three above.
        rate: Part of the channels dropped (at the start, where it is learned).
        passes: Passes averaged in evaluation.

    Raises:
        ValueError: If the rate or the passes are impossible, or the network has no layer to drop.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nside: int,
        network: Callable[[int, int, int], nn.Module] = IsotropicUNet,
        rate: float = 0.1,
        passes: int = 20,
    ):
        super().__init__()
        if not 0 < rate < 1:
            raise ValueError(f"rate={rate} must lie between 0 and 1.")
        if passes < 1:
            raise ValueError(f"passes={passes} must be at least 1.")
        self.rate, self.passes = rate, passes
        self.network = network(in_channels, out_channels, nside)
        self.dropped = [layer for layer in self.network.modules() if type(layer) in LAYERS][1:]
        if not self.dropped:
            names = ", ".join(kind.__name__ for kind in LAYERS)
            raise ValueError(
                f"network={type(self.network).__name__} has no two layers of the kinds that drop: {names}."
            )
        self._skies = 1
        for number, layer in enumerate(self.dropped):
            layer.register_forward_pre_hook(partial(self._drop, number))

    def kept(self, number: int, shape: tuple[int, int], like: Tensor) -> Tensor:
        """Random factors, of mean one, for the channels before one layer.

        Args:
            number: Which of the dropped layers.
            shape: (skies, channels).
            like: Gives the device and type.
        """
        return (torch.rand(shape, device=like.device) >= self.rate).to(like.dtype) / (1 - self.rate)

    def _drop(self, number: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *others = inputs
        sample, channel = LAYERS[type(layer)]
        kept = self.kept(number, (self._skies, images.shape[channel]), images)
        # A sky may be folded into faces or patches, which follow each other.
        kept = kept.repeat_interleave(images.shape[sample] // self._skies, dim=0)
        shape = [1] * images.dim()
        shape[sample], shape[channel] = kept.shape
        return images * kept.view(shape), *others

    def draw(self, maps: Tensor) -> Tensor:
        """One random pass: shape (batch, in_channels, pixel) to (batch, out_channels, pixel), NESTED."""
        self._skies = len(maps)
        return self.network(maps)

    def forward(self, maps: Tensor) -> Tensor:
        """One random pass in training, the mean of `passes` in evaluation; shapes as in `draw`."""
        if self.training:
            return self.draw(maps)
        total = self.draw(maps)
        for _ in range(self.passes - 1):
            total = total + self.draw(maps)
        return total / self.passes


class _AddPenalty(torch.autograd.Function):
    """Passes the output through and, backward, adds the penalty's own gradient to whatever the loss is."""

    @staticmethod
    def forward(ctx, output: Tensor, penalty: Tensor) -> Tensor:
        ctx.save_for_backward(torch.ones_like(penalty))
        return output.view_as(output)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, *ctx.saved_tensors


class ConcreteDropout(MonteCarloDropout):
    """Learns the rate of every layer's dropout (Gal, Hron and Kendall 2017), as Petroff et al. 2020 did.

    The rates are learned against a likelihood: train with one that predicts its own width. The two penalties, weights
    over their chance to be kept and the entropy of the rate, add their gradient to any loss by themselves. Gradients
    accumulated over several batches take the penalties as often: divide them by as many.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps.
        network: Class of the network; it is given the three above.
        rate: Rate at the start.
        passes: Passes averaged in evaluation.
        weight_penalty: Factor of the squared weights: squared prior length scale over the number of training samples.
        rate_penalty: Factor of the rates' negative entropy: 2 over the number of training samples, for a loss that is a
            mean of log-likelihoods over pixels.
    """

    temperature = 0.1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nside: int,
        network: Callable[[int, int, int], nn.Module] = IsotropicUNet,
        rate: float = 0.1,
        passes: int = 20,
        weight_penalty: float = 1e-9,
        rate_penalty: float = 2e-5,
    ):
        super().__init__(in_channels, out_channels, nside, network, rate, passes)
        self.weight_penalty, self.rate_penalty = weight_penalty, rate_penalty
        self.logits = nn.Parameter(torch.full((len(self.dropped),), rate).logit())

    @property
    def rates(self) -> Tensor:
        """The rates as they are now, one for each dropped layer."""
        return self.logits.sigmoid()

    def kept(self, number: int, shape: tuple[int, int], like: Tensor) -> Tensor:
        """Random factors, nearly 0 or 1 over the chance to be kept, that pass gradients on to the rate."""
        chance = torch.rand(shape, device=like.device).clamp(1e-6, 1 - 1e-6).logit()
        dropped = ((self.logits[number] + chance) / self.temperature).sigmoid()
        return ((1 - dropped) / (1 - self.rates[number])).to(like.dtype)

    def penalty(self) -> Tensor:
        """What the rates and weights cost, as a number to be added to a loss."""
        rates = self.rates
        negative_entropy = rates * rates.log() + (1 - rates) * (1 - rates).log()
        channels = torch.tensor([_in_channels(layer) for layer in self.dropped], device=rates.device)
        weights = torch.stack([layer.weight.square().sum() for layer in self.dropped])
        return (
            self.weight_penalty * (weights / (1 - rates)).sum()
            + self.rate_penalty * (channels * negative_entropy).sum()
        )

    def forward(self, maps: Tensor) -> Tensor:
        """As for fixed rates; in training the penalty's gradient goes with the output's."""
        output = super().forward(maps)
        return _AddPenalty.apply(output, self.penalty()) if self.training else output


def _in_channels(layer: nn.Module) -> int:
    if isinstance(layer, PixelLinear):
        return layer.in_features
    if isinstance(layer, ChebyshevConv):
        return layer.weight.shape[0] // layer.kernel_size
    return layer.in_channels
