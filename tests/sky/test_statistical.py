import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import Emission, Instrument, ModifiedBlackbody, PowerLaw, RandomField, StatisticalGalaxy
from cmb_lightning.sky.beams import gaussian_beam
from cmb_lightning.sky.rng import Draws
from cmb_lightning.sky.statistical import _coloured, _directions
from cmb_lightning.sky.transforms import alm2cl, almxfl, analysis, draw_unit_alm, synthesis

NSIDE, LMAX = 32, 64


def galaxy(index, fields=("I",), **arguments):
    channels = Instrument.load("real_sky_64", NSIDE, fields=fields).channels
    return StatisticalGalaxy(**arguments).emission(channels, NSIDE, LMAX, Draws(1, "train", index))


@pytest.fixture(scope="module")
def skies():
    return np.stack([galaxy(index) for index in range(8)])


def smoothed(maps):
    """The maps through a beam of 4 degrees, without what the cut at lmax makes of bright points."""
    return synthesis(almxfl(analysis(maps.astype(float), LMAX), gaussian_beam(240.0, LMAX)), NSIDE, LMAX)


def test_every_simulation_has_its_own_finite_galaxy(skies):
    assert skies.dtype == np.float32 and np.isfinite(skies).all()
    assert np.array_equal(galaxy(2), skies[2])
    logs = np.log(np.maximum(skies[:, 6], 1.0))
    detrended = logs - logs.mean(axis=0)
    others = np.corrcoef(detrended)[~np.eye(len(skies), dtype=bool)]
    assert np.abs(others + 1 / 7).max() < 0.6  # the mean taken off makes them -1/7


def test_emission_is_positive_and_falls_with_latitude(skies):
    sin2_b, _ = _directions(NSIDE)
    latitude = np.degrees(np.arcsin(np.sqrt(sin2_b)))
    edges = [0, 2, 5, 10, 20, 40, 90]
    for row in range(skies.shape[1]):
        bins = [skies[:, row][:, (latitude >= a) & (latitude < b)] for a, b in zip(edges[:-1], edges[1:], strict=True)]
        medians = [np.median(values) for values in bins]
        assert all(a > b > 0 for a, b in zip(medians[:-1], medians[1:], strict=True))
    assert np.all(skies > 0)


def test_amplitudes_are_those_of_the_sky(skies):
    """The templates of PySM 2 (d1, s1, f1, a1) have these rms [uK_CMB] at |b| > 20 degrees and 30 to 857 GHz."""
    sin2_b, _ = _directions(NSIDE)
    high = sin2_b > np.sin(np.deg2rad(20)) ** 2
    rms = np.median([smoothed(sky)[:, high].std(axis=1) for sky in skies], axis=0)
    ratio = rms / [110, 38.7, 18.2, 17.9, 29.3, 90.3, 681, 1.37e4, 1.67e6]
    assert np.all(ratio < 2) and np.all(ratio > 0.5)


def test_like_the_templates(skies, real_sky):
    from cmb_lightning.sky import LogNormal, TemplateComponent, Templates

    components = [
        TemplateComponent("dust", "dust_353ghz.fits", ModifiedBlackbody("BETA", "TEMP"), "353 GHz"),
        TemplateComponent("synchrotron", "synchrotron_30ghz.fits", PowerLaw("BETA"), "30 GHz"),
        TemplateComponent("freefree", "freefree_30ghz.fits", PowerLaw(-2.14), "30 GHz"),
        TemplateComponent("ame", "ame_30ghz.fits", LogNormal("20 GHz", 0.5), "30 GHz"),
    ]
    channels = Instrument.load("real_sky_64", NSIDE).channels
    templates = Templates(components, str(real_sky))
    real = smoothed(sum(templates.emission(component, channels, NSIDE) for component in components))
    made = np.stack([smoothed(sky) for sky in skies])
    sin2_b, _ = _directions(NSIDE)
    for low, high in ((0, 5), (5, 20), (20, 45), (45, 90)):
        part = (sin2_b >= np.sin(np.deg2rad(low)) ** 2) & (sin2_b < np.sin(np.deg2rad(high)) ** 2)
        ratio = np.median(made[:, :, part], axis=(0, 2)) / np.median(real[:, part], axis=1)
        assert np.all(ratio < 2.5) and np.all(ratio > 0.4)


def test_spectral_indices_vary_over_the_sky():
    dust = [e for e in StatisticalGalaxy().emissions if e.name == "dust"]
    maps = galaxy(0, emissions=dust, variety=0.0)
    bright = maps[8] > np.median(maps[8])
    index = np.log(maps[8] / maps[6])[bright]
    assert 0.02 < index.std() < 0.3
    constant = Emission(**{**vars_of(dust[0]), "law": ModifiedBlackbody(1.55, "20 K"), "indices": {}})
    maps = galaxy(0, emissions=[constant], variety=0.0)
    assert np.log(maps[8] / maps[6])[bright].std() < 1e-3


def vars_of(emission):
    return {key: value for key, value in vars(emission).items() if key != "frequency"}


def test_small_scales_follow_the_slope():
    rng = np.random.default_rng(0)
    cl = np.mean([alm2cl(_coloured(draw_unit_alm(rng, LMAX), 0.5, -2.5)) for _ in range(200)], axis=0)
    degree = np.arange(1, LMAX + 1)
    assert np.polyfit(np.log(degree), np.log(cl[1:]), 1)[0] == pytest.approx(-2.5, abs=0.05)
    assert np.sum((2 * degree + 1) * cl[1:]) / (4 * np.pi) == pytest.approx(0.25, rel=0.1)


def test_emissions_do_not_touch_each_other():
    names = ["dust", "synchrotron"]
    emissions = {e.name: e for e in StatisticalGalaxy().emissions}
    both = galaxy(0, emissions=[emissions[name] for name in names])
    apart = sum(galaxy(0, emissions=[emissions[name]]) for name in names)
    assert np.allclose(both, apart, rtol=1e-3, atol=1e-4 * both.std())


def test_polarisation_leaves_intensity_alone_and_stays_below_its_fraction():
    plain, polarised = galaxy(0), galaxy(0, ("I", "Q", "U"))
    channels = Instrument.load("real_sky_64", NSIDE, fields=("I", "Q", "U")).channels
    rows = [k for k, channel in enumerate(channels) if channel.field == "I"]
    assert np.array_equal(plain, polarised[rows])
    intensity, q, u = polarised[18:21]  # 353
    fraction = np.hypot(q, u) / intensity
    assert 0.02 < np.median(fraction) < fraction.max() < 0.2


def test_variety_and_amplitude():
    quiet = np.stack([galaxy(i, variety=0.0)[6] for i in range(6)])
    varied = np.stack([galaxy(i, variety=2.0)[6] for i in range(6)])
    assert np.std(np.log(np.median(quiet, axis=1))) < np.std(np.log(np.median(varied, axis=1)))
    assert np.allclose(galaxy(0, amplitude=2.0), 2 * galaxy(0), rtol=1e-4)


def test_bad_configuration():
    with pytest.raises(ConfigError, match="emissions: none"):
        StatisticalGalaxy([])
    with pytest.raises(ConfigError, match="variety: -1 is negative"):
        StatisticalGalaxy(variety=-1)
    good = dict(
        name="dust", law=PowerLaw("BETA"), reference="30 GHz", amplitude=1.0, steepness=1.0, width=0.1, centre=0.0,
        contrast=0.5, indices={"BETA": RandomField(-3.0, 0.1)},
    )  # fmt: skip
    for change, message in (
        ({"amplitude": 0.0}, "amplitude of dust: 0.0 must be above 0"),
        ({"correlation": 2.0}, "correlation of dust: 2.0 must lie between 0 and 1"),
        ({"indices": {}}, "indices of dust: the law names BETA"),
        ({"reference": "30"}, "reference of dust: '30' is not a quantity in GHz"),
    ):
        with pytest.raises(ConfigError, match=message):
            Emission(**(good | change))
