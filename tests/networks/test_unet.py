"""The project's own networks: their symmetries, seams, precision and size."""

from collections.abc import Callable

import healpy as hp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cmb_lightning.networks import HealpixUNet, IsotropicUNet, unet
from cmb_lightning.networks.bayesian import LAYERS
from cmb_lightning.networks.isotropic import ConvLayer, SkyNorm
from cmb_lightning.profiling import zero_padded
from cmb_lightning.sphere import Faces, HealpixPad
from tests.networks.live import LiveNumbers


def near(*sizes: int, **options) -> IsotropicUNet:
    """The isotropic network whose kernels reach one pixel far."""
    return IsotropicUNet(*sizes, reach=1, **options)


EACH = pytest.mark.parametrize("kind", [HealpixUNet, IsotropicUNet, near])


def small(kind: Callable[..., nn.Module], nside: int = 8, **sizes) -> HealpixUNet | IsotropicUNet:
    """A network with random weights, as for evaluation."""
    torch.manual_seed(0)
    return kind(3, 2, nside, **{"width": 8, "max_width": 16, "depth": 2, "zero_init": False, **sizes}).eval()


MOVES = {
    "turned": lambda theta, phi: (theta, phi - np.pi / 2),
    "mirrored at a meridian": lambda theta, phi: (theta, -phi),
    "mirrored at the equator": lambda theta, phi: (np.pi - theta, phi),
}


def moved(maps: torch.Tensor, nside: int, move: str) -> torch.Tensor:
    """Maps turned by 90 degrees in longitude, or mirrored, by healpy's angles."""
    theta, phi = hp.pix2ang(nside, np.arange(12 * nside**2), nest=True)
    return maps[..., torch.from_numpy(hp.ang2pix(nside, *MOVES[move](theta, phi), nest=True))]


@EACH
@pytest.mark.parametrize("training", [False, True])
def test_shapes_and_a_batch_is_each_sky_by_itself(kind, training):
    network = small(kind)
    maps = torch.randn(2, 3, 768) * torch.tensor([1, 3])[:, None, None]
    result = network(maps)
    assert result.shape == (2, 2, 768)
    torch.testing.assert_close(result[1:], network.train(training)(maps[1:]))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_norm_is_instance_norm_of_the_sphere(memory_format):
    torch.manual_seed(0)
    norm = SkyNorm(3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    maps = 5 + torch.randn(2, 3, 768) * torch.tensor([[1.0, 2, 3], [4, 5, 6]])[..., None]
    images = Faces(8).fold(maps).to(memory_format=memory_format)
    expected = Faces(8).fold(F.instance_norm(maps, weight=norm.weight, bias=norm.bias))
    torch.testing.assert_close(norm(images), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        norm.overwrite(images)
    torch.testing.assert_close(images, expected.relu(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "move"), [(HealpixUNet, "turned"), *((kind, move) for kind in (IsotropicUNet, near) for move in MOVES)]
)
def test_a_sky_turned_or_mirrored_gives_the_output_that_is(kind, move):
    network = small(kind).double()
    maps = torch.randn(1, 3, 768, dtype=torch.float64)
    result, elsewhere = network(maps), moved(maps, 8, move)
    assert result.std() > 0.01 and (elsewhere - maps).std() > 1
    torch.testing.assert_close(network(elsewhere), moved(result, 8, move), atol=1e-6, rtol=1e-5)


def test_square_kernels_have_a_direction():
    network, maps, move = small(HealpixUNet), torch.randn(1, 3, 768), "mirrored at a meridian"
    result = network(maps)
    assert (network(moved(maps, 8, move)) - moved(result, 8, move)).std() > 0.1 * result.std()


@EACH
@pytest.mark.parametrize(
    ("low", "high", "along"), [(4, 0, "x"), (4, 3, "y"), (11, 4, "x"), (8, 4, "y")], ids=lambda value: str(value)
)
def test_a_pattern_across_an_edge_gives_what_it_gives_inside_a_face(kind, low, high, along):
    """Two faces whose axes continue, laid side by side: the pattern on their edge, or moved into either of them."""
    nside, half, reach = 32, 16, 12  # nothing of the pattern arrives further out
    faces, network = Faces(nside), small(kind, nside, depth=0 if kind is IsotropicUNet else 1)
    for layer in network.modules():
        if isinstance(layer, ConvLayer):  # whose norm would see how many pixels have seven neighbours
            layer.norm = nn.BatchNorm2d(len(layer.norm.weight)).eval()
    pattern = torch.randn(3, 4, 4)

    def response(shift: int) -> torch.Tensor:
        images = torch.zeros(12, 3, nside, nside)
        both = torch.zeros(3, nside, 2 * nside)
        both[:, half - 2 : half + 2, nside + shift - 2 : nside + shift + 2] = pattern
        for face, part in ((low, both[..., :nside]), (high, both[..., nside:])):
            images[face] = part if along == "x" else part.transpose(1, 2)
        result = faces.fold(network(faces.unfold(images)))
        parts = [result[face] if along == "x" else result[face].transpose(1, 2) for face in (low, high)]
        centre = nside + shift
        return torch.cat(parts, dim=-1)[:, half - reach : half + reach, centre - reach : centre + reach]

    # Along y both axes are exchanged for both faces alike, so the three cases still see one and the same kernel.
    on_edge, before, after = response(0), response(-half), response(half)
    assert on_edge.std() > 0.01
    torch.testing.assert_close(on_edge, before, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(on_edge, after, atol=1e-6, rtol=1e-5)


@EACH
def test_the_output_is_float32_under_autocast(kind):
    with torch.autocast("cpu", torch.bfloat16):
        assert small(kind)(torch.randn(1, 3, 768)).dtype == torch.float32


@EACH
def test_every_parameter_is_trained(kind):
    network = small(kind).train()
    network(torch.randn(1, 3, 768)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


@EACH
def test_the_checkpoint_holds_what_was_learned_only(kind):
    network = small(kind)
    assert set(network.state_dict()) == set(dict(network.named_parameters()))


@pytest.mark.parametrize(("kind", "size"), [(HealpixUNet, 2_012_737), (IsotropicUNet, 492_481), (near, 492_481)])
def test_default_size(kind, size):
    assert sum(p.numel() for p in kind(9, 1, 64).parameters()) == size


@EACH
def test_it_can_be_copied_to_double_and_torch_saved(kind, tmp_path):
    network = small(kind).double()
    torch.save(network.state_dict(), tmp_path / "network.pt")
    network.load_state_dict(torch.load(tmp_path / "network.pt", weights_only=True))
    assert network(torch.randn(1, 3, 768, dtype=torch.float64)).shape == (1, 2, 768)


SIZES = [{"depth": 5}, {"width": 0}, {"width": 32, "max_width": 16}]


@pytest.mark.parametrize(
    ("kind", "sizes"), [*((k, s) for k in (HealpixUNet, IsotropicUNet) for s in SIZES), (HealpixUNet, {"blocks": 0})]
)
def test_impossible_sizes_are_refused(kind, sizes):
    with pytest.raises(ValueError, match=next(iter(sizes))):
        kind(3, 1, 16, **sizes)


@EACH
def test_it_need_not_go_down_at_all(kind):
    assert small(kind, depth=0)(torch.randn(1, 3, 768)).std() > 0.01


@EACH
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_large_maps_in_less_memory_are_the_same(monkeypatch, kind, precision):
    network, maps = small(kind), torch.randn(2, 3, 768)
    given = maps.clone()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        usual = network(maps)
        monkeypatch.setattr(unet, "LARGE", 0)
        result = network(maps)
    assert usual.abs().max() > 0.01
    if kind is not HealpixUNet and precision == torch.bfloat16:  # face by face it rounds at other places
        assert (result - usual).std() < 0.02 * usual.std()
    else:
        assert torch.allclose(result, usual, atol=1e-5)
    assert torch.equal(maps, given)
    network(maps).square().mean().backward()  # which needs what would be overwritten
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("kind", "layers"), [(HealpixUNet, 3), (IsotropicUNet, 5), (near, 3)])
def test_large_maps_take_the_memory_of_few_layers(monkeypatch, kind, layers):
    """They are what is kept for the way up, its padded copy and, on the next level, half as much.

    Kernels that reach two pixels far cannot overwrite what they see, and need something for means.
    """
    network, maps = kind(6, 2, 32, width=16, depth=2).eval(), torch.randn(1, 6, 12 * 32**2)
    layer = 16 * maps[0, 0].nbytes
    network(maps)  # which makes tables that stay
    taken = []
    for large in (unet.LARGE, 0):
        monkeypatch.setattr(unet, "LARGE", large)
        with torch.no_grad(), LiveNumbers() as live:
            network(maps)
        assert live.now == 0
        taken.append(live.most / layer)
    assert taken[1] < layers < taken[0] - 1


@EACH
def test_what_hooks_into_a_layer_sees_all_faces_also_of_large_maps(monkeypatch, kind):
    monkeypatch.setattr(unet, "LARGE", 0)
    network, seen = small(kind), []
    layers = [layer for layer in network.modules() if type(layer) in LAYERS]
    for layer in (layers[1], layers[-2]):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        network(torch.randn(2, 3, 768))
    assert seen == [24, 24]


@EACH
def test_the_floor_has_ordinary_convolutions_also_of_large_maps(monkeypatch, kind):
    network, maps = zero_padded(small(kind)), torch.randn(2, 3, 768)
    conv = network.bottom[0].first if kind is HealpixUNet else network.bottom[0].conv
    plain = conv.conv if kind is HealpixUNet else conv
    images = torch.randn(24, plain.in_channels, 4, 4)
    assert torch.equal(conv(images), F.conv2d(images, plain.weight, plain.bias, padding=1))
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 10 and {layer.padding for layer in convolutions} == {(1, 1)}
    assert not [layer for layer in network.modules() if isinstance(layer, HealpixPad)]
    with torch.no_grad():
        usual = network(maps)
        monkeypatch.setattr(unet, "LARGE", 0)
        assert torch.allclose(network(maps), usual, atol=1e-6)
