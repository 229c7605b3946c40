import healpy
import numpy as np
import pytest

from cmb_lightning.cleaning.classical import HarmonicILC, PixelILC, SingleChannel
from cmb_lightning.cleaning.classical_task import ClassicalTask
from cmb_lightning.cleaning.debeaming import debeaming
from cmb_lightning.cleaning.left import left_parts
from cmb_lightning.cleaning.needlet_ilc import NeedletILC
from cmb_lightning.cleaning.preparation import Cleaned, to_maps
from cmb_lightning.data.layout import Layout
from cmb_lightning.data.mixing import observe
from cmb_lightning.errors import ConfigError
from cmb_lightning.sky.transforms import alm_degrees, almxfl, ring_to_nest, synthesis
from tests.cleaning.test_linear import rms, samples
from tests.cleaning.toy import LAYOUT, LMAX, NSIDE, sky

METHODS = [SingleChannel, PixelILC, HarmonicILC, NeedletILC]
SMALL = {PixelILC: {"regions": 4}, NeedletILC: {"regions": 4}}


def closed_form(covariance: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(covariance)
    return inverse.sum(1) / inverse.sum()


@pytest.fixture(scope="module")
def trained():
    made = {}
    for method in METHODS:
        one = method(LAYOUT, **SMALL.get(method, {}))
        one.weights = one.fit(samples())
        made[method] = one
    return made


def test_pixel_ilc_equals_its_closed_form_in_pixel_space():
    observed = sky(3)["observed"]
    common = almxfl(observed.astype(np.complex128), debeaming(LAYOUT))
    maps = synthesis(common, 4 * NSIDE, LMAX)  # fine pixels: sums over pixels are integrals
    expected = closed_form(np.cov(maps)) @ common
    assert rms(PixelILC(LAYOUT)(observed) - expected) < 2e-3 * rms(expected)


def test_harmonic_ilc_equals_its_closed_form_in_bins():
    observed = sky(3)["observed"]
    method = HarmonicILC(LAYOUT, bias=0.1)
    edges = method.edges(method.spectra(observed))
    assert edges[0] == 0 and edges[-1] == LMAX + 1 and len(edges) > 3
    common = almxfl(observed.astype(np.complex128), debeaming(LAYOUT))
    common[:, 0] = 0
    expected = np.zeros(common.shape[1], complex)
    spectra = [[healpy.alm2cl(a, b) for b in common] for a in common]
    for low, high in zip(edges, edges[1:], strict=False):
        modes = 2 * np.arange(low, high) + 1
        inside = (alm_degrees(LMAX) >= low) & (alm_degrees(LMAX) < high)
        expected[inside] = closed_form(np.array(spectra)[..., low:high] @ modes) @ common[:, inside]
    assert rms(method(observed) - expected) < 1e-4 * rms(expected)


def test_the_best_channel_is_the_one_with_least_variance_or_error(trained):
    observed = sky(3)["observed"]
    common = almxfl(observed, debeaming(LAYOUT))
    np.testing.assert_allclose(SingleChannel(LAYOUT)(observed)[1:], common[1, 1:], rtol=1e-5)
    assert list(trained[SingleChannel].weights["weights"][:, 5]) == [0, 1, 0, 0]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_weights_sum_to_one_and_held_fixed_keep_an_injected_cmb(trained, method, training):
    parts, other = sky(7), sky(8)
    combination = (trained[method] if training else method(LAYOUT)).combination(parts["observed"])
    if hasattr(combination, "needlets"):
        rows = [combination.weights(j) for j in range(len(combination.needlets))]
    else:
        rows = [combination.weights]
    for weights in rows:
        np.testing.assert_allclose(weights.astype(np.float64).sum(0), 1, atol=1e-6)
    response = combination(parts["observed"] + other["cmb"]) - combination(parts["observed"])
    assert rms(response - other["truth"]) < 1e-3 * rms(other["truth"])


def test_training_helps_and_the_needlets_do_best(trained):
    errors = {}
    for seed in range(100, 104):
        parts = sky(seed)
        for name, method in [*trained.items(), ("own", NeedletILC(LAYOUT))]:
            errors.setdefault(name, []).append(rms(method(parts["observed"]) - parts["truth"]))
    mean = {name: np.mean(values) for name, values in errors.items()}
    assert mean[NeedletILC] < mean["own"]
    assert mean[NeedletILC] < mean[PixelILC] < mean[SingleChannel]


def test_what_is_left_adds_up_to_the_error():
    maps = {name: to_maps(sky(5)[name], LAYOUT) for name in ("cmb", "foregrounds", "noise")}
    gain = np.float32([0.01, -0.02, 0.03, 0.05])
    parts = maps | {"gain": gain, "target": to_maps(sky(5)["truth"][None], LAYOUT)}
    for method in (PixelILC(LAYOUT), NeedletILC(LAYOUT)):
        left = left_parts(method, parts, LAYOUT)
        error = Cleaned(method, LAYOUT)(observe(parts)) - parts["target"]
        np.testing.assert_allclose(sum(left.values()), error, atol=2e-3 * error.std())
        calibrated = left_parts(method, parts | {"gain": 0 * gain}, LAYOUT)
        assert calibrated["CMB"].std() < 1e-2 * left["CMB"].std()


def test_a_band_that_is_too_wide_is_left_out_where_it_is():
    layout = Layout(16, 32, ("a_I", "b_I", "c_I"), (1500.0, 500.0, 480.0), ("I",), 480.0)
    observed = sky(1)["observed"][1:]
    ratio = debeaming(layout)
    reach = int(np.nonzero(ratio[0])[0].max())
    assert 5 < reach < 32
    needlets = NeedletILC(layout).combination(observed)
    for j, top in enumerate(needlets.needlets.top):
        assert needlets.weights(j)[0].any() == (top <= reach)
    harmonic = HarmonicILC(layout, bias=0.1).combination(observed)
    np.testing.assert_array_equal(harmonic.weights[0, 1:] != 0, np.arange(1, 33) <= reach)
    np.testing.assert_allclose(harmonic.weights.sum(0), 1, atol=1e-6)
    assert not PixelILC(layout).combination(observed).weights[0].any()


@pytest.mark.parametrize("method", METHODS[1:])
def test_what_a_mask_leaves_out_does_not_change_weights_elsewhere(method):
    latitude = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)[1]
    pixels, far = ring_to_nest((latitude < 30).astype(float)), latitude < -30
    spot = np.zeros(sky(3)["observed"].shape[1])
    spot[: LMAX + 1] = np.sqrt(2 * np.arange(LMAX + 1) + 1) * healpy.gauss_beam(0.4, LMAX)  # m = 0: at the pole
    spot[0] = 0
    observed = sky(3)["observed"]
    brighter = observed + (100 * np.arange(4)[:, None] * spot).astype(np.complex64)
    changes = {}
    for name, mask in (("all", None), ("masked", pixels)):
        one, two = (method(LAYOUT, mask).combination(alm)(observed) for alm in (observed, brighter))
        changes[name] = synthesis(two - one, NSIDE, LMAX)[far].std()
    # Needlets of the spot reach across the sphere, if faintly.
    assert changes["masked"] < (0.5 if method is NeedletILC else 0.1) * changes["all"]


@pytest.mark.parametrize("method", METHODS)
def test_one_band_or_polarisation_is_refused(method):
    with pytest.raises(ConfigError, match=f"model.method: {method.__name__} combines two or more bands in one field"):
        method(Layout(8, 16, ("a_I",), (900.0,), ("I",), 900.0))
    with pytest.raises(ConfigError, match="task: ClassicalTask combines two or more bands of each field"):
        ClassicalTask(Layout(8, 16, ("a_Q", "a_U"), (900.0,) * 2, ("Q", "U"), 900.0), method)
