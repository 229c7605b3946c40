"""DeepSphere U-Net: graph convolutions on the sphere (Perraudin et al. 2019; Adams et al. 2023, arXiv:2302.12378)."""

import math

import torch
from torch import Tensor, nn

from ..sphere.chebyshev import chebyshev_filter
from ..sphere.faces import check_nside
from ..sphere.graph import laplacian
from ..sphere.sparse import Rows, times
from .start import start_at_zero

MATRIX = ("starts", "columns", "values")


class _SymmetricProduct(torch.autograd.Function):
    """A symmetric sparse matrix times dense columns; the gradient is the same product again."""

    @staticmethod
    def forward(ctx, columns: Tensor, *matrix: Tensor) -> Tensor:
        ctx.save_for_backward(*matrix)
        return times(matrix, columns)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return times(ctx.saved_tensors, gradient.contiguous()), None, None, None


class ChebyshevConv(nn.Module):
    """A filter that is a polynomial of the graph Laplacian: isotropic, and reaching K - 1 neighbours far.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Number of Chebyshev polynomials, K.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        # Batch norm follows, which takes any bias away.
        self.weight = nn.Parameter(torch.empty(kernel_size * in_channels, out_channels))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (kernel_size * in_channels)))

    def forward(self, maps: Tensor, matrix: Rows) -> Tensor:
        """Shape (pixel, batch, in) and the Laplacian (row starts, columns, values) to (pixel, batch, out)."""
        pixels, batch, channels = maps.shape
        maps = maps.reshape(pixels * batch, channels)

        def times_laplacian(columns: Tensor) -> Tensor:
            return _SymmetricProduct.apply(columns.reshape(pixels, -1), *matrix).view(pixels * batch, -1)

        filtered = chebyshev_filter(maps, self.weight.chunk(self.kernel_size), times_laplacian)
        return filtered.view(pixels, batch, -1)


class ChebyshevBlock(nn.Module):
    """Two graph convolutions, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, middle_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.first = ChebyshevConv(in_channels, middle_channels, kernel_size)
        self.first_norm = nn.BatchNorm1d(middle_channels)
        self.second = ChebyshevConv(middle_channels, out_channels, kernel_size)
        self.second_norm = nn.BatchNorm1d(out_channels)

    def forward(self, maps: Tensor, matrix: Rows) -> Tensor:
        """Shape (pixel, batch, in) to (pixel, batch, out)."""
        maps = self.first(maps, matrix)
        maps = self.first_norm(maps.flatten(0, 1)).relu().view(maps.shape)
        maps = self.second(maps, matrix)
        return self.second_norm(maps.flatten(0, 1)).relu().view(maps.shape)


class DeepSphereUNet(nn.Module):
    """U-Net of Chebyshev graph convolutions on the nested sphere.

    Levels of `width`, 2 and 4 times it over a bottleneck of 8 times it for the published depth of 3; the resolution
    halves by averaging four pixels and doubles by repeating them, and the way up sees the way down beside it. All
    Laplacians are made when the network is.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the maps.
        width: Channels at full resolution; they double at each level below.
        depth: Number of times the resolution is halved.
        kernel_size: Number of Chebyshev polynomials.
        zero_init: Whether the last layer starts at zero, so that training starts from no correction at all.

    Raises:
        ValueError: If nside cannot be halved that often.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nside: int,
        width: int = 64,
        depth: int = 3,
        kernel_size: int = 3,
        zero_init: bool = True,
    ):
        super().__init__()
        check_nside(nside)
        if depth < 1 or nside >> depth < 2:
            raise ValueError(f"depth={depth} does not fit nside={nside}: use 1 to {nside.bit_length() - 2}.")
        for level in range(depth + 1):
            for name, part in zip(MATRIX, laplacian(nside >> level), strict=True):
                self.register_buffer(f"{name}{level}", torch.from_numpy(part), persistent=False)
        widths = [width << level for level in range(depth)]
        before = [in_channels, *widths[:-1]]
        above = [width, *widths[:-1]]
        self.way_down = nn.ModuleList(ChebyshevBlock(b, w, w, kernel_size) for b, w in zip(before, widths, strict=True))
        self.bottleneck = ChebyshevBlock(widths[-1], 2 * widths[-1], widths[-1], kernel_size)
        self.way_up = nn.ModuleList(
            ChebyshevBlock(2 * w, w, a, kernel_size) for w, a in zip(widths, above, strict=True)
        )
        self.last = nn.Linear(width, out_channels)
        if zero_init:
            start_at_zero(self.last)

    def _laplacian(self, level: int) -> Rows:
        return tuple(getattr(self, f"{part}{level}") for part in MATRIX)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (batch, in_channels, pixel) to (batch, out_channels, pixel), NESTED."""
        maps = maps.permute(2, 0, 1)
        kept = []
        for level, block in enumerate(self.way_down):
            maps = block(maps, self._laplacian(level))
            kept.append(maps)
            maps = maps.unflatten(0, (-1, 4)).mean(1)
        maps = self.bottleneck(maps, self._laplacian(len(kept)))
        for level in reversed(range(len(kept))):
            maps = torch.cat((maps.repeat_interleave(4, dim=0), kept[level]), dim=-1)
            maps = self.way_up[level](maps, self._laplacian(level))
        return self.last(maps).permute(1, 2, 0)
