"""What a set of maps looks like: all that a model has to know about the data it is given."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.beams import gaussian_beam, window
from cmb_lightning.sky.channel import Channel

FIELDS = ("I", "Q", "U")
SCALARS = {"I": "I", "Q": "E", "U": "B"}
"""By field what linear methods and networks work on in its place: maps without an orientation that turns."""


@dataclass(frozen=True)
class Layout:
    """Shape, resolution and unit of the maps, in plain Python so that it can travel in a checkpoint.

    Attributes:
        nside: HEALPix resolution, a power of two.
        lmax: Highest multipole of the maps.
        channels: Names of the input channels, a (band, field) pair each: `30_I`, `100_Q`.
        fwhm: Beam of each channel [arcmin]; its nominal width where the beam is no Gaussian.
        fields: Fields of the target: `I`, `Q`, `U`.
        target_fwhm: Beam of the target [arcmin].
        unit: Unit of every map.
        windows: For each channel its beam window b_l up to lmax where that is no Gaussian, and nothing where it is;
            empty when all are Gaussians.
    """

    nside: int
    lmax: int
    channels: tuple[str, ...]
    fwhm: tuple[float, ...]
    fields: tuple[str, ...] = ("I",)
    target_fwhm: float = 0.0
    unit: str = "uK_CMB"
    windows: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        check_nside(self.nside)
        if not 2 <= self.lmax <= 3 * self.nside - 1:
            raise ConfigError(
                f"lmax: {self.lmax} does not fit nside {self.nside}, which holds 2 to {3 * self.nside - 1}."
            )
        if len(self.channels) != len(self.fwhm):
            raise ConfigError(f"{len(self.channels)} channels but {len(self.fwhm)} beams: there must be one for each.")
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ConfigError(f"channels: {list(self.channels)} must be at least one, and each only once.")
        if self.windows and [len(b_l) or self.lmax + 1 for b_l in self.windows] != [self.lmax + 1] * len(self.channels):
            raise ConfigError(f"windows: there must be one for each channel, with {self.lmax + 1} values or none.")
        unknown = [field for field in self.fields if field not in FIELDS]
        if unknown or not self.fields:
            raise ConfigError(f"fields: {list(self.fields)} must be some of {', '.join(FIELDS)}.")

    @classmethod
    def of(
        cls, channels: Sequence[Channel], nside: int, lmax: int, fields: tuple[str, ...], target_fwhm: float
    ) -> "Layout":
        """The layout of maps that these channels see; see `Layout`."""
        windows = tuple(tuple(window(one, lmax).tolist()) if one.beam_file else () for one in channels)
        return cls(
            nside=nside,
            lmax=lmax,
            channels=tuple(channel.name for channel in channels),
            fwhm=tuple(channel.fwhm for channel in channels),
            fields=fields,
            target_fwhm=target_fwhm,
            windows=windows if any(windows) else (),
        )

    @property
    def npix(self) -> int:
        """Pixels of a map."""
        return 12 * self.nside**2

    def beams(self) -> np.ndarray:
        """The beam window b_l of each channel, shape (channel, lmax + 1), float64."""
        beams = self._gaussians(self.fwhm)
        for beam, b_l in zip(beams, self.windows, strict=False):
            beam[:] = b_l or beam
        return beams

    def target_beams(self) -> np.ndarray:
        """The target's beam window in the field of each channel, shape (channel, lmax + 1), float64."""
        return self._gaussians((self.target_fwhm,) * len(self.channels))

    def _gaussians(self, widths: Sequence[float]) -> np.ndarray:
        spins = [0 if name.endswith("_I") else 2 for name in self.channels]
        return np.stack([gaussian_beam(fwhm, self.lmax, spin) for fwhm, spin in zip(widths, spins, strict=True)])

    @property
    def scalars(self) -> tuple[str, ...]:
        """What stands for the fields in harmonic space and in networks: E for Q, B for U."""
        return tuple(SCALARS[field] for field in self.fields)

    def rows(self, field: str) -> list[int]:
        """The channels of a field."""
        return [row for row, name in enumerate(self.channels) if name.endswith(f"_{field}")]

    def only(self, field: str) -> "Layout":
        """The layout of one field's channels and target; for Q and U, of their E and B."""
        rows = self.rows(field)
        channels, fwhm = (tuple(values[row] for row in rows) for values in (self.channels, self.fwhm))
        windows = tuple(self.windows[row] for row in rows) if self.windows else ()
        own = {"channels": channels, "fwhm": fwhm, "windows": windows if any(windows) else ()}
        return dataclasses.replace(self, fields=(field,), **own)

    def to_dict(self) -> dict[str, Any]:
        """The layout as str, numbers and lists, as a checkpoint or a JSON file can hold it."""
        values = {key: _listed(value) for key, value in dataclasses.asdict(self).items()}
        if not self.windows:
            del values["windows"]  # so that the names of what was made and kept for Gaussians stay
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Layout":
        """The layout that `to_dict` wrote."""
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**values | {"windows": tuple(map(tuple, values.get("windows", ())))})

    def differences(self, other: "Layout") -> list[str]:
        """What differs from `other`, a sentence fragment for each key: `nside: 64 here, 128 there`."""
        mine, theirs = self.to_dict(), other.to_dict()
        found = [
            f"{key}: {mine[key]} here, {theirs[key]} there"
            for key in mine
            if key != "windows" and mine[key] != theirs[key]
        ]
        if not found and self.windows != other.windows:
            beams = zip(self.channels, self.beams(), other.beams(), strict=True)
            found = [f"beam window of {name}" for name, one, two in beams if not np.array_equal(one, two)]
        return found


def _listed(value: Any) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


def check_nside(nside: int) -> None:
    """Refuses an nside that is not a power of two up to 8192.

    Raises:
        ConfigError: It is not.
    """
    if nside < 1 or nside > 8192 or nside & (nside - 1):
        near = 2 ** round(math.log2(min(max(nside, 1), 8192)))
        raise ConfigError(f"nside: {nside} is not a power of two between 1 and 8192; {near} would be.")
