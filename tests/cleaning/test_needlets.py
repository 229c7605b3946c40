import healpy
import numpy as np
import pytest

from cmb_lightning.cleaning.needlets import Needlets, cosine_windows, default_peaks


def test_the_squares_of_the_windows_sum_to_one():
    windows = cosine_windows((15, 40, 80, 128), 128)
    np.testing.assert_allclose((windows**2).sum(0), 1, rtol=1e-12)
    assert [int(w.argmax()) for w in windows[1:]] == [40, 80, 128]
    assert windows[1, 60] == pytest.approx(np.cos(np.pi / 4))  # half way between its peak and the next


@pytest.mark.parametrize("peaks", [(40, 15), (0, 10), (10, 200), ()])
def test_peaks_that_cannot_be_are_refused(peaks):
    with pytest.raises(ValueError, match="peaks"):
        cosine_windows(peaks, 128)


@pytest.mark.parametrize("lmax", [16, 32, 128, 1024])
def test_default_peaks_are_valid_everywhere(lmax):
    peaks = default_peaks(lmax)
    assert peaks[-1] == lmax and len(peaks) >= 3
    cosine_windows(peaks, lmax)


def test_taking_a_sky_apart_and_together_gives_it_back():
    needlets = Needlets((5, 12, 32), 16, 32)
    rng = np.random.default_rng(0)
    alm = rng.standard_normal(33 * 34 // 2) + 1j * rng.standard_normal(33 * 34 // 2)
    alm[:33] = alm[:33].real
    back = sum(needlets.to_alm(needlets.to_maps(alm, j), j, iterations=4) for j in range(len(needlets)))
    np.testing.assert_allclose(back, alm, atol=1e-4)


def test_a_scale_agrees_with_healpy():
    needlets = Needlets((5, 12, 32), 16, 32)
    alm = np.random.default_rng(1).standard_normal(33 * 34 // 2).astype(complex)
    expected = healpy.alm2map(healpy.almxfl(alm, needlets.windows[1]), needlets.nsides[1], lmax=32)
    np.testing.assert_allclose(needlets.to_maps(alm, 1), expected, atol=1e-10)
