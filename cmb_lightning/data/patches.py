"""Training samples that are single patches of the sky, of whose maps no more is read than it takes."""

from typing import Any

import numpy as np

from cmb_lightning.data.datasets import MixedDataset
from cmb_lightning.data.mixing import stream
from cmb_lightning.sphere.patches import PatchGrid

GAP = 1024
"""Pixels between two ranges that are rather read than skipped: a page of memory, and of the disk."""


class PatchDataset(MixedDataset):
    """A patch of each training sample, another one in every epoch.

    A sample depends on (seed, epoch, index) alone, which is its key. Maps are (row, reach^2), the patch with its halo
    row by row; the `target` is (field, side^2), the patch without it. Where the method takes each pixel by itself, only
    the pages that hold the patch are read; else the sky is mixed and prepared as a whole, then cut.

    Args:
        grid: Where the patches lie.
        arguments: Those of a `MixedDataset`.
        repeats: Patches of each sky.
    """

    def __init__(self, grid: PatchGrid, *arguments: Any, repeats: int = 1) -> None:
        super().__init__(*arguments, repeats=repeats)
        self._grid = grid

    def _sample(self, key: tuple[int, int], sky: np.ndarray) -> dict[str, Any]:
        """Make one sample, with an array for its sky where it is needed as a whole."""
        number = self.patch(key)
        pixels, inner = self._grid.pixels(number), self._grid.inner(number)
        layout, read = self._data.cache.layout, self._data.cache.read
        if self._preparation.pixel_by_pixel:
            mix, ranges = self._mix(key), ranges_of(np.concatenate([part.ravel() for part in pixels]))
            size, start = sum(end - first for first, end in ranges), int(inner.min())
            entries = self._entries(mix, np.empty((len(layout.channels), size), dtype=np.float32), ranges)
            target = read(mix.cmb, ("target",), slice(start, start + inner.size))["target"]
            pixels, inner = tuple(places_in(ranges, part) for part in pixels), inner - start
            target = self._preparation.target(target)
        else:
            size, entries = layout.npix, dict(self._maps(key, sky))
            target = entries.pop("target")
        sample = {name: _cut(value, size, *pixels) for name, value in entries.items()}
        target = target[:, inner.ravel()]
        return {**sample, "target": target, "index": np.int64(key[1])}

    def patch(self, key: tuple[int, int]) -> int:
        """Number of the patch of a sample: any of the sky with equal probability."""
        return int(stream("patch", self._seed, *key).integers(len(self._grid)))


def ranges_of(pixels: np.ndarray) -> list[tuple[int, int]]:
    """Ranges (first, end) that hold these pixels, and gaps between them that are not worth a step."""
    ordered = np.unique(pixels)
    cuts = np.flatnonzero(np.diff(ordered) > GAP)
    firsts, lasts = ordered[np.r_[0, cuts + 1]], ordered[np.r_[cuts, -1]]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def places_in(ranges: list[tuple[int, int]], pixels: np.ndarray) -> np.ndarray:
    """Places of pixels in an array that holds the ranges one after another."""
    starts, ends = np.array(ranges).T
    which = np.searchsorted(starts, pixels, side="right") - 1
    return pixels - starts[which] + np.concatenate([[0], np.cumsum(ends - starts)[:-1]])[which]


def _cut(value: np.ndarray, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A patch of maps of `size` pixels, the mean of two where they differ; what is no map stays."""
    if value.ndim != 2 or value.shape[1] != size:
        return value
    first, second = first.ravel(), second.ravel()
    patch = value[:, first]
    corners = np.flatnonzero(first != second)
    patch[:, corners] = (patch[:, corners] + value[:, second[corners]]) / 2
    return patch
