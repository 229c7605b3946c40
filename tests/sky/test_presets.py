import healpy
import numpy as np
import pysm3
import pysm3.units as u
import pytest
from astropy.constants import h, k_B
from astropy.units import thermodynamic_temperature

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import Instrument, Presets
from cmb_lightning.sky.foregrounds import analyse
from cmb_lightning.sky.rng import Draws

NSIDE, LMAX = 8, 16
T_CMB = 2.7255
DRAWS = Draws(1, "train", 0)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Presets x1 (polarised dust) and x2 (synchrotron) whose maps lie in a folder, where PySM looks first."""
    rng = np.random.default_rng(0)
    healpy.write_map(tmp_path / "dust.fits", rng.uniform(1, 2, (3, 12 * NSIDE**2)), dtype=np.float64)
    healpy.write_map(tmp_path / "sync.fits", rng.uniform(1, 2, 12 * NSIDE**2), dtype=np.float64)
    dust = {
        "class": "ModifiedBlackBody", "map_I": "dust.fits", "unit_I": "uK_RJ", "map_mbb_index": 1.5,
        "map_mbb_temperature": 20, "unit_mbb_temperature": "K", "freq_ref_I": "545 GHz", "freq_ref_P": "353 GHz",
    }  # fmt: skip
    synchrotron = {
        "class": "PowerLaw", "map_I": "sync.fits", "unit_I": "uK_RJ", "map_pl_index": -3.0, "freq_ref_I": "30 GHz",
        "has_polarization": False,
    }  # fmt: skip
    monkeypatch.setitem(pysm3.sky.PRESET_MODELS, "x1", dust)
    monkeypatch.setitem(pysm3.sky.PRESET_MODELS, "x2", synchrotron)
    monkeypatch.setenv("PYSM_LOCAL_DATA", str(tmp_path))


def test_emission_is_pysms_in_uK_CMB(offline):
    channels = Instrument.load("reference", NSIDE, ["44", "353"], ("I", "Q", "U")).channels
    presets = Presets(["x1", "x2"])
    presets.check(channels, NSIDE)
    mine = presets.emission(channels, NSIDE)
    for row, channel in zip(mine, channels, strict=True):
        sky = pysm3.Sky(nside=NSIDE, preset_strings=["x1", "x2"], output_unit="uK_CMB")
        expected = sky.get_emission(channel.frequency * u.GHz)["IQU".index(channel.field)].value
        assert np.allclose(row, expected, rtol=1e-5)
    alm = presets.alm(channels, NSIDE, LMAX, DRAWS)
    assert np.allclose(
        alm, analyse(channels, mine, LMAX), rtol=1e-4, atol=1e-4 * np.abs(alm).max(axis=1, keepdims=True)
    )


def test_extragalactic_emission_has_its_colours(tmp_path, monkeypatch):
    """CIB, radio sources and both SZ effects from maps as WebSky's, in closed form."""
    maps = np.random.default_rng(0).uniform(1, 2, (4, 12 * NSIDE**2))
    files = {"ksz.fits": maps[0], "tsz_8192_hp.fits": 1e-6 * maps[1]}
    for f in (100, 111, 353, 375):  # between which PySM interpolates in uK_RJ, here between equal maps
        files[f"cib/cib_{f:06.1f}.fits"] = maps[2] * f**2
        files[f"radio/radio_{f:06.1f}.fits"] = 1e6 * maps[3] * f**2
    for name, made in files.items():
        path = tmp_path / "websky" / "0.4" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        healpy.write_map(path, made, dtype=np.float64)
    monkeypatch.setenv("PYSM_LOCAL_DATA", str(tmp_path))
    channels = Instrument.load("reference", NSIDE, ["100", "353"]).channels
    for row, (channel, ends) in enumerate(zip(channels, ([100, 111], [353, 375]), strict=True)):
        frequency = channel.frequency * u.GHz
        kelvin = (1 * u.MJy / u.sr).to_value(u.K, thermodynamic_temperature(frequency, T_CMB * u.K))
        x = (h * frequency / (k_B * T_CMB * u.K)).to_value(u.one)
        to_spt = np.sqrt(1 + 0.84 / (1 + np.exp((np.array(ends) - 227) / 75)))
        brightness = 1e6 * kelvin * channel.frequency**2
        expected = {
            "ksz1": maps[0],
            "tsz1": maps[1] * T_CMB * (x / np.tanh(x / 2) - 4),
            "cib1": maps[2] * brightness * np.interp(channel.frequency, ends, to_spt),
            "rg1": maps[3] * brightness,
        }
        for name, sky in expected.items():
            assert np.allclose(Presets([name]).emission(channels, NSIDE)[row], sky, rtol=1e-3), name
        assert np.allclose(Presets(list(expected)).emission(channels, NSIDE)[row], sum(expected.values()), rtol=1e-3)


def test_polarisation_is_scaled_at_exactly_the_reference_of_intensity(offline, tmp_path):
    table = (pysm3.sky.PRESET_MODELS, Instrument.load("reference", NSIDE, ["353"], ("I", "Q", "U")).channels)[1]
    channels = [type(c)(**{**vars(c), "frequencies": (545.0,), "weights": (1.0,)}) for c in table]
    _, q, _ = Presets(["x1"]).emission(channels, NSIDE)
    near = [type(c)(**{**vars(c), "frequencies": (545.01,), "weights": (1.0,)}) for c in table]
    assert np.allclose(q, Presets(["x1"]).emission(near, NSIDE)[1], rtol=1e-3)


def test_global_random_state_is_left_alone_and_without_effect(offline, monkeypatch):
    class Randomiser(pysm3.ModifiedBlackBody):
        def get_emission(self, freqs, weights=None):
            return super().get_emission(freqs, weights) * np.random.uniform()

    monkeypatch.setattr(pysm3.sky, "Randomiser", Randomiser, raising=False)
    monkeypatch.setitem(pysm3.sky.PRESET_MODELS, "x3", pysm3.sky.PRESET_MODELS["x1"] | {"class": "Randomiser"})
    channels = Instrument.load("reference", NSIDE, ["44"]).channels
    made = []
    for seed in (1, 2):
        np.random.seed(seed)
        before = np.random.get_state()[1].copy()
        made.append(Presets(["x3"]).emission(channels, NSIDE))
        assert np.array_equal(before, np.random.get_state()[1])
    assert np.array_equal(*made)


def test_unknown_preset():
    with pytest.raises(ConfigError, match="presets: PySM .* has no 'd77'; it has d0, d1"):
        Presets(["d1", "d77"]).check((), NSIDE)
    with pytest.raises(ConfigError, match="presets: d1, d1; name at least one, each once"):
        Presets(["d1", "d1"])


def test_no_network(monkeypatch):
    def refuse(self, filename):
        raise OSError("no network")

    monkeypatch.setattr(pysm3.utils.RemoteData, "get", refuse)
    with pytest.raises(ConfigError, match="PySM could not make d1 .*no network.*downloaded on first use"):
        Presets(["d1"]).emission(Instrument.load("reference", NSIDE).channels, NSIDE)


def test_making_a_preset_downloads_nothing(monkeypatch):
    monkeypatch.setattr(pysm3.utils.RemoteData, "get", lambda *a: pytest.fail("downloaded"))
    presets = Presets(["d9", "cib1"])
    presets.check(Instrument.load("reference", NSIDE).channels, NSIDE)
    assert presets.fixed and presets.recipe()["presets"] == ["cib1", "d9"]
