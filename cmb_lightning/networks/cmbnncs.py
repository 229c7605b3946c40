"""CMBNNCS: U-Nets on the sphere laid out flat (Wang et al. 2022, ApJS 260:13)."""

import numpy as np
import torch
from torch import Tensor, nn

from ..sphere.faces import nested_of_face
from .start import start_at_zero


def flat_layout(nside: int) -> np.ndarray:
    """NESTED index of each pixel of the sphere laid out as one image of 4 nside x 3 nside.

    Each of the four rows is a strip from the southern to the northern polar cap, of three faces whose axes continue.
    The strips follow each other in longitude but do not continue each other: there the image has seams.

    Args:
        nside: Resolution, a power of two.

    Returns:
        Integers of shape (4 nside, 3 nside).
    """
    face = nested_of_face(nside)
    strips = [(8 + (k - 1) % 4, 4 + k, k) for k in range(4)]
    return np.block([[number * nside**2 + face for number in strip] for strip in strips])


class FlatUNet(nn.Module):
    """A U-Net of stride-2 convolutions, each with batch norm and PReLU, on the flat layout of the sphere.

    Every level of the way up but the first also sees what the way down had at that resolution. Both ways are 3x3
    convolutions; as published, batch norm and PReLU follow the last one too.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps.
        channels: Channels after each convolution on the way down.
        zero_init: Whether the last batch norm starts at zero, and with it the output, so that training starts from no
            correction at all; as published it starts at one, and the output as noise of unit variance.
    """

    def __init__(
        self, in_channels: int, out_channels: int, nside: int, channels: tuple[int, ...], zero_init: bool = True
    ):
        super().__init__()
        layout = flat_layout(nside)
        self.shape = layout.shape
        self.register_buffer("order", torch.from_numpy(layout.reshape(-1)), persistent=False)
        self.register_buffer("inverse", torch.from_numpy(np.argsort(layout.reshape(-1))), persistent=False)

        ways_in, ways_out = (in_channels, *channels[:-1]), (out_channels, *channels[:-1])
        self.way_down = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in zip(ways_in, channels, strict=True)
        )
        # The deepest level comes up alone, the others beside what the way down had.
        inputs = [*(2 * width for width in channels[:-1]), channels[-1]]
        self.way_up = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 3, stride=2, padding=1)
            for before, after in zip(inputs, ways_out, strict=True)
        )
        self.after_down = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(width), nn.PReLU()) for width in channels)
        self.after_up = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(width), nn.PReLU()) for width in ways_out)
        if zero_init:
            start_at_zero(self.after_up[0][0])
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (batch, in_channels, pixel) to (batch, out_channels, pixel), NESTED."""
        rows = maps.transpose(1, 2).index_select(1, self.order)
        images = [rows.view(len(maps), *self.shape, -1).permute(0, 3, 1, 2)]
        for conv, after in zip(self.way_down, self.after_down, strict=True):
            images.append(after(_in_full_if_narrow(conv, images[-1], images[-1].shape)))

        image = images.pop()
        for level in reversed(range(len(self.way_up))):
            beside = images.pop()
            size = beside.shape[-2:]
            image = self.after_up[level](_in_full_if_narrow(self.way_up[level], image, size, output_size=size))
            if level > 0:
                image = torch.cat((beside, image), dim=1)
        return image.flatten(2).index_select(2, self.inverse)


def _in_full_if_narrow(conv: nn.Module, image: Tensor, larger: torch.Size, **options: torch.Size) -> Tensor:
    """A strided convolution, in its weights' precision if the larger of its images is one pixel wide.

    There oneDNN 3.12, which torch uses on processors, makes noise of the gradients of bfloat16 weights.
    """
    if larger[-1] > 1:
        return conv(image, **options)
    with torch.autocast(image.device.type, enabled=False):
        return conv(image.to(conv.weight.dtype), **options)


class UNet5(FlatUNet):
    """CMBNNCS UNet5: five stride-2 convolutions, 32 to 512 channels.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps.
        width: Channels of the first level; they double at each level below.
        zero_init: Whether the last batch norm starts at zero, and with it the output, so that training starts from no
            correction at all; as published it starts at one, and the output as noise of unit variance.
    """

    def __init__(self, in_channels: int, out_channels: int, nside: int, width: int = 32, zero_init: bool = True):
        super().__init__(in_channels, out_channels, nside, tuple(width << level for level in range(5)), zero_init)


class UNet8(FlatUNet):
    """CMBNNCS UNet8: eight stride-2 convolutions, 16 to 2048 channels.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps; published for 512. Below 128 its deepest level is one pixel, whose batch norm
            needs two skies or more in a training batch.
        width: Channels of the first level; they double at each level below.
        zero_init: Whether the last batch norm starts at zero, and with it the output, so that training starts from no
            correction at all; as published it starts at one, and the output as noise of unit variance.
    """

    def __init__(self, in_channels: int, out_channels: int, nside: int, width: int = 16, zero_init: bool = True):
        super().__init__(in_channels, out_channels, nside, tuple(width << level for level in range(8)), zero_init)
