"""Polarised maps, which are cleaned as T, E and B."""

import healpy
import numpy as np
import pytest
import torch
from torch import nn

from cmb_lightning.cleaning.classical import PixelILC
from cmb_lightning.cleaning.each_field import each_field
from cmb_lightning.cleaning.fields import scalar_extremes
from cmb_lightning.cleaning.fitted import Known
from cmb_lightning.cleaning.joint import Joint, TrainedFields
from cmb_lightning.cleaning.local_fit import shapes
from cmb_lightning.cleaning.methods import Direct, Residual
from cmb_lightning.cleaning.preparation import field_harmonics, harmonics, to_fields, to_scalars
from cmb_lightning.cleaning.trained_linear import TrainedLinear
from tests.cleaning.polarised_toy import LMAX, NSIDE, layout, observed, sky

FIELDS = ("QU", "IQU")


@pytest.fixture(scope="module", params=FIELDS)
def fields(request):
    return request.param


@pytest.fixture(scope="module")
def linear(fields) -> TrainedFields:
    made = TrainedFields(layout(fields), regions=3)
    none = {"gain": np.zeros(len(layout(fields).channels), np.float32)}
    made.store(made.fit(Known(lambda: (none | sky(seed, fields) for seed in range(8)), layout(fields), hedge=0.1)))
    return made


class RandomNet(nn.Module):
    """Any network at all: it mixes fields, channels and neighbours without restraint."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(inside, outside, 7, padding=3)

    def forward(self, x):
        return torch.sin(self.mix(x))


def joint(linear: TrainedFields) -> Joint:
    method = Joint(linear.layout, Residual)
    method.learn_scales({}, linear)
    preparation, fields = method.preparation(linear), "".join(linear.layout.fields)
    sample = preparation.finish(preparation.prepare(observed(1, fields)))
    sample["target"] = preparation.target(sky(1, fields)["target"])
    method.learn_pixels(lambda: [{name: torch.from_numpy(value)[None] for name, value in sample.items()}])
    return method


def clean(
    method: Joint, linear: TrainedFields, network, maps: np.ndarray, whole: np.ndarray | None = None
) -> np.ndarray:
    """I, E and B, shape (field, npix); with the weights of `whole`, where it is given."""
    preparation = method.preparation(linear)
    prepared = preparation.prepare(maps)
    if whole is None:
        sample = preparation.finish(prepared)
    else:
        sample = preparation.finish_half(prepared, preparation.prepare(whole))
    with torch.no_grad():
        return method(network, {name: torch.from_numpy(value)[None] for name, value in sample.items()})[0].numpy()


def healpy_scalars(maps: np.ndarray) -> np.ndarray:
    """E and B, NESTED, of Q and U."""
    ring = healpy.reorder(np.concatenate([0 * maps[:1], maps[-2:]]).astype(float), n2r=True)
    alm = healpy.map2alm(ring, lmax=LMAX, pol=True, iter=5)
    return np.stack([healpy.reorder(healpy.alm2map(one, NSIDE, lmax=LMAX), r2n=True) for one in alm[1:]])


def test_a_field_alone_has_its_own_channels():
    whole = layout("IQU")
    assert whole.scalars == ("I", "E", "B")
    assert whole.only("I").channels == ("a_I", "b_I", "c_I", "d_I")
    assert whole.only("Q").channels == ("a_Q", "b_Q", "c_Q")
    assert whole.only("U").fwhm == (700.0, 600.0, 500.0) and whole.only("U").fields == ("U",)
    assert layout("I").only("I") == layout("I")


def test_e_and_b_are_those_of_healpy_and_lead_back(fields):
    truth = sky(5, fields)["target"]
    scalars = to_scalars(truth, layout(fields))
    np.testing.assert_allclose(scalars[-2:], healpy_scalars(truth), atol=2e-4 * truth[-2:].std())
    np.testing.assert_allclose(to_fields(scalars, layout(fields)), truth, atol=5e-4 * truth[-1].std())


def test_harmonics_are_in_the_rows_of_their_fields():
    maps = observed(5, "IQU")
    alm = harmonics(maps, layout("IQU"))
    ring = healpy.reorder(maps[3:6].astype(float), n2r=True)
    ring[0] -= ring[0].mean()
    expected = healpy.map2alm(ring, lmax=LMAX, pol=True, iter=3)
    np.testing.assert_allclose(alm[3:6], expected, atol=1e-4 * np.abs(expected).max())


def test_an_offset_of_q_is_no_monopole():
    """It has E modes, which must not be lost on the way."""
    maps = np.zeros((2, 12 * NSIDE**2), np.float32)
    maps[0] = 3.0
    np.testing.assert_allclose(to_scalars(maps, layout("QU")), healpy_scalars(maps), atol=1e-3)


def test_whatever_the_network_the_cmb_passes_in_every_field(linear, fields):
    """With the weights of one sky: those of E and B follow it."""
    torch.manual_seed(0)
    method = joint(linear)
    network = RandomNet(*method.network_channels)
    maps, other = observed(11, fields), sky(12, fields)
    before, after = (clean(method, linear, network, one, maps) for one in (maps, maps + other["cmb"]))
    assert (before - to_scalars(sky(11, fields)["target"], layout(fields))).std(axis=1).min() > 0.1
    truth = np.concatenate([to_scalars(other["target"], layout(fields))[:-2], healpy_scalars(other["target"])])
    left = (after - before - truth).std(axis=1)
    assert (left < 1e-3 * truth.std(axis=1)).all()
    assert (np.std(to_fields(after - before, layout(fields)) - other["target"], axis=1) < 1e-3 * truth.std()).all()


@pytest.mark.parametrize("fields", ["IQU"], indirect=True, scope="module")
def test_whatever_the_network_the_cmb_passes_in_t_though_weights_are_the_sky_s_own(linear, fields):
    """Its weights follow from differences alone, and no other field sees it."""
    torch.manual_seed(0)
    method = joint(linear)
    network = RandomNet(*method.network_channels)
    maps, other = observed(11, fields), sky(12, fields)
    with_cmb = maps.copy()
    with_cmb[layout(fields).rows("I")] += other["cmb"][layout(fields).rows("I")]
    before, after = (clean(method, linear, network, one) for one in (maps, with_cmb))
    assert (after - before - other["target"])[0].std() < 1e-3 * other["target"][0].std()
    assert np.abs(after - before)[1:].max() < 1e-3 * other["target"][0].std()


def test_a_network_that_says_nothing_leaves_each_field_s_own_estimate(linear, fields):
    method, maps = joint(linear), observed(11, fields)
    cleaned = clean(method, linear, lambda x: x.new_zeros(len(x), method.network_channels[1], x.shape[-1]), maps)
    alm = harmonics(maps, layout(fields))
    for row, field in enumerate(fields):
        own = linear[field].local()(alm[layout(fields).rows(field)])[0]
        expected = healpy.reorder(healpy.alm2map(own.astype(complex), NSIDE, lmax=LMAX), r2n=True)
        np.testing.assert_allclose(cleaned[row], expected, atol=1e-3 * expected.std())


def test_a_field_is_what_it_would_be_alone(linear, fields):
    """Each field's share of the network's inputs and outputs is that of the method for that field."""
    method, maps = joint(linear), observed(11, fields)
    preparation = method.preparation(linear)
    sample = preparation.finish(preparation.prepare(maps))
    batch = {name: torch.from_numpy(value)[None] for name, value in sample.items()}
    inputs = method.inputs(batch)
    outputs = torch.randn(1, method.network_channels[1], maps.shape[-1])
    cleaned, seen, said = method.cleaned(outputs, batch), 0, 0
    assert inputs.shape[1] == method.network_channels[0]
    for row, field in enumerate(fields):
        alone = Residual(layout(fields).only(field))
        alone.load_state_dict(method.parts[field].state_dict())
        own = alone.preparation(linear[field])
        alm = preparation.prepare(maps)[layout(fields).rows(field)]
        one = {name: torch.from_numpy(value)[None] for name, value in own.finish(alm).items()}
        count, more = alone.network_channels
        torch.testing.assert_close(inputs[:, seen : seen + count], alone.inputs(one))
        torch.testing.assert_close(cleaned[:, row : row + 1], alone.cleaned(outputs[:, said : said + more], one))
        assert method.unit[row].item() == alone.unit.item()
        seen, said = seen + count, said + more


def test_preparing_before_mixing_is_preparing_after(linear, fields):
    preparation = joint(linear).preparation(linear)
    parts = sky(3, fields)
    apart = sum(preparation.prepare(parts[name]) for name in ("cmb", "foregrounds", "noise"))
    together = preparation.prepare(observed(3, fields))
    assert np.abs(apart - together).max() < 1e-5 * np.abs(together).max()


def test_weights_travel_in_the_state(linear, fields):
    copy = TrainedFields(layout(fields), regions=3)
    with pytest.raises(RuntimeError, match="ckpt_path"):
        copy.estimate()
    copy.load_state_dict(linear.state_dict())
    alm = harmonics(observed(5, fields), layout(fields))
    np.testing.assert_array_equal(copy.estimate()(alm), linear.estimate()(alm))


def test_trained_weights_beat_blind_ones_in_every_field(linear, fields):
    errors = {"trained": [], "blind": []}
    for seed in range(20, 24):
        alm = harmonics(observed(seed, fields), layout(fields))
        truth = field_harmonics(sky(seed, fields)["target"], fields, LMAX)
        for name, found in (
            ("trained", linear.estimate()(alm)),
            ("blind", each_field(PixelILC, layout(fields))(alm)),
        ):
            errors[name].append([np.linalg.norm(one) for one in found - truth])
    assert (np.mean(errors["trained"], axis=0) < np.mean(errors["blind"], axis=0)).all()


def test_the_direct_method_sees_e_and_b_scaled_by_their_own_extremes():
    whole = layout("QU")
    method = Joint(whole, Direct)
    preparation = method.preparation(None)
    sample = preparation.finish(preparation.prepare(observed(4, "QU")))
    target = preparation.target(sky(4, "QU")["target"])
    extremes = scalar_extremes([sky(4, "QU")], whole)
    method.learn_scales(extremes, None)
    np.testing.assert_allclose(extremes["target"][1], target.max(axis=1), rtol=1e-6)
    batch = {"inputs": torch.from_numpy(sample["inputs"])[None]}
    inputs = method.inputs(batch)
    assert inputs.shape[1] == 8 and inputs.min().item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(inputs.amax(dim=2), torch.ones(1, 8))
    np.testing.assert_allclose(sample["inputs"][1::4], healpy_scalars(observed(4, "QU")[2:4]), atol=1e-2)
    cleaned = method.cleaned(torch.ones(1, 2, 12 * NSIDE**2), batch)[0]
    torch.testing.assert_close(cleaned[:, 0], torch.from_numpy(target.max(axis=1)))


def test_the_names_in_a_checkpoint_are_those_of_its_format():
    """Other names need another `checkpointing.FORMAT`."""
    names = {"weights", "levels", "pair", "error"}
    names |= {f"local_{name}" for name in shapes(4, 4)}
    assert set(TrainedLinear(layout("I")).state_dict()) == names
    assert {name.partition(".")[0] for name in TrainedFields(layout("QU")).state_dict()} == {"Q", "U"}
