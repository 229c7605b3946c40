"""DeepSphere: the graph against healpy, Chebyshev filters against dense matrices, and the network."""

import healpy as hp
import numpy as np
import pytest
import torch

from cmb_lightning.networks import DeepSphereUNet
from cmb_lightning.networks.deepsphere import ChebyshevConv
from cmb_lightning.sphere.graph import laplacian, neighbour_table


def dense(nside: int) -> np.ndarray:
    starts, columns, values = laplacian(nside)
    matrix = np.zeros((len(starts), len(starts)))
    rows = np.repeat(np.arange(len(starts)), np.diff([*starts, len(columns)]))
    matrix[rows, columns] = values
    return matrix


@pytest.mark.parametrize("nside", [2, 16])
def test_neighbours_are_healpys(nside):
    expected = hp.get_all_neighbours(nside, np.arange(12 * nside**2), nest=True).T
    np.testing.assert_array_equal(neighbour_table(nside), expected)


def test_the_laplacian_is_symmetric_with_its_spectrum_where_chebyshev_polynomials_need_it():
    matrix = dense(4)
    np.testing.assert_allclose(matrix, matrix.T)
    spectrum = np.linalg.eigvalsh(matrix)
    assert spectrum[0] == pytest.approx(-1, abs=1e-5)  # constant (over the degrees) maps: smoothest of all
    assert spectrum[-1] < 1


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
def test_a_filter_is_the_chebyshev_polynomial_of_the_laplacian(kernel_size):
    conv = ChebyshevConv(2, 3, kernel_size).double()
    maps = torch.randn(192, 2, 2, dtype=torch.float64, requires_grad=True)
    matrix = torch.from_numpy(dense(4))
    parts = tuple(torch.from_numpy(part) for part in laplacian(4))
    terms = [torch.eye(192, dtype=torch.float64), matrix]
    while len(terms) < kernel_size:
        terms.append(2 * matrix @ terms[-1] - terms[-2])
    weights = conv.weight.view(kernel_size, 2, 3)
    expected = sum(
        torch.einsum("pq,qbi,io->pbo", term, maps, weight)
        for term, weight in zip(terms[:kernel_size], weights, strict=True)
    )
    result = conv(maps, parts)
    torch.testing.assert_close(result, expected)
    inputs = (maps, conv.weight)
    gradients = torch.autograd.grad(result.sin().sum(), inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.sin().sum(), inputs))


def test_published_widths():
    network = DeepSphereUNet(9, 1, 16)
    assert [block.second.weight.shape[1] for block in network.way_down] == [64, 128, 256]
    assert network.bottleneck.first.weight.shape[1] == 512
    assert sum(p.numel() for p in network.parameters()) == 1_825_153


def test_shapes_training_and_no_laplacian_in_the_checkpoint():
    network = DeepSphereUNet(3, 2, 8, width=4, depth=2, zero_init=False)
    result = network(torch.randn(2, 3, 768))
    result.square().mean().backward()
    assert result.shape == (2, 2, 768)
    assert all(p.grad is not None for p in network.parameters())
    assert not any("columns" in name for name in network.state_dict())


def test_a_sky_turned_in_longitude_gives_the_turned_output():
    network = DeepSphereUNet(1, 1, 8, width=4, depth=2, zero_init=False).eval()
    theta, phi = hp.pix2ang(8, np.arange(768), nest=True)
    turn = torch.from_numpy(hp.ang2pix(8, theta, phi - np.pi / 2, nest=True))
    maps = torch.randn(1, 1, 768)
    torch.testing.assert_close(network(maps[..., turn]), network(maps)[..., turn], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("depth", [0, 3])
def test_a_depth_that_does_not_fit_is_refused(depth):
    with pytest.raises(ValueError, match=f"depth={depth}"):
        DeepSphereUNet(1, 1, 8, depth=depth)
