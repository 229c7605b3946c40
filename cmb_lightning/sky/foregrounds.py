"""What every foreground offers to the simulator."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .channel import Channel
from .rng import Draws
from .transforms import analysis, analysis_qu, synthesis, synthesis_qu


class Foreground(ABC):
    """A part of the sky in front of the CMB.

    Coefficients are per channel, (channel, nalm), unsmoothed, in uK_CMB: T in the rows of I, E in those of Q, B in
    those of U.
    """

    name: str
    """Names its random streams; unique in a sky."""

    fixed: bool
    """Whether it is the same in every simulation."""

    def at(self, folder: Path | None) -> "Foreground":
        """Return this foreground with its files, if it has any and does not say where, in a folder."""
        return self

    @abstractmethod
    def check(self, channels: Sequence[Channel], nside: int) -> None:
        """Raise ConfigError or FileNotFoundError where it could not be simulated; resolve units."""

    @abstractmethod
    def alm(self, channels: Sequence[Channel], nside: int, lmax: int, draws: Draws) -> np.ndarray:
        """Return one realisation, (channel, nalm)."""

    @abstractmethod
    def recipe(self) -> dict:
        """Describe it in plain values, with the SHA-256 of every input file."""


def rows(channels: Sequence[Channel]) -> tuple[list[int], list[int], list[int]]:
    """Return the rows of I, of Q and of U, those of Q and U in the same order of bands."""
    return tuple([row for row, channel in enumerate(channels) if channel.field == field] for field in "IQU")


def analyse(channels: Sequence[Channel], maps: np.ndarray, lmax: int, iterations: int = 3) -> np.ndarray:
    """Return coefficients (channel, nalm) of maps (channel, npix), RING: T, E, B in the rows of I, Q, U."""
    i, q, u = rows(channels)
    alm = np.empty((len(channels), (lmax + 1) * (lmax + 2) // 2), dtype=np.result_type(maps.dtype, np.complex64))
    if i:
        alm[i] = analysis(maps[i], lmax, iterations)
    if q:
        alm[q], alm[u] = analysis_qu(maps[q], maps[u], lmax, iterations)
    return alm


def synthesise(channels: Sequence[Channel], alm: np.ndarray, nside: int, lmax: int) -> np.ndarray:
    """Return maps (channel, npix), RING, of coefficients (channel, nalm): the inverse of `analyse`."""
    i, q, u = rows(channels)
    maps = np.empty((len(channels), 12 * nside**2), dtype=alm.real.dtype)
    if i:
        maps[i] = synthesis(alm[i], nside, lmax)
    if q:
        maps[q], maps[u] = synthesis_qu(alm[q], alm[u], nside, lmax)
    return maps
