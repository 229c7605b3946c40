"""Error bars: right from the start, learned where errors differ, and joined with the spread of random passes."""

import numpy as np
import pytest
import torch
from torch import nn

from cmb_lightning.cleaning.error_bars import Cleaned, ErrorBars, predictive
from cmb_lightning.cleaning.losses import GaussianLikelihood
from cmb_lightning.cleaning.methods import Direct, Residual
from cmb_lightning.cleaning.preparation import to_maps
from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.networks import (
    ConcreteDropout,
    DeepSphereUNet,
    HealpixUNet,
    MonteCarloDropout,
    PatchUNet,
    UNet5,
    UNet8,
)
from tests.cleaning.toy import LAYOUT, NSIDE, sky, trained

NPIX = 12 * NSIDE**2
NETWORKS = {
    "healpix": lambda *a: HealpixUNet(*a, width=4, depth=1),
    "unet5": lambda *a: UNet5(*a, width=2),
    "unet8": lambda *a: UNet8(*a, width=1),
    "deepsphere": lambda *a: DeepSphereUNet(*a, width=4, depth=1),
    "patch": lambda *a: PatchUNet(*a, width=2, depth=1),
    "dropout": lambda *a: MonteCarloDropout(*a, network=NETWORKS["healpix"], passes=3),
    "concrete": lambda *a: ConcreteDropout(*a, network=NETWORKS["patch"], passes=3),
}


@pytest.fixture(scope="module")
def linear() -> TrainedLinear:
    return trained()


def batches(method, linear, seeds) -> list[dict[str, torch.Tensor]]:
    preparation = method.preparation(linear)
    found = []
    for seed in seeds:
        parts = sky(seed)
        sample = preparation.finish(preparation.prepare(to_maps(parts["observed"], LAYOUT)))
        sample["target"] = to_maps(parts["truth"][None], LAYOUT)
        found.append({name: torch.from_numpy(value)[None] for name, value in sample.items()})
    return found


@pytest.mark.parametrize(("seeds", "within"), [(range(20), 0.15), (range(40, 70), 0.8)], ids=["seen", "unseen"])
def test_error_bars_are_right_before_training(linear, seeds, within):
    method = Residual(LAYOUT)
    method.learn_scales({}, linear)
    bars = ErrorBars(1)
    bars.learn(method, batches(method, linear, range(20)))
    z, sigma = [], []
    for batch in batches(method, linear, seeds):
        stated = bars(torch.zeros(1, 1, NPIX), method.brightness(batch))
        z.append((batch["local"] - batch["target"]) / stated)
        sigma.append(stated)
    z, sigma = torch.cat(z).flatten(), torch.cat(sigma).flatten()
    faint, _, _, bright = sigma.sort().values.chunk(4)
    assert bright.mean() > 1.5 * faint.mean()  # the Galaxy has its own
    for part in z[sigma.argsort()].chunk(4):
        assert part.square().mean().sqrt().item() == pytest.approx(1, abs=within)


def test_the_direct_method_s_error_bars_are_those_of_its_start(linear):
    method = Direct(LAYOUT, "standard")
    skies = batches(method, linear, range(4))
    method.learn_pixels(lambda: skies)
    bars = ErrorBars(1)
    bars.learn(method, skies)
    stated = bars(torch.zeros(1, 1, NPIX), method.brightness(skies[0]))
    rms = torch.cat([sky["target"] for sky in skies]).std().item()
    assert stated.min().item() == pytest.approx(rms, rel=0.05) and stated.max().item() == pytest.approx(rms, rel=0.05)


def test_typical_errors_follow_the_brightness_and_end_with_it():
    bars = ErrorBars(2)

    class Power:
        network_channels = (1, 2)

        def brightness(self, batch):
            return batch["brightness"]

        def cleaned(self, outputs, batch):
            return batch["target"] + batch["brightness"] ** batch["power"] * torch.randn(batch["target"].shape)

    torch.manual_seed(0)
    batch = {"brightness": torch.randn(1, 2, 60000).exp(), "target": torch.randn(1, 2, 60000)}
    batch["power"] = torch.tensor([[[0.0], [1.0]]])
    bars.learn(Power(), [batch])
    brightness = torch.tensor([[[1e-9, 1.0, 3.0, 9.0], [0.4, 1.0, 3.0, 5.0]]])
    typical = bars.typical(brightness).exp()
    torch.testing.assert_close(typical[0, 0], torch.ones(4), atol=0.1, rtol=0)
    torch.testing.assert_close(typical[0, 1], brightness[0, 1], atol=0, rtol=0.2)
    assert bars.typical(brightness * 1e9)[0].isfinite().all()


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_error_bars_are_learned_where_the_input_tells_the_noise(beta):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 2))
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    loss = GaussianLikelihood(beta)
    for _ in range(400):
        signal, log = torch.rand(2, 1024, 1) * 2 - 1
        mean, raw = network(torch.cat([signal, log], 1)).unbind(1)
        cost = loss(mean, signal[:, 0] + log[:, 0].exp() * torch.randn(1024), raw.exp())
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    log = torch.tensor([-0.8, 0.0, 0.8])
    with torch.no_grad():
        mean, raw = network(torch.stack([torch.full((3,), 0.5), log], 1)).unbind(1)
    torch.testing.assert_close(raw.exp(), log.exp(), rtol=0.15, atol=0)
    torch.testing.assert_close(mean, torch.full((3,), 0.5), rtol=0, atol=0.2)


def test_random_passes_join_their_spread_with_what_they_state():
    torch.manual_seed(0)
    maps, sigma = 1000 + torch.randn(7, 2, 1, 50) * 0.01, torch.rand(7, 2, 1, 50) * 0.02
    mean, joined = predictive(Cleaned(*both) for both in zip(maps, sigma, strict=True))
    torch.testing.assert_close(mean, maps.mean(0))
    expected = (sigma.double() ** 2).mean(0) + maps.double().var(0, correction=0)
    torch.testing.assert_close(joined.double(), expected.sqrt(), rtol=1e-2, atol=1e-4)
    spread = predictive(Cleaned(m) for m in maps).sigma
    torch.testing.assert_close(spread.double(), maps.double().std(0, correction=0), rtol=1e-2, atol=1e-4)
    assert predictive([Cleaned(maps[0])]).sigma is None
    torch.testing.assert_close(predictive([Cleaned(maps[0], sigma[0])]).sigma, sigma[0])


def ready(linear, **options) -> tuple[CleaningTask, dict[str, torch.Tensor]]:
    task = CleaningTask(LAYOUT, regions=4, **options)
    task.linear.load_state_dict(linear.state_dict())
    skies = batches(task.method, linear, range(2))
    extremes = {"inputs": (-np.ones(4), np.ones(4)), "target": (-np.ones(1), np.ones(1))}
    task.method.learn_scales(extremes, task.linear)
    task.method.learn_pixels(lambda: skies)
    if task.error_bars is not None:
        task.error_bars.learn(task.method, skies)
    return task, {name: torch.cat([sky[name] for sky in skies]) for name in skies[0]}


@pytest.mark.parametrize("method", [Residual, lambda layout: Direct(layout, "robust")], ids=["residual", "direct"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_any_network_states_error_bars_by_either_method(linear, network, method):
    torch.manual_seed(0)
    task, batch = ready(linear, network=network, method=method, loss=GaussianLikelihood)
    task.train()
    loss = task._loss(task.clean(batch), batch["target"])
    loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in task.parameters())
    task.eval()
    with torch.no_grad():
        maps, sigma = task.clean(batch)
    assert maps.shape == sigma.shape == batch["target"].shape and (sigma > 0).all()


def test_without_a_likelihood_nothing_is_stated_but_by_random_passes(linear):
    task, batch = ready(linear, network=NETWORKS["healpix"])
    assert task.clean(batch).sigma is None
    assert not [name for name in task.state_dict() if name.startswith("error_bars")]
    task, batch = ready(
        linear,
        network=lambda *a: MonteCarloDropout(
            *a, network=lambda *b: HealpixUNet(*b, width=4, zero_init=False), passes=5
        ),
    )
    task.eval()
    with torch.no_grad():
        torch.manual_seed(1)
        maps, sigma = task.clean(batch)
        torch.manual_seed(1)
        passes = [task.method.cleaned(task.network.draw(task.method.inputs(batch)), batch) for _ in range(5)]
    np.testing.assert_allclose(maps, torch.stack(passes).mean(0), rtol=0, atol=1e-2)
    np.testing.assert_allclose(sigma, torch.stack(passes).double().std(0, correction=0), rtol=1e-2, atol=1e-2)
