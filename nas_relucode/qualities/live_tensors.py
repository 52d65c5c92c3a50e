"""The memory of live tensors, allocation by allocation."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor

# torch has no public name for either: a mode that sees each operation, and the tensors in nested arguments.
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
        self._given = tensors
        self._counted: dict[int, weakref.finalize[..., Any]] = {}  # what happens when a memory block is freed

    def __enter__(self) -> LiveTensors:
        super().__enter__()
        self._count(self._given)
        return self

    def __exit__(self, *error: Any) -> None:
        for finalizer in self._counted.values():
            finalizer.detach()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self._count(output)
        return output

    def _count(self, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            # The address of the block itself, which has no public name; the data's address is 0 for all empty blocks.
            place, size = storage._cdata, storage.nbytes()
            if place not in self._counted:
                self._counted[place] = weakref.finalize(storage, self._free, place, size)
                self._counted[place].atexit = False
                self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def _free(self, place: int, size: int) -> None:
        del self._counted[place]
        self.bytes -= size
