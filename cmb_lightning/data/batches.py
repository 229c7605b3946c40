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
    return {name: _joined([sample[name] for sample in samples]) for name in samples[0]}


def _joined(values: list[Any]) -> Any:
    first = values[0]
    if not isinstance(first, np.ndarray):
        return default_collate(values)
    whole = first.base
    if isinstance(whole, np.ndarray) and whole.shape == (len(values), *first.shape) and whole.flags.c_contiguous:
        places = [whole.ctypes.data + row * whole.strides[0] for row in range(len(values))]
        if [value.ctypes.data for value in values] == places and all(value.dtype == whole.dtype for value in values):
            return torch.from_numpy(whole)
    return torch.from_numpy(np.stack(values))
