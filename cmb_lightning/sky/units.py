"""Units: what text is accepted, and the conversion to uK_CMB. The only module that imports pysm3.units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from astropy.units import Quantity, UnitBase


def unit(text: str | UnitBase, key: str) -> UnitBase:
    """Parse a unit, among them the CMB's own `K_CMB` and `K_RJ`.

    Args:
        text: such as `uK_CMB`, `MJy/sr` or `arcmin`.
        key: name of the configuration key or column, for the error.

    Raises:
        ConfigError: the unit is not known.
    """
    import pysm3.units as u  # defines K_CMB and K_RJ; until then they are unknown to astropy

    if text is None or isinstance(text, u.UnrecognizedUnit) or not str(text).strip():
        raise ConfigError(f"{key}: unit {str(text or '')!r} is missing or unknown; give one such as uK_CMB or uK_RJ")
    try:
        return u.Unit(text, parse_strict="raise")
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key}: unknown unit {str(text)!r}; give one such as uK_CMB, uK_RJ or MJy/sr") from error


def parse(value: str | Quantity, to: str, key: str) -> Quantity:
    """Parse a quantity and convert it.

    Args:
        value: text such as `30 arcmin`, or a Quantity.
        to: unit wanted, such as `arcmin`; empty for a number, which may be given in percent.
        key: name of the configuration key, for the error.

    Raises:
        ConfigError: not a number with a unit of that kind.
    """
    import pysm3.units as u

    wanted = unit(to, key) if to else u.dimensionless_unscaled
    try:
        with u.set_enabled_equivalencies([]):  # others may have enabled some for all: a wavelength is no frequency here
            return u.Quantity(value).to(wanted)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key}: {str(value)!r} is not a quantity in {to}; write it as '30 {to}'") from error


def arcmin(value: str | Quantity | None, key: str) -> float | None:
    """Parse an angle such as `30 arcmin` to a number of arcmin; None stays None. See `parse`."""
    return None if value is None else float(parse(value, "arcmin", key).value)


def to_uK_CMB(frequency: float, text: str | UnitBase, key: str = "unit") -> float:
    """Return the factor that takes a map to uK_CMB at one frequency.

    Args:
        frequency: [GHz].
        text: unit of the map: a CMB or Rayleigh-Jeans temperature, or an intensity such as MJy/sr.
        key: name of the configuration key, for the error.

    Raises:
        ConfigError: the unit is unknown, or not one of a map of the sky.
    """
    import pysm3.units as u

    given = unit(text, key)
    try:
        return float((1 * given).to_value(u.uK_CMB, equivalencies=u.cmb_equivalencies(frequency * u.GHz)))
    except u.UnitConversionError as error:
        raise ConfigError(
            f"{key}: {str(text)!r} is not the unit of a sky map; give uK_CMB, uK_RJ (not plain K) or MJy/sr"
        ) from error
