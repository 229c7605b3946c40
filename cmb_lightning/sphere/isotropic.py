"""Convolutions on the sphere without preferred directions: of the rings around each pixel, or of means of means."""

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor, nn

from .chebyshev import chebyshev_filter
from .faces import N_FACES
from .padding import HealpixPad, rim_table
from .sparse import Rows, times

RING_OF = np.array([[2, 1, 2], [1, 0, 1], [2, 1, 2]])
"""Which of its three weights a kernel has at each of 3x3 pixels: the middle's, the edges' or the corners'."""
PARTS = 8  # in which channels are computed to save memory


@lru_cache(maxsize=32)
def ring_sums(nside: int, batch: int) -> tuple[Rows, Rows]:
    """The sums over rings as a sparse matrix, and its transpose.

    Row p of the matrix has column 3 q + k for every pixel q on ring k around p: p itself, the four beyond its edges and
    the four at its corners. Where three faces meet and a corner is missing, the two pixels beside it count half.

    Args:
        nside: Resolution, a power of two.
        batch: Number of skies, one after the other.

    Returns:
        Matrices of npix and of 3 npix rows for each sky; pixels are counted (face, y, x).
    """
    matrix = _sums(nside)
    return _rows(matrix, batch), _rows(matrix.T.tocsr(), batch)


@lru_cache(maxsize=32)
def mean_around(nside: int, batch: int) -> tuple[Rows, Rows]:
    """The mean over the eight pixels around each as a sparse matrix, and its transpose.

    Args:
        nside: Resolution, a power of two.
        batch: Number of skies, one after the other.

    Returns:
        Matrices of npix rows for each sky; pixels are counted (face, y, x), and missing corners are as in `ring_sums`.
    """
    sums = _sums(nside)
    matrix = (sums[:, 1::3] + sums[:, 2::3]).tocsr() / 8
    return _rows(matrix, batch), _rows(matrix.T.tocsr(), batch)


def _sums(nside: int) -> csr_array:
    npix = N_FACES * nside**2
    first, second = _padded_pixels(nside)
    steps = [*np.ndindex(RING_OF.shape)]
    found, other = (
        np.stack([3 * pixels[:, y : y + nside, x : x + nside].ravel() + RING_OF[y, x] for y, x in steps], axis=1)
        for pixels in (first, second)
    )
    missing = found != other
    entries = np.insert(found.ravel(), np.flatnonzero(missing), other[missing])
    values = np.insert(np.where(missing, 0.5, 1).ravel(), np.flatnonzero(missing), 0.5).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(9 + missing.sum(1))])
    return csr_array((values, entries, starts), shape=(npix, 3 * npix))


def _padded_pixels(nside: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the pixels on and around each face: two arrays (face, y, x), which differ at missing corners."""
    places, *around = rim_table(nside, 1)
    padded = np.zeros((2, N_FACES, nside + 2, nside + 2), np.int64)
    padded[:, :, 1:-1, 1:-1] = np.arange(N_FACES * nside**2).reshape(N_FACES, nside, nside)
    padded.reshape(2, -1)[:, places] = around
    return tuple(padded)


def _rows(matrix: csr_array, batch: int) -> Rows:
    sky = np.arange(batch)[:, None]
    starts, columns = matrix.indptr[:-1] + sky * matrix.nnz, matrix.indices + sky * matrix.shape[1]
    kind = torch.int32 if batch * matrix.nnz < 2**31 else torch.int64
    numbers = (torch.from_numpy(part.ravel()).to(kind) for part in (starts, columns))
    return *numbers, torch.from_numpy(np.tile(matrix.data, batch))


class _Product(torch.autograd.Function):
    """A sparse matrix times rows (sky, face, y, x, ...) of channels; the gradient is that with the transpose."""

    @staticmethod
    def forward(ctx, rows: Tensor, matrix: Callable[[int, int], tuple[Rows, Rows]], nside: int, batch: int) -> Tensor:
        ctx.matrix, ctx.place = matrix, (nside, batch)
        return times(matrix(nside, batch)[0], rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return times(ctx.matrix(*ctx.place)[1], gradient.contiguous()), None, None, None


def _empty(faces: int, part: Tensor, channels: int | None = None) -> Tensor:
    """Images of as many faces, and channels, as a part of them is like."""
    shape = faces, channels or part.shape[1], *part.shape[2:]
    return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)


class _ThreeWeights(nn.Module):
    """What convolutions share whose kernels are three weights for each pair of channels, (out, in, 3).

    Weights start as those of He et al. 2015 (arXiv:1502.01852), as for three numbers of variance one.
    """

    def __init__(self, in_channels: int, out_channels: int, nside: int):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.pad = HealpixPad(nside)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (3 * in_channels)))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


class IsotropicConv2d(_ThreeWeights):
    """A convolution over face images that sees no edges of faces and has no direction.

    A kernel is 3x3 pixels with three weights: of the middle, of each edge and of each corner. So channels can be mixed
    first, for a third of a square kernel's multiplications, and what is mixed summed over rings. A processor does so;
    on a GPU, and compiled, it is an ordinary convolution. The two differ by rounding.

    Weights start as those of He et al. 2015 (arXiv:1502.01852), the rings alike in what they give of white noise.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the images.
    """

    def __init__(self, in_channels: int, out_channels: int, nside: int):
        super().__init__(in_channels, out_channels, nside)
        with torch.no_grad():
            self.weight[..., 1:] /= 2  # for each of four pixels
        self.register_buffer("ring_of", torch.from_numpy(RING_OF), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch * 12, in_channels, nside, nside) to (batch * 12, out_channels, nside, nside)."""
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return self._convolved(self.pad(images))
        rows = images.permute(0, 2, 3, 1).flatten(0, 2)
        mixed = (rows @ self.weight.permute(1, 2, 0).flatten(1)).view(-1, self.out_channels)
        sums = _Product.apply(mixed, ring_sums, self.pad.nside, len(images) // N_FACES)
        return sums.view(len(images), *images.shape[2:], -1).permute(0, 3, 1, 2)

    def in_parts(self, images: Tensor) -> Tensor:
        """The same face by face, without gradients, in less memory: it overwrites images that are like the result."""
        for number, face in enumerate(map(self._convolved, self.pad(images).split(1))):
            if number == 0:
                alike = images.shape[1:] == face.shape[1:] and images.dtype == face.dtype
                result = images if alike else _empty(len(images), face)
            result[number] = face[0]
        return result

    def _convolved(self, padded: Tensor) -> Tensor:
        kernel = self.weight[..., self.ring_of].contiguous(memory_format=torch.channels_last)
        return F.conv2d(padded, kernel)


class ReachingConv2d(_ThreeWeights):
    """A convolution over face images that sees no edges of faces, has no direction and reaches two pixels far.

    A kernel is a polynomial of the mean A over the eight pixels around: of 1, A and 2 A^2 - 1, the first three of
    Chebyshev. It has as many weights and multiplications as `IsotropicConv2d`, and sees 5x5 pixels in place of 3x3.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        nside: Resolution of the images.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch * 12, in_channels, nside, nside) to (batch * 12, out_channels, nside, nside)."""
        return self._filtered(images, self.weight)

    def in_parts(self, images: Tensor) -> Tensor:
        """The same some channels at a time, without gradients, in less memory."""
        first = 0
        for weight in self.weight.split(math.ceil(self.out_channels / PARTS)):
            part = self._filtered(images, weight)
            if first == 0:
                result = _empty(len(images), part, self.out_channels)
            result[:, first : first + len(weight)] = part
            first += len(weight)
        return result

    def _filtered(self, images: Tensor, weight: Tensor) -> Tensor:
        rows = images.permute(0, 2, 3, 1).flatten(0, 2)
        result = chebyshev_filter(rows, weight.permute(2, 1, 0).unbind(), partial(self._mean, len(images)))
        return result.view(len(images), *images.shape[2:], -1).permute(0, 3, 1, 2)

    def _mean(self, faces: int, rows: Tensor) -> Tensor:
        nside = self.pad.nside
        if rows.device.type == "cpu" and not torch.compiler.is_compiling():
            return _Product.apply(rows, mean_around, nside, faces // N_FACES)
        padded = self.pad(rows.view(faces, nside, nside, -1).permute(0, 3, 1, 2))
        mean = F.avg_pool2d(padded, 3, stride=1).permute(0, 2, 3, 1).flatten(0, 2)  # of all nine
        return (9 * mean - rows) / 8
