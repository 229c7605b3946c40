"""Loaders of batches: with processes of their own, or a thread that is one batch ahead."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from cmb_lightning.data.batches import collate
from cmb_lightning.data.workers import outlive_signals


class AheadLoader(DataLoader):
    """A DataLoader whose next batch, where it has no workers, is made by a thread while this one is used.

    Transforms and reading leave Python's lock alone. Meanwhile torch has a thread less, so that there is a core for it:
    were there none, all of torch's threads would wait for the one whose core it takes, again and again in each layer.
    """

    def __iter__(self) -> Iterator[Any]:
        batches = super().__iter__()  # by this thread: it draws from the global random numbers
        return batches if self.num_workers else self._ahead(batches)

    @staticmethod
    def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads - 1))
        try:
            with ThreadPoolExecutor(1, "loader") as thread:
                following = thread.submit(next, batches, None)
                while (batch := following.result()) is not None:
                    following = thread.submit(next, batches, None)
                    yield batch
        finally:
            torch.set_num_threads(threads)


def make_loader(
    dataset: Dataset,
    sampler: Sampler,
    batch_size: int,
    num_workers: int,
    pin_memory: bool,
    kind: type[DataLoader] = DataLoader,
) -> DataLoader:
    """A loader of batches of maps.

    Args:
        dataset: The samples.
        sampler: Their order.
        batch_size: Samples in a batch.
        num_workers: Processes that load.
        pin_memory: Put batches into pinned memory.
        kind: `AheadLoader` to load in a thread where there are no processes.
    """
    options: dict[str, Any] = {}
    if num_workers:  # forked workers can hang: torch and the transforms have threads
        options = {
            "multiprocessing_context": "spawn",
            "persistent_workers": True,
            "worker_init_fn": outlive_signals,
        }
    options |= {"batch_size": batch_size, "num_workers": num_workers, "pin_memory": pin_memory}
    return kind(dataset, sampler=sampler, collate_fn=collate, **options)
