"""Where networks start: the method `Residual` corrects a linear estimate, from which training must start."""

import pytest
import torch

from cmb_lightning.networks import DeepSphereUNet, HealpixUNet, IsotropicUNet, PatchUNet, UNet5, UNet8

NETWORKS = {
    HealpixUNet: {"width": 4, "max_width": 8, "depth": 2},
    IsotropicUNet: {"width": 4, "max_width": 8, "depth": 2},
    UNet5: {"width": 2},
    UNet8: {"width": 2},
    PatchUNet: {"width": 2, "depth": 1},
    DeepSphereUNet: {"width": 2, "depth": 1},
}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_output_starts_at_zero_and_moves_and_all_weights_with_it(network):
    torch.manual_seed(0)
    built, maps = network(3, 2, 16, **NETWORKS[network]), torch.randn(2, 3, 12 * 16**2)
    optimizer = torch.optim.SGD(built.parameters(), lr=0.1)
    for step in range(3):
        result = built(maps)
        assert result.any() == (step > 0)
        optimizer.zero_grad()
        (result - maps[:, :2]).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad.any() for parameter in built.parameters() if parameter.ndim > 1)


@pytest.mark.parametrize("network", NETWORKS)
def test_it_starts_elsewhere_where_told_so(network):
    torch.manual_seed(0)
    built = network(3, 2, 16, **NETWORKS[network], zero_init=False)
    assert built(torch.randn(2, 3, 12 * 16**2)).any()
