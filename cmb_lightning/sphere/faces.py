"""The sphere as images: a NESTED map is twelve square faces, stored along a Z-shaped curve.

A face image is indexed `[y, x]` with HEALPix's own face coordinates: x grows to the north-east, y to the north-west,
and the face's number runs 0-3 around the north pole, 4-7 along the equator, 8-11 around the south pole.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

N_FACES = 12


def check_nside(nside: int) -> None:
    """Refuse an nside for which there is no NESTED ordering."""
    if nside < 1 or nside & (nside - 1):
        raise ValueError(f"nside={nside} is not a power of two: the NESTED ordering needs one, such as 64.")


@lru_cache(maxsize=32)
def nested_of_face(nside: int) -> np.ndarray:
    """NESTED index within one face of each of its pixels.

    Args:
        nside: Resolution, a power of two.

    Returns:
        Integers of shape (nside, nside), indexed [y, x]: the bits of x and y interleaved, x in the even places.

    Raises:
        ValueError: If nside is not a power of two.
    """
    check_nside(nside)
    coordinate = np.arange(nside, dtype=np.int64)
    spread = np.zeros_like(coordinate)
    for bit in range(nside.bit_length()):
        spread |= (coordinate >> bit & 1) << 2 * bit
    index = (spread[:, None] << 1) | spread[None, :]
    index.flags.writeable = False
    return index


class Faces(nn.Module):
    """Takes NESTED maps to face images and back, each way one gather.

    Between the two a network keeps its data folded, the faces beside the batch, with the channels innermost in memory
    (`torch.channels_last`): the fastest layout for convolutions, and in which a pixel's channels are one row.

    Args:
        nside: Resolution of the maps, a power of two.
    """

    def __init__(self, nside: int):
        super().__init__()
        face = nested_of_face(nside).reshape(-1)
        order = (np.arange(N_FACES)[:, None] * nside**2 + face).reshape(-1)
        self.nside = nside
        self.register_buffer("order", torch.from_numpy(order), persistent=False)
        self.register_buffer("inverse", torch.from_numpy(np.argsort(order)), persistent=False)

    def fold(self, maps: Tensor) -> Tensor:
        """Face images of maps.

        Args:
            maps: Shape (batch, channel, pixel), NESTED.

        Returns:
            Shape (batch * 12, channel, nside, nside), channels last in memory.

        Raises:
            ValueError: If the maps have another nside.
        """
        self._check(maps)
        return self._images(maps, self.order)

    def fold_each(self, maps: Tensor) -> Iterator[Tensor]:
        """The same image by image, each of shape (1, channel, nside, nside), of maps too large to be had twice."""
        self._check(maps)
        order = self.order[: self.nside**2]
        return (self._images(face, order) for one in maps.split(1) for face in one.split(len(order), dim=2))

    def _check(self, maps: Tensor) -> None:
        if maps.shape[-1] != self.order.numel():
            raise ValueError(
                f"a map of {maps.shape[-1]} pixels does not fit nside={self.nside}, which has {self.order.numel()}: "
                "give the network the nside of its maps."
            )

    def _images(self, maps: Tensor, order: Tensor) -> Tensor:
        rows = maps.transpose(1, 2).index_select(1, order)
        return rows.view(-1, self.nside, self.nside, maps.shape[1]).permute(0, 3, 1, 2)

    def unfold_each(self, images: Iterable[Tensor], maps: Tensor) -> Tensor:
        """Put images, one by one as from `fold_each`, into maps (batch, channel, pixel), and return these."""
        inverse = self.inverse[: self.nside**2]
        faces = (face for one in maps for face in one.split(len(inverse), dim=1))
        for face, image in zip(faces, images, strict=True):
            face.copy_(image[0].flatten(1)[:, inverse])
        return maps

    def unfold(self, images: Tensor) -> Tensor:
        """Maps of face images: the inverse of `fold`.

        Args:
            images: Shape (batch * 12, channel, nside, nside).

        Returns:
            Shape (batch, channel, pixel), NESTED.
        """
        channels = images.shape[1]
        rows = images.permute(0, 2, 3, 1).reshape(-1, self.order.numel(), channels)
        # Whole rows are gathered and then turned over: in the other order it takes ten times as long.
        return rows.index_select(1, self.inverse).transpose(1, 2).contiguous()
