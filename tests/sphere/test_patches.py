"""Patches of the sky: where they lie, against healpy, and how they are put together again."""

import healpy as hp
import numpy as np
import pytest
import torch

from cmb_lightning.sphere import Patches
from cmb_lightning.sphere.patches import PatchGrid

SIZES = [(8, 8, 0), (8, 4, 0), (8, 4, 2), (16, 8, 3), (4, 4, 2), (8, 2, 1)]


@pytest.mark.parametrize("side", [1, 4, 8])
def test_patches_are_the_pixels_of_a_coarser_map(side):
    grid = PatchGrid(8, side, 0)
    theta, phi = hp.pix2ang(8, np.arange(768), nest=True)
    coarse = hp.ang2pix(8 // side, theta, phi, nest=True)
    assert len(grid) == 12 * (8 // side) ** 2
    for number in range(len(grid)):
        assert np.array_equal(np.sort(grid.inner(number).ravel()), np.flatnonzero(coarse == number))


@pytest.mark.parametrize(("nside", "side", "halo"), [(8, 4, 1), (8, 8, 2), (16, 4, 2)])
def test_every_step_on_a_patch_is_a_step_on_the_sky(nside, side, halo):
    """Pixels beside each other on a patch touch, by healpy, wherever the corners that are not on the sky are not."""
    grid = PatchGrid(nside, side, halo)
    for number in range(len(grid)):
        first, second = grid.pixels(number)
        inside = slice(halo, halo + side)
        assert np.array_equal(first[inside, inside], grid.inner(number))
        real = first == second
        for axis in (0, 1):
            here, there = np.split(np.stack([np.roll(first, -1, axis), first]), 2)
            both = real & np.roll(real, -1, axis)
            both = both[:-1] if axis == 0 else both[:, :-1]
            here, there = (a[0][:-1] if axis == 0 else a[0][:, :-1] for a in (here, there))
            touching = hp.get_all_neighbours(nside, there[both], nest=True)
            assert (touching == here[both]).any(0).all()


@pytest.mark.parametrize(("nside", "side", "halo"), SIZES)
def test_cutting_is_what_the_grid_says_for_every_sky_of_a_batch(nside, side, halo):
    maps = torch.randn(2, 3, 12 * nside**2)
    patches = Patches(nside, side, halo)
    cut = patches.cut(maps).unflatten(0, (2, -1))
    grid = patches.grid
    for number in range(len(grid)):
        first, second = grid.pixels(number)
        expected = (maps[..., first] + maps[..., second]) / 2
        # The network's patches go row by row within a face, the grid's as NESTED pixels do.
        face, row, column = grid._place(number)
        across = nside // side
        torch.testing.assert_close(cut[:, (face * across + row) * across + column], expected)


@pytest.mark.parametrize(("nside", "side", "halo"), SIZES)
def test_patches_put_together_again_are_the_sky(nside, side, halo):
    maps = torch.randn(2, 3, 12 * nside**2)
    patches = Patches(nside, side, halo)
    torch.testing.assert_close(patches.join(patches.cut(maps)), maps)


def test_where_two_patches_overlap_each_counts_the_less_the_nearer_its_rim():
    patches = Patches(16, 8, 4)
    numbered = torch.zeros(48, 1, 16, 16)
    numbered[4:8] = 1  # face 1
    share = patches.faces.fold(patches.join(numbered))[1, 0]
    weight = np.sin(np.pi / 2 * (np.arange(8) + 0.5) / 8) ** 2  # over four pixels on either side of the edge
    assert share[8, 0:4].numpy() == pytest.approx(weight[4:], abs=1e-6)
    across = patches.faces.fold(patches.join(numbered))[5, 0]  # face 5 adjoins it along x
    assert sorted(across[8].numpy())[-4:] == pytest.approx(weight[:4], abs=1e-6)


def test_blending_is_symmetric_where_three_faces_meet_and_its_gradient_is_right():
    patches = Patches(4, 4, 2).double()
    images = torch.randn(12, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(patches.join, images)
    ones = torch.ones_like(images)
    torch.testing.assert_close(patches.join(ones), torch.ones(1, 1, 192, dtype=torch.float64), atol=1e-6, rtol=0)


def test_bfloat16_is_blended_in_float32():
    patches = Patches(8, 4, 2)
    assert patches.join(patches.cut(torch.randn(1, 1, 768)).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("side", "halo", "named"), [(3, 0, "patch_side=3"), (16, 0, "patch_side=16"), (4, 3, "halo=3")]
)
def test_patches_that_do_not_fit_are_refused(side, halo, named):
    with pytest.raises(ValueError, match=named):
        PatchGrid(8, side, halo)
