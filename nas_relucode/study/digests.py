"""What identifies samples, so that only networks with predictions of the same ones are compared sample by sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor


class SamplesDigest:
    """Identifies samples in their order: SHA-256 of inputs and labels, whatever the batches they come in.

    >>> whole, halves = SamplesDigest(), SamplesDigest()
    >>> whole.add(np.zeros((4, 2)), np.arange(4))
    >>> for half in (slice(0, 2), slice(2, 4)):
    ...     halves.add(np.zeros((2, 2)), np.arange(4)[half])
    >>> whole.text == halves.text
    True
    """

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}  # name of a tensor, with its type and the shape of a row -> SHA-256

    def add(self, inputs: Any, labels: Any) -> None:
        """Adds a batch: a tensor or array, or tuples and dicts of them, and the labels if there are any."""
        for name, values in _named_arrays({"inputs": inputs, "labels": labels}):
            array = np.ascontiguousarray(values.cpu() if isinstance(values, Tensor) else values)
            key = f"{name} {array.dtype.str} {array.shape[1:]}"
            self._parts.setdefault(key, hashlib.sha256()).update(array.data)

    @property
    def text(self) -> str:
        """The digest of the batches so far."""
        parts = {name: digest.hexdigest() for name, digest in self._parts.items()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _named_arrays(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors and arrays in tuples and dicts, each with its place; anything else is left out."""
    if isinstance(values, Tensor | np.ndarray):
        yield name, values.detach() if isinstance(values, Tensor) else values
        return
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if _is_sequence(values) else ()
    for key, value in items:
        yield from _named_arrays(value, f"{name}/{key}")


def _is_sequence(values: Any) -> bool:
    return isinstance(values, tuple | list)
