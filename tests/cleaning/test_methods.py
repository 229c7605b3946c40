from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from cmb_lightning.cleaning import contradiction, methods
from cmb_lightning.cleaning.methods import DOUBT, Direct, Method, Residual
from cmb_lightning.cleaning.preparation import to_maps
from cmb_lightning.cleaning.task import CleaningTask
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from cmb_lightning.data.layout import Layout
from cmb_lightning.errors import ConfigError
from tests.cleaning.toy import LAYOUT, sky, trained


class RandomNet(nn.Module):
    """Any network at all: here one that mixes channels and neighbours without restraint."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.mix = nn.Conv1d(*method.network_channels, 7, padding=3)

    def forward(self, x):
        return torch.sin(self.mix(x))


@pytest.fixture(scope="module")
def linear() -> TrainedLinear:
    return trained()


def prepared(method, linear, maps: np.ndarray) -> dict[str, torch.Tensor]:
    preparation = method.preparation(linear)
    sample = preparation.finish(preparation.prepare(maps))
    return {name: torch.from_numpy(value)[None] for name, value in sample.items()}


def clean(method, linear, network, observed: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return method(network, prepared(method, linear, to_maps(observed, LAYOUT)))


def residual(linear) -> Residual:
    method = Residual(LAYOUT)
    method.learn_scales({}, linear)
    method.learn_pixels(lambda: (prepared(method, linear, to_maps(sky(seed)["observed"], LAYOUT)) for seed in (1, 2)))
    return method


def test_whatever_the_network_the_cmb_passes_the_residual_method(linear):
    torch.manual_seed(0)
    method = residual(linear)
    network = RandomNet(method)
    parts, other = sky(11), sky(12)
    before = clean(method, linear, network, parts["observed"])
    response = clean(method, linear, network, parts["observed"] + other["cmb"]) - before
    truth = torch.from_numpy(to_maps(other["truth"][None], LAYOUT))[None]
    assert float((response - truth).std()) < 1e-3 * float(truth.std())
    alone = torch.from_numpy(to_maps(linear.local()(parts["observed"])[0][None], LAYOUT))[None]
    assert float((before - alone).std()) > 0.1 * float(method.error)  # it says something


def test_a_network_sees_templates_of_all_modes_but_the_second_and_changes_each(linear):
    method = residual(linear)
    batch = prepared(method, linear, to_maps(sky(3)["observed"], LAYOUT))
    before, modes = method.inputs(batch), len(LAYOUT.channels) - 1
    outputs = torch.zeros(1, method.network_channels[1], before.shape[-1])
    cleaned = method.cleaned(outputs, batch)
    assert 1 < modes < method.input_rows and before.shape[1] == method.network_channels[0]
    for row in range(method.input_rows):
        other = batch["templates"].clone()
        other[:, row] += float(method.error)
        changed = (method.inputs(batch | {"templates": other}) != before).any(dim=2).sum()
        assert changed == (row % modes != 1)
        assert not torch.equal(method.cleaned(outputs.index_fill(1, torch.tensor(row), 1), batch), cleaned)


def test_training_doubts_templates_one_by_one(linear):
    """Fractions that leave nothing together, because the templates cancel, leave something while the network learns."""
    method = residual(linear)
    templates = torch.zeros(1, method.input_rows, 2)
    templates[0, :2] = torch.tensor([[4.0, 2.0], [-4.0, -2.0]]) * method.error
    batch = {"inputs": templates, "templates": templates, "local": torch.zeros(1, 1, 2)}
    outputs = torch.zeros(1, method.network_channels[1], 2)
    outputs[:, :2] = 1
    assert not method.cleaned(outputs, batch).any()
    many = {name: values.expand(400, -1, -1) for name, values in batch.items()} | {"key": torch.arange(400)}
    left = method.cleaned(outputs, many)
    assert torch.equal(method.cleaned(outputs, {name: values[7:9] for name, values in many.items()}), left[7:9])
    compressed = 2 * ((1 + torch.tensor([4.0, 2.0])).sqrt() - 1) * method.error
    assert torch.allclose(left.std(0)[0], 2**0.5 * DOUBT * compressed, rtol=0.1)


@pytest.mark.parametrize("field", ["I", "Q", "U"])
def test_in_e_and_b_a_trained_network_does_no_harm_that_the_sky_shows(linear, field, monkeypatch):
    """It subtracts what there is, in the first sky, and what there is not, in the second; while it learns, it may."""
    monkeypatch.setattr(contradiction, "FIRST", 2)  # the toy ends at l = 32
    rename = tuple(name.replace("I", field) for name in LAYOUT.channels)
    method = Residual(replace(LAYOUT, channels=rename, fields=(field,)))
    method.load_state_dict(residual(linear).state_dict())
    parts = sky(11)
    truth, wrong = (torch.from_numpy(to_maps(alm[None], LAYOUT)) for alm in (parts["truth"], sky(12)["truth"]))
    local = torch.stack([truth + wrong, truth])
    empty = torch.zeros(2, method.input_rows, local.shape[-1])
    outputs = torch.cat([empty, wrong.expand(2, 1, -1) / method.error], dim=1)
    batch = {"inputs": empty, "templates": empty, "local": local}
    learning, (there, absent) = method.train().cleaned(outputs, batch), method.eval().cleaned(outputs, batch)
    assert torch.allclose(learning[0], truth, atol=1e-3) and torch.allclose(learning[1], truth - wrong, atol=1e-3)
    size = float(wrong.std())
    if field == "I":
        assert torch.equal(there, learning[0]) and torch.equal(absent, learning[1])
    else:
        assert float((there - truth).std()) < 0.1 * size and float((absent - truth).std()) < 0.3 * size


def test_large_maps_are_worked_on_by_row(linear, monkeypatch):
    torch.manual_seed(0)
    method = residual(linear)
    network, batch = RandomNet(method), prepared(method, linear, to_maps(sky(11)["observed"], LAYOUT))
    with torch.no_grad():
        usual = method(network, batch)
        monkeypatch.setattr(methods, "BLOCK", 1)
        torch.testing.assert_close(method(network, batch), usual, rtol=1e-5, atol=1e-4)


def test_an_offset_in_a_band_changes_nothing(linear):
    torch.manual_seed(0)
    method = residual(linear)
    network = RandomNet(method)
    maps = to_maps(sky(11)["observed"], LAYOUT)
    outputs = []
    for offset in (0.0, 1000.0):
        shifted = maps + np.float32(offset) * np.eye(len(maps), dtype=np.float32)[2][:, None]
        with torch.no_grad():
            outputs.append(method(network, prepared(method, linear, shifted)))
    assert float((outputs[1] - outputs[0]).abs().max()) < 2e-3 * float(outputs[0].std())


def test_a_network_that_says_nothing_leaves_the_local_estimate(linear):
    parts, method = sky(11), residual(linear)

    def silent(x):
        return torch.zeros(len(x), method.network_channels[1], x.shape[-1])

    cleaned = clean(method, linear, silent, parts["observed"])
    expected = to_maps(linear.local()(parts["observed"])[0][None], LAYOUT)
    np.testing.assert_allclose(cleaned[0].numpy(), expected, atol=1e-3 * expected.std())


def test_weights_travel_in_the_state(linear):
    copy = TrainedLinear(LAYOUT, regions=4)
    assert not copy.ready
    with pytest.raises(RuntimeError, match="ckpt_path"):
        copy.estimate()
    copy.load_state_dict(linear.state_dict())
    observed = sky(5)["observed"]
    np.testing.assert_array_equal(copy.estimate()(observed), linear.estimate()(observed))
    np.testing.assert_array_equal(copy.local()(observed)[0], linear.local()(observed)[0])


def test_direct_scales_to_the_unit_range_and_back():
    method = Direct(LAYOUT)
    low, high = np.array([-2.0, 0, 1, 5]), np.array([2.0, 10, 3, 5])  # the last channel is constant
    method.learn_scales({"inputs": (low, high), "target": (np.array([-100.0]), np.array([300.0]))}, None)
    inputs = torch.tensor([[[-2.0, 2.0], [0, 10], [1, 3], [5, 5]]])
    seen = {}

    def network(x):
        seen["x"] = x
        return torch.tensor([[[0.0, 1.0]]])

    out = method(network, {"inputs": inputs})
    torch.testing.assert_close(seen["x"], torch.tensor([[[0.0, 1], [0, 1], [0, 1], [0, 0]]]))
    torch.testing.assert_close(out, torch.tensor([[[-100.0, 300.0]]]))


@pytest.mark.parametrize("scaling", ["standard", "robust", "asinh"])
def test_direct_scales_by_what_training_skies_are_like(scaling):
    rng = np.random.default_rng(0)
    inputs, target = rng.normal(50, 3, (5, 4, 3072)), rng.normal(-7, 100, (5, 1, 3072))
    inputs[:, 1, :30] = 1e6  # a Galaxy, which the median does not see
    samples = [{"inputs": torch.tensor(i)[None].float(), "target": torch.tensor(t)[None].float()}
               for i, t in zip(inputs, target, strict=True)]  # fmt: skip
    method = Direct(LAYOUT, scaling)
    method.learn_pixels(lambda: iter(samples))
    rows = np.moveaxis(inputs, 0, 1).reshape(4, -1)
    if scaling == "standard":
        expected = (inputs - rows.mean(1)[:, None]) / rows.std(1)[:, None]
    else:
        median = np.median(rows, axis=1)[:, None]
        expected = (inputs - median) / scipy.stats.median_abs_deviation(rows, axis=1, scale="normal")[:, None]
    expected = np.arcsinh(expected) if scaling == "asinh" else expected
    np.testing.assert_allclose(method.inputs(samples[2])[0], expected[2], rtol=1e-3, atol=1e-3)
    cleaned = method.cleaned(torch.tensor([[[0.0, 1.0]]]), {}).numpy().ravel()
    np.testing.assert_allclose(cleaned, [-7, 93], atol=3)  # from a mean of 0 and a deviation of 1
    assert method.unit.item() == pytest.approx(100, rel=0.03)


@pytest.mark.parametrize(
    "layout",
    [
        Layout(8, 16, ("a_I",), (900.0,), ("I",), 900.0),
        Layout(8, 16, ("a_I", "a_Q", "a_U"), (900.0,) * 3, ("I", "Q", "U"), 900.0),
    ],
)
def test_residual_says_which_maps_it_is_for(layout):
    with pytest.raises(ConfigError, match="Residual compares two or more bands of each field"):
        CleaningTask(layout)
