from dataclasses import replace

import numpy as np
import pytest

from cmb_lightning.cleaning.brightness import members, place, weights_at
from cmb_lightning.cleaning.classical import PixelILC
from cmb_lightning.cleaning.combination import unit_weights
from cmb_lightning.cleaning.debeaming import debeaming, noise_floor
from cmb_lightning.cleaning.linear import LinearEstimate
from cmb_lightning.cleaning.preparation import field_harmonics
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.sky_module import SkyDataModule, SkySplit
from cmb_lightning.sky import PolynomialSpectrum, Sky
from cmb_lightning.sky.beams import gaussian_beam
from cmb_lightning.sky.transforms import almxfl, analysis, synthesis
from tests.cleaning.toy import BEAMS, LAYOUT, LMAX, NSIDE, sky


def rms(alm: np.ndarray) -> float:
    return float(synthesis(alm, NSIDE, LMAX).std())


def samples(gain_scatter: float = 0.0, count: int = 12):
    for seed in range(count):
        parts = sky(seed, gain_scatter)
        yield parts["observed"], parts["observed"] - parts["cmb"]


@pytest.fixture(scope="module")
def estimate() -> LinearEstimate:
    return LinearEstimate(LAYOUT, regions=4).fit(samples())


def test_unit_weights_solve_the_constrained_least_squares():
    matrix = np.random.default_rng(0).standard_normal((5, 5))
    covariance = matrix @ matrix.T + np.diag([1, 1e6, 1, 1e-3, 10])
    weights = unit_weights(covariance)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    # Lagrange: C w is the same for every channel
    gradient = covariance @ weights
    np.testing.assert_allclose(gradient, gradient.mean(), rtol=1e-4)


def test_bands_too_wide_are_left_out():
    layout = Layout(16, 32, ("a_I", "b_I"), (2000.0, 300.0), ("I",), 300.0)
    ratio = debeaming(layout)
    assert ratio[0, 2] > 0 and ratio[0, -1] == 0
    np.testing.assert_allclose(ratio[1], 1)
    np.testing.assert_allclose(ratio[0, 5], gaussian_beam(300.0, 32)[5] / gaussian_beam(2000.0, 32)[5])


def test_trained_weights_sum_to_one_and_beat_the_blind_ones(estimate):
    np.testing.assert_allclose(estimate.weights.weights.sum(-1), 1, atol=1e-6)
    trained, blind = [], []
    for seed in range(100, 106):
        parts = sky(seed)
        trained.append(rms(estimate(parts["observed"]) - parts["truth"]))
        blind.append(rms(PixelILC(LAYOUT)(parts["observed"]) - parts["truth"]))
    assert np.mean(trained) < 0.95 * np.mean(blind)


def test_the_cmb_passes_untouched(estimate):
    parts, other = sky(7), sky(8)
    response = estimate(parts["observed"] + other["cmb"]) - estimate(parts["observed"])
    assert rms(response - other["truth"]) < 1e-3 * rms(other["truth"])


WINDOWS = np.stack([
    1 / (1 + (np.arange(LMAX + 1) / 20) ** 4),  # falls slower than a Gaussian, and then
    BEAMS[1] * (1 - 0.3 * np.arange(LMAX + 1) / LMAX),
    np.where(np.arange(LMAX + 1) < 25, BEAMS[2], -0.01 * BEAMS[2]),  # has a lobe below zero
    BEAMS[3] ** 0.8,
])  # fmt: skip


def test_bands_are_compared_with_their_true_windows():
    """The CMB passes, where to take Gaussians of the same widths would leave half a percent."""
    true = replace(LAYOUT, windows=tuple(tuple(window.tolist()) for window in WINDOWS))
    skies = [sky(seed, beams=WINDOWS) for seed in range(12)]
    pairs = [(parts["observed"], parts["observed"] - parts["cmb"]) for parts in skies]
    parts, other = sky(7, beams=WINDOWS), sky(8, beams=WINDOWS)
    with_cmb = parts["observed"] + other["cmb"]
    wrong = {}
    for name, layout in (("true", true), ("Gaussian", LAYOUT)):
        estimate = LinearEstimate(layout, regions=4).fit(pairs)
        response = estimate(with_cmb) - estimate(parts["observed"])
        wrong[name] = rms(response - other["truth"]) / rms(other["truth"])
    assert wrong["true"] < 1e-3
    assert wrong["Gaussian"] > 5e-3
    unit = PixelILC(true)(with_cmb) - PixelILC(true)(parts["observed"])
    assert rms(unit - other["truth"]) < 0.1 * rms(other["truth"])  # its weights follow the sky a little


def test_the_windows_are_those_that_the_simulator_sees_through(tmp_path):
    degree = np.arange(LMAX + 1)
    for name in ("a", "b"):
        b_l = 1 / (1 + (degree / {"a": 9, "b": 15}[name]) ** 3)
        np.savetxt(tmp_path / f"{name}.txt", np.column_stack([degree, b_l]))
    (tmp_path / "mine.ecsv").write_text(TABLE)
    still = Sky(PolynomialSpectrum([1.0]), [], noise=False)
    options = {"instrument": str(tmp_path / "mine.ecsv"), "nside": NSIDE, "target_fwhm": "10 deg", "sky": still}
    data = SkyDataModule({"train": SkySplit(1)}, root=tmp_path, **options)
    made = data.splits["train"].generator.simulate("train", 0)
    target, *bands = field_harmonics(np.concatenate([made["target"], made["cmb"]]), "IIII", LMAX)
    for alm, ratio in zip(bands, debeaming(data.layout), strict=True):
        assert (ratio > 0).all()
        assert rms(almxfl(alm, ratio) - target) < 1e-3 * rms(target)


TABLE = """\
# %ECSV 1.0
# ---
# datatype:
# - {name: band, datatype: string}
# - {name: frequency, unit: GHz, datatype: float64}
# - {name: fwhm, unit: arcmin, datatype: float64}
# - {name: fields, datatype: string}
# - {name: noise_I, unit: uK_CMB, datatype: float64}
# - {name: beam, datatype: string}
# schema: astropy-2.0
band frequency fwhm fields noise_I beam
A 100 500 I 10 a.txt
B 143 400 I 10 b.txt
C 217 500 I 10 ""
"""


def test_a_band_stays_out_where_its_window_has_fallen():
    ratio = debeaming(replace(LAYOUT, windows=((), (), tuple(WINDOWS[2].tolist()), ())))
    assert (ratio[2, :25] > 0).all() and not ratio[2, 25:].any()
    oscillating = np.where(np.arange(LMAX + 1) == 20, 0.0, BEAMS[0])
    assert not debeaming(replace(LAYOUT, windows=(tuple(oscillating.tolist()), (), (), ())))[0, 20:].any()


def test_weights_trained_with_gain_errors_survive_them(estimate):
    robust = LinearEstimate(LAYOUT, regions=4).fit(samples(0.05))
    errors = {"naive": [], "robust": []}
    for seed in range(200, 206):
        parts = sky(seed, 0.05)
        errors["naive"].append(rms(estimate(parts["observed"]) - parts["truth"]))
        errors["robust"].append(rms(robust(parts["observed"]) - parts["truth"]))
    assert np.mean(errors["robust"]) < np.mean(errors["naive"])


def test_without_weights_it_says_so():
    with pytest.raises(RuntimeError, match="no weights yet"):
        LinearEstimate(LAYOUT)(sky(0)["observed"])


def test_noise_floor_of_equal_beams_is_the_inverse_variance_sum():
    layout = Layout(NSIDE, LMAX, ("a_I", "b_I"), (300.0, 300.0), ("I",), 300.0)
    rng = np.random.default_rng(0)
    sigma = np.array([3.0, 4.0])
    noise = analysis(sigma[:, None] * rng.standard_normal((40, 2, 12 * NSIDE**2)), LMAX)
    modes = ((LMAX + 1) ** 2 - 1) / (12 * NSIDE**2)  # white noise below lmax, without monopole
    assert noise_floor(noise, layout) == pytest.approx(np.sqrt(modes / (1 / sigma**2).sum()), rel=0.01)


@pytest.mark.parametrize("regions", [1, 2, 5])
def test_weights_between_regions_are_sums_over_regions(regions):
    rng = np.random.default_rng(0)
    levels, table = np.sort(rng.standard_normal(regions)), rng.standard_normal((regions, 3))
    log = np.concatenate([2 * rng.standard_normal(500), levels])  # also beyond all levels, and at them
    assert np.allclose(weights_at(place(log, levels), table), table.T @ members(log, levels), atol=1e-5)
