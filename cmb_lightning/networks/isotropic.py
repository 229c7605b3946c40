"""A U-Net on the sphere without seams and without preferred directions."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sphere import Faces, IsotropicConv2d, ReachingConv2d
from ..sphere.faces import N_FACES
from .start import start_at_zero
from .unet import PixelLinear, last_maps, saves_memory, widths_of_levels

CONVOLUTIONS = {1: IsotropicConv2d, 2: ReachingConv2d}
"""By how many pixels far they reach."""


class SkyNorm(nn.Module):
    """Brings each channel of each sky to mean zero and variance one over all its pixels, then scales and shifts it.

    Instance norm (Ulyanov et al. 2016, arXiv:1607.08022) with the sphere for an image: a sky is treated alike in
    training and later and whatever it shares a batch with.
    """

    eps = 1e-5

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch * 12, channel, nside, nside), unchanged."""
        skies = [
            F.batch_norm(sky, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for sky in images.split(N_FACES)
        ]
        return skies[0] if len(skies) == 1 else torch.cat(skies)

    def overwrite(self, images: Tensor) -> None:
        """The same and a ReLU, in place and face by face."""
        for sky in images.split(N_FACES):
            moments = [torch.var_mean(face.float(), (0, 2, 3), correction=0) for face in sky.split(1)]
            variances, means = map(torch.stack, zip(*moments, strict=True))
            mean = means.mean(0)
            scale = self.weight / (variances.mean(0) + means.var(0, correction=0) + self.eps).sqrt()
            shift = self.bias - mean * scale
            for face in sky.split(1):
                face.copy_(F.relu(torch.addcmul(shift[:, None, None], face, scale[:, None, None]), inplace=True))


class ConvLayer(nn.Module):
    """A seam-free isotropic convolution with a norm over the sky and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, nside: int, reach: int):
        super().__init__()
        self.conv = CONVOLUTIONS[reach](in_channels, out_channels, nside)
        self.norm = SkyNorm(out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch * 12, in, nside, nside) to (batch * 12, out, nside, nside)."""
        if not saves_memory(self, images):
            return F.relu(self.norm(self.conv(images)))
        result = self.conv.in_parts(images)
        self.norm.overwrite(result)
        return result


def doubled_onto(finer: Tensor, images: Tensor) -> Tensor:
    """Adds to finer images those of half their nside, each pixel to the four under it; overwrites without gradients.

    Shapes (face, channel, 2 n, 2 n) and (face, channel, n, n) to (face, channel, 2 n, 2 n).
    """
    if torch.is_grad_enabled():
        return finer + F.interpolate(images, scale_factor=2.0)
    fours = finer.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    fours += images[:, :, :, None, :, None]
    return finer


class IsotropicUNet(nn.Module):
    """U-Net on the twelve HEALPix faces, whose convolutions take the true neighbours across every edge.

    Its kernels are isotropic: four edges count alike, and four corners, since skies have no preferred direction, least
    of all that of the faces' axes. So a third of the weights of square kernels learns from all directions at once, and
    the network does to a sky mirrored at the equator or at a meridian what it does to the sky. With `reach: 2` they are
    polynomials of the mean over the eight pixels around.

    Two convolutions, each with a norm over the sky and ReLU, work at every one of `depth` + 1 resolutions, nside to
    nside / 2^depth, on the way down and on the way up. Between them four pixels are averaged; or one is repeated, and
    added to what the way down had there. The last layer computes in float32 whatever the precision around it.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps.
        width: Channels at full resolution; they double at each level below.
        max_width: Most channels at any level.
        depth: Number of times the resolution is halved.
        reach: How many pixels far kernels reach. Those of 2 learn more of as many skies, but take more time: on a
            processor a tenth to a third.
        zero_init: Whether the last layer starts at zero, so that training starts from no correction at all.

    Raises:
        ValueError: If nside cannot be halved that often, or a size is below one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nside: int,
        width: int = 32,
        max_width: int = 128,
        depth: int = 4,
        reach: Literal[1, 2] = 2,
        zero_init: bool = True,
    ):
        super().__init__()
        widths = widths_of_levels(nside, width, max_width, depth)
        before, above = [in_channels, *widths[:-1]], [width, *widths[:-1]]

        def stage(level: int, before: int, after: int) -> nn.Sequential:
            nside_here, middle = nside >> level, widths[level]
            layers = ConvLayer(before, middle, nside_here, reach), ConvLayer(middle, after, nside_here, reach)
            return nn.Sequential(*layers)

        self.faces = Faces(nside)
        self.way_down = nn.ModuleList(stage(level, before[level], widths[level]) for level in range(depth))
        self.bottom = stage(depth, before[depth], above[depth])
        self.way_up = nn.ModuleList(stage(level, widths[level], above[level]) for level in range(depth))
        self.last = PixelLinear(width, out_channels)
        self.to(memory_format=torch.channels_last)
        if zero_init:
            start_at_zero(self.last)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (batch, in_channels, pixel) to (batch, out_channels, pixel), NESTED."""
        images = self.faces.fold(maps)
        kept = []
        for stage in self.way_down:
            images = stage(images)
            kept.append(images)
            images = F.avg_pool2d(images, 2)
        images = self.bottom(images)
        for stage in reversed(self.way_up):
            images = stage(doubled_onto(kept.pop(), images))
        return last_maps(self.last, self.faces, images)
