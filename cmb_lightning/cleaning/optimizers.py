"""An optimizer for trainings of few steps."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of Jordan et al. 2024
EPS = 1e-8


class MuonAdamW(Optimizer):
    """Moves weights that mix channels by orthogonal matrices, and all others as AdamW does.

    A weight of two or more dimensions is a matrix: its first dimension by all others. Its momentum is made orthogonal,
    so that what is learned from few channels moves as far as what is learned from many (Muon, Jordan et al. 2024), and
    scaled so that its entries' rms is 0.2 of the learning rate whatever the matrix's shape (Liu et al. 2025,
    arXiv:2502.16982). Biases and norms, which have one dimension, are left to Adam with decoupled weight decay.

    Args:
        params: The parameters.
        lr: Learning rate of what AdamW moves.
        matrix_lr: Learning rate of matrices.
        momentum: Decay of the matrices' momentum, which looks ahead as Nesterov's.
        betas: Decay of the others' first and second moments.
        weight_decay: Part of each parameter that a step takes off, relative to its learning rate.

    Raises:
        ValueError: If a rate is negative, or a decay is not from 0 to below 1.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 2e-3,
        matrix_lr: float = 6e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
    ) -> None:
        for name, rate in {"lr": lr, "matrix_lr": matrix_lr, "weight_decay": weight_decay}.items():
            if rate < 0:
                raise ValueError(f"{name}={rate} must not be negative.")
        for name, decay in {"momentum": momentum, "betas[0]": betas[0], "betas[1]": betas[1]}.items():
            if not 0 <= decay < 1:
                raise ValueError(f"{name}={decay} must be from 0 to below 1.")
        kinds: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in params:
            kinds[parameter.ndim > 1].append(parameter)
        groups = [
            {"params": kinds[True], "lr": matrix_lr, "momentum": momentum},
            {"params": kinds[False], "lr": lr, "betas": betas},
        ]
        super().__init__([group for group in groups if group["params"]], {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step by the gradients that are there, or that the closure leaves; returns what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            move = self._move_matrix if "momentum" in group else self._move_other
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    move(parameter, parameter.grad, group)
        return loss

    def _move_matrix(self, parameter: nn.Parameter, gradient: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(momentum, group["momentum"]).flatten(1)
        scale = 0.2 * max(matrix.shape) ** 0.5
        parameter.sub_(orthogonalised(matrix).reshape(parameter.shape), alpha=scale * group["lr"])

    def _move_other(self, parameter: nn.Parameter, gradient: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        state["step"] += 1
        first, second = group["betas"]
        mean = state["exp_avg"].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - second)
        size = (square / (1 - second ** state["step"])).sqrt_().add_(EPS)
        parameter.addcdiv_(mean, size, value=-group["lr"] / (1 - first ** state["step"]))


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """A matrix of the same singular vectors, whose singular values are all within a third of one.

    By Newton and Schulz's iteration, whose coefficients are those that make small singular values grow fastest. The
    smallest, below a thousandth of all together, stay smaller.

    Args:
        matrix: Shape (rows, columns).
        iterations: How often the polynomial of fifth degree is taken.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    found = matrix if wide else matrix.T
    found = found / (found.norm() + EPS)
    one, three, five = NEWTON_SCHULZ
    for _ in range(iterations):
        square = found @ found.T
        found = one * found + (three * square + five * square @ square) @ found
    return found if wide else found.T
