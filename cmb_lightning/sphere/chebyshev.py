"""Filters that are polynomials of one operator on the sphere."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def chebyshev_filter(rows: Tensor, weights: Sequence[Tensor], times: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum over k of the Chebyshev polynomial T_k of an operator times rows whose channels the k-th weight mixed.

    By Clenshaw's recurrence: channels are mixed first, so that no polynomials of the rows are made and kept.

    Args:
        rows: Shape (row, in).
        weights: Two or more of shape (in, out), from the zeroth polynomial on.
        times: The operator, on rows of channels (row, out).

    Returns:
        Shape (row, out).
    """
    *weights, highest = weights
    before, last = None, rows @ highest
    for order, weight in reversed([*enumerate(weights)]):
        term = torch.addmm(times(last), rows, weight, beta=2 if order else 1)
        before, last = last, term if before is None else term - before
    return last
