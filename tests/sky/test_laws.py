import numpy as np
import pysm3
import pysm3.units as u
import pytest
from astropy.modeling.physical_models import BlackBody

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.laws import LogNormal, ModifiedBlackbody, PowerLaw, TwoTemperatureBlackbody

NSIDE = 1
NPIX = 12
FREQUENCIES = [28.4, 100.89, 353.5, 866.8]


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return {
        "I": rng.uniform(1, 100, NPIX),
        "BETA": rng.normal(1.5, 0.1, NPIX),
        "TEMP": rng.normal(20, 2, NPIX),
        "PEAK": rng.normal(20, 2, NPIX),
    }


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_modified_blackbody_is_pysms(frequency, maps):
    model = pysm3.ModifiedBlackBody(
        map_I=maps["I"] << u.uK_RJ, map_Q=maps["I"] << u.uK_RJ, map_U=maps["I"] << u.uK_RJ,
        freq_ref_I=353 * u.GHz, freq_ref_P=353 * u.GHz, map_mbb_index=maps["BETA"],
        map_mbb_temperature=maps["TEMP"], unit_mbb_temperature="K", nside=NSIDE,
    )  # fmt: skip
    expected = model.get_emission(frequency * u.GHz)[0].value
    mine = maps["I"] * ModifiedBlackbody("BETA", "TEMP").ratio(frequency, 353.0, maps)
    assert np.allclose(mine, expected, rtol=1e-9)


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_modified_blackbody_is_astropys(frequency):
    expected = (frequency / 353) ** (1.6 - 2) * (
        BlackBody(temperature=19 * u.K)(frequency * u.GHz) / BlackBody(temperature=19 * u.K)(353 * u.GHz)
    )
    assert ModifiedBlackbody(1.6, "19 K").ratio(frequency, 353.0, {}) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_two_temperatures_are_a_sum_of_modified_blackbodies(frequency):
    def intensity(nu):
        cold = 0.0485 * 8.22 * (nu / 3000) ** 1.63 * BlackBody(temperature=9.75 * u.K)(nu * u.GHz)
        hot = (1 - 0.0485) * (nu / 3000) ** 2.82 * BlackBody(temperature=15.7 * u.K)(nu * u.GHz)
        return cold + hot

    expected = float(intensity(frequency) / intensity(353.0)) * (353.0 / frequency) ** 2
    assert TwoTemperatureBlackbody().ratio(frequency, 353.0, {}) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("curvature", [0.0, -0.2])
def test_power_law_is_pysms(frequency, curvature, maps):
    model = pysm3.CurvedPowerLaw(
        map_I=maps["I"] << u.uK_RJ, freq_ref_I=30 * u.GHz, map_pl_index=-maps["BETA"], nside=NSIDE,
        has_polarization=False, spectral_curvature=curvature, freq_curve=23 * u.GHz,
    )  # fmt: skip
    expected = model.get_emission(frequency * u.GHz)[0].value
    mine = maps["I"] * PowerLaw("INDEX", curvature, "23 GHz").ratio(frequency, 30.0, {"INDEX": -maps["BETA"]})
    assert np.allclose(mine, expected, rtol=1e-9)


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_log_normal_flux(frequency, maps):
    def flux(nu):
        return np.exp(-((np.log(nu / maps["PEAK"]) / 0.5) ** 2) / 2)

    to_rj = [(1 * u.Jy / u.sr).to_value(u.K_RJ, u.cmb_equivalencies(nu * u.GHz)) for nu in (frequency, 30.0)]
    expected = flux(frequency) / flux(30.0) * to_rj[0] / to_rj[1]
    assert np.allclose(LogNormal("PEAK", 0.5).ratio(frequency, 30.0, maps), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("law", "raised"),
    [
        (ModifiedBlackbody("BETA", "TEMP"), ModifiedBlackbody("BETA+0.1", "TEMP")),
        (TwoTemperatureBlackbody(1.6, "10 K", 2.7, "16 K"), TwoTemperatureBlackbody(1.7, "10 K", 2.8, "16 K")),
        (PowerLaw("BETA", -0.1), PowerLaw("BETA + 0.1", -0.1)),
    ],
)
def test_shift_is_a_larger_index(law, raised, maps):
    shifted = law.ratio(100.0, 30.0, maps) * law.shift(100.0, 30.0, 0.1)
    assert np.allclose(shifted, raised.ratio(100.0, 30.0, maps), rtol=1e-9)


def test_shift_of_log_normal_moves_the_peak(maps):
    moved = {"PEAK": maps["PEAK"] * np.exp(0.1)}
    law = LogNormal("PEAK", 0.5)
    assert np.allclose(
        law.ratio(44.0, 30.0, maps) * law.shift(44.0, 30.0, 0.1), law.ratio(44.0, 30.0, moved), rtol=1e-9
    )


def test_columns_with_their_units():
    assert ModifiedBlackbody("BETA", "TEMP").columns() == {"BETA": "", "TEMP": "K"}
    assert ModifiedBlackbody(1.5, "20 K").columns() == {}
    assert PowerLaw("BETA-0.1").recipe() != PowerLaw("BETA").recipe()


def test_keeps_single_precision(maps):
    single = {name: values.astype(np.float32) for name, values in maps.items()}
    for law in (ModifiedBlackbody("BETA", "TEMP"), PowerLaw("BETA", "BETA"), LogNormal("PEAK")):
        assert law.ratio(100.0, 30.0, single).dtype == np.float32
    for law in (ModifiedBlackbody(), TwoTemperatureBlackbody(), PowerLaw(), LogNormal()):
        assert type(law.ratio(100.0, 30.0, {})) is float


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModifiedBlackbody(1.5, "20"), "temperature: '20' is not a quantity in K"),
        (lambda: ModifiedBlackbody("1.5 K"), "beta: '1.5 K' is neither a number nor a column"),
        (lambda: PowerLaw(-3.0, 0.1, "1 m"), "pivot: '1 m' is not a quantity in GHz"),
        (lambda: TwoTemperatureBlackbody(cold_fraction=2), "cold_fraction 2 must lie"),
        (lambda: LogNormal("20 GHz", "W").shift(1, 2, 0.1), "index_scatter: .*width"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
