"""Which simulations a process works on, and in which order."""

from collections.abc import Iterator

import numpy as np
from lightning import Trainer
from torch.utils.data import DistributedSampler

from cmb_lightning.data.mixing import stream


class TrainingSampler(DistributedSampler):
    """Every sample at most once in an epoch over all processes, in an order that depends on (seed, epoch) alone.

    It yields (epoch, index), so that a sample can depend on the epoch in whatever process it is made. Samples whose
    indices // repeats are the same are of the same sky: all skies come once each, then in the same order again, as far
    apart as can be. It is a DistributedSampler so that Lightning leaves it as it is.

    Args:
        n_samples: Samples in an epoch, a multiple of `repeats`.
        seed: Seed of the order.
        rank: Number of this process.
        world_size: How many processes there are.
        epoch: Epoch to begin with.
        start: Samples of that epoch that this process has had already.
        repeats: Samples of each sky.
        at_once: Samples that are loaded at once, by all workers together. Skies come again after a multiple of it, to
            the worker that made them, but for a last few that are no such multiple.
    """

    def __init__(
        self,
        n_samples: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        start: int = 0,
        repeats: int = 1,
        at_once: int = 1,
    ) -> None:
        super().__init__(range(n_samples), world_size, rank, shuffle=True, seed=seed, drop_last=True)
        self.epoch = epoch
        self._resumed = (epoch, start)
        self._repeats, self._at_once = repeats, at_once

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = stream("order", self.seed, self.epoch).permutation(len(self.dataset) // self._repeats)
        mine = order[self.rank :: self.num_replicas][: len(self) // self._repeats]
        rounds = np.split(mine, [len(mine) // self._at_once * self._at_once])
        times = np.arange(self._repeats)[:, None]
        indices = np.concatenate([(self._repeats * skies + times).ravel() for skies in rounds])
        start = self._resumed[1] if self.epoch == self._resumed[0] else 0
        return iter([(self.epoch, int(index)) for index in indices[start:]])

    def __len__(self) -> int:
        return len(self.dataset) // self._repeats // self.num_replicas * self._repeats


class EvaluationSampler(DistributedSampler):
    """Every simulation exactly once over all processes: none is repeated to make the shares equal.

    Args:
        n_samples: Simulations.
        rank: Number of this process.
        world_size: How many processes there are.
    """

    def __init__(self, n_samples: int, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(range(n_samples), world_size, rank, shuffle=False)
        self._mine = np.arange(rank, n_samples, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._mine.tolist())

    def __len__(self) -> int:
        return len(self._mine)


def training_position(trainer: Trainer | None) -> tuple[int, int]:
    """The epoch that a training stands in, perhaps resumed from a checkpoint, and the batches of it that are done."""
    if trainer is None:
        return 0, 0
    epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress
    if epochs.ready == epochs.processed:
        return epochs.processed, 0
    if batches.is_last_batch:  # only the end of the epoch was missing to the checkpoint
        return epochs.processed + 1, 0
    return epochs.processed, batches.current.ready
