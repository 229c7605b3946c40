"""Batches, put together with as little copying as can be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate, get_worker_info


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join samples to a batch.

    Maps that are the rows of one array already, in order, are not copied. NumPy asks the system for large pages, so
    that memory for those of a large batch is had several times faster than torch's.
    """
    if get_worker_info() is not None:
        return default_collate(samples)  # straight into memory that is shared with the main process
    batch: dict[str, Any] = {}
    taken: set[int] = set()
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if not isinstance(first, np.ndarray):
            batch[name] = default_collate(values)
        elif _are_rows_of(values, first.base) and id(first.base) not in taken:
            taken.add(id(first.base))  # once: who changes one entry in place must not change another
            batch[name] = torch.from_numpy(first.base)
        else:
            batch[name] = torch.from_numpy(np.stack(values))
    return batch


def _are_rows_of(values: list[np.ndarray], whole: Any) -> bool:
    """Whether the values are, one after the other, the rows of an array, and all of them."""
    if not isinstance(whole, np.ndarray) or whole.shape != (len(values), *values[0].shape):
        return False
    places = [whole.ctypes.data + row * whole.strides[0] for row in range(len(values))]
    alike = all(value.dtype == whole.dtype and value.strides == whole.strides[1:] for value in values)
    return alike and whole.flags.c_contiguous and [value.ctypes.data for value in values] == places
