"""Skies added up while their parts are read, a piece at a time that stays in the processor's cache."""

from collections.abc import Sequence

import numpy as np

from cmb_lightning.data.tensorfile import TensorFile

PIECE = 1 << 16
"""Pixels in a piece: 256 KiB."""


def read_sky(
    cmb: TensorFile,
    foregrounds: TensorFile,
    noise: Sequence[Sequence[tuple[np.float32, TensorFile]]],
    gain: np.ndarray,
) -> np.ndarray:
    """The sky (1 + gain) (cmb + foregrounds) + noise, the same to the bit as `observe` makes of whole parts.

    Args:
        cmb: File whose CMB is taken.
        foregrounds: File whose foregrounds are taken.
        noise: For each channel the files whose noise is added up, at least one, and their weights.
        gain: Relative calibration error, shape (channel,), float32.

    Returns:
        The maps, shape (channel, pixel), in the unit and ordering of the files.

    Raises:
        BadFile: A file lacks a part, or ends too soon.
    """
    n_channels, npix = cmb.shape("cmb")
    sky = np.empty((n_channels, npix), dtype=np.float32)
    spare = np.empty((2, min(PIECE, npix)), dtype=np.float32)
    for channel in range(n_channels):
        for first in range(0, npix, PIECE):
            piece, pixels = sky[channel, first : first + PIECE], slice(first, first + PIECE)
            part, more = spare[:, : piece.size]
            cmb.read("cmb", channel, pixels, out=piece)
            piece += foregrounds.read("foregrounds", channel, pixels, out=part)
            piece *= 1 + gain[channel]
            for number, (weight, file) in enumerate(noise[channel]):
                term = file.read("noise", channel, pixels, out=more if number else part)
                term *= weight
                if number:
                    part += term
            piece += part
    return sky
