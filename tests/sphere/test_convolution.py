"""Convolutions across face edges, against explicit sums over healpy's neighbours."""

import healpy as hp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cmb_lightning.sphere import Faces, HealpixConv2d

from .test_padding import STEPS


def test_every_pixel_sums_over_its_true_neighbours_in_its_own_faces_orientation():
    nside = 8
    conv = HealpixConv2d(1, 1, nside, bias=False).double()
    faces = Faces(nside)
    values = torch.randn(12 * nside**2, dtype=torch.float64)
    result = faces.unfold(conv(faces.fold(values[None, None])))[0, 0]

    kernel = conv.conv.weight[0, 0]
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


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size=4"):
        HealpixConv2d(1, 1, 8, kernel_size=4)
