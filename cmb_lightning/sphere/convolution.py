"""Convolution on the sphere: true neighbours around each face, then an ordinary, fast 2D convolution."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .padding import HealpixPad

RINGS = [2, 1, 2, 1, 0, 1, 2, 1, 2]
"""Which weight of an isotropic kernel each pixel of the square has: the middle's, the edges' or the corners'."""


class IsotropicConv2d(nn.Conv2d):
    """A convolution whose 3x3 kernels have three weights each: of the middle, of each edge and of each corner.

    Weights start as those of He et al. 2015 (arXiv:1502.01852), the three rings of a kernel alike in what they give of
    white noise.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        bias: Whether to add a bias per channel.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 3, bias=bias)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3) * math.sqrt(2 / (3 * in_channels)))
        with torch.no_grad():
            self.weight[..., 1:] /= 2  # of four pixels each
        self.register_buffer("rings", torch.tensor(RINGS), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (image, in, y + 2, x + 2) to (image, out, y, x)."""
        kernel = self.weight[..., self.rings].unflatten(-1, self.kernel_size)
        return self._conv_forward(images, kernel.contiguous(memory_format=torch.channels_last), self.bias)


class HealpixConv2d(nn.Module):
    """A square convolution over face images that does not see the edges of the faces.

    The kernel is oriented along each face's own axes (north-east and north-west); around the poles these turn by 90
    degrees from face to face, as any orientation must somewhere on the sphere. An isotropic kernel has none.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the images.
        kernel_size: Odd side of the kernel in pixels; 1 needs no neighbours.
        bias: Whether to add a bias per channel.
        isotropic: Whether a 3x3 kernel's edges are alike, and its corners.

    Raises:
        ValueError: If the kernel's side is even, does not fit the faces, or is not 3 where it is to be isotropic.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nside: int,
        kernel_size: int = 3,
        bias: bool = True,
        isotropic: bool = False,
    ):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, with as many pixels on each side.")
        if isotropic and kernel_size != 3:
            raise ValueError(f"kernel_size={kernel_size} of an isotropic kernel must be 3.")
        self.pad = HealpixPad(nside, kernel_size // 2) if kernel_size > 1 else nn.Identity()
        if isotropic:
            self.conv = IsotropicConv2d(in_channels, out_channels, bias)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch * 12, in_channels, nside, nside) to (batch * 12, out_channels, nside, nside)."""
        return self.conv(self.pad(images))

    def faces(self, padded: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The same face by face, of images already in the middle of padded ones, whose rim this writes.

        Args:
            padded: Shape (batch * 12, in_channels, nside + 2, nside + 2) for a kernel of 3, channels last in memory.

        Yields:
            The number of each face and its image, (1, out_channels, nside, nside); its place may then be overwritten.
        """
        self.pad.around(padded)
        for number, face in enumerate(padded.split(1)):
            yield number, self.conv(face)
