"""From an instrument and a description of the sky to simulated observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from ..data.recipe import file_digest
from ..errors import ConfigError
from . import systematics
from .beams import pixel_window, window
from .channel import Channel
from .cmb import draw_teb
from .foregrounds import Foreground, synthesise
from .instrument import Instrument
from .model import ERRORS, Sky
from .noise import Noise
from .rng import Draws
from .shared import Shared
from .transforms import almxfl, check_lmax, check_nside, euler_rotation, random_rotation, ring_to_nest, rotate_alm

GENERATOR_VERSION = 1
"""Raise it when the same recipe gives other maps than before: it is part of every recipe."""


class Simulator:
    """Makes simulations of one instrument and sky; small when pickled, as processes share what is fixed.

    The observation of a channel is (1 + gain) (cmb + foregrounds) + noise. Beside what is shared, simulating and
    storing take 0.1 GiB and at most seven times the memory of one part, 4 bytes for each pixel of each channel.
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
        sky_nside: int | None = None,
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
            sky_nside: at which foregrounds are made before they are lowered to the maps; None for that of the maps.
        """
        self.nside = check_nside(nside)
        self.sky_nside = check_nside(sky_nside or nside, "sky_nside")
        if self.sky_nside < nside:
            raise ConfigError(f"sky_nside: {sky_nside} is below the {nside} of the maps; leave it out")
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
            foreground.check(self.channels, self.sky_nside)
        systematics.check(self.channels, sky.beam_errors)
        self._beams = self._windows(self.channels)
        self._theory: np.ndarray | None = sky.cmb.cl(self.lmax) if sky.cmb.quick else None
        self._noise = Noise(self.channels, nside)
        self._fixed: Shared | None = None

    @property
    def theory(self) -> np.ndarray:
        """C_l of the CMB [uK_CMB^2], (4, lmax + 1) in the order TT, EE, BB, TE, without any beam.

        Where every simulation has a spectrum of its own, this is the one at the centre of the prior.
        """
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
            No map of I has a monopole. On request `difference`, (channel, npix): the noise of two halves of the data is
            `noise` plus and minus it. Where every simulation has its own cosmology, its `theory`, as the property of
            that name, and `parameters`, (parameter,) in the order of the recipe.
        """
        draws = Draws(self.seed, split, index)
        theory, parameters = (self.theory, {}) if self.sky.cmb.fixed else self.sky.cmb.draw(self.lmax, draws)
        channels, beams = self.channels, self._beams
        if self._varies:
            channels = systematics.as_built(channels, self.sky.beam_errors, self.sky.bandpass_errors, draws)
            beams = self._windows(channels)
        cmb, target = self._cmb(theory, beams, draws)
        made = {
            "cmb": cmb,
            "foregrounds": self._foregrounds(channels, beams[: len(channels)], draws),
            "noise": self._noise.draw(draws) if self.sky.noise else np.zeros_like(cmb),
            "target": target,
            "gain": systematics.gains(channels, self.sky.gain_errors, draws),
        }
        if self.sky.halves:
            made["difference"] = self._noise.draw(draws, "difference")
        if parameters:
            made["theory"] = theory.astype(np.float32)
            made["parameters"] = np.array(list(parameters.values()), dtype=np.float32)
        return made

    def recipe(self, split: str) -> dict:
        """Describe all that the maps of a split depend on, in plain values."""
        return {
            "generator": GENERATOR_VERSION,
            "seed": self.seed,
            "split": split.lower(),
            "nside": self.nside,
            "sky_nside": self.sky_nside,
            "lmax": self.lmax,
            "ordering": "NESTED",
            "unit": "uK_CMB",
            "target_fwhm_arcmin": self.target_fwhm,
            "channels": [_describe(channel, self.sky) for channel in self.channels],
            "cmb": self.sky.cmb.recipe(),
            "foregrounds": [foreground.recipe() for foreground in self.foregrounds],
            "orientation": self.sky.orientation,
            "noise": self.sky.noise,
            "halves": self.sky.halves,
            "pixel_window": self.sky.pixel_window,
        } | {key: getattr(self.sky, key) for key in ERRORS}

    def _windows(self, channels: Sequence[Channel]) -> np.ndarray:
        """Windows of the channels and, below, of the target, (channel, lmax + 1)."""
        beams = np.stack([window(channel, self.lmax) for channel in (*channels, *self.targets)])
        return beams * pixel_window(self.nside, self.lmax) if self.sky.pixel_window else beams

    @property
    def _varies(self) -> bool:
        """Whether beams or bandpasses differ between simulations."""
        return bool(self.sky.beam_errors or self.sky.bandpass_errors)

    def _cmb(self, theory: np.ndarray, beams: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Draw the CMB as the channels see it and at the target's beam, from the same coefficients."""
        every, count = (*self.channels, *self.targets), len(self.channels)
        seen = [(channel.field, beam.tobytes()) for channel, beam in zip(every, beams, strict=True)]
        # A channel with the beam of the target is one.
        rows = [row for row in range(len(every)) if row < count or seen.index(seen[row]) == row]
        targets = [rows.index(seen.index(one)) for one in seen[count:]]
        every, beams = [every[row] for row in rows], beams[rows]
        teb = draw_teb(theory, draws, polarised=any(channel.spin for channel in every))
        alm = np.stack([teb["IQU".index(channel.field)] for channel in every]).astype(np.complex64)
        maps = self._maps(every, almxfl(alm, beams))
        return maps[:count], maps[targets]

    def _foregrounds(self, channels: Sequence[Channel], beams: np.ndarray, draws: Draws) -> np.ndarray:
        """Return the foregrounds, (channel, npix) NESTED; the sum of the fixed ones is made once in a process."""
        stays = not self._varies and self.sky.orientation != "random"
        varied = [foreground for foreground in self.foregrounds if not (stays and foreground.fixed)]
        fixed = [foreground for foreground in self.foregrounds if foreground not in varied]
        if fixed and self._fixed is None:
            self._fixed = Shared(self._sum(fixed, channels, beams, draws))
        if not varied:
            return self._fixed.array.copy() if fixed else self._sum([], channels, beams, draws)
        maps = self._sum(varied, channels, beams, draws)
        if fixed:
            maps += self._fixed.array
        return maps

    def _sum(
        self, foregrounds: Sequence[Foreground], channels: Sequence[Channel], beams: np.ndarray, draws: Draws
    ) -> np.ndarray:
        if not foregrounds:
            return np.zeros((len(channels), 12 * self.nside**2), dtype=np.float32)
        alm = sum(f.alm(channels, self.sky_nside, self.lmax, draws) for f in foregrounds)
        if self.sky.orientation is not None:
            alm = rotate_alm(alm, self.lmax, self._rotation(draws))
        return self._maps(channels, almxfl(alm, beams))

    def _rotation(self, draws: Draws) -> np.ndarray:
        if isinstance(self.sky.orientation, list):
            return euler_rotation(*self.sky.orientation)
        return random_rotation(draws("orientation"))

    def _maps(self, channels: Sequence[Channel], alm: np.ndarray) -> np.ndarray:
        """Return maps (channel, npix), NESTED, float32, of beamed coefficients (channel, nalm), which are changed."""
        alm[:, 0] = 0
        maps = synthesise(channels, alm, self.nside, self.lmax)
        for row, channel in zip(maps, channels, strict=True):
            if channel.field == "I":
                row -= row.mean(dtype=np.float64)  # what the pixels leave of the monopole
        return ring_to_nest(maps).astype(np.float32, copy=False)


def _targets(names: Sequence[str], fwhm: float) -> tuple[Channel, ...]:
    """Channels that see the target: the CMB at one beam, without noise."""
    return tuple(Channel("target", name, 0.0, fwhm, 0.0, (), ()) for name in names)


def _describe(channel: Channel, sky: Sky) -> dict:
    """Plain values of a channel that matter: not the defaults nor errors unasked for; files by content, not name."""
    described = {f.name: getattr(channel, f.name) for f in fields(channel) if getattr(channel, f.name) != f.default}
    for key in ERRORS:
        if not getattr(sky, key):
            described.pop(key.removesuffix("s"), None)
    described |= {"frequencies": list(channel.frequencies), "weights": list(channel.weights)}
    for key in {"beam_file", "noise_spectrum"} & set(described):
        described[key] = file_digest(Path(described[key]))
    if channel.variance_map:
        path, _, column = channel.variance_map.partition(".fits:")
        described["variance_map"] = [file_digest(Path(f"{path}.fits" if column else path)), column]
    return described
