"""Networks on patches: the published U-Net's size, whole maps and single patches, and the seam."""

import pytest
import torch
from torch import nn

from cmb_lightning.networks import PatchNetwork, PatchUNet


def small(nside: int = 16, **sizes) -> PatchUNet:
    torch.manual_seed(0)
    return PatchUNet(3, 2, nside, **{"patch_side": 8, "halo": 0, "width": 4, "depth": 1, "zero_init": False, **sizes})


def test_published_size():
    network = PatchUNet(9, 1, 512)
    assert network.patches.grid.side == 128 and len(network.patches.grid) == 192
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.93e6, rel=0.003)


@pytest.mark.parametrize("nside", [1, 2, 4, 8, 16, 64])
def test_defaults_fit_every_sky(nside):
    network = PatchUNet(1, 1, nside, width=1, depth=min(3, nside.bit_length() - 1))
    assert network(torch.randn(1, 1, 12 * nside**2)).shape == (1, 1, 12 * nside**2)


def test_a_map_without_halos_is_its_patches_each_by_itself():
    network, maps = small(), torch.randn(2, 3, 12 * 16**2)
    whole, grid = network(maps), network.patches.grid
    for number in range(len(grid)):
        pixels = grid.inner(number).ravel()
        patch = network(maps[..., pixels])
        assert patch.shape == (2, 2, 64)
        torch.testing.assert_close(whole[..., pixels], patch)


def test_the_middle_of_a_patch_is_what_the_patch_gives_when_trained_on():
    network, maps = small(halo=2), torch.randn(2, 3, 12 * 16**2)
    whole, grid = network(maps), network.patches.grid
    for number in (0, 13, 47):
        first, second = grid.pixels(number)
        patch = network((maps[..., first.ravel()] + maps[..., second.ravel()]) / 2)
        assert patch.shape == (2, 2, 144)
        kept = patch.unflatten(2, (12, 12))[..., 4:8, 4:8]  # beyond the reach of the other patches
        torch.testing.assert_close(whole[..., grid.inner(number)[2:6, 2:6]], kept)
        assert grid.without_halo(patch).shape == (2, 2, 64)


@torch.no_grad()
def test_the_wider_the_halo_the_smaller_the_seam():
    """Beside the same network on patches that overlap far beyond what it sees."""
    torch.manual_seed(1)
    maps = torch.randn(1, 3, 12 * 32**2)
    uncut = small(32, patch_side=32, halo=16)(maps)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[12:20, :] = inside[:, 12:20] = True  # the seams between four patches of a face, far from its edges
    inside[[*range(9), *range(23, 32)]] = False
    inside[:, [*range(9), *range(23, 32)]] = False

    def seam(halo: int) -> float:
        network = small(32, patch_side=16, halo=halo)
        change = network.patches.faces.fold(network(maps) - uncut)[..., inside]
        return float(change.std() / uncut.std())

    errors = [seam(halo) for halo in (0, 2, 4, 8)]
    assert all(after < 0.8 * before for before, after in zip(errors, errors[1:], strict=False))
    assert errors[0] > 0.01 > 0.1 * errors[0] > errors[-1]


def test_any_network_on_images_can_be_used():
    class Brighter(nn.Module):
        def __init__(self, in_channels: int, out_channels: int):
            super().__init__()
            self.out_channels = out_channels

        def forward(self, images):
            return 2 * images[:, : self.out_channels]

    network = PatchNetwork(3, 2, 16, Brighter, patch_side=4, halo=2)
    maps = torch.randn(2, 3, 12 * 16**2)
    torch.testing.assert_close(network(maps), 2 * maps[:, :2])


@pytest.mark.parametrize(
    ("sizes", "named"), [({"patch_side": 12}, "patch_side=12"), ({"halo": 5}, "halo=5"), ({"depth": 4}, "depth=4")]
)
def test_patches_that_do_not_fit_are_refused(sizes, named):
    with pytest.raises(ValueError, match=named):
        small(**sizes)
