"""Learning rates over a training."""

import pytest
import torch

from cmb_lightning.cleaning.schedules import Exponential, WarmupCosine


def rates(schedule, steps: int, lr: float = 0.1) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = schedule(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_an_exponential_falls_from_the_first_to_the_last_rate_by_equal_factors():
    found = rates(lambda optimizer: Exponential(optimizer, 50), 50)
    assert found[0] == pytest.approx(1e-1) and found[-1] == pytest.approx(1e-6)
    assert [b / a for a, b in zip(found, found[1:], strict=False)] == pytest.approx([10**-0.1] * 50)
    assert rates(lambda optimizer: Exponential(optimizer, 50, final=1.0), 9) == [0.1] * 10


def test_the_cosine_rises_then_falls_to_the_last_rate():
    found = rates(lambda optimizer: WarmupCosine(optimizer, 100, warmup=0.1, final=0.01), 100)
    assert found[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert max(found) == pytest.approx(0.1) and found[-1] == pytest.approx(0.001)
    assert found[55] == pytest.approx((0.1 + 0.001) / 2, rel=0.02)
