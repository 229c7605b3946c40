import numpy as np
import pysm3.units as u
import pytest
from astropy.cosmology import Planck18
from astropy.modeling.physical_models import BlackBody

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import units


@pytest.mark.parametrize("frequency", [28.4, 143.0, 866.8])
@pytest.mark.parametrize("unit", ["K_RJ", "uK_RJ", "mK_CMB", "MJy/sr", "kJy/sr"])
def test_conversion_is_that_of_pysm(frequency, unit):
    expected = (1 * u.Unit(unit)).to_value(u.uK_CMB, equivalencies=u.cmb_equivalencies(frequency * u.GHz))
    assert units.to_uK_CMB(frequency, unit) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("frequency", [28.4, 143.0, 866.8])
def test_conversion_is_the_derivative_of_planck_law(frequency):
    step = 1e-3
    hot, cold = (
        BlackBody(temperature=(Planck18.Tcmb0.value + s) * u.K)(frequency * u.GHz).to_value(u.MJy / u.sr)
        for s in (step, -step)
    )
    assert units.to_uK_CMB(frequency, "MJy/sr") == pytest.approx(2 * step * 1e6 / (hot - cold), rel=1e-5)


def test_parse():
    assert units.parse("0.5 deg", "arcmin", "beam").value == pytest.approx(30)
    assert units.parse(30 * u.arcmin, "arcmin", "beam").value == pytest.approx(30)
    assert units.parse("2 percent", "", "gain").value == pytest.approx(0.02)


@pytest.mark.parametrize("value", ["30", "30 GHz", "thirty arcmin", "30 arcmins", ""])
def test_parse_names_key_value_and_remedy(value):
    with pytest.raises(ConfigError, match=f"beam: '{value}' is not .* '30 arcmin'"):
        units.parse(value, "arcmin", "beam")


@pytest.mark.parametrize("unit", ["uK", "K_XYZ", "", None, "arcmin"])
def test_units_of_no_sky_map(unit):
    with pytest.raises(ConfigError, match="column I: "):
        units.to_uK_CMB(100.0, unit, "column I")


def test_factor_is_a_plain_float():
    assert type(units.to_uK_CMB(100.0, "uK_RJ")) is float
    assert np.isfinite(units.to_uK_CMB(100.0, "uK_RJ"))
