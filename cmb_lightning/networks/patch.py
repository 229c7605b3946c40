"""The patch U-Net: a plain U-Net on square pieces of the sphere."""

import numpy as np
import torch
from torch import Tensor, nn

from ..sphere import Faces, HealpixPad
from ..sphere.faces import nested_of_face


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two zero-padded 3x3 convolutions without bias, each with ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.ReLU(),
    )


class PatchUNet(nn.Module):
    """U-Net without normalisation, on square NESTED patches.

    A patch is a run of patch_side^2 pixels of the NESTED ordering, a square of one face. Given whole maps the network
    cuts them into patches, cleans each by itself and puts them together, so that its output has a seam wherever two
    patches meet; a halo of true neighbours around each patch, cut off again afterwards, moves the zeros at the patch's
    rim away from the pixels that count. Given single patches, as when training on them, there is no halo to take.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps.
        patch_side: Side of a patch in pixels, a power of two; by default 128, or the whole face if that is smaller.
        halo: Pixels of the surrounding sky added on each side of a patch.
        width: Channels at full resolution; they double at each level below.
        depth: Number of times the resolution is halved.

    Raises:
        ValueError: If patches do not tile the faces or cannot be halved that often.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nside: int,
        patch_side: int | None = None,
        halo: int = 0,
        width: int = 32,
        depth: int = 3,
    ):
        super().__init__()
        self.side = min(128, nside) if patch_side is None else patch_side
        if self.side < 1 or nside % self.side:
            raise ValueError(f"patch_side={patch_side} does not tile faces of nside={nside}: use a power of two below.")
        if (self.side + 2 * halo) % (1 << depth):
            raise ValueError(
                f"patch_side={self.side} with halo={halo} on each side cannot be halved depth={depth} times: "
                f"use multiples of {1 << depth} for the sum of side and both halos."
            )
        self.halo = halo
        order = nested_of_face(self.side).reshape(-1)
        self.register_buffer("order", torch.from_numpy(order.copy()), persistent=False)
        self.register_buffer("inverse", torch.from_numpy(np.argsort(order)), persistent=False)
        self.faces = Faces(nside)
        self.pad = HealpixPad(nside, halo) if halo else nn.Identity()
        widths = [width << level for level in range(depth + 1)]
        self.first = double_conv(in_channels, width)
        self.way_down = nn.ModuleList(double_conv(w, 2 * w) for w in widths[:-1])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1])
        self.way_up = nn.ModuleList(double_conv(2 * w, w) for w in widths[:-1])
        self.last = nn.Conv2d(width, out_channels, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (batch, in_channels, pixel) to (batch, out_channels, pixel), NESTED: whole maps or single patches."""
        if maps.shape[-1] == self.side**2:
            images = maps[..., self.order].unflatten(2, (self.side, self.side))
            return self._clean(images).flatten(2)[..., self.inverse]
        images = self.pad(self.faces.fold(maps))
        reach = self.side + 2 * self.halo
        patches = images.unfold(2, reach, self.side).unfold(3, reach, self.side).permute(0, 2, 3, 1, 4, 5)
        cleaned = self._clean(patches.flatten(0, 2))
        cleaned = cleaned[..., self.halo : self.halo + self.side, self.halo : self.halo + self.side]
        together = cleaned.unflatten(0, patches.shape[:3]).permute(0, 3, 1, 4, 2, 5)
        return self.faces.unfold(together.flatten(4, 5).flatten(2, 3))

    def _clean(self, images: Tensor) -> Tensor:
        kept = [self.first(images.contiguous(memory_format=torch.channels_last))]
        for block in self.way_down:
            kept.append(block(nn.functional.max_pool2d(kept[-1], 2)))
        images = kept.pop()
        for level in reversed(range(len(kept))):
            images = self.way_up[level](torch.cat((kept[level], self.ups[level](images)), dim=1))
        return self.last(images)
