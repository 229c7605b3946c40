"""Isotropic convolutions, against explicit sums over healpy's neighbours and the ordinary convolution."""

from unittest import mock

import healpy as hp
import numpy as np
import pytest
import torch

from cmb_lightning.sphere import Faces, IsotropicConv2d, ReachingConv2d

from .test_padding import STEPS

EACH = pytest.mark.parametrize("kind", [IsotropicConv2d, ReachingConv2d])


def as_on_a_gpu(conv: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What a convolution does there, and compiled, where it has no sparse matrices."""
    with mock.patch("torch.compiler.is_compiling", lambda: True):
        return conv(images)


def test_every_pixel_sums_over_its_rings():
    nside = 8
    conv, faces = IsotropicConv2d(1, 1, nside).double(), Faces(nside)
    values = torch.randn(12 * nside**2, dtype=torch.float64)
    result = faces.unfold(conv(faces.fold(values[None, None])))[0, 0]

    middle, edge, corner = conv.weight[0, 0]
    neighbours = torch.from_numpy(hp.get_all_neighbours(nside, np.arange(12 * nside**2), nest=True))
    expected = middle * values
    for direction, step in enumerate(STEPS):
        found = neighbours[direction]
        beside = (values[neighbours[direction - 1]] + values[neighbours[(direction + 1) % 8]]) / 2
        expected = expected + (edge if 0 in step else corner) * torch.where(found >= 0, values[found], beside)
    torch.testing.assert_close(result, expected)


@EACH
@pytest.mark.parametrize("nside", [1, 2, 4])
def test_products_with_a_table_are_what_padded_images_give_and_so_are_their_gradients(kind, nside):
    torch.manual_seed(0)
    conv, images = kind(3, 5, nside).double(), torch.randn(24, 3, nside, nside, dtype=torch.float64)
    images.requires_grad_()
    ways = [conv(images), as_on_a_gpu(conv, images)]
    gradients = [torch.autograd.grad(way.sin().sum(), (images, conv.weight)) for way in ways]
    torch.testing.assert_close(*ways)
    torch.testing.assert_close(*gradients)


@EACH
def test_gradients_are_those_of_differences(kind):
    conv = kind(2, 1, 2).double()
    images = torch.randn(12, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda images, _: conv(images), (images, conv.weight))


def test_in_bfloat16_it_is_the_ordinary_convolution_within_rounding():
    torch.manual_seed(0)
    conv, images = IsotropicConv2d(20, 10, 4), torch.randn(12, 20, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        ways = conv(images), as_on_a_gpu(conv, images)
    assert {way.dtype for way in ways} == {torch.bfloat16}
    exact = conv(images)
    assert all(0 < (way - exact).std() < 0.01 * exact.std() for way in ways)


def test_rings_start_with_as_much_each_and_keep_what_relu_leaves_of_white_noise():
    torch.manual_seed(0)
    conv, noise = IsotropicConv2d(300, 400, 8), torch.randn(12, 300, 8, 8)
    rings = conv.weight.square().mean((0, 1)) * torch.tensor([1, 4, 4])
    torch.testing.assert_close(rings, rings.mean().expand(3), rtol=0.02, atol=0)
    half = noise.relu() * torch.randn(noise.shape).sign()  # its mean square, without its mean
    assert conv(half).square().mean().item() == pytest.approx(1, rel=0.05)


def test_a_reaching_kernel_is_a_polynomial_of_the_mean_over_the_neighbours():
    nside = 8
    conv, faces = ReachingConv2d(1, 1, nside).double(), Faces(nside)
    values = torch.randn(12 * nside**2, dtype=torch.float64)
    result = faces.unfold(conv(faces.fold(values[None, None])))[0, 0]

    neighbours = torch.from_numpy(hp.get_all_neighbours(nside, np.arange(12 * nside**2), nest=True))

    def mean(values: torch.Tensor) -> torch.Tensor:
        beside = (values[neighbours.roll(1, 0)] + values[neighbours.roll(-1, 0)]) / 2
        return torch.where(neighbours >= 0, values[neighbours], beside).mean(0)

    zeroth, first, second = conv.weight[0, 0]
    expected = zeroth * values + first * mean(values) + second * (2 * mean(mean(values)) - values)
    torch.testing.assert_close(result, expected)


def test_a_reaching_kernel_in_bfloat16_is_itself_within_rounding():
    torch.manual_seed(0)
    conv, images = ReachingConv2d(20, 10, 4), torch.randn(12, 20, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = conv(images)
    exact = conv(images)
    assert rounded.dtype == torch.bfloat16
    assert 0 < (rounded - exact).std() < 0.01 * exact.std()


@pytest.mark.parametrize("kind", [IsotropicConv2d, ReachingConv2d])
@pytest.mark.parametrize("out_channels", [1, 3, 20])
def test_in_parts_it_is_the_same(kind, out_channels):
    conv, images = kind(3, out_channels, 4).double(), torch.randn(24, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        whole = conv(images)
        torch.testing.assert_close(conv.in_parts(images), whole)
