"""Losses against closed forms, healpy and finite differences."""

import healpy
import numpy as np
import pytest
import torch

from cmb_lightning.cleaning.harmonic import analyse
from cmb_lightning.cleaning.losses import GaussianLikelihood, HarmonicLikelihood
from cmb_lightning.cleaning.masks import Mask, MaskedLoss
from cmb_lightning.errors import ConfigError

NSIDE, LMAX = 8, 16
NPIX = 12 * NSIDE**2


def test_the_likelihood_is_torch_s():
    prediction, target, log = torch.randn(3, 2, 1, 50).double()
    expected = torch.nn.GaussianNLLLoss()(prediction, target, (2 * log).exp())
    torch.testing.assert_close(GaussianLikelihood(beta=0)(prediction, target, log.exp()), expected)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_likelihood_is_least_at_the_mean_and_the_rms_error(beta):
    torch.manual_seed(0)
    target = 3 + 2 * torch.randn(4000).double()
    values = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([values], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        # a constant weight changes nothing where all errors are of one size
        mean, sigma = (v.expand(target.shape) for v in (values[0], values[1].exp()))
        loss = GaussianLikelihood(0)(mean, target, sigma)
        loss.backward()
        return loss

    optimizer.step(closure)
    values.grad = None
    GaussianLikelihood(beta)(values[0], target, values[1].exp().expand(target.shape)).backward()
    assert values.grad.abs().max() < 1e-3
    assert values[0].item() == pytest.approx(target.mean().item(), abs=1e-3)
    assert values[1].exp().item() == pytest.approx(target.std().item(), rel=1e-3)


def test_with_beta_one_the_mean_learns_as_from_squared_errors():
    mean = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    target, sigma = torch.arange(6).double(), torch.logspace(-2, 3, 6).double()
    GaussianLikelihood(beta=1)(mean, target, sigma).backward()
    torch.testing.assert_close(mean.grad, (mean.detach() - target) / 6)


@pytest.mark.parametrize("beta", [-0.1, 1.5])
def test_other_powers_are_refused(beta):
    with pytest.raises(ConfigError, match="model.loss.beta"):
        GaussianLikelihood(beta)


def test_the_transform_is_healpy_s_first_quadrature():
    maps = np.random.default_rng(0).standard_normal((2, NPIX))
    ring = maps[:, healpy.ring2nest(NSIDE, np.arange(NPIX))]
    expected = [healpy.map2alm(m, LMAX, iter=0, pol=False) for m in ring]
    np.testing.assert_allclose(analyse(torch.from_numpy(maps), LMAX).numpy(), expected, atol=1e-12)


def test_the_gradient_of_the_transform_is_that_of_finite_differences():
    maps = torch.randn(2, 1, 12 * 2**2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: analyse(m, 5), maps)


def test_the_backward_transform_is_the_adjoint():
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(NPIX, generator=rng, dtype=torch.float64, requires_grad=True)
    alm = analyse(maps, LMAX)
    other = torch.randn(alm.shape, generator=rng, dtype=torch.complex128)
    (back,) = torch.autograd.grad(alm, maps, other)
    torch.testing.assert_close((back * maps).sum(), (other.conj() * alm).real.sum())


def harmonic_reference(error: np.ndarray) -> float:
    """Of errors (sky, npix) in NESTED: 1/2 sum (2l+1) log C_l / sum (2l+1)."""
    ring = error[:, healpy.ring2nest(NSIDE, np.arange(NPIX))]
    power = np.mean([healpy.anafast(m, lmax=LMAX, iter=0, pol=False) for m in ring], axis=0)[1:]
    modes = 2 * np.arange(1, LMAX + 1) + 1
    return float(0.5 * (modes * np.log(power)).sum() / modes.sum())


def test_the_harmonic_loss_is_the_mean_log_power_of_the_error():
    rng = np.random.default_rng(0)
    prediction, target = rng.standard_normal((2, 3, 2, NPIX)).astype(np.float32)
    loss = HarmonicLikelihood()(torch.from_numpy(prediction), torch.from_numpy(target))
    expected = np.mean([harmonic_reference((prediction - target)[:, field].astype(float)) for field in range(2)])
    assert float(loss) == pytest.approx(expected, abs=1e-4)


def test_the_harmonic_loss_is_finite_for_a_perfect_map():
    target = torch.randn(1, 1, NPIX)
    prediction = target.clone().requires_grad_()
    loss = HarmonicLikelihood()(prediction, target)
    loss.backward()
    assert loss.isfinite() and prediction.grad.isfinite().all()


def test_with_a_mask_the_harmonic_loss_sees_a_whole_sky_that_fades():
    mask = Mask.load("30 deg", NSIDE, "8 deg")
    prediction, target = torch.randn(2, 2, 1, NPIX)
    loss = MaskedLoss(HarmonicLikelihood(), mask)(prediction, target)
    faded = ((prediction - target)[:, 0] * torch.from_numpy(mask.weight).float()).double().numpy()
    assert float(loss) == pytest.approx(harmonic_reference(faded), abs=1e-4)


def test_with_a_mask_error_bars_fade_with_their_errors():
    mask = Mask.load("30 deg", NSIDE, "8 deg")
    prediction, target, sigma = torch.randn(2, 1, 1, NPIX), torch.randn(2, 1, 1, NPIX), torch.rand(2, 1, 1, NPIX) + 1
    inside = torch.from_numpy(mask.weight > 0)
    weight = torch.from_numpy(mask.weight).float()[inside]
    masked = MaskedLoss(GaussianLikelihood(0), mask)(prediction, target, sigma)
    plain = GaussianLikelihood(0)(prediction[..., inside], target[..., inside], sigma[..., inside])
    torch.testing.assert_close(masked, plain + weight.log().mean())
