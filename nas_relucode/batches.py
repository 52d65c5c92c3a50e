"""Data of any length as batches: tensors are cut into slices, what comes as batches is taken as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_relucode.errors import InputError


def batches(data: Any, batch_size: int) -> Iterable[Any]:
    """A tensor, a pair of inputs and labels or a dict of tensors in slices; the batches of a DataLoader as they are."""
    if hasattr(data, "inputs") and hasattr(data, "labels"):  # a Split
        data = (data.inputs, data.labels)
    if isinstance(data, tuple) and len(data) == 2:
        return _slices(data[0] if data[1] is None else _checked(*data), batch_size)
    if isinstance(data, Tensor | np.ndarray | Mapping) or (isinstance(data, list) and labels_of(data) is not None):
        return _slices(data, batch_size)
    if isinstance(data, torch.utils.data.Dataset) or not hasattr(data, "__iter__") or isinstance(data, str):
        raise InputError(
            f"data is a {type(data).__name__}. Give a tensor of inputs, (inputs, labels), a Split, a DataLoader "
            "or an iterator of batches."
        )
    return data


def _checked(inputs: Any, labels: Any) -> tuple[Any, Any]:
    pair = _tensor(inputs), _tensor(labels)
    if labels_of(pair) is None:
        dtype = str(pair[1].dtype).removeprefix("torch.")
        raise InputError(
            f"labels are {dtype} of shape {tuple(pair[1].shape)} for {len(pair[0])} inputs. "
            "Give whole numbers, one a sample."
        )
    return pair


def _slices(data: Any, batch_size: int) -> Iterator[Any]:
    for start in range(0, samples_of(data), batch_size):
        yield _each(data, lambda values: values[start : start + batch_size])  # noqa: B023


def _each(batch: Any, change: Callable[[Any], Any]) -> Any:
    """A batch in whose tensors and arrays ``change`` was made."""
    if isinstance(batch, Tensor | np.ndarray):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: _each(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return [_each(value, change) for value in batch]
    return batch


def moved(batch: Any, device: torch.device) -> Any:
    return _each(batch, lambda values: _tensor(values).to(device))


def _tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:  # of which torch warns
        values = values.copy()
    return torch.as_tensor(values)


def labels_of(batch: Any) -> np.ndarray | None:
    """The labels of a pair of inputs and labels, int64, on the CPU; None if the batch is anything else."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor | np.ndarray)):
        return None
    labels = batch[1]
    whole = labels.dtype.kind in "iu" if isinstance(labels, np.ndarray) else labels.dtype in _WHOLE
    if labels.ndim != 1 or not whole or len(labels) != samples_of(batch[0]):
        return None
    return _tensor(labels).cpu().numpy().astype(np.int64)


_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def samples_of(batch: Any) -> int:
    """How many samples a batch has: the length of the first tensor in it."""
    if isinstance(batch, Tensor | np.ndarray) and batch.ndim:
        return len(batch)
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    for part in parts:
        if isinstance(part, Tensor | np.ndarray | Mapping | tuple | list):
            return samples_of(part)
    raise InputError(
        f"a batch is a {type(batch).__name__} without a tensor to count its samples by. "
        "Give tensors, or tuples or dicts of tensors, whose first dimension is the samples."
    )
