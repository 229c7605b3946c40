"""The estimate whose weights follow the foregrounds around each place."""

from dataclasses import replace

import healpy
import numpy as np
import pytest

from cmb_lightning.cleaning import contradiction
from cmb_lightning.cleaning.combination import unit_weights
from cmb_lightning.cleaning.linear import LinearEstimate
from cmb_lightning.cleaning.local_estimate import LocalEstimate, scale_maps
from cmb_lightning.cleaning.local_filter import apply_by_place, wiener
from cmb_lightning.cleaning.local_fit import calibrated, fit_local
from cmb_lightning.cleaning.preparation import harmonics, to_maps
from cmb_lightning.sky.transforms import almxfl, synthesis
from tests.cleaning.toy import BEAMS, LAW, LAYOUT, LMAX, NOISE, NSIDE, gaussian, known, sky, trained


def rms(alm: np.ndarray) -> float:
    return float(synthesis(alm, NSIDE, LMAX).std())


@pytest.fixture(scope="module")
def estimate() -> LocalEstimate:
    return trained().local()


def test_filters_are_wieners_from_the_covariance_in_windows():
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((3, 12 * 16**2)) * np.array([[3.0], [4.0], [2.0]])
    maps[1] += 2 * maps[0]
    filters = wiener(maps, 2)
    assert filters.shape == (48, 3, 3)
    for place in (0, 17, 47):
        around = [place, *healpy.get_all_neighbours(2, place, nest=True)]
        around = [place if one < 0 else one for one in around]
        inside = np.concatenate([maps[:, 64 * one : 64 * (one + 1)] for one in around], axis=1)
        covariance = inside @ inside.T / inside.shape[1]
        assert np.linalg.eigvalsh(covariance)[0] > 1  # nothing has to be cut off
        np.testing.assert_allclose(filters[place], np.eye(3) - np.linalg.inv(covariance), atol=1e-10)
    one = apply_by_place(filters, maps)
    np.testing.assert_allclose(one[:, 64 * 17 + 5], filters[17] @ maps[:, 64 * 17 + 5])


def test_filters_let_no_noise_through():
    noise = np.random.default_rng(1).standard_normal((4, 12 * 32**2))
    filters = wiener(noise, 2)
    assert (np.linalg.eigvalsh(filters) > -1e-12).all()
    assert apply_by_place(filters, noise).std() < 0.1


def test_contrasts_hold_no_cmb_and_have_unit_noise(estimate):
    weights = estimate.weights
    np.testing.assert_allclose(weights.contrast.sum(-1), 0, atol=1e-9)
    np.testing.assert_allclose(weights.quietest.sum(-1), 1, atol=1e-9)
    for scale, (quietest, contrast) in enumerate(zip(weights.quietest, weights.contrast, strict=True)):
        rows = np.concatenate([quietest[None], contrast])
        maps = np.concatenate([
            estimate.linear.needlets.to_maps(sky(seed)["noise"], scale, estimate.linear.ratio) for seed in range(12)
        ], axis=-1)  # fmt: skip
        covariance = (rows @ maps) @ (rows @ maps).T / maps.shape[-1]
        size = np.sqrt(np.diagonal(covariance))
        np.testing.assert_allclose(size[1:], 1, atol=1e-3)
        np.testing.assert_allclose(covariance / np.outer(size, size), np.eye(len(rows)), atol=1e-3)


def test_the_cmb_passes_untouched(estimate):
    parts, other = sky(7), sky(8)
    (with_cmb, weights), (without, _) = (estimate(alm) for alm in (parts["observed"] + other["cmb"], parts["observed"]))
    assert rms(with_cmb - without - other["truth"]) < 1e-3 * rms(other["truth"])
    for own in weights:
        np.testing.assert_allclose(own.sum(0), 1, atol=1e-4)


def test_it_leaves_less_than_weights_by_region(estimate):
    local, linear = [], []
    for seed in range(100, 108):
        parts = sky(seed)
        local.append(rms(estimate(parts["observed"])[0] - parts["truth"]))
        linear.append(rms(estimate.linear(parts["observed"]) - parts["truth"]))
    assert np.mean(local) < np.mean(linear)


def test_noise_alone_is_combined_as_well_as_can_be(estimate):
    """Away from what training has seen, where there are no foregrounds, none are taken off."""
    left, best = [], []
    for seed in range(100, 104):
        noise = sky(seed)["noise"]
        left.append(rms(estimate(noise)[0]))
        by_scale = 0
        for scale, top in enumerate(estimate.linear.needlets.top):
            maps = estimate.linear.needlets.to_maps(noise, scale, estimate.linear.ratio)
            use = estimate.linear.ratio[:, top] > 0
            weights = unit_weights(np.cov(maps[use]))
            by_scale = by_scale + estimate.linear.needlets.to_alm((weights @ maps[use])[None], scale)[0]
        best.append(rms(by_scale))
    assert np.mean(best) < np.mean(left) < 1.05 * np.mean(best)


def test_foregrounds_of_one_spectrum_are_taken_off_wherever_they_are(estimate):
    """Another Galaxy, of the same spectrum on average, all over the sky."""
    one = known()
    fixed = fit_local(estimate.linear, one.errors(), one.noise())
    rng = np.random.default_rng(5)
    bright = 300 * gaussian(rng, 1 / np.arange(1, LMAX + 2.0) ** 2)
    observed = sky(9)["noise"] + almxfl(LAW[:, None] * bright, BEAMS)
    assert rms(fixed(observed)[0]) < 0.05 * rms(almxfl(bright, BEAMS[-1]))


def test_modes_hold_no_cmb(estimate):
    parts, other = sky(7), sky(8)
    with_cmb = parts["observed"] + other["cmb"]
    after, before = (estimate.modes(alm, estimate(alm)[1]) for alm in (with_cmb, parts["observed"]))
    # Next to what the CMB would be in any of them, had it not been taken out: its size over the least noise of a band.
    unit = rms(other["truth"]) / NOISE.max()
    assert np.abs(after[0] - before[0]).max() < 1e-3 * unit
    assert np.abs(after[1] - before[1]).std() < 1e-3 * rms(other["truth"])


def test_foregrounds_come_mode_by_mode(estimate):
    """The skies of the fit have one bright foreground, and a little of what its spectrum varies by."""
    scales, modes = estimate.weights.contrast.shape[:2]
    sizes = np.zeros((scales, modes))
    for seed in range(8):
        observed = sky(seed)["observed"]
        maps, _ = estimate.modes(observed, estimate(observed)[1])
        assert maps.shape == (scales * modes, 12 * NSIDE**2) and maps.dtype == np.float32
        sizes += maps.std(axis=1).reshape(scales, modes) / 8
    assert (sizes[:, 0] > 3 * sizes[:, 1]).all() and (sizes[:, 1:-1] > 0.9 * sizes[:, 2:]).all()
    assert 0.4 < sizes[-1, -1] < 1.1  # where foregrounds are faint, noise of variance one in part of the multipoles


def test_what_is_taken_off_is_what_the_quietest_sum_has_too_much(estimate):
    observed = sky(9)["observed"]
    cleaned, weights = estimate(observed)
    quietest = 0
    for scale, own in enumerate(estimate.weights.quietest):
        maps = healpy.reorder(own @ scale_maps(observed, scale, estimate.linear), n2r=True)
        quietest = quietest + estimate.linear.needlets.to_alm(maps[None].astype(np.float32), scale)[0]
    quietest[0] = 0
    too_much = to_maps((quietest - cleaned)[None], LAYOUT)[0]
    _, taken = estimate.modes(observed, weights)
    assert too_much.std() > 10 * rms(cleaned - sky(9)["truth"])
    # Weights that vary within a scale's beam do not commute with its window.
    assert np.std(taken.sum(0) - too_much) < 0.02 * too_much.std()


def test_modes_are_taken_with_the_bands_true_windows():
    """Contrasts of Gaussians of the same widths would hold percents of the CMB."""
    windows = np.stack([beam**power for beam, power in zip(BEAMS, (0.8, 1.1, 0.9, 1.0), strict=True)])
    true = replace(LAYOUT, windows=tuple(tuple(window.tolist()) for window in windows))
    skies = [sky(seed, beams=windows) for seed in range(8)]
    pairs = [(parts["observed"], parts["observed"] - parts["cmb"]) for parts in skies]
    other, held = sky(8, beams=windows)["cmb"], {}
    for name, layout in (("true", true), ("Gaussian", LAYOUT)):
        linear = LinearEstimate(layout, regions=4).fit(pairs)
        local = fit_local(linear, pairs, [parts["noise"] for parts in skies])
        _, weights = local(skies[0]["observed"])
        held[name] = np.abs(local.modes(other, weights)[0]).max()
    assert held["true"] < 1e-3 * held["Gaussian"]


def test_a_half_is_seen_by_the_weights_of_all_data(estimate):
    """What is taken off is linear in the data, once the weights are given."""
    parts, other = sky(3), sky(4)
    _, weights = estimate(parts["observed"])
    both = [estimate.modes(alm, weights) for alm in (parts["observed"] + other["noise"], parts["observed"])]
    for sum_, one, noise in zip(*both, estimate.modes(other["noise"], weights), strict=True):
        np.testing.assert_allclose(sum_ - one, noise, atol=1e-4 * np.abs(sum_).max())


def test_data_without_noise_can_be_cleaned(estimate):
    skies = [sky(seed) for seed in range(4)]
    pairs = [(parts["cmb"] + parts["foregrounds"], parts["foregrounds"]) for parts in skies]
    clean = fit_local(estimate.linear, pairs, [0 * parts["noise"] for parts in skies])
    observed, truth = pairs[0][0], skies[0]["truth"]
    assert np.isfinite(clean.weights.slopes).all()
    assert rms(clean(observed)[0] - truth) < 0.1 * rms(estimate.linear(observed) - truth) + 0.02 * rms(truth)


def test_it_is_the_same_on_maps(estimate):
    observed = sky(3)["observed"]
    again = harmonics(to_maps(observed, LAYOUT), LAYOUT)
    assert rms(estimate(again)[0] - estimate(observed)[0]) < 1e-3 * rms(sky(3)["truth"])


class Following(LocalEstimate):
    """The estimate as of E or B."""

    follows = True


@pytest.fixture
def following(estimate, monkeypatch) -> LocalEstimate:
    monkeypatch.setattr(contradiction, "FIRST", 2)  # the toy ends at l = 32
    return Following(estimate.linear, estimate.weights)


def test_weights_of_e_and_b_follow_and_those_of_t_do_not(estimate):
    layout = replace(LAYOUT, channels=tuple(name.replace("I", "U") for name in LAYOUT.channels), fields=("U",))
    assert LocalEstimate(LinearEstimate(layout, estimate.linear.weights, regions=4), estimate.weights).follows
    assert not estimate.follows


def test_weights_follow_a_sky_that_contradicts_training(estimate, following):
    """A second foreground, which looks like the first where it is seen without the CMB, is as bright as the CMB."""
    fixed, followed = [], []
    for seed in range(100, 106):
        parts = sky(seed)
        like = parts["foregrounds"][3] / LAW[3]
        truth, odd = parts["truth"], almxfl(np.broadcast_to(0.3 * like, (4, like.size)), BEAMS / BEAMS[3])
        fixed.append(rms(estimate(parts["observed"] + odd)[0] - truth))
        left, weights = following(parts["observed"] + odd)
        followed.append(rms(left - truth))
        assert all(np.abs(own.sum(0) - 1).max() < 1e-3 for own in weights)
    assert np.mean(followed) < 0.5 * np.mean(fixed)


def test_weights_stay_where_the_sky_does_not_contradict_training(estimate, following, monkeypatch):
    """What passes for foregrounds by chance is the CMB itself."""
    skies = [sky(seed) for seed in range(100, 110)]

    def lost() -> float:
        """The part of the CMB that is missing: what is odd in it, against it."""
        found = []
        for parts in skies:
            background, truth = parts["observed"] - parts["cmb"], parts["truth"]
            one, other = (following(background + sign * parts["cmb"])[0] for sign in (1, -1))
            found.append((np.vdot(truth, truth - (one - other) / 2) / np.vdot(truth, truth)).real)
        return np.mean(found)

    def error(of: LocalEstimate) -> float:
        return np.mean([rms(of(parts["observed"])[0] - parts["truth"]) for parts in skies])

    shrunk, before, after = lost(), error(estimate), error(following)
    monkeypatch.setattr(contradiction, "SURE", 0.0)
    assert abs(shrunk) < 0.5 * lost() and error(following) > 1.1 * before
    assert after < 1.05 * before


def test_weights_that_followed_are_those_that_the_estimate_was_made_with(following):
    parts, other = sky(7), sky(8)
    whole, weights = following(parts["observed"])
    again, own = following(parts["observed"] + other["cmb"], parts["observed"])
    assert rms(again - whole - other["truth"]) < 1e-3 * rms(other["truth"])
    for expected, found in zip(weights, own, strict=True):
        np.testing.assert_array_equal(found, expected)


def miscalibrated(seeds: range):
    for seed in seeds:
        parts = sky(seed, gain_scatter=0.05)
        yield parts["observed"], parts["observed"] - parts["cmb"]


@pytest.fixture(scope="module")
def calibrating(estimate) -> LocalEstimate:
    local = fit_local(estimate.linear, miscalibrated(range(12)), known().noise())
    return calibrated(local, miscalibrated(range(80)))


def test_bands_are_calibrated_on_each_other(calibrating):
    plain = LocalEstimate(calibrating.linear, replace(calibrating.weights, response=0 * calibrating.weights.response))
    before, after = (
        np.mean(
            [rms(one(alm)[0] - alm_truth(seed)) for seed, (alm, _) in zip(TESTS, miscalibrated(TESTS), strict=True)]
        )
        for one in (plain, calibrating)
    )
    assert after < 0.95 * before


TESTS = range(200, 212)


def alm_truth(seed: int) -> np.ndarray:
    return sky(seed, gain_scatter=0.05)["truth"]


def test_calibrated_on_foregrounds_the_cmb_passes_as_well(calibrating):
    parts, other = sky(7, 0.05), sky(8)
    with_cmb, without = (calibrating(alm)[0] for alm in (parts["observed"] + other["cmb"], parts["observed"]))
    assert rms(with_cmb - without - other["truth"]) < 1e-3 * rms(other["truth"])


def test_halves_are_cleaned_with_the_weights_of_all_data(calibrating):
    parts, other = sky(7), sky(8)
    halves = [parts["observed"] + sign * other["noise"] for sign in (1, -1)]
    whole, weights = calibrating(parts["observed"])
    (one, own), (two, _) = (calibrating(half, parts["observed"]) for half in halves)
    np.testing.assert_allclose((one + two) / 2, whole, atol=1e-5 * np.abs(whole).max())
    for expected, found in zip(weights, own, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert rms(calibrating(halves[0])[0] - one) > 1e-3 * rms(one)  # alone it would have others
