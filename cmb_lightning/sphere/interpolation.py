"""From coarse pixels to fine ones, without steps and without seams."""

import torch.nn.functional as F
from torch import Tensor, nn

from .faces import Faces
from .padding import HealpixPad


class Interpolate(nn.Module):
    """Bilinear interpolation of coarse maps at the centres of finer pixels, across the edges of faces too.

    Args:
        coarse: nside of the maps that come in.
        nside: nside of those that go out.
    """

    def __init__(self, coarse: int, nside: int):
        super().__init__()
        self.ratio = nside // coarse
        self.coarse, self.fine, self.pad = Faces(coarse), Faces(nside), HealpixPad(coarse, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (batch, channel, 12 coarse^2) to (batch, channel, 12 nside^2), NESTED."""
        images = self.pad(self.coarse.fold(maps))
        images = F.interpolate(images, scale_factor=self.ratio, mode="bilinear", align_corners=False)
        return self.fine.unfold(images[..., self.ratio : -self.ratio, self.ratio : -self.ratio])
