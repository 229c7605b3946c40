"""The project's own network: a U-Net on the sphere without seams."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sphere import Faces, HealpixConv2d
from ..sphere.faces import N_FACES
from .start import start_at_zero

LARGE = 2**26
"""Numbers in images from which on memory matters more than that the faces go through a layer together."""


def saves_memory(block: nn.Module, images: Tensor) -> bool:
    """Whether a block goes face by face and overwrites its images: if they are large, and no gradients to come.

    Not where something hooks into its layers, as dropout does: it would see single faces.
    """
    hooked = any(layer._forward_pre_hooks or layer._forward_hooks for layer in block.modules())
    return not torch.is_grad_enabled() and images.numel() >= LARGE and not hooked


class PixelLinear(nn.Linear):
    """Mixes the channels of each pixel: a 1x1 convolution, as the matrix product it is in channels-last memory."""

    def forward(self, images: Tensor) -> Tensor:
        """Shape (face, in, y, x) to (face, out, y, x)."""
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def widths_of_levels(nside: int, width: int, max_width: int, depth: int) -> list[int]:
    """Channels at each of `depth` + 1 resolutions: they double from `width` to at most `max_width`.

    Raises:
        ValueError: If nside cannot be halved that often, or there are no such widths.
    """
    if depth < 0 or nside >> depth < 1:
        raise ValueError(f"depth={depth} does not fit nside={nside}: use 0 to {nside.bit_length() - 1}.")
    if not 1 <= width <= max_width:
        raise ValueError(f"width={width}, max_width={max_width}: need 1 <= width <= max_width.")
    return [min(width << level, max_width) for level in range(depth + 1)]


def last_maps(last: PixelLinear, faces: Faces, images: Tensor) -> Tensor:
    """Maps that a last layer makes of images, in its own precision whatever that around it is."""
    kind = last.weight.dtype
    with torch.autocast(images.device.type, enabled=False):
        if not saves_memory(last, images):
            return faces.unfold(last(images.to(kind)))
        batch = len(images) // N_FACES
        maps = images.new_empty((batch, last.out_features, faces.order.numel()), dtype=kind)
        return faces.unfold_each((last(face.to(kind)) for face in images.split(1)), maps)


class PixelNorm(nn.LayerNorm):
    """Normalises over the channels of each pixel; over images it would treat each face by itself."""

    def forward(self, images: Tensor) -> Tensor:
        """Shape (face, channel, y, x), unchanged."""
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Down(nn.Module):
    """Halves nside: the four pixels under each larger one become its channels and are mixed."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.mix = PixelLinear(4 * in_channels, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (face, in, 2 n, 2 n) to (face, out, n, n)."""
        faces, channels, side, _ = images.shape
        blocks = images.permute(0, 2, 3, 1).reshape(faces, side // 2, 2, side // 2, 2, channels)
        blocks = blocks.transpose(2, 3).reshape(faces, side // 2, side // 2, 4 * channels)
        return self.mix(blocks.permute(0, 3, 1, 2))


class Up(nn.Module):
    """Doubles nside, each pixel mixed into the channels of the four under it, and adds that to finer images."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.mix = PixelLinear(in_channels, 4 * out_channels)

    def forward(self, images: Tensor, finer: Tensor) -> Tensor:
        """Shapes (face, in, n, n) and (face, out, 2 n, 2 n) to (face, out, 2 n, 2 n)."""
        if not saves_memory(self, finer):
            return finer + self._doubled(images)
        for sum_, face in zip(finer.split(1), images.split(1), strict=True):
            sum_ += self._doubled(face)
        return finer

    def _doubled(self, images: Tensor) -> Tensor:
        blocks = self.mix(images).permute(0, 2, 3, 1)
        faces, side, _, channels = blocks.shape
        blocks = blocks.reshape(faces, side, side, 2, 2, channels // 4).transpose(2, 3)
        return blocks.reshape(faces, 2 * side, 2 * side, channels // 4).permute(0, 3, 1, 2)


class PixelBlock(nn.Module):
    """Adds a nonlinear mixture of each pixel's channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = PixelNorm(channels)
        self.expand = PixelLinear(channels, 2 * channels)
        self.reduce = PixelLinear(2 * channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (face, channel, y, x), unchanged."""
        if not saves_memory(self, images):
            return images + self._mixture(images)
        for face in images.split(1):
            face += self._mixture(face)
        return images

    def _mixture(self, images: Tensor) -> Tensor:
        return self.reduce(F.silu(self.expand(self.norm(images))))


class ConvBlock(nn.Module):
    """Adds two seam-free convolutions of the normalised images."""

    def __init__(self, channels: int, nside: int):
        super().__init__()
        self.norm = PixelNorm(channels)
        self.first = HealpixConv2d(channels, channels, nside)
        self.second = HealpixConv2d(channels, channels, nside)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch * 12, channel, nside, nside), unchanged."""
        if saves_memory(self, images):
            return self._overwrite(images)
        return images + self.second(F.silu(self.first(self.norm(images))))

    def _overwrite(self, images: Tensor) -> Tensor:
        """The same in the memory of the images and of one copy of them, padded, in which both convolutions happen."""
        faces, channels, nside, _ = images.shape
        side = nside + 2 * self.first.pad.width
        padded = images.new_empty((faces, side, side, channels)).permute(0, 3, 1, 2)
        inside = padded[..., 1:-1, 1:-1]
        for place, image in zip(inside.split(1), images.split(1), strict=True):
            place.copy_(self.norm(image))
        for number, face in self.first.faces(padded):
            inside[number].copy_(F.silu(face, inplace=True)[0])
        for number, face in self.second.faces(padded):
            images[number] += face[0]
        return images


class HealpixUNet(nn.Module):
    """U-Net on the twelve HEALPix faces, whose convolutions take the true neighbours across every edge.

    Pixels are first mixed on their own, which is where most of foreground cleaning happens; residual blocks then work
    at `depth` + 1 resolutions, nside to nside / 2^depth, and each way up adds what the way down had at that resolution.
    Normalisation is over the channels of a pixel and only inside the blocks, so amplitudes reach the output unchanged.
    The last layer computes in float32 whatever the precision around it.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps.
        width: Channels at full resolution; they double at each level below.
        max_width: Most channels at any level.
        depth: Number of times the resolution is halved.
        blocks: Residual blocks per level on each way.
        pixel_blocks: Blocks that mix the channels of single pixels, before the first convolution.
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
        blocks: int = 1,
        pixel_blocks: int = 1,
        zero_init: bool = True,
    ):
        super().__init__()
        if blocks < 1:
            raise ValueError(f"blocks={blocks} must be at least 1.")
        widths = widths_of_levels(nside, width, max_width, depth)
        nsides = [nside >> level for level in range(depth + 1)]

        def stage(level: int, count: int = blocks) -> nn.Sequential:
            return nn.Sequential(*(ConvBlock(widths[level], nsides[level]) for _ in range(count)))

        self.faces = Faces(nside)
        self.lift = PixelLinear(in_channels, width)
        self.pixels = nn.Sequential(*(PixelBlock(width) for _ in range(pixel_blocks)))
        self.way_down = nn.ModuleList(stage(level) for level in range(depth))
        self.downs = nn.ModuleList(Down(widths[level], widths[level + 1]) for level in range(depth))
        self.bottom = stage(depth)
        self.ups = nn.ModuleList(Up(widths[level + 1], widths[level]) for level in range(depth))
        self.way_up = nn.ModuleList(stage(level) for level in range(depth))
        self.last = PixelLinear(width, out_channels)
        self.to(memory_format=torch.channels_last)
        if zero_init:
            start_at_zero(self.last)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (batch, in_channels, pixel) to (batch, out_channels, pixel), NESTED."""
        if saves_memory(self.lift, maps):
            images = self.pixels(torch.cat([self.lift(face) for face in self.faces.fold_each(maps)]))
        else:
            images = self.pixels(self.lift(self.faces.fold(maps)))
        kept = []
        for stage, down in zip(self.way_down, self.downs, strict=True):
            images = stage(images)
            kept.append(images)
            images = down(images)
        images = self.bottom(images)
        for level in reversed(range(len(kept))):
            images = self.way_up[level](self.ups[level](images, kept.pop()))
        return last_maps(self.last, self.faces, images)
