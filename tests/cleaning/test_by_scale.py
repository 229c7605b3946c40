import numpy as np
import pytest
import torch
from torch import nn

from cmb_lightning.cleaning.by_scale import ByScale
from cmb_lightning.cleaning.methods import Residual
from cmb_lightning.cleaning.preparation import to_maps
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from tests.cleaning.test_methods import clean
from tests.cleaning.toy import LAYOUT, sky, trained


@pytest.fixture(scope="module")
def linear() -> TrainedLinear:
    return trained()


@pytest.fixture
def method(linear) -> ByScale:
    torch.manual_seed(0)
    method = ByScale(LAYOUT).eval()
    method.learn_scales({}, linear)
    return method


class AnyNet(nn.Module):
    def __init__(self, method: ByScale) -> None:
        super().__init__()
        self.mix = nn.Conv1d(*method.network_channels, 7, padding=3)

    def forward(self, x):
        return torch.sin(self.mix(x))


def test_whatever_was_learned_the_cmb_passes(method, linear):
    network = AnyNet(method)
    parts, other = sky(11), sky(12)
    before = clean(method, linear, network, parts["observed"])
    response = clean(method, linear, network, parts["observed"] + other["cmb"]) - before
    truth = torch.from_numpy(to_maps(other["truth"][None], LAYOUT))[None]
    assert float((response - truth).std()) < 1e-3 * float(truth.std())
    alone = torch.from_numpy(to_maps(linear.local()(parts["observed"])[0][None], LAYOUT))[None]
    assert float((before - alone).std()) > 0.1 * float(method.error)  # something was learned


def test_silence_leaves_the_local_estimate(method, linear):
    cleaned = clean(
        method, linear, lambda x: torch.zeros(1, method.network_channels[1], x.shape[-1]), sky(11)["observed"]
    )
    expected = to_maps(linear.local()(sky(11)["observed"])[0][None], LAYOUT)
    np.testing.assert_allclose(cleaned[0].numpy(), expected, atol=1e-3 * expected.std())


def test_scales_add_up_to_the_templates_of_the_residual_method(method, linear):
    residual = Residual(LAYOUT)
    observed = to_maps(sky(11)["observed"], LAYOUT)
    mine, theirs = (one.preparation(linear) for one in (method, residual))
    parts, whole = mine.finish(mine.prepare(observed)), theirs.finish(theirs.prepare(observed))
    total = parts["templates"].reshape(-1, *whole["templates"].shape).sum(0)
    np.testing.assert_allclose(total, whole["templates"], atol=1e-4 * whole["templates"].std())
    np.testing.assert_array_equal(parts["local"], whole["local"])


def test_polarisation_is_refused():
    with pytest.raises(ConfigError, match="ByScale cleans temperature"):
        ByScale(Layout(8, 16, ("a_Q", "a_U", "b_Q", "b_U"), (900.0,) * 4, ("Q", "U"), 900.0))
