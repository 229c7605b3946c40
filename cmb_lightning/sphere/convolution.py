"""Convolution on the sphere: true neighbours around each face, then an ordinary, fast 2D convolution."""

from collections.abc import Iterator

from torch import Tensor, nn

from .padding import HealpixPad


class HealpixConv2d(nn.Module):
    """A square convolution over face images that does not see the edges of the faces.

    The kernel is oriented along each face's own axes (north-east and north-west); around the poles these turn by 90
    degrees from face to face, as any orientation must somewhere on the sphere.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the images.
        kernel_size: Odd side of the kernel in pixels; 1 needs no neighbours.
        bias: Whether to add a bias per channel.

    Raises:
        ValueError: If the kernel's side is even or does not fit the faces.
    """

    def __init__(self, in_channels: int, out_channels: int, nside: int, kernel_size: int = 3, bias: bool = True):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, with as many pixels on each side.")
        self.pad = HealpixPad(nside, kernel_size // 2) if kernel_size > 1 else nn.Identity()
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
