"""The sky in square patches: nested squares of the faces, with a halo of true neighbours, and blended back together."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from .faces import N_FACES, Faces, nested_of_face
from .padding import HealpixPad, sources


class PatchGrid:
    """Where the patches of a sky lie.

    A patch without its halo is a run of side^2 pixels of the NESTED ordering; patches are numbered in that order.

    Args:
        nside: Resolution of the maps, a power of two.
        side: Side of a patch in pixels, a power of two of at most nside.
        halo: Pixels of the surrounding sky on each side of it, at most half the side.

    Raises:
        ValueError: If the patches do not tile the faces, or the halo is too wide.
    """

    def __init__(self, nside: int, side: int, halo: int):
        if side < 1 or nside % side or side & (side - 1):
            raise ValueError(f"patch_side={side} does not tile faces of nside={nside}: use a power of two below.")
        if not 0 <= 2 * halo <= side:
            raise ValueError(f"halo={halo} is not between 0 and half of patch_side={side}.")
        self.nside, self.side, self.halo = nside, side, halo
        self.reach = side + 2 * halo
        """Side of a patch with its halo."""

    def __len__(self) -> int:
        return N_FACES * (self.nside // self.side) ** 2

    def inner(self, number: int) -> np.ndarray:
        """NESTED indices of a patch without its halo, shape (side, side), indexed [y, x] as a face is."""
        return number * self.side**2 + nested_of_face(self.side)

    def pixels(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """NESTED indices of a patch with its halo: two of shape (reach, reach), the mean of whose pixels goes there.

        They differ only where three faces meet and the halo has a corner that is not on the sky.
        """
        face, row, column = self._place(number)
        steps = np.arange(-self.halo, self.side + self.halo)
        x, y = column * self.side + steps, row * self.side + steps[:, None]
        nested = nested_of_face(self.nside).reshape(-1)
        first, second = sources(self.nside, np.full(1, face), *np.broadcast_arrays(x, y))
        per_face = self.nside**2
        return tuple(rows // per_face * per_face + nested[rows % per_face] for rows in (first, second))

    def without_halo(self, patches: Tensor) -> Tensor:
        """Patches of shape (..., reach^2), row by row, to (..., side^2)."""
        inside = slice(self.halo, self.halo + self.side)
        return patches.unflatten(-1, (self.reach, self.reach))[..., inside, inside].flatten(-2)

    def _place(self, number: int) -> tuple[int, int, int]:
        """Face of a patch, and its row and column among the face's patches."""
        across = self.nside // self.side
        face, cell = divmod(number, across**2)
        return face, *divmod(int(_order(across)[cell]), across)


@lru_cache(maxsize=8)
def _order(side: int) -> np.ndarray:
    return np.argsort(nested_of_face(side).reshape(-1))


class Patches(nn.Module):
    """Cuts whole skies into patches and blends patches into whole skies.

    Neighbouring patches overlap by two halos. There each counts by a weight that rises from zero at its rim to one, as
    the square of a sine, so that the weights of both add up to one; without a halo patches are put side by side.

    Args:
        nside: Resolution of the maps, a power of two.
        side: Side of a patch in pixels, a power of two of at most nside.
        halo: Pixels of the surrounding sky on each side of it, at most half the side.

    Attributes:
        grid: Where the patches lie.

    Raises:
        ValueError: If the patches do not tile the faces, or the halo is too wide.
    """

    window: Tensor
    total: Tensor

    def __init__(self, nside: int, side: int, halo: int):
        super().__init__()
        self.grid = PatchGrid(nside, side, halo)
        self.faces = Faces(nside)
        self.pad = HealpixPad(nside, halo) if halo else None
        ramp = np.ones(self.grid.reach)
        rising = np.sin(np.pi / 2 * (np.arange(2 * halo) + 0.5) / max(2 * halo, 1)) ** 2
        ramp[: 2 * halo] *= rising
        ramp[self.grid.reach - 2 * halo :] *= rising[::-1]
        self.register_buffer("window", torch.from_numpy(np.outer(ramp, ramp)).float(), persistent=False)
        # One everywhere but near the places where three faces meet, which lack the patch diagonally beyond.
        whole = self.window.expand(N_FACES * (nside // side) ** 2, 1, -1, -1)
        self.register_buffer("total", self._put_together(whole), persistent=False)

    def cut(self, maps: Tensor) -> Tensor:
        """Patches of NESTED maps, shape (batch, channel, pixel) to (batch * patch, channel, reach, reach).

        The patches of a face follow each other row by row, those of a sky face by face.
        """
        images = self.faces.fold(maps)
        images = images if self.pad is None else self.pad(images)
        reach, side = self.grid.reach, self.grid.side
        patches = images.unfold(2, reach, side).unfold(3, reach, side).permute(0, 2, 3, 1, 4, 5)
        return patches.flatten(0, 2).contiguous(memory_format=torch.channels_last)

    def join(self, patches: Tensor) -> Tensor:
        """Whole NESTED maps of blended patches, the inverse of `cut`, in float32 or better."""
        patches = patches if patches.dtype == torch.float64 else patches.float()
        blended = self._put_together(patches * self.window) / self.total.repeat(len(patches) // len(self.grid), 1, 1, 1)
        return self.faces.unfold(blended)

    def _put_together(self, patches: Tensor) -> Tensor:
        """Sum of patches at their places, shape (batch * 12, channel, nside, nside)."""
        across, side, halo, reach = self.grid.nside // self.grid.side, self.grid.side, self.grid.halo, self.grid.reach
        patches = patches.unflatten(0, (-1, across, across))
        width = self.grid.nside + 2 * halo
        images = patches.new_zeros((len(patches), patches.shape[3], width, width))
        for row in range(across):
            for column in range(across):
                y, x = row * side, column * side
                images[..., y : y + reach, x : x + reach] += patches[:, row, column]
        return images if self.pad is None else self.pad.give_back(images)
