"""A digest of samples: it identifies them in their order, whatever the batches that they come in."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_relucode.codes.batches import leaves


class SamplesDigest:
    """SHA-256 of the tensors and arrays of samples, which come in batches of any size.

    >>> whole, halves = SamplesDigest(), SamplesDigest()
    >>> whole.add((np.zeros((4, 2)), np.arange(4)))
    >>> for half in (slice(0, 2), slice(2, 4)):
    ...     halves.add((np.zeros((2, 2)), np.arange(4)[half]))
    >>> whole.text == halves.text
    True
    """

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}  # name of a tensor, with its type and the shape of a row -> SHA-256

    def add(self, batch: Any) -> None:
        """Adds a batch: a tensor or array, or tuples and dicts of them."""
        for name, values in leaves(batch):
            dtype, array = _plain(values)
            key = f"{name} {dtype} {tuple(values.shape[1:])}"
            self._parts.setdefault(key, hashlib.sha256()).update(array)

    @property
    def text(self) -> str:
        """The digest of the batches so far."""
        parts = {name: digest.hexdigest() for name, digest in self._parts.items()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _plain(values: Tensor | np.ndarray) -> tuple[str, np.ndarray]:
    """The type and the numbers in their order; as bytes where NumPy lacks the type, such as bfloat16."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().contiguous()
        try:
            values = values.numpy()
        except TypeError:
            dtype = str(values.dtype).removeprefix("torch.")
            return dtype, values.flatten().view(torch.uint8).numpy()
    return values.dtype.str, np.ascontiguousarray(values)
