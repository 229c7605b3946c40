"""A map that knows how it is ordered, in which unit it is, and where it has no data."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import ducc0
import numpy as np
from astropy import units as u

from cmb_lightning.errors import ConfigError

Ordering = Literal["RING", "NESTED"]

PLAUSIBLE_RMS = (30.0, 200.0)
"""rms [uK_CMB] of a temperature map where the CMB dominates; outside it the unit is likely to be wrong."""
CMB_BANDS = (60.0, 230.0)
"""Frequencies [GHz] between which the CMB dominates a temperature map away from the Galactic plane."""


@dataclass(frozen=True)
class HealpixMap:
    """One map of the full sphere.

    Attributes:
        values: Pixels in `unit`, float32 in the machine's byte order, shape (npix,); NaN where `bad`.
        nside: HEALPix resolution.
        ordering: `RING` or `NESTED`.
        unit: Unit as text, such as `uK_CMB` or `MJy/sr`; empty for a number without unit.
        coordinates: `G` (Galactic), `E` (ecliptic), `C` (equatorial), or None where nobody said.
        bad: True where the map has no data, bool, shape (npix,).
        name: What the map is called, such as the name of its FITS column.
        source: Where it came from, for messages.
        header: The remaining keywords of its file.
    """

    values: np.ndarray
    nside: int
    ordering: Ordering
    unit: str
    coordinates: str | None
    bad: np.ndarray
    name: str = ""
    source: str = ""
    header: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)

    def ordered(self, ordering: Ordering) -> "HealpixMap":
        """The same map with its pixels in the given order."""
        if ordering == self.ordering:
            return self
        from cmb_lightning.sky.transforms import nest_to_ring, ring_to_nest  # sky itself reads maps through this module

        reorder = ring_to_nest if ordering == "NESTED" else nest_to_ring
        return replace(self, values=reorder(self.values), bad=reorder(self.bad), ordering=ordering)

    def nested(self) -> "HealpixMap":
        """The same map in NESTED order."""
        return self.ordered("NESTED")

    def in_uK_CMB(self, frequency: float) -> "HealpixMap":
        """The same map in uK_CMB.

        Warns where the result is no likely sky: a temperature map between 60 and 230 GHz whose rms (estimated from the
        median, so that the Galactic plane does not count) is outside 30 to 200 uK.

        Args:
            frequency: Centre of the band [GHz].

        Raises:
            ConfigError: If the unit is unknown, or is a plain kelvin, which may be thermodynamic or Rayleigh-Jeans.
        """
        from cmb_lightning.sky.units import to_uK_CMB  # sky itself reads maps through this module

        if self.unit.endswith("K"):
            raise ConfigError(
                f"{self.source}: the unit of {self.name} is {self.unit!r}, which may be thermodynamic or"
                f" Rayleigh-Jeans: state the unit by `unit`, {self.unit}_CMB or {self.unit}_RJ."
            )
        factor = to_uK_CMB(frequency, self.unit, f"{self.source}, {self.name}")
        converted = replace(self, values=(self.values * np.float64(factor)).astype(np.float32), unit="uK_CMB")
        if CMB_BANDS[0] < frequency < CMB_BANDS[1] and not self.name.upper().startswith(("Q", "U")):
            converted._warn_if_implausible()
        return converted

    def _warn_if_implausible(self) -> None:
        good = self.values[~self.bad]
        rms = 1.4826 * float(np.median(np.abs(good - np.median(good)))) if good.size else 0.0
        if not PLAUSIBLE_RMS[0] <= rms <= PLAUSIBLE_RMS[1]:
            warnings.warn(
                f"{self.source}: {self.name} has an rms of {rms:.3g} uK_CMB away from the Galactic plane, a microwave"
                f" sky has {PLAUSIBLE_RMS[0]:g} to {PLAUSIBLE_RMS[1]:g}: check its unit.",
                stacklevel=3,
            )


def known_unit(text: str, where: str) -> str:
    """A unit's usual spelling: `uK_CMB` for `uK,thermodynamic` or `uKcmb`; an empty text for a number without unit.

    Raises:
        ConfigError: If it is no unit, naming `where`.
    """
    spelled = text.strip().replace("µ", "u").replace("muK", "uK")
    kelvin = re.fullmatch(r"([munp]?)K(?:_?(cmb|rj)|[,_ ]*(thermodynamic|antenna).*)", spelled, re.IGNORECASE)
    if kelvin:
        rayleigh_jeans = (kelvin[2] or kelvin[3]).lower() in ("rj", "antenna")
        return f"{kelvin[1]}K_{'RJ' if rayleigh_jeans else 'CMB'}"
    try:
        return u.Unit(spelled).to_string() if spelled not in ("", "1") else ""
    except ValueError as error:
        raise ConfigError(
            f"{where}: the unit {text!r} is not known: state the unit by `unit`, such as uK_CMB, K_RJ or MJy/sr."
        ) from error


def is_misordered(values: np.ndarray, nside: int, ordering: Ordering) -> bool:
    """Whether a map would be clearly smoother in the other ordering than in the one it claims.

    Neighbouring pixels of any sky resemble each other. In the wrong order they do so less: their median difference is
    1.1 times (as much noise as signal) to 5 times (smooth sky) larger. For pure noise the two orderings are alike.

    Args:
        values: Pixels, shape (npix,); not finite where there are no data.
        nside: HEALPix resolution.
        ordering: The ordering they claim to have.
    """
    npix = 12 * nside**2
    sample = np.arange(0, npix, max(1, npix // 20_000))

    def step(scheme: str) -> float:
        around = ducc0.healpix.Healpix_Base(nside, scheme).neighbors(sample)
        difference = np.abs(values[around] - values[sample][:, None])[around >= 0]
        difference = difference[np.isfinite(difference)]
        return float(np.median(difference)) if difference.size else 0.0

    here, other = ("RING", "NEST") if ordering == "RING" else ("NEST", "RING")
    return step(here) > (1.08 + 4 / np.sqrt(sample.size)) * step(other)
