"""The needlet ILC's bias, and its agreement with the package cmbroom."""

import logging
from types import SimpleNamespace

import healpy
import numpy as np
import pytest

from cmb_lightning.cleaning.debeaming import debeaming
from cmb_lightning.cleaning.local import Products, absorbed
from cmb_lightning.cleaning.needlet_ilc import NeedletILC
from cmb_lightning.sky.transforms import almxfl, synthesis
from tests.cleaning.test_linear import rms
from tests.cleaning.toy import LAYOUT, LMAX, NSIDE, gaussian, sky

SKIES = 60


def response(method: NeedletILC) -> tuple[float, float]:
    """Regression of the estimate on the CMB over many skies, and its standard error."""
    slopes = []
    for seed in range(SKIES):
        parts = sky(1000 + seed)
        truth, found = (synthesis(alm, NSIDE, LMAX) for alm in (parts["truth"], method(parts["observed"])))
        slopes.append((found @ truth) / (truth @ truth))
    return float(np.mean(slopes)), float(np.std(slopes) / np.sqrt(SKIES))


@pytest.mark.parametrize("bias", [0.1, 0.03])
def test_the_measured_loss_of_cmb_is_within_the_bound(bias):
    method = NeedletILC(LAYOUT, peaks=(20, 32), bias=bias)
    told = [method.local_weights(sky(1)["observed"], j) for j in range(2)]
    assert all(lost <= bias for _, _, lost in told)
    if bias == 0.1:
        assert any(fwhm is not None for _, fwhm, _ in told)
    mean, error = response(method)
    assert 1 - bias - 2 * error < mean < 1 + 2 * error
    assert error < 0.02


def test_the_loss_is_what_is_expected_of_a_window():
    """Against skies in which the CMB alone is drawn anew."""
    rng, fwhm = np.random.default_rng(0), 60.0
    spectrum = 1 / np.maximum(np.arange(LMAX + 1), 1) ** 2
    spectrum[:2] = 0
    alm = np.stack([gaussian(rng, np.full(LMAX + 1, level)) for level in (0.01, 0.02, 0.03)])
    expected, measured = [], []
    for _ in range(40):
        cmb = gaussian(rng, spectrum)
        bands = alm + cmb
        covariance = Products.of(synthesis(bands, NSIDE, LMAX)).covariance(fwhm)
        expected.append(absorbed(bands, covariance, fwhm, spectrum))
        inverse = np.linalg.inv(np.moveaxis(covariance, -1, 0)).sum(-1)
        weights = (inverse / inverse.sum(-1, keepdims=True)).T
        truth = synthesis(cmb, NSIDE, LMAX)
        weights = healpy.ud_grade(weights, NSIDE)
        measured.append(((weights * synthesis(bands, NSIDE, LMAX)).sum(0) @ truth) / (truth @ truth))
    error = np.std(measured) / np.sqrt(len(measured))
    assert np.mean(expected) > 4 * error  # there is something to measure
    assert abs(1 - np.mean(measured) - np.mean(expected)) < 3 * error


def test_a_bound_that_cannot_be_held_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        _, fwhm, lost = NeedletILC(LAYOUT, peaks=(4, 32), bias=0.001).local_weights(sky(1)["observed"], 0)
    assert fwhm is None and lost > 0.001
    assert "scale 0 absorbs" in caplog.text and "peaks" in caplog.text


@pytest.mark.parametrize("local", [False, True])
def test_it_agrees_with_cmbroom(monkeypatch, local):
    pytest.importorskip("broom", reason="cmbroom is not installed: pip install 'cmb-lightning[cmbroom]'")
    from broom import ilcs, routines

    peaks, observed = (10, 20, LMAX), sky(4)["observed"]
    method = NeedletILC(LAYOUT, peaks=peaks, bias=0.1 if local else 1e-9)
    windows = [method.local_weights(observed, j)[1] for j in range(3)]
    fwhm = windows[-1]
    assert (fwhm is not None) == local
    if local:  # one window for all scales: cmbroom's rule for its width is another
        monkeypatch.setattr("cmb_lightning.cleaning.needlet_ilc.WINDOWS", (fwhm,))
        monkeypatch.setattr(NeedletILC, "bias", 1.0, raising=False)
        method.bias = 1.0
        monkeypatch.setattr(routines, "get_fwhm_for_cov", lambda *a, **k: np.radians(fwhm))
    config = SimpleNamespace(
        nside=NSIDE,
        lmax=LMAX,
        fwhm_out=LAYOUT.target_fwhm,
        field_out="T",
        units="uK_CMB",
        bandpass_integrate=False,
        pixel_window_out=False,
        instrument=SimpleNamespace(fwhm=LAYOUT.fwhm, frequency=[30.0, 100.0, 143.0, 353.0]),
    )
    settings = {
        "method": "ilc",
        "domain": "needlet",
        "component_out": "cmb",
        "field": "T",
        "from_splits": False,
        "needlet_config": {"needlet_windows": "cosine", "ell_peaks": list(peaks)},
        "b_squared": False,
        "adapt_nside": False,
        "save_needlets": False,
        "save_weights": False,
        "minimize_variance": False,
        "ilc_bias": 0.1 if local else 0.0,
        "reduce_ilc_bias": False,
        "cov_noise_debias": [0.0] * 3,
    }
    common = almxfl(observed.astype(np.complex128), debeaming(LAYOUT))
    (theirs,) = ilcs._ilc_scalar(config, common[..., None], settings).T
    ours = synthesis(method(observed), NSIDE, LMAX)
    left = rms(method(observed) - sky(4)["truth"])
    assert (ours - theirs).std() < 0.02 * left
    assert left < rms(sky(4)["truth"])
