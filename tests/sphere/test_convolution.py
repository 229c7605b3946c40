"""Convolutions across face edges, against explicit sums over healpy's neighbours."""

import healpy as hp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cmb_lightning.sphere import Faces, HealpixConv2d

from .test_padding import STEPS


@pytest.mark.parametrize("isotropic", [False, True])
def test_every_pixel_sums_over_its_true_neighbours_in_its_own_faces_orientation(isotropic):
    nside = 8
    conv = HealpixConv2d(1, 1, nside, bias=False, isotropic=isotropic).double()
    faces = Faces(nside)
    values = torch.randn(12 * nside**2, dtype=torch.float64)
    result = faces.unfold(conv(faces.fold(values[None, None])))[0, 0]

    kernel = conv.conv.weight[0, 0]
    if isotropic:
        middle, edge, corner = kernel
        kernel = torch.stack([corner, edge, corner, edge, middle, edge, corner, edge, corner]).view(3, 3)
    neighbours = torch.from_numpy(hp.get_all_neighbours(nside, np.arange(12 * nside**2), nest=True))
    expected = kernel[1, 1] * values
    for direction, (dx, dy) in enumerate(STEPS):
        found = neighbours[direction]
        beside = (values[neighbours[direction - 1]] + values[neighbours[(direction + 1) % 8]]) / 2
        expected = expected + kernel[1 + dy, 1 + dx] * torch.where(found >= 0, values[found], beside)
    torch.testing.assert_close(result, expected)


def test_a_wide_kernel_is_two_narrow_ones_where_four_faces_meet():
    """With a kernel that has no orientation, also across the edges at which the axes turn."""
    nside = 8
    narrow = torch.tensor([[1.0, 2.0, 1.0], [2.0, 5.0, 2.0], [1.0, 2.0, 1.0]], dtype=torch.float64)
    wide = F.conv2d(narrow[None, None], narrow[None, None], padding=2)[0, 0]
    once, both = HealpixConv2d(1, 1, nside, 3, bias=False), HealpixConv2d(1, 1, nside, 5, bias=False)
    once.conv.weight = torch.nn.Parameter(narrow[None, None])
    both.conv.weight = torch.nn.Parameter(wide[None, None])
    images = torch.randn(12, 1, nside, nside, dtype=torch.float64)
    difference = (both(images) - once(once(images))).abs()[:, 0]

    corner = np.flatnonzero((hp.get_all_neighbours(nside, np.arange(12 * nside**2), nest=True) < 0).any(0))
    x, y, face = hp.pix2xyf(nside, corner, nest=True)
    for f, row, column in zip(face, y, x, strict=True):  # three faces meet here: the wide kernel sees other means
        rows, columns = (slice(max(c - 1, 0), c + 2) for c in (row, column))
        difference[f, rows, columns] = 0
    assert difference.max() < 1e-10


def test_each_ring_of_an_isotropic_kernel_starts_with_as_much_and_keeps_the_variance_of_white_noise_after_relu():
    torch.manual_seed(0)
    conv, images = HealpixConv2d(300, 400, 8, bias=False, isotropic=True), torch.randn(12, 300, 8, 8).relu()
    rings = conv.conv.weight.square().mean((0, 1)) * torch.tensor([1, 4, 4])
    torch.testing.assert_close(rings, rings.mean().expand(3), rtol=0.02, atol=0)
    noise = images * torch.randn(12, 300, 8, 8).sign()  # ReLU's, as He et al. take it: its square, no mean
    assert conv(noise).square().mean().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("kernel", [{"kernel_size": 4}, {"kernel_size": 5, "isotropic": True}])
def test_an_impossible_kernel_is_refused(kernel):
    with pytest.raises(ValueError, match=f"kernel_size={kernel['kernel_size']}"):
        HealpixConv2d(1, 1, 8, **kernel)
