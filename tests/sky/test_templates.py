import pickle
from dataclasses import replace

import healpy
import numpy as np
import pysm3
import pysm3.units as u
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import Instrument, LogNormal, ModifiedBlackbody, PowerLaw, TemplateComponent, Templates
from cmb_lightning.sky.bandpass import top_hat
from cmb_lightning.sky.foregrounds import analyse, synthesise
from cmb_lightning.sky.rng import Draws
from cmb_lightning.sky.transforms import analysis, synthesis

NSIDE, LMAX = 16, 32
NPIX = 12 * NSIDE**2
DRAWS = Draws(1, "train", 0)


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    smooth = healpy.smoothing(rng.standard_normal((3, NPIX)), np.deg2rad(20), pol=False)
    i, q, p = (smooth.T / smooth.std(axis=1)).T
    return [np.exp(i), 0.1 * q, 0.1 * p, 1.5 + 0.05 * q, 20 + p]


@pytest.fixture
def write(tmp_path):
    def write(maps, name="dust.fits", units=("uK_RJ", "uK_RJ", "uK_RJ", "1", "K"), **options):
        columns = ["I_STOKES", "Q_STOKES", "U_STOKES", "BETA", "TEMP"][: len(maps)]
        options = {"coord": "G", "column_names": columns, "column_units": list(units)[: len(maps)]} | options
        healpy.write_map(tmp_path / name, maps, dtype=np.float32, overwrite=True, **options)
        return tmp_path

    return write


def dust(**changes):
    given = dict(name="dust", file="dust.fits", law=ModifiedBlackbody("BETA", "TEMP"), reference="353 GHz")
    return TemplateComponent(**(given | changes))


def channels(fields=("I",), bands=("44", "143", "353")):
    return Instrument.load("reference", NSIDE, list(bands), fields).channels


def test_emission_is_pysms_in_uK_CMB(write, maps):
    templates = Templates([dust()], str(write(maps)))
    mine = templates.emission(templates.components[0], channels(("I", "Q", "U")), NSIDE)
    single = [m.astype(np.float32) for m in maps]
    model = pysm3.ModifiedBlackBody(
        map_I=single[0] << u.uK_RJ, map_Q=single[1] << u.uK_RJ, map_U=single[2] << u.uK_RJ, freq_ref_I=353 * u.GHz,
        freq_ref_P=353 * u.GHz, map_mbb_index=single[3], map_mbb_temperature=single[4], unit_mbb_temperature="K",
        nside=NSIDE,
    )  # fmt: skip
    for row, channel in zip(mine, channels(("I", "Q", "U")), strict=True):
        frequency = channel.frequency * u.GHz
        expected = model.get_emission(frequency)["IQU".index(channel.field)]
        expected = expected.to_value(u.uK_CMB, equivalencies=u.cmb_equivalencies(frequency))
        assert np.allclose(row, expected, rtol=1e-5, atol=1e-9)


def test_coefficients_are_those_of_the_emission(write, maps):
    templates = Templates([dust()], str(write(maps)))
    for wanted in (channels(), channels(("I", "Q", "U"))):  # what was kept for one does not serve the other
        emission = templates.emission(templates.components[0], wanted, NSIDE)
        alm = templates.alm(wanted, NSIDE, LMAX, DRAWS)
        expected = synthesise(wanted, analyse(wanted, emission, LMAX), NSIDE, LMAX)
        assert np.allclose(synthesise(wanted, alm, NSIDE, LMAX), expected, rtol=1e-4, atol=1e-5 * expected.std())


def test_scatter_is_a_factor_and_an_index(write, maps):
    folder = str(write(maps))
    varied = Templates([dust(amplitude_scatter=0.2, index_scatter=0.05)], folder)
    assert not varied.fixed and Templates([dust()], folder).fixed
    wanted = channels()
    amplitude, shift = DRAWS("templates/dust").standard_normal(2) * [0.2, 0.05]
    by_hand = Templates([dust(law=ModifiedBlackbody(f"BETA{shift:+.12f}", "TEMP"))], folder)
    expected = np.exp(amplitude) * by_hand.alm(wanted, NSIDE, LMAX, DRAWS)
    assert np.allclose(varied.alm(wanted, NSIDE, LMAX, DRAWS), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_curvature_bends_the_law(write, maps):
    folder, wanted = str(write(maps)), channels()
    varied = Templates([dust(law=PowerLaw(-3.0), curvature_scatter=0.05)], folder)
    assert not varied.fixed
    c = DRAWS("templates/dust").standard_normal(3)[2] * 0.05
    by_hand = Templates([dust(law=PowerLaw(-3.0, float(c), "353 GHz"))], folder)
    expected = by_hand.alm(wanted, NSIDE, LMAX, DRAWS)
    assert np.allclose(varied.alm(wanted, NSIDE, LMAX, DRAWS), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert "curvature_scatter" not in str(Templates([dust()], folder).recipe())  # older data stay what they are


def test_scatter_within_a_bandpass(write, maps):
    bands = [(channel, top_hat(channel.frequency, 0.3 * channel.frequency, "bandwidth")) for channel in channels()]
    wanted = [replace(channel, frequencies=nu, weights=weights) for channel, (nu, weights) in bands]
    folder = str(write(maps))
    shift = DRAWS("templates/dust").standard_normal(2)[1] * 0.05
    varied = Templates([dust(index_scatter=0.05)], folder).alm(wanted, NSIDE, LMAX, DRAWS)
    by_hand = Templates([dust(law=ModifiedBlackbody(f"BETA{shift:+.12f}", "TEMP"))], folder)
    expected = by_hand.alm(wanted, NSIDE, LMAX, DRAWS)
    assert np.allclose(varied, expected, rtol=1e-3, atol=2e-4 * np.abs(expected).max())


def test_statistics_of_the_scatter(write, maps):
    varied = Templates([dust(amplitude_scatter=0.15)], str(write(maps)))
    wanted = channels()
    alms = [varied.alm(wanted, NSIDE, LMAX, Draws(1, "train", i))[0, 0].real for i in range(300)]
    assert np.std(np.log(alms)) == pytest.approx(0.15, rel=0.15)


def test_nested_files_and_other_units_are_converted(write, maps):
    def emission(**options):
        templates = Templates([dust()], str(write(maps, **options)))
        return templates.emission(templates.components[0], channels(), NSIDE)

    ring = emission()
    nested = [healpy.reorder(m, r2n=True) for m in maps]
    write(nested, nest=True)
    templates = Templates([dust()], str(write(nested, nest=True)))
    assert np.allclose(templates.emission(templates.components[0], channels(), NSIDE), ring)
    factor = (1 * u.uK_RJ).to_value(u.MJy / u.sr, u.cmb_equivalencies(353 * u.GHz))
    flux = Templates([dust()], str(write([factor * maps[0], *maps[1:]], units=["MJy/sr", "uK_RJ", "uK_RJ", "1", "K"])))
    assert np.allclose(flux.emission(flux.components[0], channels(), NSIDE), ring, rtol=1e-5)
    cold = Templates([dust()], str(write([*maps[:4], 1e3 * maps[4]], units=["uK_RJ", "uK_RJ", "uK_RJ", "1", "mK"])))
    assert np.allclose(cold.emission(cold.components[0], channels(), NSIDE), ring, rtol=1e-5)


def test_finer_templates_are_lowered_in_harmonic_space(write, maps):
    fine = [healpy.alm2map(healpy.map2alm(m, LMAX), 2 * NSIDE) for m in maps]
    lowered = Templates([dust()], str(write(fine)))
    direct = [synthesis(analysis(m, LMAX), NSIDE, LMAX) for m in maps]
    at_nside = Templates([dust()], str(write(direct, name="low.fits")))
    low = replace(at_nside.components[0], file="low.fits")
    mine, expected = (
        lowered.emission(lowered.components[0], channels(), NSIDE),
        at_nside.emission(low, channels(), NSIDE),
    )
    assert np.allclose(mine, expected, rtol=1e-4)


def test_iau_convention_turns_u(write, maps):
    def emission(**options):
        templates = Templates([dust()], str(write(maps, **options)))
        return templates.emission(templates.components[0], channels(("I", "Q", "U")), NSIDE)

    cosmo, iau = emission(), emission(extra_header=[("POLCCONV", "IAU")])
    assert np.array_equal(iau[0::3], cosmo[0::3]) and np.array_equal(iau[1::3], cosmo[1::3])
    assert np.array_equal(iau[2::3], -cosmo[2::3]) and cosmo[2].any()


def test_unpolarised_component_has_no_q_and_u(write, maps):
    templates = Templates([dust(law=ModifiedBlackbody())], str(write(maps[:1])))
    emission = templates.emission(templates.components[0], channels(("I", "Q", "U")), NSIDE)
    assert not emission[1:3].any() and emission[0].any()


def test_pickles_small_and_the_same(write, maps):
    templates = Templates([dust(amplitude_scatter=0.1)], str(write(maps)))
    alm = templates.alm(channels(), NSIDE, LMAX, DRAWS)
    assert len(pickle.dumps(templates)) < 4000
    assert np.array_equal(pickle.loads(pickle.dumps(templates)).alm(channels(), NSIDE, LMAX, DRAWS), alm)


def test_identity_follows_content_not_place(write, maps):
    first = Templates([dust()], str(write(maps))).recipe()
    write(maps, name="copy.fits")
    second = Templates([dust(file="copy.fits")]).at(write(maps)).recipe()
    assert first == second
    write([2 * maps[0], *maps[1:]])
    assert Templates([dust()], str(write([2 * maps[0], *maps[1:]]))).recipe() != first


def test_bad_configuration(write, maps):
    with pytest.raises(ConfigError, match="components: none"):
        Templates([])
    with pytest.raises(ConfigError, match="components: dust, dust; .*its own name"):
        Templates([dust(), dust()])
    with pytest.raises(ConfigError, match="reference of dust: '353' is not a quantity in GHz"):
        dust(reference="353")
    with pytest.raises(ConfigError, match="amplitude_scatter of dust: -1 is negative"):
        dust(amplitude_scatter=-1)
    with pytest.raises(ConfigError, match="index_scatter: .*width"):
        dust(law=LogNormal("20 GHz", "BETA"), index_scatter=0.1)
    with pytest.raises(ConfigError, match="folder: state the folder of the template dust.fits"):
        Templates([dust()]).check(channels(), NSIDE)


def check(folder, component, fields=("I",)):
    Templates([component], str(folder)).check(channels(fields), NSIDE)


def test_bad_files(write, maps, tmp_path):
    with pytest.raises(FileNotFoundError, match="dust.fits.*no such"):
        check(tmp_path, dust())
    with pytest.raises(ConfigError, match="BETA"):
        check(write(maps[:3]), dust())
    with pytest.raises(ConfigError, match="unit"):
        check(write(maps, column_units=["uK_XX", "", "", "", "K"]), dust())
    with pytest.raises(ConfigError, match="uK"):
        check(write(maps, column_units=["uK", "uK", "uK", "1", "K"]), dust())
    coarse = [healpy.ud_grade(m, NSIDE // 2) for m in maps]
    with pytest.raises(ConfigError, match=f"nside {NSIDE // 2} is below the {NSIDE} of the maps"):
        check(write(coarse), dust())
    for bad in (np.nan, np.inf, healpy.UNSEEN):
        for column in (0, 3):
            damaged = [m.copy() for m in maps]
            damaged[column][7:9] = bad
            with pytest.raises(ConfigError, match="has 2 pixels without data"):
                check(write(damaged), dust())
    damaged = [m.copy() for m in maps]
    damaged[1][7] = np.nan
    check(write(damaged), dust())  # Q is not needed
    with pytest.raises(ConfigError, match="Q_STOKES has 1 pixels without data"):
        check(write(damaged), dust(), ("I", "Q", "U"))
    with pytest.raises(ConfigError, match="COORDSYS is C; turn the map to Galactic"):
        check(write(maps, coord="C"), dust())
    path = write(maps) / "dust.fits"
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(ConfigError, match="dust.fits"):
        check(tmp_path, dust())


def test_the_real_sky_loads(real_sky):
    components = [
        TemplateComponent("dust", "dust_353ghz.fits", ModifiedBlackbody("BETA", "TEMP"), "353 GHz"),
        TemplateComponent("synchrotron", "synchrotron_30ghz.fits", PowerLaw("BETA"), "30 GHz"),
        TemplateComponent("freefree", "freefree_30ghz.fits", PowerLaw(-2.14), "30 GHz"),
        TemplateComponent("ame", "ame_30ghz.fits", LogNormal("20 GHz", 0.5), "30 GHz"),
    ]
    instrument = Instrument.load("real_sky_64", 64, ["30", "353"], ("I", "Q", "U"))
    templates = Templates(components, str(real_sky))
    templates.check(instrument.channels, 64)
    for component in components:
        maps = templates.emission(component, instrument.channels, 64)
        own = 3 if component.frequency == 353 else 0
        file = healpy.read_map(real_sky / component.file, field=0)
        to_cmb = instrument.channels[own].weights[0]
        ratio = component.law.ratio(
            instrument.channels[own].frequency, component.frequency, {"BETA": -3.0, "TEMP": 20.0}
        )
        assert np.all(maps[own] >= 0) and np.corrcoef(maps[own], file)[0, 1] > 0.99
        if component.name in ("freefree", "ame"):
            assert np.allclose(maps[own], file * ratio * to_cmb, rtol=1e-5)
            assert not maps[1].any()
        else:
            assert maps[1].any() and maps[2].any()
