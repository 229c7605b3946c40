"""Arrays that a process and those it starts have once between them."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd

import numpy as np


class Shared:
    """An array, read-only, that the processes of a pool see without a copy of their own.

    It travels with whatever is handed to a process when that is started. Pickled for any other purpose it becomes None,
    as it would be large: its owner then makes it again.
    """

    def __init__(self, array: np.ndarray) -> None:
        """Copy an array into memory that can be shared; nothing is left of it when its last process ends."""
        descriptor = _anonymous_file()
        os.ftruncate(descriptor, max(array.nbytes, 1))
        self._adopt(descriptor, array.shape, array.dtype)
        np.frombuffer(self._memory, array.dtype, array.size).reshape(array.shape)[...] = array

    def __reduce__(self) -> tuple:
        if get_spawning_popen() is None:
            return _nothing, ()
        return _adopted, (DupFd(self._descriptor), self.array.shape, self.array.dtype)

    def _adopt(self, descriptor: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        self._memory = mmap.mmap(descriptor, 0)
        self.array = np.frombuffer(self._memory, dtype, int(np.prod(shape))).reshape(shape)
        self.array.flags.writeable = False


def _adopted(descriptor: DupFd, shape: tuple[int, ...], dtype: np.dtype) -> Shared:
    shared = Shared.__new__(Shared)
    shared._adopt(descriptor.detach(), shape, dtype)
    return shared


def _nothing() -> None:
    """What is left of an array that is not shared."""


def _anonymous_file() -> int:
    """Open a file without a name, in memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("shared")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
