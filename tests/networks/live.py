"""How much memory a network's tensors take at once."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveNumbers(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make and that are still there.

    Attributes:
        most: The most that there were at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        old = {one.untyped_storage() for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        for storage in {one.untyped_storage() for one in tree_leaves(made) if isinstance(one, torch.Tensor)} - old:
            if storage not in self._known:
                self._known.add(storage)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, storage.nbytes())
        return made

    def _gone(self, size: int) -> None:
        self.now -= size
