import healpy
import numpy as np
import pytest

from cmb_lightning.data.lowering import lower


def skies(nside: int, lmax: int, fwhm: float, extra: int = 0) -> np.ndarray:
    """I, Q, U of one set of coefficients at a beam [arcmin], NESTED, by healpy."""
    rng = np.random.default_rng(1)
    size = healpy.Alm.getsize(lmax)
    ell = healpy.Alm.getlm(lmax)[0]
    alm = (rng.standard_normal((3, size)) + 1j * rng.standard_normal((3, size))) / np.maximum(ell, 1)
    alm[:, healpy.Alm.getlm(lmax)[1] == 0] = alm[:, healpy.Alm.getlm(lmax)[1] == 0].real
    alm[:, ell < 2] = 0
    alm[:, ell > lmax - extra] = 0
    smooth = healpy.smoothalm(alm, fwhm=np.radians(fwhm / 60), pol=True)
    return np.array([healpy.reorder(m, r2n=True) for m in healpy.alm2map(smooth, nside, lmax=lmax, pol=True)])


def transfer(fields: str) -> np.ndarray:
    """From a beam of 60 arcmin to one of 400, by healpy."""
    new, old = (healpy.gauss_beam(np.radians(fwhm / 60), 32, pol=True) for fwhm in (400, 60))
    return np.stack([(new / old)[:, 0 if field == "I" else 1] for field in fields])


@pytest.mark.parametrize("nside", [16, 32, 64])
def test_as_if_it_had_been_made_so(nside):
    lowered, bad = lower(skies(nside, 32, 60), np.zeros(12 * nside**2, bool), "IQU", 16, transfer("IQU"))
    expected = skies(16, 32, 400)
    assert not bad.any() and lowered.dtype == np.float32
    np.testing.assert_allclose(lowered, expected, atol=2e-3 * expected.std())


def test_one_field_alone():
    fine = skies(32, 32, 60)
    lowered, _ = lower(fine[:1], np.zeros(12288, bool), "I", 16, transfer("I"))
    np.testing.assert_allclose(lowered, skies(16, 32, 400)[:1], atol=2e-3 * lowered.std())
    polarised, _ = lower(fine[1:], np.zeros(12288, bool), "QU", 16, transfer("QU"))
    np.testing.assert_allclose(polarised, skies(16, 32, 400)[1:], atol=2e-3 * polarised.std())


def test_pixels_without_data():
    maps = skies(32, 32, 60)[:1]
    bad = np.zeros(12288, bool)
    bad[:4] = True  # one larger pixel
    bad[4] = True  # a quarter of the next
    maps[:, bad] = np.nan
    lowered, missing = lower(maps, bad, "I", 16, transfer("I"))
    assert np.flatnonzero(missing).tolist() == [0] and np.isfinite(lowered).all()
    assert np.std(lowered - skies(16, 32, 400)[:1]) < 0.05 * lowered.std()
