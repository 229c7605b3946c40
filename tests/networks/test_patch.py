"""The patch U-Net: its size, its patches and its halo."""

import pytest
import torch

from cmb_lightning.networks import PatchUNet


def small(nside: int = 16, **sizes) -> PatchUNet:
    torch.manual_seed(0)
    return PatchUNet(3, 2, nside, **{"patch_side": 8, "width": 4, "depth": 1, **sizes})


def test_published_size():
    network = PatchUNet(9, 1, 512)
    assert network.side == 128
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.93e6, rel=0.003)


def test_a_map_is_its_patches_each_by_itself():
    network, maps = small(), torch.randn(2, 3, 12 * 16**2)
    whole = network(maps)
    patches = network(maps.unflatten(2, (-1, 64)).permute(0, 2, 1, 3).flatten(0, 1))
    assert patches.shape == (96, 2, 64)
    torch.testing.assert_close(whole, patches.unflatten(0, (2, 48)).permute(0, 2, 1, 3).flatten(2))


def test_with_a_halo_beyond_its_reach_patches_leave_no_seam():
    """The same map in smaller and in larger patches, both with halos wider than the network sees."""
    maps = torch.randn(1, 3, 12 * 32**2)
    results = []
    for side in (16, 32):
        network = small(32, patch_side=side, halo=16)
        results.append(network(maps))
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=1e-5)
    cut = small(32, patch_side=16)(maps)
    assert (cut - results[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("sizes", "named"), [({"patch_side": 12}, "patch_side=12"), ({"halo": 1, "depth": 2}, "halo=1")]
)
def test_patches_that_do_not_fit_are_refused(sizes, named):
    with pytest.raises(ValueError, match=named):
        small(**sizes)
