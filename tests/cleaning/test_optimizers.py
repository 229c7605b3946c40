"""MuonAdamW against torch's own optimizers and the singular value decomposition."""

import copy

import pytest
import torch
from torch import nn

from cmb_lightning.cleaning.optimizers import MuonAdamW, orthogonalised


def moved(parameters: list[nn.Parameter], optimizer, steps: int = 4) -> list[torch.Tensor]:
    """The parameters after steps along the same made-up gradients; the optimizer is given them."""
    optimizer = optimizer(parameters)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def test_biases_and_norms_move_as_by_adamw():
    shapes = (7,), (3,)
    found = moved(parameters(*shapes), lambda given: MuonAdamW(given, lr=0.1, weight_decay=0.3))
    expected = moved(parameters(*shapes), lambda given: torch.optim.AdamW(given, lr=0.1, weight_decay=0.3))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_matrices_move_as_by_torchs_muon(shape):
    """Which computes them in bfloat16."""
    options = {"momentum": 0.9, "weight_decay": 0.3}
    (start,) = parameters(shape)
    (found,) = moved(parameters(shape), lambda given: MuonAdamW(given, matrix_lr=0.1, **options))
    like_adamw = {**options, "lr": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    (expected,) = moved(parameters(shape), lambda given: torch.optim.Muon(given, **like_adamw))
    assert (found - expected).norm() < 0.02 * (expected - start).norm()


@pytest.mark.parametrize("shape", [(5, 4, 3), (8, 3, 2, 2)])
def test_kernels_move_as_the_matrix_of_their_weights(shape):
    (found,) = moved(parameters(shape), MuonAdamW)
    rows = [parameter.detach().flatten(1) for parameter in parameters(shape)]
    generator = torch.Generator().manual_seed(1)
    optimizer = MuonAdamW(as_matrices := [nn.Parameter(row) for row in rows])
    for _ in range(4):
        as_matrices[0].grad = torch.randn(shape, generator=generator).flatten(1)
        optimizer.step()
    torch.testing.assert_close(found.flatten(1), as_matrices[0].detach())


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_what_is_orthogonalised_keeps_its_singular_vectors_and_no_sizes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    matrix = left @ torch.diag(torch.logspace(0, -2, len(sizes), dtype=torch.float64)) @ right
    found = left.T @ orthogonalised(matrix) @ right.T
    assert found.diagonal().min() > 0.65 and found.diagonal().max() < 1.25
    torch.testing.assert_close(found, torch.diag(found.diagonal()))


def test_a_step_is_as_long_for_matrices_of_any_shape():
    shapes = (8, 8), (8, 512), (512, 8), (64, 32, 3)
    start = parameters(*shapes)
    end = moved(parameters(*shapes), lambda given: MuonAdamW(given, matrix_lr=0.1, weight_decay=0.0), steps=1)
    lengths = [(after - before).square().mean().sqrt().item() for before, after in zip(start, end, strict=True)]
    assert lengths == pytest.approx([0.02] * 4, rel=0.25)


def test_going_on_from_a_state_is_going_on():
    whole, stopped = parameters((4, 6), (4,)), parameters((4, 6), (4,))
    first, second = MuonAdamW(whole), MuonAdamW(stopped)
    gradients = [parameters((4, 6), (4,)) for _ in range(2)]

    def step(optimizer: MuonAdamW, given: list[nn.Parameter], along: list[nn.Parameter]) -> None:
        for parameter, gradient in zip(given, along, strict=True):
            parameter.grad = gradient.detach().clone()
        optimizer.step()

    step(first, whole, gradients[0])
    step(second, stopped, gradients[0])
    resumed = MuonAdamW(stopped)
    resumed.load_state_dict(copy.deepcopy(second.state_dict()))
    step(first, whole, gradients[1])
    step(resumed, stopped, gradients[1])
    for mine, other in zip(stopped, whole, strict=True):
        assert torch.equal(mine, other)


def test_what_has_no_gradient_stays():
    given = parameters((4, 6), (4,))
    before = [parameter.detach().clone() for parameter in given]
    MuonAdamW(given).step()
    assert all(torch.equal(now, then) for now, then in zip(given, before, strict=True))


@pytest.mark.parametrize(
    "wrong", [{"lr": -1}, {"matrix_lr": -1}, {"weight_decay": -1}, {"momentum": 1}, {"betas": (0.9, 1)}]
)
def test_impossible_rates_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MuonAdamW(parameters((4, 6)), **wrong)
