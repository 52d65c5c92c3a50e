"""Data of any length as batches: whole tensors are cut into slices, data that come in batches are used as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_relucode.errors import InputError

_ARRAYS = (Tensor, np.ndarray)
_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


class Slices:
    """The batches of a tensor, of a pair of inputs and labels or of a dict of tensors."""

    def __init__(self, data: Any, batch_size: int) -> None:
        self.data = data
        self.batch_size = batch_size
        self.samples = samples_of(data)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self.samples, self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield self.data[rows] if isinstance(self.data, _ARRAYS) else each(self.data, lambda v: v[rows])  # noqa: B023


def batches(data: Any, batch_size: int) -> Iterable[Any]:
    """`Slices` of tensors; the batches of a DataLoader or of another iterable as they are."""
    if hasattr(data, "inputs") and hasattr(data, "labels"):  # a Split
        data = (data.inputs, data.labels)
    if isinstance(data, tuple) and len(data) == 2:
        data = data[0] if data[1] is None else _pair(*data)
        return Slices(data, batch_size)
    if isinstance(data, (*_ARRAYS, Mapping)) or labels_of(data) is not None:
        return Slices(data, batch_size)
    if isinstance(data, torch.utils.data.Dataset | str) or not isinstance(data, Iterable):
        raise InputError(
            f"data is a {type(data).__name__}. Give a tensor of inputs, (inputs, labels), a Split, a DataLoader "
            "or an iterator of batches."
        )
    return data


def _pair(inputs: Any, labels: Any) -> tuple[Any, Tensor]:
    labels = _tensor(labels)
    pair = inputs if isinstance(inputs, Mapping) else _tensor(inputs), labels
    if labels_of(pair) is None:
        dtype = str(labels.dtype).removeprefix("torch.")
        raise InputError(
            f"labels are {dtype} of shape {tuple(labels.shape)} for {samples_of(pair)} inputs. "
            "Give whole numbers, one per sample."
        )
    return pair


def each(batch: Any, change: Callable[[Any], Any]) -> Any:
    """The batch with ``change`` applied to each of its tensors and arrays."""
    if isinstance(batch, _ARRAYS):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: each(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [each(value, change) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors and arrays as tensors on ``device``."""
    return each(batch, lambda values: _tensor(values).to(device))


def _tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:  # torch warns of read-only memory
        values = values.copy()
    return torch.as_tensor(values)


def labels_of(batch: Any) -> np.ndarray | None:
    """The labels of a pair (inputs, labels): int64, (samples,); None if the batch is anything else."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], _ARRAYS)):
        return None
    labels = _tensor(batch[1])
    if labels.ndim != 1 or labels.dtype not in _WHOLE or len(labels) != samples_of(batch[0]):
        return None
    return labels.cpu().numpy().astype(np.int64)


def samples_of(batch: Any) -> int:
    """The number of samples in a batch: the length of its first tensor."""
    if isinstance(batch, _ARRAYS) and batch.ndim:
        return len(batch)
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    for part in parts:
        if isinstance(part, (*_ARRAYS, Mapping, tuple, list)):
            return samples_of(part)
    raise InputError(
        f"a batch is a {type(batch).__name__} without a tensor whose rows could be counted. "
        "Give tensors, or tuples or dicts of tensors, whose first dimension is the samples."
    )
