import healpy
import numpy as np
import pytest

from cmb_lightning.cleaning.regions import galactic_mask
from cmb_lightning.errors import ConfigError
from cmb_lightning.results.spectra import Bins, PairSpectra, d_ell, pair_spectra

NSIDE, LMAX = 16, 32


def skies(fields=1, seed=3):
    """Truth and prediction with power up to lmax, NESTED."""
    rng = np.random.default_rng(seed)
    cl = np.zeros(LMAX + 1)
    cl[2:] = 1000.0 / (np.arange(2, LMAX + 1) * np.arange(3, LMAX + 2))
    size = healpy.Alm.getsize(LMAX)

    def draw():
        alm = (rng.normal(size=size) + 1j * rng.normal(size=size)) / np.sqrt(2)
        alm[: LMAX + 1] = alm[: LMAX + 1].real * np.sqrt(2)
        return healpy.almxfl(alm, np.sqrt(cl))

    def maps():
        if fields == 1:
            return healpy.alm2map(draw(), NSIDE)[None]
        return np.array(healpy.alm2map([draw(), draw(), 0.3 * draw()], NSIDE))

    truth, error = maps(), maps()
    return (healpy.reorder(truth + 0.1 * error, r2n=True), healpy.reorder(truth, r2n=True))


def ring(maps):
    return healpy.reorder(maps, n2r=True)


@pytest.mark.parametrize("masked", [False, True])
def test_temperature_against_anafast(masked):
    p, t = skies()
    weight = galactic_mask(NSIDE, 20) if masked else None
    w = 1.0 if weight is None else ring(weight.astype(float))
    got = pair_spectra(p, t, ("I",), LMAX, weight)["TT"]
    scale = np.mean(np.asarray(w) ** 2)
    expected = PairSpectra(
        healpy.anafast(ring(t)[0] * w, lmax=LMAX) / scale,
        healpy.anafast(ring(p)[0] * w, lmax=LMAX) / scale,
        healpy.anafast(ring(p - t)[0] * w, lmax=LMAX) / scale,
        healpy.anafast(ring(p)[0] * w, ring(t)[0] * w, lmax=LMAX) / scale,
    )
    for mine, theirs in zip(got.parts(), expected.parts(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        got.correlation()[2:], (expected.cross / np.sqrt(expected.prediction * expected.truth))[2:]
    )
    np.testing.assert_allclose(got.transfer()[2:], (expected.cross / expected.truth)[2:], rtol=1e-5)


def test_polarisation_against_anafast():
    p, t = skies(3)
    got = pair_spectra(p, t, ("I", "Q", "U"), LMAX)
    expected = healpy.anafast(ring(p), lmax=LMAX, pol=True)
    for name, cl in zip(("TT", "EE", "BB", "TE"), expected, strict=False):
        np.testing.assert_allclose(got[name].prediction, cl, rtol=1e-4, atol=1e-4)
    assert list(got) == ["TT", "EE", "BB", "TE"]


def test_perfect_and_rescaled_prediction():
    _, t = skies()
    got = pair_spectra(0.9 * t, t, lmax=LMAX)["TT"]
    np.testing.assert_allclose(got.correlation()[2:], 1)
    np.testing.assert_allclose(got.transfer()[2:], 0.9)
    np.testing.assert_allclose(got.ratio()[2:], 0.81)
    np.testing.assert_allclose(got.residual[2:], 0.01 * got.truth[2:])


def test_masked_pixels_may_be_nan():
    p, t = skies()
    weight = galactic_mask(NSIDE, 20)
    holes = np.where(weight, p, np.nan)
    np.testing.assert_allclose(
        pair_spectra(holes, t, weight=weight)["TT"].residual, pair_spectra(p, t, weight=weight)["TT"].residual
    )


def test_never_above_two_nside():
    p, t = skies()
    assert pair_spectra(p, t)["TT"].truth.shape == (2 * NSIDE + 1,)
    with pytest.raises(ConfigError, match="above 2 nside = 32"):
        pair_spectra(p, t, lmax=33)


def test_bins():
    bins = Bins.up_to(64, 10)
    assert bins.edges[0] == 2 and bins.edges[-1] == 65
    ell = np.arange(65)
    low, high = bins.edges[1], bins.edges[2]
    weights = 2 * ell[low:high] + 1
    values = np.random.default_rng(0).normal(size=(3, 65))
    np.testing.assert_allclose(bins.mean(values)[:, 1], (values[:, low:high] * weights).sum(axis=1) / weights.sum())
    np.testing.assert_allclose(bins.mean(np.ones(65)), 1)
    assert bins.modes.sum() == 65**2 - 4
    assert len(Bins.up_to(5, 30).centres) == 4


def test_cosmic_variance_of_a_known_spectrum():
    """The scatter of binned spectra of many skies is what `cosmic_variance` says."""
    rng = np.random.default_rng(0)
    bins = Bins.up_to(40, 4)
    ell = np.arange(41)
    cl = rng.chisquare(2 * ell + 1, size=(4000, 41)) / (2 * ell + 1)
    np.testing.assert_allclose(bins.mean(cl).std(axis=0), bins.cosmic_variance(), rtol=0.05)


def test_d_ell():
    assert d_ell(np.ones(4))[3] == pytest.approx(12 / (2 * np.pi))


def test_noise_halves_have_no_noise_bias():
    """The noise of two halves cancels in the mean, where that of one map adds its own power."""
    _, t = skies()
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(40):
        halves = tuple(t + 40 * rng.normal(size=t.shape) for _ in range(2))
        spectra = pair_spectra((halves[0] + halves[1]) / 2, t, lmax=LMAX, halves=halves)["TT"]
        excess.append(spectra.residual[20:].mean())
    noise = 40**2 / 2 * 4 * np.pi / t.size
    assert abs(np.mean(excess)) < 4 * np.std(excess) / np.sqrt(40) < 0.1 * noise
