"""Dropout that stays on: for every network, over whole skies, at fixed and learned rates."""

import pytest
import torch
from torch import nn

from cmb_lightning.networks import (
    ConcreteDropout,
    DeepSphereUNet,
    HealpixUNet,
    IsotropicUNet,
    MonteCarloDropout,
    PatchUNet,
    UNet5,
)

NETWORKS = {
    "healpix": lambda *a: HealpixUNet(*a, width=4, max_width=8, depth=1, zero_init=False),
    "isotropic": lambda *a: IsotropicUNet(*a, width=4, max_width=8, depth=1, zero_init=False),
    "near": lambda *a: IsotropicUNet(*a, width=4, max_width=8, depth=1, reach=1, zero_init=False),
    "unet5": lambda *a: UNet5(*a, width=4, zero_init=False),
    "deepsphere": lambda *a: DeepSphereUNet(*a, width=4, depth=1, zero_init=False),
    "patch": lambda *a: PatchUNet(*a, width=2, depth=1, patch_side=4, zero_init=False),
}
EACH = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


@EACH
@pytest.mark.parametrize("kind", [MonteCarloDropout, ConcreteDropout])
def test_every_network_draws_and_averages(kind, network):
    bayesian = kind(3, 2, 8, network=network, rate=0.3, passes=4)
    maps = torch.randn(2, 3, 768)
    assert bayesian(maps).shape == (2, 2, 768)
    assert (bayesian(maps) - bayesian(maps)).any()
    bayesian.eval()
    with torch.no_grad():
        torch.manual_seed(1)
        mean = bayesian(maps)
        torch.manual_seed(1)
        draws = torch.stack([bayesian.draw(maps) for _ in range(4)])
    assert draws.std(0).max() > 0
    torch.testing.assert_close(mean, draws.mean(0))


@EACH
def test_what_is_dropped_is_dropped_over_the_whole_sky_and_for_each_sky_by_itself(network):
    torch.manual_seed(1)
    bayesian = MonteCarloDropout(3, 2, 8, network=network, rate=0.5)
    seen = []
    layer = bayesian.dropped[0]
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    bayesian(torch.randn(2, 3, 768))
    images = seen[0] if seen[0].dim() == 4 else seen[0].permute(1, 2, 0)[..., None]
    zero = (images == 0).flatten(2).all(-1).unflatten(0, (2, -1))
    assert zero.any() and not zero.all()
    assert (zero == zero[:, :1]).all()


def test_the_mean_over_passes_keeps_a_linear_layers_input():
    bayesian = MonteCarloDropout(1, 1, 4, network=NETWORKS["patch"], rate=0.25)
    factors = bayesian.kept(0, (4000, 4), torch.ones(1))
    assert factors.mean() == pytest.approx(1, abs=0.03)
    assert (factors == 0).float().mean() == pytest.approx(0.25, abs=0.02)


def test_learned_rates_follow_their_penalty_whatever_the_loss():
    bayesian = ConcreteDropout(2, 1, 4, network=NETWORKS["healpix"], rate=0.1, weight_penalty=1e-2, rate_penalty=1e-1)
    before = bayesian.rates.detach().clone()
    (0 * bayesian(torch.randn(1, 2, 192))).sum().backward()
    weights = {name: p.grad.clone() for name, p in bayesian.named_parameters() if p.grad is not None}
    bayesian.zero_grad()
    bayesian.penalty().backward()
    for name, parameter in bayesian.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(weights[name], parameter.grad)
    assert before.allclose(torch.tensor(0.1))


def test_the_entropy_alone_leads_to_a_rate_of_one_half():
    bayesian = ConcreteDropout(2, 1, 4, network=NETWORKS["healpix"], weight_penalty=0.0, rate_penalty=1.0)
    optimizer = torch.optim.Adam([bayesian.logits], lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        bayesian.penalty().backward()
        optimizer.step()
    torch.testing.assert_close(bayesian.rates, torch.full_like(bayesian.rates, 0.5), atol=0.05, rtol=0)


@pytest.mark.parametrize("arguments", [{"rate": 1.0}, {"passes": 0}, {"network": lambda *a: nn.Identity()}])
def test_what_cannot_be_dropped_is_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MonteCarloDropout(1, 1, 4, **arguments)
