"""From coarse pixels to fine ones, without steps and without seams."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .faces import N_FACES, Faces, nested_of_face
from .padding import HealpixPad


class Interpolate(nn.Module):
    """Bilinear interpolation of coarse maps at the centres of finer pixels, across the edges of faces too.

    The fine pixels within a coarse one are a fixed mixture of it and its eight neighbours: one matrix product gives
    them all, in the order of the maps.

    Args:
        coarse: nside of the maps that come in.
        nside: nside of those that go out.
    """

    mixture: Tensor
    around: Tensor

    def __init__(self, coarse: int, nside: int):
        super().__init__()
        ratio = nside // coarse
        self.faces, self.pad = Faces(coarse), HealpixPad(coarse, 1)
        neighbours = torch.eye(9).reshape(9, 1, 3, 3)  # of each alone, the image
        images = F.interpolate(neighbours, scale_factor=ratio, mode="bilinear", align_corners=False)
        inside = images[:, 0, ratio : 2 * ratio, ratio : 2 * ratio].reshape(9, -1)
        self.register_buffer("mixture", inside[:, np.argsort(nested_of_face(ratio), axis=None)], persistent=False)
        # The neighbours of each pixel, NESTED, in padded images, counted (face, y, x).
        side = coarse + 2
        y, x = np.divmod(np.argsort(nested_of_face(coarse), axis=None), coarse)
        steps = (np.arange(3)[:, None] * side + np.arange(3)).reshape(-1)
        around = np.arange(N_FACES)[:, None, None] * side**2 + (y * side + x)[:, None] + steps
        self.register_buffer("around", torch.from_numpy(around.reshape(-1)), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (batch, channel, 12 coarse^2) to (batch, channel, 12 nside^2), NESTED."""
        batch, channels, pixels = maps.shape
        images = self.pad(self.faces.fold(maps)).permute(0, 2, 3, 1)
        known = images.reshape(batch, -1, channels).index_select(1, self.around).transpose(1, 2)
        return (known.reshape(batch, channels, pixels, 9) @ self.mixture.to(known.dtype)).flatten(2)
