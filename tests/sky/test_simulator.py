import json
import pickle
from dataclasses import replace

import healpy
import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import (
    CambPrior,
    CambSpectrum,
    Instrument,
    ModifiedBlackbody,
    PolynomialSpectrum,
    Simulator,
    Sky,
    StatisticalGalaxy,
    systematics,
    units,
)
from cmb_lightning.sky.beams import pixel_window
from cmb_lightning.sky.foregrounds import Foreground, analyse
from cmb_lightning.sky.rng import Draws
from cmb_lightning.sky.transforms import alm2cl, analysis, nest_to_ring

NSIDE, LMAX = 16, 32
NPIX = 12 * NSIDE**2
SPECTRUM = PolynomialSpectrum([1.0])


class Spot(Foreground):
    """A bright spot, the same in every channel."""

    fixed = True

    def __init__(self, name="spot"):
        self.name = name
        self.made = 0

    def check(self, channels, nside):
        pass

    def alm(self, channels, nside, lmax, draws):
        self.made += 1
        return analyse(channels, spot(len(channels)), lmax)

    def recipe(self):
        return {"class": "Spot"}


def spot(rows):
    maps = np.zeros((rows, NPIX))
    maps[:, 1000] = 1000.0
    return maps


def simulator(bands=("30", "143"), fields=("I",), sky=None, target_fwhm=None, seed=1, table="real_sky_64", **changes):
    sky = Sky(SPECTRUM, [StatisticalGalaxy()], gain_errors=1.0) if sky is None else sky
    instrument = Instrument.load(table, NSIDE, bands, fields)
    return Simulator(
        instrument, **({"nside": NSIDE, "lmax": None} | changes), target_fwhm=target_fwhm, sky=sky, seed=seed
    )


def test_shapes_types_and_no_monopole():
    made = simulator().simulate("train", 0)
    assert {name: values.shape for name, values in made.items()} == {
        "cmb": (2, NPIX), "foregrounds": (2, NPIX), "noise": (2, NPIX), "target": (1, NPIX), "gain": (2,),
    }  # fmt: skip
    for name, values in made.items():
        assert values.dtype == np.float32 and np.isfinite(values).all()
        if name != "gain":
            assert np.all(np.abs(values.mean(axis=1)) < 1e-5 * values.std(axis=1)), name


def test_same_again_in_another_process_image_and_whatever_numpy_global_state():
    first = simulator()
    made = first.simulate("train", 3)
    first.simulate("train", 4)
    np.random.seed(9)
    before = np.random.get_state()[1].copy()
    again = pickle.loads(pickle.dumps(first)).simulate("TRAIN", 3)
    assert all(np.array_equal(made[name], again[name]) for name in made)
    assert np.array_equal(before, np.random.get_state()[1])
    assert len(pickle.dumps(first)) < 20_000


def test_simulations_splits_and_seeds_differ():
    made = [simulator().simulate("train", 0), simulator().simulate("train", 1), simulator().simulate("valid", 0)]
    made.append(simulator(seed=2).simulate("train", 0))
    for name in made[0]:
        assert len({values[name].tobytes() for values in made}) == 4, name


def test_removing_a_component_leaves_the_others_bytes():
    full = simulator().simulate("train", 0)
    bare = simulator(sky=Sky(SPECTRUM, [], noise=False)).simulate("train", 0)
    assert np.array_equal(full["cmb"], bare["cmb"]) and np.array_equal(full["target"], bare["target"])
    assert not bare["foregrounds"].any() and not bare["noise"].any() and not bare["gain"].any()
    silent = simulator(sky=Sky(SPECTRUM, [])).simulate("train", 0)
    assert np.array_equal(full["noise"], silent["noise"])
    other = simulator(sky=Sky(PolynomialSpectrum([2.0]), [StatisticalGalaxy()])).simulate("train", 0)
    assert np.array_equal(full["foregrounds"], other["foregrounds"])
    fewer = simulator(bands=["143"]).simulate("train", 0)
    for name in ("cmb", "noise", "gain"):
        assert np.array_equal(full[name][1:], fewer[name]), name


def test_every_channel_and_the_target_see_the_same_cmb_through_their_beams():
    made = simulator(target_fwhm=300.0).simulate("train", 0)
    alm = analysis(nest_to_ring(np.concatenate([made["cmb"], made["target"]])).astype(float), LMAX)
    beams = [healpy.gauss_beam(np.deg2rad(fwhm / 60), LMAX) for fwhm in (180.0, 140.0, 300.0)]
    deconvolved = [healpy.almxfl(a, 1 / b) for a, b in zip(alm, beams, strict=True)]
    for other in deconvolved[1:]:
        assert np.allclose(other, deconvolved[0], atol=1e-3 * np.abs(deconvolved[0]).max())


def test_default_target_has_the_smallest_beam():
    made = simulator().simulate("train", 0)
    assert np.array_equal(made["target"][0], made["cmb"][1])


def test_foregrounds_are_smoothed_as_by_healpy():
    made = simulator(sky=Sky(SPECTRUM, [Spot()])).simulate("train", 0)
    expected = healpy.smoothing(spot(1)[0], np.deg2rad(3), lmax=LMAX)
    expected -= expected.mean()
    assert np.allclose(nest_to_ring(made["foregrounds"])[0], expected, atol=1e-5 * expected.max())


def test_fixed_foregrounds_are_made_once():
    sky = Sky(SPECTRUM, [Spot(), StatisticalGalaxy()])
    made = simulator(sky=sky)
    both = [made.simulate("train", i)["foregrounds"] for i in range(3)]
    assert sky.foregrounds[0].made == 1
    galaxy = simulator(sky=Sky(SPECTRUM, [StatisticalGalaxy()])).simulate("train", 2)["foregrounds"]
    alone = simulator(sky=Sky(SPECTRUM, [Spot()])).simulate("train", 2)["foregrounds"]
    assert np.allclose(both[2], galaxy + alone, rtol=1e-5, atol=1e-4)


def test_gains_have_the_instruments_scatter_times_the_skys():
    made = simulator(bands=["353", "857"], fields=("I", "Q", "U"), sky=Sky(SPECTRUM, [], gain_errors=2.0, noise=False))
    gains = np.stack([systematics.gains(made.channels, 2.0, Draws(1, "train", i)) for i in range(400)])
    assert np.allclose(gains.std(axis=0), [0.02, 0.02, 0.02, 0.12], rtol=0.15)
    assert np.array_equal(gains[:, 0], gains[:, 1])  # the fields of a band share it


def test_mean_spectrum_is_cambs_within_cosmic_variance():
    count = 150
    made = simulator(table="reference", bands=["857"], sky=Sky(CambSpectrum(), [], noise=False), target_fwhm=0.0)
    cl = np.mean(
        [alm2cl(analysis(nest_to_ring(made.simulate("t", i)["target"][0]).astype(float), LMAX)) for i in range(count)],
        axis=0,
    )
    theory = CambSpectrum().cl(LMAX)[0]
    degree = np.arange(2, LMAX + 1)
    pull = (cl[2:] / theory[2:] - 1) / np.sqrt(2 / (2 * degree + 1) / count)
    assert np.abs(pull).max() < 4.5 and np.mean(pull**2) < 2


def test_mean_polarised_spectra_are_those_asked_for():
    count = 150
    made = simulator(bands=["143"], fields=("I", "Q", "U"), sky=Sky(CambSpectrum(), [], noise=False), target_fwhm=0.0)
    channels = made.targets
    spectra = []
    for index in range(count):
        t, e, b = analyse(channels, nest_to_ring(made.simulate("t", index)["target"]).astype(float), LMAX)
        spectra.append([alm2cl(t), alm2cl(e), alm2cl(b), alm2cl(t, e)])
    mean, theory = np.mean(spectra, axis=0)[:, 2:], made.theory[:, 2:]
    modes = count * (2 * np.arange(2, LMAX + 1) + 1)
    for row in range(3):
        assert np.abs((mean[row] / theory[row] - 1) / np.sqrt(2 / modes)).max() < 4.5
    sigma = np.sqrt((theory[0] * theory[1] + theory[3] ** 2) / modes)
    assert np.abs((mean[3] - theory[3]) / sigma).max() < 4.5


def test_temperature_is_the_same_with_and_without_polarisation():
    plain = simulator().simulate("train", 0)
    polarised = simulator(fields=("I", "Q", "U")).simulate("train", 0)
    for name in ("cmb", "foregrounds", "noise"):
        assert np.array_equal(plain[name], polarised[name][[0, 3]]), name
    assert np.array_equal(plain["target"][0], polarised["target"][0])


def test_recipe_is_plain_and_follows_what_matters():
    recipe = simulator().recipe("Train")
    assert json.loads(json.dumps(recipe)) == recipe
    assert recipe == simulator().recipe("train")
    others = [
        simulator(seed=2), simulator(bands=["30"]), simulator(target_fwhm=150.0), simulator(lmax=20),
        simulator(sky=Sky(PolynomialSpectrum([2.0]), [StatisticalGalaxy()], gain_errors=1.0)),
        simulator(sky=Sky(SPECTRUM, [StatisticalGalaxy(variety=0.5)], gain_errors=1.0)),
        simulator(sky=Sky(SPECTRUM, [StatisticalGalaxy()], gain_errors=0.5)),
        simulator(sky=Sky(SPECTRUM, [StatisticalGalaxy()], orientation="random", gain_errors=1.0)),
        simulator(sky=Sky(SPECTRUM, [StatisticalGalaxy()], gain_errors=1.0, noise=False)),
    ]  # fmt: skip
    texts = {json.dumps(other.recipe("train"), sort_keys=True) for other in others}
    assert len(texts | {json.dumps(recipe, sort_keys=True), json.dumps(simulator().recipe("valid"))}) == 11


def test_generator_is_the_one_of_the_stored_values():
    """When this fails because maps changed on purpose, raise GENERATOR_VERSION and store the new values."""
    made = simulator(fields=("I", "Q", "U")).simulate("train", 0)
    found = {name: [*values.ravel()[:2].tolist(), float(values.std())] for name, values in made.items()}
    for name, values in STORED.items():
        assert found[name] == pytest.approx(values, rel=0, abs=1e-5 * values[2]), name  # as processors may differ


STORED = {
    "cmb": [1.282844, -5.657051, 4.893376],
    "foregrounds": [14742.54, 2006.543, 1095.027],
    "noise": [-1.759893, -13.41774, 20.73156],
    "target": [1.259588, -6.478511, 5.010724],
    "gain": [-0.0008771927, -0.0008771927, 0.0006834986],
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nside": 32}, "nside: 32 is not the 16 that instrument real_sky_64 is for"),
        ({"lmax": 48}, "lmax: 48 must lie between"),
        ({"seed": -1}, "seed: -1 is negative"),
        ({"target_fwhm": -5.0}, "fwhm: -5.0 arcmin"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        simulator(**arguments)


def test_bad_sky():
    with pytest.raises(ConfigError, match="foregrounds: galaxy, galaxy; give each a `name`"):
        Sky(foregrounds=[StatisticalGalaxy(), StatisticalGalaxy()])
    with pytest.raises(ConfigError, match="gain_errors: -1 is negative"):
        Sky(gain_errors=-1)


def test_variance_map_is_used_and_in_the_recipe_by_content(tmp_path):
    path = tmp_path / "variance.fits"
    variance = np.where(np.arange(NPIX) < NPIX // 2, 1.0, 100.0)
    healpy.write_map(path, variance, column_names=["II"], column_units="uK_CMB2")
    instrument = Instrument.load("real_sky_64", NSIDE, ["143"])
    channel = replace(instrument.channels[0], variance_map=f"{path}:II")
    made = Simulator(replace(instrument, channels=(channel,)), NSIDE, None, None, Sky(SPECTRUM, []), 1)
    noise = nest_to_ring(pickle.loads(pickle.dumps(made)).simulate("train", 0)["noise"][0])
    assert noise[: NPIX // 2].std() == pytest.approx(1, rel=0.1)
    assert noise[NPIX // 2 :].std() == pytest.approx(10, rel=0.1)
    first = json.dumps(made.recipe("train"))
    assert str(tmp_path) not in first
    healpy.write_map(path, 2 * variance, column_names=["II"], column_units="uK_CMB2", overwrite=True)
    assert json.dumps(made.recipe("train")) != first


def test_files_of_beam_and_noise_are_in_the_recipe_by_content(tmp_path):
    instrument = Instrument.load("real_sky_64", NSIDE, ["143"])

    def recipe(name: str, key: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        channel = replace(instrument.channels[0], **{key: str(tmp_path / name)})
        made = Simulator(replace(instrument, channels=(channel,)), NSIDE, None, None, Sky(SPECTRUM, []), 1)
        return json.dumps(made.recipe("train"))

    table = "\n".join(f"{degree} 1.0" for degree in range(3 * NSIDE))
    for key, text in (("beam_file", table), ("noise_spectrum", f"# unit: uK_CMB2\n{table}")):
        first, moved = recipe("a.txt", key, text), recipe("b.txt", key, text)
        edited = recipe("a.txt", key, text.replace("9 1.0", "9 0.9"))
        assert first == moved != edited and str(tmp_path) not in first


def test_beam_errors_scatter_the_width():
    sky = Sky(SPECTRUM, [], beam_errors=10.0, noise=False)  # ten times half a percent
    made = simulator(bands=["143"], sky=sky)
    straight = simulator(bands=["143"], sky=Sky(SPECTRUM, [], noise=False))
    log_widths = []
    for index in range(30):
        one, other = made.simulate("t", index), straight.simulate("t", index)
        assert np.array_equal(one["target"], other["target"])
        alms = analysis(nest_to_ring(np.concatenate([one["cmb"], other["cmb"]])).astype(float), LMAX)
        ratio = alm2cl(*alms)[LMAX] / alm2cl(alms[1])[LMAX]
        squares = np.deg2rad(140 / 60) ** 2 / (8 * np.log(2))
        log_widths.append(np.log(1 - 2 * np.log(ratio) / (LMAX * (LMAX + 1) * squares)) / 2)
    assert np.std(log_widths) == pytest.approx(0.05, rel=0.35)


def test_bandpass_errors_move_the_foregrounds_and_not_the_cmb():
    dust = [e for e in StatisticalGalaxy().emissions if e.name == "dust"]
    galaxy = [StatisticalGalaxy(dust)]
    moved = simulator(bands=["857"], sky=Sky(SPECTRUM, galaxy, bandpass_errors=4.0)).simulate("t", 0)
    straight = simulator(bands=["857"], sky=Sky(SPECTRUM, galaxy)).simulate("t", 0)
    for name in ("cmb", "noise", "target"):
        assert np.array_equal(moved[name], straight[name])
    higher = np.exp(0.02 * Draws(1, "t", 0)("bandpass/857").standard_normal())
    frequency = 866.8 * higher
    to_cmb = [units.to_uK_CMB(nu, "uK_RJ") for nu in (frequency, 866.8)]
    law = ModifiedBlackbody(1.55, "19.8 K")
    expected = law.ratio(frequency, 866.8, {}) * to_cmb[0] / to_cmb[1]
    ratio = moved["foregrounds"].std() / straight["foregrounds"].std()
    assert abs(np.log(expected)) > 0.01 and np.log(ratio) == pytest.approx(np.log(expected), rel=0.02)


def test_every_simulation_can_have_its_own_cosmology(monkeypatch):
    runs = []

    def camb(lmax, **parameters):
        runs.append(parameters)
        return np.stack([np.full(lmax + 1, parameters["As"] * 1e9)] * 3 + [np.zeros(lmax + 1)])

    monkeypatch.setattr("cmb_lightning.sky.cosmology._camb", camb)
    prior = CambPrior(std={"As": 0.1e-9, "tau": 0.02}, width=1.0)
    made = simulator(sky=Sky(prior, [], noise=False))
    drawn = [made.simulate("train", index) for index in range(60)]
    assert drawn[0]["parameters"].dtype == drawn[0]["theory"].dtype == np.float32
    order = list(made.recipe("train")["cmb"]["mean"])
    parameters = np.stack([one["parameters"] for one in drawn])
    amplitude, tau = parameters[:, order.index("As")], parameters[:, order.index("tau")]
    assert amplitude.mean() == pytest.approx(2.1e-9, rel=0.03) and amplitude.std() == pytest.approx(0.1e-9, rel=0.3)
    assert np.all(tau > 0) and abs(np.corrcoef(amplitude, tau)[0, 1]) < 0.5
    assert np.allclose([one["theory"][0, 2] for one in drawn], amplitude * 1e9, rtol=1e-5)
    assert np.array_equal(made.simulate("train", 7)["cmb"], drawn[7]["cmb"])
    assert len(runs) == 61  # and none for the centre of the prior


def test_two_halves_of_the_data_have_independent_noise_of_twice_the_power():
    made = simulator(bands=["143"], sky=Sky(SPECTRUM, [], halves=True)).simulate("t", 0)
    assert np.array_equal(made["noise"], simulator(bands=["143"], sky=Sky(SPECTRUM, [])).simulate("t", 0)["noise"])
    halves = np.concatenate([made["noise"] + made["difference"], made["noise"] - made["difference"]])
    assert np.allclose(np.cov(halves) / made["noise"].var(), 2 * np.eye(2), atol=4.5 * 2 * np.sqrt(2 / NPIX))


def test_pixel_window_smooths_sky_and_target_but_not_noise():
    plain = simulator(sky=Sky(SPECTRUM, [])).simulate("t", 0)
    averaged = simulator(sky=Sky(SPECTRUM, [], pixel_window=True)).simulate("t", 0)
    assert np.array_equal(plain["noise"], averaged["noise"])
    for name in ("cmb", "target"):
        alm = analysis(nest_to_ring(np.stack([plain[name][0], averaged[name][0]])).astype(float), LMAX)
        ratio = alm2cl(alm[1], alm[0])[1:] / alm2cl(alm[0])[1:]
        assert np.allclose(ratio, pixel_window(NSIDE, LMAX)[1:], atol=1e-3)


def test_a_sky_made_at_higher_nside_has_less_aliasing():
    plain = simulator(sky=Sky(SPECTRUM, [Spot2()], noise=False))
    fine = simulator(sky=Sky(SPECTRUM, [Spot2()], noise=False), sky_nside=64)
    exact = simulator(sky=Sky(SPECTRUM, [Spot2()], noise=False), sky_nside=128).simulate("t", 0)["foregrounds"]
    errors = [np.std(one.simulate("t", 0)["foregrounds"] - exact) for one in (plain, fine)]
    assert errors[1] < 0.2 * errors[0]
    with pytest.raises(ConfigError, match="sky_nside: 8 is below the 16"):
        simulator(sky_nside=8)


class Spot2(Spot):
    """A spot narrower than a pixel, sampled at the pixels of any nside."""

    def alm(self, channels, nside, lmax, draws):
        distance = np.arccos(
            np.clip(np.array(healpy.pix2vec(nside, np.arange(12 * nside**2))).T @ [0.6, 0.0, 0.8], -1, 1)
        )
        return analyse(channels, np.stack([np.exp(-0.5 * (distance / 0.04) ** 2)] * len(channels)), lmax)
