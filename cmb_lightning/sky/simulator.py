"""From an instrument and a description of the sky to simulated observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import ConfigError
from .beams import window
from .channel import Channel
from .foregrounds import Foreground, synthesise
from .instrument import Instrument
from .noise import draw_noise, read_sigma
from .rng import Draws
from .spectra import CambSpectrum, Spectrum
from .statistical import StatisticalGalaxy
from .transforms import (
    almxfl,
    check_lmax,
    check_nside,
    draw_unit_alm,
    euler_rotation,
    random_rotation,
    ring_to_nest,
    rotate_alm,
)

GENERATOR_VERSION = 1
"""Raise it when the same recipe gives other maps than before: it is part of every recipe."""


@dataclass
class Sky:
    """What is simulated.

    Args:
        cmb: spectrum of the CMB; CAMB's for the default cosmology when None.
        foregrounds: added up; a random Galaxy when None, an empty list for none.
        orientation: turns all foregrounds: `random`, anew in every simulation, or by three angles [deg] about z, y and
            z again; None leaves them as they are.
        gain_errors: multiplies the instrument's own scatter of the calibration (its `gain_error`); 0 for none.
        noise: whether the instrument adds noise.
    """

    cmb: Spectrum | None = None
    foregrounds: list[Foreground] | None = None
    orientation: Literal["random"] | list[float] | None = None
    gain_errors: float = 0.0
    noise: bool = True

    def __post_init__(self) -> None:
        if self.cmb is None:
            self.cmb = CambSpectrum()
        if self.foregrounds is None:
            self.foregrounds = [StatisticalGalaxy()]
        names = [foreground.name for foreground in self.foregrounds]
        if len(set(names)) != len(names):
            raise ConfigError(f"foregrounds: {', '.join(names)}; give each a `name` of its own")
        if isinstance(self.orientation, list) and len(self.orientation) != 3:
            raise ConfigError(f"orientation: {self.orientation} must be 'random' or three angles in degrees")
        if not self.gain_errors >= 0:
            raise ConfigError(f"gain_errors: {self.gain_errors} is negative; give 0 or more")


class Simulator:
    """Makes simulations of one instrument and sky; small when pickled, as every process makes its own fixed maps.

    The observation of a channel is (1 + gain) (cmb + foregrounds) + noise.
    """

    def __init__(
        self,
        instrument: Instrument,
        nside: int,
        lmax: int | None,
        target_fwhm: float | None,
        sky: Sky,
        seed: int,
        templates: Path | None = None,
    ) -> None:
        """Check everything that the simulations need, without making any.

        Args:
            instrument: its channels are the rows of all maps.
            nside: of the maps, that of the instrument.
            lmax: last degree of signal; None for 2 nside.
            target_fwhm: beam of the target [arcmin]; None for the smallest of the instrument.
            sky: what is simulated.
            seed: of all random numbers, not negative.
            templates: folder of the foregrounds' files, where they name none.
        """
        self.nside = check_nside(nside)
        if instrument.nside != nside:
            raise ConfigError(f"nside: {nside} is not the {instrument.nside} that instrument {instrument.name} is for")
        if seed < 0:
            raise ConfigError(f"seed: {seed} is negative; give 0 or more")
        self.lmax = check_lmax(2 * nside if lmax is None else lmax, nside)
        self.instrument = instrument
        self.channels: tuple[Channel, ...] = instrument.channels
        self.target_fwhm = min(c.fwhm for c in self.channels) if target_fwhm is None else float(target_fwhm)
        self.targets = _targets(instrument.fields, self.target_fwhm)
        self.sky = sky
        self.seed = int(seed)
        self.foregrounds = [foreground.at(templates) for foreground in sky.foregrounds]
        for foreground in self.foregrounds:
            foreground.check(self.channels, nside)
        self._beams = _windows(self.channels, self.lmax)
        self._target_beams = _windows(self.targets, self.lmax)
        self._theory: np.ndarray | None = None
        self._sigma: dict[str, np.ndarray] | None = self._read_sigma()
        self._fixed: np.ndarray | None = None

    def __getstate__(self) -> dict:
        """Leave the maps behind; the theory spectrum, slow to make and small, comes along."""
        return self.__dict__ | {"_sigma": None, "_fixed": None}

    @property
    def theory(self) -> np.ndarray:
        """C_l of the CMB [uK_CMB^2], (4, lmax + 1) in the order TT, EE, BB, TE, without any beam."""
        if self._theory is None:
            self._theory = self.sky.cmb.cl(self.lmax)
        return self._theory

    def simulate(self, split: str, index: int) -> dict[str, np.ndarray]:
        """Make one simulation.

        Args:
            split: name of the split; case does not matter.
            index: number of the simulation.

        Returns:
            float32, NESTED, uK_CMB: `cmb`, `foregrounds` and `noise`, each (channel, npix), the first two at the
            channel's beam; `target`, the CMB at the common beam, (field, npix); and `gain`, (channel,), relative.
            No map of I has a monopole.
        """
        draws = Draws(self.seed, split, index)
        cmb, target = self._cmb(draws)
        foregrounds = self._foregrounds(draws)
        noise = np.zeros_like(cmb)
        if self.sky.noise:
            if self._sigma is None:
                self._sigma = self._read_sigma()
            noise = draw_noise(self.channels, self.nside, draws, self._sigma)
        return {
            "cmb": cmb,
            "foregrounds": foregrounds,
            "noise": noise,
            "target": target,
            "gain": self._gain(draws),
        }

    def recipe(self, split: str) -> dict:
        """Describe all that the maps of a split depend on, in plain values."""
        return {
            "generator": GENERATOR_VERSION,
            "seed": self.seed,
            "split": split.lower(),
            "nside": self.nside,
            "lmax": self.lmax,
            "ordering": "NESTED",
            "unit": "uK_CMB",
            "target_fwhm_arcmin": self.target_fwhm,
            "channels": [_describe(channel) for channel in self.channels],
            "cmb": self.sky.cmb.recipe(),
            "foregrounds": [foreground.recipe() for foreground in self.foregrounds],
            "orientation": self.sky.orientation,
            "gain_errors": self.sky.gain_errors,
            "noise": self.sky.noise,
        }

    def _cmb(self, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Draw the CMB; return it as the channels see it and at the target's beam, from the same coefficients."""
        polarised = any(channel.spin for channel in self.channels)
        teb = _draw_teb(self.theory, draws, self.lmax, polarised)
        every = (*self.channels, *self.targets)
        alm = np.stack([teb["IQU".index(channel.field)] for channel in every]).astype(np.complex64)
        alm = almxfl(alm, np.concatenate([self._beams, self._target_beams]))
        maps = self._maps(every, alm)
        return maps[: len(self.channels)], maps[len(self.channels) :]

    def _foregrounds(self, draws: Draws) -> np.ndarray:
        if self._fixed is None:
            self._fixed = self._sum([foreground for foreground in self.foregrounds if self._stays(foreground)], draws)
        varied = [foreground for foreground in self.foregrounds if not self._stays(foreground)]
        return self._fixed + self._sum(varied, draws) if varied else self._fixed.copy()

    def _stays(self, foreground: Foreground) -> bool:
        return foreground.fixed and self.sky.orientation != "random"

    def _sum(self, foregrounds: Sequence[Foreground], draws: Draws) -> np.ndarray:
        """Return the sum of foregrounds as the channels see it, (channel, npix) NESTED."""
        if not foregrounds:
            return np.zeros((len(self.channels), 12 * self.nside**2), dtype=np.float32)
        alm = sum(f.alm(self.channels, self.nside, self.lmax, draws) for f in foregrounds)
        if self.sky.orientation is not None:
            alm = rotate_alm(alm, self.lmax, self._rotation(draws))
        return self._maps(self.channels, almxfl(alm, self._beams))

    def _rotation(self, draws: Draws) -> np.ndarray:
        if isinstance(self.sky.orientation, list):
            return euler_rotation(*self.sky.orientation)
        return random_rotation(draws("orientation"))

    def _maps(self, channels: Sequence[Channel], alm: np.ndarray) -> np.ndarray:
        """Return maps (channel, npix), NESTED, float32, of beamed coefficients (channel, nalm), which are changed."""
        intensity = [channel.field == "I" for channel in channels]
        alm[intensity, 0] = 0
        maps = synthesise(channels, alm, self.nside, self.lmax)
        maps[intensity] -= maps[intensity].mean(axis=1, keepdims=True, dtype=np.float64)  # what the pixels leave of it
        return ring_to_nest(maps).astype(np.float32, copy=False)

    def _read_sigma(self) -> dict[str, np.ndarray]:
        return {c.name: read_sigma(c, self.nside) for c in self.channels if c.variance_map}

    def _gain(self, draws: Draws) -> np.ndarray:
        """Draw the relative error of each channel's calibration; fields of a band share it."""
        drawn = {c.band: draws(f"gain/{c.band}").standard_normal() for c in self.channels}
        scatter = self.sky.gain_errors
        return np.array([scatter * c.gain_error * drawn[c.band] for c in self.channels], dtype=np.float32)


def _targets(fields: Sequence[str], fwhm: float) -> tuple[Channel, ...]:
    """Channels that see the target: the CMB at one beam, without noise."""
    return tuple(Channel("target", field, 0.0, fwhm, 0.0, (), ()) for field in fields)


def _windows(channels: Sequence[Channel], lmax: int) -> np.ndarray:
    """Beam windows (channel, lmax + 1)."""
    return np.stack([window(channel, lmax) for channel in channels])


def _draw_teb(cl: np.ndarray, draws: Draws, lmax: int, polarised: bool) -> list[np.ndarray]:
    """Draw correlated T, E and B, each (nalm,) complex128; only T where nothing is polarised, and then the same T."""
    tt, ee, bb, te = cl
    unit_t = draw_unit_alm(draws("cmb/T"), lmax)
    if not polarised:
        return [almxfl(unit_t, np.sqrt(tt))]
    slope = np.divide(te, np.sqrt(tt), out=np.zeros_like(te), where=tt > 0)
    unit_e = draw_unit_alm(draws("cmb/E"), lmax)
    e = almxfl(unit_t, slope) + almxfl(unit_e, np.sqrt(np.maximum(ee - slope**2, 0)))
    return [almxfl(unit_t, np.sqrt(tt)), e, almxfl(draw_unit_alm(draws("cmb/B"), lmax), np.sqrt(bb))]


def _describe(channel: Channel) -> dict:
    """Plain values of a channel, those that are not the default; its files by content, not by name."""
    from ..data.recipe import file_digest

    described = {f.name: getattr(channel, f.name) for f in fields(channel) if getattr(channel, f.name) != f.default}
    described |= {"frequencies": list(channel.frequencies), "weights": list(channel.weights)}
    if channel.beam_file:
        described["beam_file"] = file_digest(Path(channel.beam_file))
    if channel.variance_map:
        path, _, column = channel.variance_map.partition(".fits:")
        described["variance_map"] = [file_digest(Path(f"{path}.fits" if column else path)), column]
    return described
