"""Learning-rate schedules that know how long training will be."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """Linear rise, then half a cosine down to zero, step by step.

    Args:
        optimizer: The optimizer, whose learning rate is the highest one.
        total_steps: Steps of the whole training; the task gives it.
        warmup: Fraction of the steps for the rise.
        final: Last learning rate, relative to the highest.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.03, final: float = 0.01) -> None:
        rise = max(1, round(warmup * total_steps))

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            progress = min(1.0, (step - rise) / max(1, total_steps - rise))
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

        super().__init__(optimizer, factor)


class Exponential(LambdaLR):
    """Exponential fall, step by step, from the optimizer's learning rate.

    Args:
        optimizer: The optimizer, whose learning rate is the first one.
        total_steps: Steps of the whole training; the task gives it.
        final: Last learning rate, relative to the first; 1 for one that stays.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, final: float = 1e-5) -> None:
        super().__init__(optimizer, lambda step: final ** (step / max(1, total_steps)))
