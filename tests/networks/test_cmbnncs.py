"""CMBNNCS: its layout and its two networks."""

import healpy as hp
import numpy as np
import pytest
import torch

from cmb_lightning.networks import UNet5, UNet8
from cmb_lightning.networks.cmbnncs import flat_layout


def test_the_layout_holds_every_pixel_once():
    layout = flat_layout(8)
    assert layout.shape == (32, 24)
    assert sorted(layout.ravel()) == list(range(768))


def test_pixels_beside_each_other_in_a_row_are_neighbours_on_the_sphere():
    layout = flat_layout(8)
    north_east = hp.get_all_neighbours(8, layout[:, :-1].ravel(), nest=True)[4]
    np.testing.assert_array_equal(north_east, layout[:, 1:].ravel())


@pytest.mark.parametrize(("network", "size"), [(UNet5, 3_528_109), (UNet8, 56_638_435)])
def test_published_widths(network, size):
    with torch.device("meta"):
        built = network(9, 1, 512)
    convolutions = built.way_down
    assert [conv.out_channels for conv in (convolutions[0], convolutions[-1])] == (
        [32, 512] if size < 1e7 else [16, 2048]
    )
    assert all(conv.stride == (2, 2) for conv in convolutions)
    assert sum(p.numel() for p in built.parameters()) == size


@pytest.mark.parametrize(("network", "nside"), [(UNet5, 32), (UNet5, 8), (UNet8, 16)])
def test_shapes_also_where_the_image_cannot_be_halved_evenly(network, nside):
    built = network(3, 2, nside, width=2)
    assert built(torch.randn(2, 3, 12 * nside**2)).shape == (2, 2, 12 * nside**2)


def test_the_output_lies_where_the_input_does():
    """A change in one pixel changes the output most around that pixel of the sphere."""
    network = UNet5(1, 1, 32, width=4, zero_init=False).eval()
    pixel = 5000
    maps = torch.zeros(2, 1, 12 * 32**2)
    maps[1, 0, pixel] = 100
    with torch.no_grad():
        result = network(maps)[:, 0]
    change = (result[1] - result[0]).abs().double().numpy()
    direction = np.array(hp.pix2vec(32, np.arange(12 * 32**2), nest=True))
    centre = direction @ (change**2)
    assert np.degrees(np.arccos(centre @ direction[:, pixel] / np.linalg.norm(centre))) < 20


@pytest.mark.parametrize("width", [3, 4, 6])
def test_gradients_in_bfloat16_are_right_where_images_are_one_pixel_wide(width):
    """As torch alone would not make them on a processor: noise of any size, where memory held some before."""
    torch.manual_seed(0)
    network, maps = UNet8(3, 1, 16, width=width, zero_init=False), torch.randn(2, 3, 12 * 16**2)
    with torch.autocast("cpu", torch.bfloat16):
        result = network(maps)
    held = [torch.full((size << 10,), torch.nan) for size in (64, 256, 1024)]
    del held
    result.float().square().mean().backward()
    gradients = [conv.weight.grad.abs().max() for conv in (*network.way_down, *network.way_up)]
    assert all(0 < gradient < 1e3 for gradient in gradients)
