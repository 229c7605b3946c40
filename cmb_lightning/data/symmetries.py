"""The exact symmetries of HEALPix: 16 skies from each one, without interpolation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cmb_lightning.data.mixing import stream

ODD_FIELDS = frozenset("UB")
"""Fields that change sign in a mirror."""


@dataclass(frozen=True)
class Symmetry:
    """A mirror image of the sky, turned in longitude.

    Attributes:
        east_west: Longitude l goes to -l.
        north_south: Latitude b goes to -b.
        turns: Quarter turns, each of which adds 90 degrees to the longitude, after the mirrors.
    """

    east_west: bool = False
    north_south: bool = False
    turns: int = 0

    @property
    def mirrors(self) -> bool:
        """Whether left and right are exchanged; two mirrors together are a rotation."""
        return self.east_west != self.north_south

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """The maps' pixels at their new places, shape (..., npix), NESTED; the sign of U and B stays."""
        # Faces are three rings of four. The symmetries exchange faces, and in all of them alike the two diagonal axes.
        rings = np.arange(12).reshape(3, 4)
        if self.east_west:
            rings = np.stack([rings[0, ::-1], np.roll(rings[1, ::-1], 1), rings[2, ::-1]])
        if self.north_south:
            rings = rings[::-1]
        faces = np.roll(rings, self.turns, axis=1).ravel()
        moved = np.take(maps.reshape(*maps.shape[:-1], 12, -1), faces, axis=-2)
        pixels = _exchanged_axes(moved.shape[-1]) if self.mirrors else np.arange(moved.shape[-1])
        if self.north_south:
            pixels = pixels[::-1]  # from the other end of both axes
        if self.mirrors or self.north_south:
            moved = np.take(moved, pixels, axis=-1)
        return moved.reshape(maps.shape)


SYMMETRIES = tuple(Symmetry(bool(n & 1), bool(n & 2), n >> 2) for n in range(16))
"""All of them, the identity first."""


def draw_symmetry(seed: int, epoch: int, index: int) -> Symmetry:
    """Any of the 16 with equal probability, by the key of a training sample."""
    return SYMMETRIES[int(stream("symmetry", seed, epoch, index).integers(len(SYMMETRIES)))]


def transform(sample: dict[str, Any], symmetry: Symmetry, fields: Callable[[int], list[str]]) -> dict[str, Any]:
    """The sample of another sky: all its maps, with the sign of U and B; what is no map stays.

    Args:
        sample: Entries by name. Those of shape (row, npix), NESTED, are maps.
        symmetry: What is done.
        fields: Tells the field of each row of an entry with so many.
    """
    made = {}
    for name, value in sample.items():
        if not isinstance(value, np.ndarray) or value.ndim != 2:
            made[name] = value
            continue
        made[name] = symmetry(value)
        if symmetry.mirrors:
            made[name][[field in ODD_FIELDS for field in fields(len(value))]] *= -1
    return made


@lru_cache(maxsize=2)
def _exchanged_axes(n_pixels: int) -> np.ndarray:
    """Index of the pixels (x, y) of a face at (y, x): the even and the odd bits of NESTED numbers exchanged."""
    number = np.arange(n_pixels)
    even = 0x5555555555555555
    return (number & even) << 1 | (number >> 1) & even
