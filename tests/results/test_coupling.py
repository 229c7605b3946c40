import numpy as np
import pytest

from cmb_lightning.cleaning.regions import galactic_mask
from cmb_lightning.results.coupling import MaskCoupling
from cmb_lightning.results.spectra import Bins, PairSpectra, d_ell, pair_spectra, pseudo_spectra
from cmb_lightning.sky.transforms import almxfl, draw_unit_alm, ring_to_nest, synthesis, synthesis_qu

NSIDE, LMAX = 32, 64
FIELDS = ("I", "Q", "U")


def theory():
    """Spectra whose D_l are far from flat, with E much above B."""
    ell = np.arange(LMAX + 1)
    shape = np.where(ell > 1, 2 * np.pi / np.maximum(ell * (ell + 1), 1), 0)
    tt, ee = 1000 * shape * (1 + 0.3 * np.sin(ell / 9)), shape * (ell / 30) ** 2
    return {"TT": tt, "EE": ee, "BB": 0.05 * ee, "TE": 0.5 * np.sqrt(tt * ee)}


def sky(cl, rng):
    unit = draw_unit_alm(rng, LMAX, 3)
    e = 0.5 * unit[0] + np.sqrt(0.75) * unit[1]
    t, e, b = (almxfl(alm, np.sqrt(cl[name])) for alm, name in ((unit[0], "TT"), (e, "EE"), (unit[2], "BB")))
    return ring_to_nest(np.stack([synthesis(t, NSIDE, LMAX), *synthesis_qu(e, b, NSIDE, LMAX)]))


@pytest.mark.parametrize("cut", [20, 55])
def test_unbiased_on_a_hundred_masked_skies(cut):
    cl, rng, sims = theory(), np.random.default_rng(1), 100
    bins = Bins.up_to(LMAX, 12)
    weight = galactic_mask(NSIDE, cut).astype(float)
    coupling = MaskCoupling(weight, LMAX, bins, polarised=True)
    found, uncorrected = {name: [] for name in cl}, {name: [] for name in cl}
    for _ in range(sims):
        maps = sky(cl, rng)
        decoupled = coupling.decouple_pairs(pseudo_spectra(maps, maps, FIELDS, LMAX, weight))
        plain = pair_spectra(maps, maps, FIELDS, LMAX, weight)
        for name in cl:
            found[name].append(decoupled[name].prediction)
            uncorrected[name].append(bins.mean(d_ell(plain[name].prediction)))

    def chi2(spectra, name):
        error = np.std(spectra, axis=0, ddof=1) / np.sqrt(sims)
        return float(np.sum(((np.mean(spectra, axis=0) - bins.mean(d_ell(cl[name]))) / error) ** 2))

    for name in cl:
        assert chi2(found[name], name) < 35, name  # 12 degrees of freedom: one in 2000
    assert chi2(uncorrected["BB"], "BB") > 1000  # E power in B, which is what this is about


def test_whole_sky_changes_nothing():
    cl = theory()
    bins = Bins.up_to(LMAX, 12)
    coupling = MaskCoupling(np.ones(12 * NSIDE**2), LMAX, bins, polarised=True)
    for name, powers in coupling.decouple(cl).items():
        np.testing.assert_allclose(powers, bins.mean(d_ell(cl[name])), rtol=1e-4)
    assert coupling.width == 1


def test_small_sky_uses_wider_ranges():
    bins = Bins.up_to(LMAX, 12)
    assert MaskCoupling(galactic_mask(NSIDE, 60), LMAX, bins).width > 1


def test_pairs_are_decoupled_part_by_part():
    cl, rng = theory(), np.random.default_rng(2)
    weight = galactic_mask(NSIDE, 20).astype(float)
    truth = sky(cl, rng)[:1]
    coupling = MaskCoupling(weight, LMAX, Bins.up_to(LMAX, 12))
    pair = coupling.decouple_pairs(pseudo_spectra(0.9 * truth, truth, ("I",), LMAX, weight))["TT"]
    assert isinstance(pair, PairSpectra)
    np.testing.assert_allclose(pair.transfer(), 0.9)
    np.testing.assert_allclose(pair.residual, 0.01 * pair.truth)
