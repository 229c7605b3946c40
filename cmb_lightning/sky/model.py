"""The description of a sky and of how faithfully it is observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..errors import ConfigError
from .cosmology import CambSpectrum
from .foregrounds import Foreground
from .spectra import Spectrum
from .statistical import StatisticalGalaxy

ERRORS = ("gain_errors", "beam_errors", "bandpass_errors")


@dataclass
class Sky:
    """What is simulated.

    Args:
        cmb: spectrum of the CMB.
        foregrounds: added up; a random Galaxy by default, an empty list for none.
        orientation: turns all foregrounds: `random`, anew in every simulation, or by three angles [deg] about z, y and
            z again; None leaves them as they are.
        gain_errors: multiplies the instrument's own scatter of the calibration (its `gain_error`); 0 for none.
        beam_errors: multiplies the instrument's own relative scatter of the beams' width (its `beam_error`).
        bandpass_errors: multiplies the instrument's own relative scatter of the frequencies (its `bandpass_error`).
        noise: whether the instrument adds noise.
        halves: whether to draw, beside the noise, by how much that of two halves of the data differs from it.
    """

    cmb: Spectrum = field(default_factory=CambSpectrum)
    foregrounds: list[Foreground] = field(default_factory=lambda: [StatisticalGalaxy()])
    orientation: Literal["random"] | list[float] | None = None
    gain_errors: float = 0.0
    beam_errors: float = 0.0
    bandpass_errors: float = 0.0
    noise: bool = True
    halves: bool = False

    def __post_init__(self) -> None:
        names = [foreground.name for foreground in self.foregrounds]
        if len(set(names)) != len(names):
            raise ConfigError(f"foregrounds: {', '.join(names)}; give each a `name` of its own")
        if isinstance(self.orientation, list) and len(self.orientation) != 3:
            raise ConfigError(f"orientation: {self.orientation} must be 'random' or three angles in degrees")
        for key in ERRORS:
            if not getattr(self, key) >= 0:
                raise ConfigError(f"{key}: {getattr(self, key)} is negative; give 0 or more")
