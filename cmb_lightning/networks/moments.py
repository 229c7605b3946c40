"""Weights for maps, from how the maps vary together around each place and over the whole sky."""

import torch
from torch import Tensor, nn

from ..sphere.interpolation import Interpolate

COARSE = 8  # nside of the places: 7 degrees
CLOSE_TO_ONE = 0.9999  # correlations beyond differ in noise only


class RunningStandard(nn.Module):
    """Brings features to mean 0 and variance 1 as found over all of training so far, the same way when evaluating.

    Statistics of single batches would not do: a batch holds as many whole-sky features as skies.

    Args:
        features: How many.
    """

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("square", torch.ones(features))
        self.register_buffer("count", torch.tensor(0.0))

    def forward(self, values: Tensor) -> Tensor:
        """Shape (..., feature), unchanged."""
        if self.training:
            with torch.no_grad():
                flat = values.detach().flatten(0, -2)
                share = 1 / (self.count + 1)
                self.mean += share * (flat.mean(0) - self.mean)
                self.square += share * (flat.square().mean(0) - self.square)
                self.count += 1
        return (values - self.mean) / (self.square - self.mean.square()).clamp(min=1e-4).sqrt()


class MomentWeights(nn.Module):
    """A weight for each of several maps at each place, from the maps' second moments there and over the sky.

    What an internal linear combination solves for, from the covariance of its bands, is learned here from maps that are
    given: moments are taken in pixels of nside 8 and over the whole sky, separately in each group of maps, as sizes and
    correlations, and a small network says the weights, which are then interpolated to the pixels.

    Args:
        groups: Groups of maps, such as the scales of needlets.
        channels: Maps in each group.
        nside: Resolution of the maps.
        width: Width of the two hidden layers.
        jitter: Standard deviation of the noise that training adds to the standardised features.
        dropout: Part of the hidden units dropped in training.
    """

    def __init__(
        self, groups: int, channels: int, nside: int, width: int = 256, jitter: float = 0.5, dropout: float = 0.1
    ):
        super().__init__()
        self.groups, self.channels, self.jitter = groups, channels, jitter
        coarse = min(COARSE, max(1, nside // 4))
        self.places = 12 * coarse**2
        pairs = torch.triu_indices(channels, channels, offset=1)
        self.register_buffer("pairs", pairs, persistent=False)
        self.standard = RunningStandard(2 * groups * (channels + pairs.shape[1]))
        self.hidden = nn.Sequential(
            nn.Linear(len(self.standard.mean), width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Dropout(dropout),
        )
        self.last = nn.Linear(width, groups * channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.interpolate = Interpolate(coarse, nside)

    def forward(self, maps: Tensor) -> Tensor:
        """Weights of shape (batch, groups * channels, npix), NESTED, as the maps that they are for."""
        with torch.autocast(maps.device.type, enabled=False):
            images = maps.float().unflatten(1, (self.groups, self.channels)).unflatten(3, (self.places, -1))
            images = images.permute(0, 3, 1, 2, 4).contiguous()  # batch, place, group, channel, pixel
            moments = images @ images.transpose(3, 4) / images.shape[-1]
            there, everywhere = self._features(moments), self._features(moments.mean(1, keepdim=True))
            features = self.standard(torch.cat([there, everywhere.expand_as(there)], dim=-1))
            features = 3 * torch.tanh(features / 3)  # what training has not seen goes no further than what it has
            if self.training:
                features = features + self.jitter * torch.randn_like(features)
            return self.interpolate(self.last(self.hidden(features)).transpose(1, 2))

    def _features(self, moments: Tensor) -> Tensor:
        """Logarithms of sizes, and Fisher's z of correlations, of matrices (batch, place, group, channel, channel)."""
        size = moments.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12).sqrt()
        rows, columns = self.pairs
        correlation = moments[..., rows, columns] / (size[..., rows] * size[..., columns])
        z = torch.atanh(correlation.clamp(-CLOSE_TO_ONE, CLOSE_TO_ONE))
        return torch.cat([size.log(), z], dim=-1).flatten(2)
