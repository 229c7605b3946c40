"""Noise of the instrument."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError
from ..results.fits import read_map
from . import units
from .channel import Channel
from .foregrounds import synthesise
from .rng import Draws
from .transforms import draw_alm, ring_to_nest


def draw_noise(channels: Sequence[Channel], nside: int, draws: Draws, sigma_maps: dict[str, np.ndarray]) -> np.ndarray:
    """Draw the noise, each channel from streams of its own: white, and below its knee correlated.

    The correlated part adds N_white (l / l_knee)^-alpha. Where there is a map of the white noise both follow it.

    Args:
        channels: rows of the result.
        nside: of the maps.
        draws: streams of the simulation.
        sigma_maps: standard deviation [uK_CMB], (npix,) NESTED, by name of the channels that have one.

    Returns:
        (channel, npix), NESTED, uK_CMB, float32, without monopole in I.
    """
    noise = np.empty((len(channels), 12 * nside**2), dtype=np.float32)
    for row, channel in zip(noise, channels, strict=True):
        draws(f"noise/{channel.name}").standard_normal(out=row, dtype=np.float32)
    knees = [row for row, channel in enumerate(channels) if channel.l_knee]
    if knees:
        noise[knees] += _correlated([channels[row] for row in knees], nside, draws)
    for row, channel in zip(noise, channels, strict=True):
        row *= sigma_maps.get(channel.name, np.float32(channel.noise))
        if channel.field == "I":
            row -= row.mean(dtype=np.float64)
    return noise


def _correlated(channels: Sequence[Channel], nside: int, draws: Draws) -> np.ndarray:
    """Draw what is beside white noise of unit variance, (channel, npix) NESTED, with all degrees the pixels carry."""
    lmax = 3 * nside - 1
    degree = np.arange(1, lmax + 1)
    alm = []
    for channel in channels:
        level = np.zeros(lmax + 1)
        level[1:] = 4 * np.pi / (12 * nside**2) * (degree / channel.l_knee) ** -channel.alpha
        level[: channel.spin] = 0
        alm.append(draw_alm(level, draws(f"noise/{channel.name}/correlated"), lmax))
    return ring_to_nest(synthesise(channels, np.stack(alm).astype(np.complex64), nside, lmax))


def read_sigma(channel: Channel, nside: int) -> np.ndarray:
    """Read the noise's standard deviation per pixel from the channel's variance map.

    Args:
        channel: with a `variance_map`, a FITS map in units of a temperature squared, of at least the nside wanted.
        nside: wanted; finer pixels are averaged, their noise with them.

    Returns:
        (npix,), NESTED, uK_CMB, float32.
    """
    path, _, column = channel.variance_map.partition(".fits:")
    path = f"{path}.fits" if column else path
    variance = read_map(path, column or None).nested()
    if variance.bad.any() or variance.values.min() < 0:
        raise ConfigError(f"{path}: the variance has pixels without data or below 0; fill them for {channel.name}")
    if variance.nside < nside:
        raise ConfigError(f"{path}: nside {variance.nside} is below the {nside} of the maps; give a finer variance map")
    try:
        unit = units.unit(variance.unit, path) ** 0.5
        factor = units.to_uK_CMB(channel.frequency, unit) ** 2
    except ConfigError as error:
        raise ConfigError(f"{path}: {variance.unit!r} is no variance; state uK_CMB2 in TUNIT") from error
    children = (variance.nside // nside) ** 2
    mean = variance.values.reshape(-1, children).mean(axis=1, dtype=np.float64) / children
    return np.sqrt(mean * factor).astype(np.float32)
