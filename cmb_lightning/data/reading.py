"""Skies added up from their parts, a piece at a time that stays in the processor's cache."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

PIECE = 1 << 16
"""Pixels in a piece: 256 KiB."""

Read = Callable[[np.ndarray, int, int], np.ndarray]
"""Gives pixels of a part: into this array or one like it, channel, first pixel."""


def add_up(
    sky: np.ndarray,
    part: Callable[[str, int], Read],
    cmb: int,
    foregrounds: int,
    noise: Sequence[Sequence[tuple[np.float32, int]]],
    gain: np.ndarray,
    ranges: Sequence[tuple[int, int]] | None = None,
) -> np.ndarray:
    """Make the sky (1 + gain) (cmb + foregrounds) + noise, the same to the bit as `observe` makes of whole parts.

    Args:
        sky: Where it is put, shape (channel, pixel).
        part: What reads a part, by its name and simulation.
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
    # As little as can be is done for each piece: the maps have swept Python itself out of the processor's cache.
    read_cmb, read_foregrounds = part("cmb", cmb), part("foregrounds", foregrounds)
    for channel, row in enumerate(sky):
        factor = 1 + gain[channel]
        noises = [(None if weight == 1 else weight, part("noise", sim)) for weight, sim in noise[channel]]
        for place, first, size in pieces:
            piece, one, two = row[place : place + size], spare[0, :size], spare[1, :size]
            np.add(read_cmb(piece, channel, first), read_foregrounds(one, channel, first), out=piece)
            if factor != 1:
                np.multiply(piece, factor, out=piece)
            terms = []
            for term, (weight, read_noise) in zip((one, two), noises, strict=False):
                read = read_noise(term, channel, first)
                terms.append(read if weight is None else np.multiply(read, weight, out=term))
            np.add(piece, terms[0] if len(terms) == 1 else np.add(*terms, out=one), out=piece)
    return sky


def _pieces(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Ranges of pixels in pieces: the place where each is put, its first pixel and its size."""
    place = 0
    for start, end in ranges:
        for first in range(start, end, PIECE):
            size = min(PIECE, end - first)
            yield place, first, size
            place += size
