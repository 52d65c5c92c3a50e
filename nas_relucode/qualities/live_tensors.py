"""The memory of live tensors, allocation by allocation."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """A context that counts the bytes of the tensors given and of those that operations return while they live.

    Memory that several tensors share is counted once. What an operation needs for itself and frees before it returns
    is not seen.
    """

    def __init__(self, tensors: Any) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._counted: set[int] = set()
        self._count(tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self._count(output)
        return output

    def _count(self, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            place, size = storage._cdata, storage.nbytes()
            if place not in self._counted:
                self._counted.add(place)
                self.bytes += size
                weakref.finalize(storage, self._free, place, size).atexit = False
        self.peak = max(self.peak, self.bytes)

    def _free(self, place: int, size: int) -> None:
        self._counted.discard(place)
        self.bytes -= size
