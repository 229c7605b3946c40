"""The description of a sky and of how faithfully it is observed."""

from __future__ import annotations

from dataclasses import dataclass
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
        cmb: spectrum of the CMB; CAMB's for the default cosmology when None.
        foregrounds: added up; a random Galaxy when None, an empty list for none.
        orientation: turns all foregrounds: `random`, anew in every simulation, or by three angles [deg] about z, y and
            z again; None leaves them as they are.
        gain_errors: multiplies the instrument's own scatter of the calibration (its `gain_error`); 0 for none.
        beam_errors: multiplies the instrument's own relative scatter of the beams' width (its `beam_error`).
        bandpass_errors: multiplies the instrument's own relative scatter of the frequencies (its `bandpass_error`).
        noise: whether the instrument adds noise.
        pixel_window: whether maps and target are averages over pixels, as real maps are, or values at their centres.
        halves: whether to draw, beside the noise, by how much that of two halves of the data differs from it.
    """

    # None and not the objects: a resolved configuration is written down, which they cannot be.
    cmb: Spectrum | None = None
    foregrounds: list[Foreground] | None = None
    orientation: Literal["random"] | list[float] | None = None
    gain_errors: float = 0.0
    beam_errors: float = 0.0
    bandpass_errors: float = 0.0
    noise: bool = True
    halves: bool = False
    pixel_window: bool = False

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
        for key in ERRORS:
            if not getattr(self, key) >= 0:
                raise ConfigError(f"{key}: {getattr(self, key)} is negative; give 0 or more")
