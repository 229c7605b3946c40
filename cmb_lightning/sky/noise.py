"""Noise of the instrument: white, correlated below a knee, or with a spectrum of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..results.fits import read_map
from . import units
from .channel import Channel
from .foregrounds import synthesise
from .noise_spectrum import NoiseSpectrum
from .rng import Draws
from .shared import Shared
from .transforms import draw_alm, ring_to_nest


@dataclass(frozen=True)
class Level:
    """How strong the noise of a channel is."""

    white: float
    """Standard deviation per pixel [uK_CMB]."""
    correlated: np.ndarray | None
    """What is added to white noise, N_l [uK_CMB^2], (3 nside,)."""
    scatter: float
    """Of the logarithm of the noise power, over simulations."""


class Noise:
    """Draws the noise of a set of channels, each from streams of its own."""

    def __init__(self, channels: Sequence[Channel], nside: int) -> None:
        """Read and check the files that the channels name.

        Args:
            channels: rows of the noise.
            nside: of the maps.
        """
        self.channels = tuple(channels)
        self.nside = nside
        self._maps = self._read_maps()
        self._levels = [self._level(channel) for channel in self.channels]

    def draw(self, draws: Draws, name: str = "noise") -> np.ndarray:
        """Draw one realisation.

        Args:
            draws: streams of the simulation.
            name: of the streams; another name gives another realisation.

        Returns:
            (channel, npix), NESTED, uK_CMB, float32, without monopole in I.
        """
        if None in self._maps.values():  # they were left behind, in another process
            self._maps = self._read_maps()
        noise = np.empty((len(self.channels), 12 * self.nside**2), dtype=np.float32)
        for row, channel, level in zip(noise, self.channels, self._levels, strict=True):
            draws(f"{name}/{channel.name}").standard_normal(out=row, dtype=np.float32)
            row *= np.float32(level.white)
        if rows := [k for k, level in enumerate(self._levels) if level.correlated is not None]:
            noise[rows] += self._correlated(rows, draws, name)
        for row, channel, level in zip(noise, self.channels, self._levels, strict=True):
            if channel.name in self._maps:
                row *= self._maps[channel.name].array
            if level.scatter:  # shared by Q and U
                power = draws(f"{name}/{channel.band}/power{channel.spin}").standard_normal()
                row *= np.float32(np.exp(level.scatter / 2 * power))
            if channel.field == "I":
                row -= row.mean(dtype=np.float64)
        return noise

    def _correlated(self, rows: list[int], draws: Draws, name: str) -> np.ndarray:
        """Draw what is beside white noise, (row, npix) NESTED, with all degrees that the pixels carry."""
        channels, lmax = [self.channels[row] for row in rows], 3 * self.nside - 1
        alm = [
            draw_alm(self._levels[row].correlated, draws(f"{name}/{self.channels[row].name}/correlated"), lmax)
            for row in rows
        ]
        return ring_to_nest(synthesise(channels, np.stack(alm).astype(np.complex64), self.nside, lmax))

    def _level(self, channel: Channel) -> Level:
        pixel, lmax = 4 * np.pi / (12 * self.nside**2), 3 * self.nside - 1
        if channel.noise_spectrum:
            spectrum = NoiseSpectrum.read(Path(channel.noise_spectrum))
            level = spectrum.level(lmax)
            white, correlated, scatter = level.min(), level - level.min(), spectrum.scatter
        else:
            rms = 1.0 if channel.variance_map else channel.noise  # the map brings the level with it
            white, correlated, scatter = rms**2 * pixel, None, 0.0
            if channel.l_knee:
                correlated = np.zeros(lmax + 1)
                correlated[1:] = white * (np.arange(1, lmax + 1) / channel.l_knee) ** -channel.alpha
        if correlated is not None:
            correlated[: max(channel.spin, 1)] = 0
        return Level(float(np.sqrt(white / pixel)), correlated, scatter)

    def _read_maps(self) -> dict[str, Shared | None]:
        return {c.name: Shared(read_sigma(c, self.nside)) for c in self.channels if c.variance_map}


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
