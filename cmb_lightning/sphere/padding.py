"""A rim of true neighbours around every face, so that convolutions see no edge between faces."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from .faces import N_FACES, check_nside
from .neighbours import NOTHING, beyond


def sources(nside: int, face: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels whose mean stands at face coordinates that may lie up to nside outside their face.

    Where three faces meet, the missing corner is the mean of the two pixels beside it; further out, of the two found by
    sliding back along either axis. Everywhere else both are the one pixel that lies there.

    Args:
        nside: Resolution.
        face: Face numbers.
        x: Coordinates along the faces' x axes, -nside to 2 nside - 1.
        y: The same along the y axes.

    Returns:
        Two arrays of rows of the face images, counted (face, y, x).
    """

    def rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        there, its_x, its_y = beyond(nside, face, x, y)
        return np.where(there == NOTHING, NOTHING, (there * nside + its_y) * nside + its_x)

    def reflected(x: np.ndarray) -> np.ndarray:
        return np.where(x < 0, -1 - x, np.where(x >= nside, 2 * nside - 1 - x, x))

    direct = rows(x, y)
    missing = direct == NOTHING
    return np.where(missing, rows(x, reflected(y)), direct), np.where(missing, rows(reflected(x), y), direct)


@lru_cache(maxsize=64)
def rim_table(nside: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the rim around the faces takes its values from.

    Args:
        nside: Resolution.
        width: Pixels added on each side, 1 to nside.

    Returns:
        (places, first, second): rows of the padded images, counted (face, y, x) with nside + 2 width pixels a side, and
        the two rows of the images, counted (face, y, x), whose mean goes there. Places with two different sources come
        last: there are 24 width^2 of them.
    """
    side = nside + 2 * width
    y, x = np.divmod(np.arange(side * side), side)
    outside = np.flatnonzero((np.minimum(x, y) < width) | (np.maximum(x, y) >= width + nside))
    face = np.repeat(np.arange(N_FACES), outside.size)
    x, y = np.tile(x[outside] - width, N_FACES), np.tile(y[outside] - width, N_FACES)

    first, second = sources(nside, face, x, y)
    missing = first != second
    places = (face * side + y + width) * side + x + width
    order = np.argsort(missing, kind="stable")
    return places[order], first[order], second[order]


def _over_batch(rows: Tensor, batch: int, rows_of_a_sky: int) -> Tensor:
    first_row = torch.arange(batch, device=rows.device) * rows_of_a_sky
    return (first_row[:, None] + rows).view(-1)


def _rim(rows: Tensor, first: Tensor, second: Tensor, batch: int) -> Tensor:
    """Rows that go to the rim of the faces of all skies: those at `first`, at the end of each sky means of two."""
    rim = rows.index_select(0, first).view(batch, -1, rows.shape[-1])
    rim[:, -second.numel() // batch :].add_(rows.index_select(0, second).view(batch, -1, rows.shape[-1])).mul_(0.5)
    return rim.flatten(0, 1)


class _Pad(torch.autograd.Function):
    """Copies the faces and gathers only their rim: plain indexing would gather, and sum back, the whole map."""

    @staticmethod
    def forward(ctx, images: Tensor, width: int, places: Tensor, first: Tensor, second: Tensor) -> Tensor:
        faces, channels, nside, _ = images.shape
        batch, side = faces // N_FACES, nside + 2 * width
        rows = images.permute(0, 2, 3, 1).contiguous()  # a view where memory is channels last
        padded = rows.new_empty((faces, side, side, channels))
        padded[:, width:-width, width:-width] = rows

        rows = rows.view(-1, channels)
        first = _over_batch(first, batch, N_FACES * nside**2)
        second = _over_batch(second, batch, N_FACES * nside**2)
        places = _over_batch(places, batch, N_FACES * side**2)
        padded.view(-1, channels).index_copy_(0, places, _rim(rows, first, second, batch))
        ctx.save_for_backward(places, first, second)
        ctx.width = width
        return padded.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        places, first, second = ctx.saved_tensors
        width, channels = ctx.width, gradient.shape[1]
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        inside = gradient[:, width:-width, width:-width].contiguous()
        batch = inside.shape[0] // N_FACES

        rim = gradient.view(-1, channels).index_select(0, places).view(batch, -1, channels)
        corners = rim[:, -second.numel() // batch :].mul_(0.5)
        rows = inside.view(-1, channels)
        rows.index_add_(0, first, rim.view(-1, channels))
        rows.index_add_(0, second, corners.reshape(-1, channels))
        return inside.permute(0, 3, 1, 2), None, None, None, None


class HealpixPad(nn.Module):
    """Surrounds each face with the pixels that adjoin it on the sphere.

    Args:
        nside: Resolution of the images.
        width: Pixels added on each side, 1 to nside.

    Raises:
        ValueError: If nside is not a power of two or the width does not fit it.
    """

    def __init__(self, nside: int, width: int = 1):
        super().__init__()
        check_nside(nside)
        if not 1 <= width <= nside:
            raise ValueError(f"a rim of width={width} needs faces of at least that nside, not {nside}.")
        places, first, second = rim_table(nside, width)
        corners = N_FACES * 2 * width**2
        self.nside, self.width = nside, width
        self.register_buffer("places", torch.from_numpy(places), persistent=False)
        self.register_buffer("first", torch.from_numpy(first), persistent=False)
        self.register_buffer("second", torch.from_numpy(second[-corners:]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch * 12, channel, nside, nside) to (..., nside + 2 width, nside + 2 width), channels last."""
        return _Pad.apply(images, self.width, self.places, self.first, self.second)

    def around(self, padded: Tensor) -> Tensor:
        """Gives padded images whose inside is there their rim, in place.

        Shape (batch * 12, channel, nside + 2 width, nside + 2 width), channels last in memory.
        """
        batch, side, nside = len(padded) // N_FACES, self.nside + 2 * self.width, self.nside

        def rows_of(inside: Tensor) -> Tensor:
            face, y, x = inside // nside**2, inside // nside % nside, inside % nside
            return _over_batch((face * side + y + self.width) * side + x + self.width, batch, N_FACES * side**2)

        rows = padded.permute(0, 2, 3, 1).view(-1, padded.shape[1])
        rim = _rim(rows, rows_of(self.first), rows_of(self.second), batch)
        rows.index_copy_(0, _over_batch(self.places, batch, N_FACES * side**2), rim)
        return padded

    def give_back(self, padded: Tensor) -> Tensor:
        """Adds what lies on the rim to the pixels that it is of; what lies on a missing corner is lost.

        Shape (batch * 12, channel, nside + 2 width, nside + 2 width) to (batch * 12, channel, nside, nside).
        """
        batch, width, channels = len(padded) // N_FACES, self.width, padded.shape[1]
        corners = self.second.numel()
        padded = padded.permute(0, 2, 3, 1).contiguous()
        places = _over_batch(self.places[:-corners], batch, padded[..., 0].numel() // batch)
        first = _over_batch(self.first[:-corners], batch, N_FACES * self.nside**2)
        inside = padded[:, width:-width, width:-width]
        rim = padded.view(-1, channels).index_select(0, places)
        rows = inside.reshape(-1, channels).index_add(0, first, rim)
        return rows.view(inside.shape).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"nside={self.nside}, width={self.width}"
