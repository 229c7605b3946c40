"""What a set of maps looks like: all that a model has to know about the data it is given."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from cmb_lightning.errors import ConfigError

FIELDS = ("I", "Q", "U")


@dataclass(frozen=True)
class Layout:
    """Shape, resolution and unit of the maps, in plain Python so that it can travel in a checkpoint.

    Attributes:
        nside: HEALPix resolution, a power of two.
        lmax: Highest multipole of the maps.
        channels: Names of the input channels, a (band, field) pair each: `30_I`, `100_Q`.
        fwhm: Beam of each channel [arcmin].
        fields: Fields of the target: `I`, `Q`, `U`.
        target_fwhm: Beam of the target [arcmin].
        unit: Unit of every map.
    """

    nside: int
    lmax: int
    channels: tuple[str, ...]
    fwhm: tuple[float, ...]
    fields: tuple[str, ...] = ("I",)
    target_fwhm: float = 0.0
    unit: str = "uK_CMB"

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
        unknown = [field for field in self.fields if field not in FIELDS]
        if unknown or not self.fields:
            raise ConfigError(f"fields: {list(self.fields)} must be some of {', '.join(FIELDS)}.")

    @property
    def npix(self) -> int:
        """Pixels of a map."""
        return 12 * self.nside**2

    def to_dict(self) -> dict[str, Any]:
        """The layout as str, numbers and lists, as a checkpoint or a JSON file can hold it."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Layout":
        """The layout that `to_dict` wrote."""
        return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})

    def differences(self, other: "Layout") -> list[str]:
        """What differs from `other`, a sentence fragment for each key: `nside: 64 here, 128 there`."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{key}: {mine[key]} here, {theirs[key]} there" for key in mine if mine[key] != theirs[key]]


def check_nside(nside: int) -> None:
    """Refuses an nside that is not a power of two up to 8192.

    Raises:
        ConfigError: It is not.
    """
    if nside < 1 or nside > 8192 or nside & (nside - 1):
        near = 2 ** round(math.log2(min(max(nside, 1), 8192)))
        raise ConfigError(f"nside: {nside} is not a power of two between 1 and 8192; {near} would be.")
