"""Skies added up from their parts, a piece at a time that stays in the processor's cache."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

PIECE = 1 << 16
"""Pixels in a piece: 256 KiB."""

Read = Callable[[np.ndarray, str, int, int, int], np.ndarray]
"""Gives pixels of a part: into this array or one like it, part's name, simulation, channel, first pixel."""


def add_up(
    sky: np.ndarray,
    read: Read,
    cmb: int,
    foregrounds: int,
    noise: Sequence[Sequence[tuple[np.float32, int]]],
    gain: np.ndarray,
    ranges: Sequence[tuple[int, int]] | None = None,
) -> np.ndarray:
    """Make the sky (1 + gain) (cmb + foregrounds) + noise, the same to the bit as `observe` makes of whole parts.

    Args:
        sky: Where it is put, shape (channel, pixel).
        read: Gives the parts.
        cmb: Simulation whose CMB is taken.
        foregrounds: Simulation whose foregrounds are taken.
        noise: For each channel the simulations whose noise is added up, one or two, and their weights.
        gain: Relative calibration error, shape (channel,), float32.
        ranges: Which pixels, as (first, end), that are put one range after another; all when None.

    Returns:
        `sky`.
    """
    pieces = list(_pieces([(0, sky.shape[1])] if ranges is None else ranges))
    spare = np.empty((2, min(PIECE, sky.shape[1])), dtype=sky.dtype)
    for channel, row in enumerate(sky):
        for place, first, size in pieces:
            piece = row[place : place + size]
            part, more = spare[:, : piece.size]
            one = read(piece, "cmb", cmb, channel, first)
            np.add(one, read(part, "foregrounds", foregrounds, channel, first), out=piece)
            if gain[channel]:
                piece *= 1 + gain[channel]
            terms = []
            for term, (weight, sim) in zip((part, more), noise[channel], strict=False):
                one = read(term, "noise", sim, channel, first)
                terms.append(one if weight == 1 else np.multiply(one, weight, out=term))
            piece += terms[0] if len(terms) == 1 else np.add(*terms, out=part)
    return sky


def _pieces(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Ranges of pixels in pieces: the place where each is put, its first pixel and its size."""
    place = 0
    for start, end in ranges:
        for first in range(start, end, PIECE):
            size = min(PIECE, end - first)
            yield place, first, size
            place += size
