"""Data of any length as batches, and what a batch holds: inputs, perhaps labels, and how many samples it may have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError

_ARRAYS = (Tensor, np.ndarray)
_PARTS = (*_ARRAYS, Mapping, tuple, list)
_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


class Slices:
    """The batches of a tensor, of a pair of inputs and labels or of a dict of tensors."""

    def __init__(self, data: Any, batch_size: int) -> None:
        self.data = data
        self.batch_size = batch_size
        self.samples = samples_of(data)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self.samples, self.batch_size):
            yield rows_of(self.data, self.samples, slice(start, start + self.batch_size))


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


def drawn_apart(parts: Iterable[Any]) -> Iterator[Any]:
    """The batches of data that may draw random numbers: what they draw does not move torch's random state.

    They draw from a stream of their own, which starts at the state that the first batch finds.
    """
    own = torch.get_rng_state()
    iterator: Iterator[Any] | None = None
    while True:
        outside = torch.get_rng_state()
        torch.set_rng_state(own)
        try:
            iterator = iter(parts) if iterator is None else iterator
            part = next(iterator)
        except StopIteration:
            return
        finally:
            own = torch.get_rng_state()
            torch.set_rng_state(outside)
        yield part


def _pair(inputs: Any, labels: Any) -> tuple[Any, Tensor]:
    labels = _tensor(labels)
    pair = inputs if isinstance(inputs, Mapping) else _tensor(inputs), labels
    if labels_of(pair) is None:
        raise InputError(
            f"labels are {in_words(labels)} for {samples_of(pair[0])} inputs. Give whole numbers, one per sample."
        )
    return pair


def each(batch: Any, change: Callable[[Any], Any]) -> Any:
    """The batch with ``change`` applied to each of its tensors and arrays."""
    if isinstance(batch, _ARRAYS):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: each(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, [each(value, change) for value in batch])
    return batch


def leaves(batch: Any, where: str = "") -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """The tensors and arrays in a batch, each with its place in it; anything else is left out.

    >>> [where for where, _ in leaves({"image": torch.zeros(2, 3), "more": (np.zeros(2), "text")})]
    ['/image', '/more/0']
    """
    if isinstance(batch, _ARRAYS):
        yield where, batch
    elif isinstance(batch, Mapping | tuple | list):
        for key, value in batch.items() if isinstance(batch, Mapping) else enumerate(batch):
            yield from leaves(value, f"{where}/{key}")


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors and arrays as tensors on ``device``."""
    return each(batch, lambda values: _tensor(values).to(device))


def _tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:  # torch warns of read-only memory
        values = values.copy()
    return torch.as_tensor(values)


def _like(batch: Sequence[Any], parts: list[Any]) -> Any:
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)  # type: ignore[call-arg]


def labels_of(batch: Any) -> np.ndarray | None:
    """The labels of a pair (inputs, labels): int64, (samples,); None if the batch is anything else.

    Labels are whole numbers, one per sample: of the shape (samples,) or (samples, 1).
    """
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], _ARRAYS)):
        return None
    labels = _tensor(batch[1])
    if labels.shape[1:] not in ((), (1,)) or not labels.ndim or labels.dtype not in _WHOLE:
        return None
    if len(labels) not in lengths_of(batch[0]):
        return None
    return labels.reshape(-1).cpu().numpy().astype(np.int64)


def lengths_of(batch: Any) -> set[int]:
    """The numbers of samples that a batch may have: the lengths of its tensors, arrays and lists, at any depth.

    >>> lengths_of({"path": ["a", "b"], "image": torch.zeros(2, 3), "step": torch.tensor(7)})
    {2}
    """
    if isinstance(batch, _ARRAYS):
        return {len(batch)} if batch.ndim else set()
    if isinstance(batch, Mapping):
        return set().union(*map(lengths_of, batch.values()))
    if isinstance(batch, tuple | list):
        return {len(batch)}.union(*(lengths_of(part) for part in batch if isinstance(part, _PARTS)))
    return set()


def samples_of(data: Any) -> int:
    """The number of samples of whole data: the one length of its tensors and lists."""
    parts = data if isinstance(data, tuple | list) else [data]
    lengths = set[int]().union(*map(lengths_of, parts))
    if len(lengths) != 1:
        counts = " or ".join(map(str, sorted(lengths))) or "no"
        raise InputError(
            f"{in_words(data)} may have {counts} samples. "
            "Give tensors, or tuples or dicts of tensors, whose first dimension is the samples."
        )
    return lengths.pop()


def rows_of(batch: Any, samples: int, rows: slice | list[int]) -> Any:
    """Some of the samples of a batch: of each tensor and list that is ``samples`` long, these rows.

    >>> rows_of({"path": ["a", "b"], "image": torch.zeros(2, 3), "step": torch.tensor(7)}, 2, [1])
    {'path': ['b'], 'image': tensor([[0., 0., 0.]]), 'step': tensor(7)}
    """
    if isinstance(batch, _ARRAYS):
        return batch[rows] if batch.ndim and len(batch) == samples else batch
    if isinstance(batch, Mapping):
        return {key: rows_of(value, samples, rows) for key, value in batch.items()}
    if not isinstance(batch, tuple | list):
        return batch
    # Two tensors of two rows are two columns rather than two samples.
    columns = all(isinstance(part, _PARTS) and samples in lengths_of(part) for part in batch)
    if len(batch) != samples or columns:
        return _like(batch, [rows_of(part, samples, rows) for part in batch])
    return _like(batch, list(batch[rows] if isinstance(rows, slice) else [batch[row] for row in rows]))


@dataclass(frozen=True)
class Parts:
    """What a batch holds."""

    inputs: Any  # a tensor, a dict or a tuple of arguments; the whole batch if the user's forward takes it
    labels: np.ndarray | None  # int64, (samples,)
    lengths: set[int]  # the numbers of samples that it may have, of which the activations have one
    arguments: bool  # the inputs are a tuple of arguments

    def rows(self, samples: int, rows: slice | list[int]) -> Any:
        """The inputs of some of the ``samples`` samples."""
        if self.arguments:
            return _like(self.inputs, [rows_of(part, samples, rows) for part in self.inputs])
        return rows_of(self.inputs, samples, rows)

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else "whole numbers as labels"
        return f"{in_words(self.inputs)} as inputs, {labels}"


def read_batch(batch: Any, needed: int | None) -> Parts:
    """What is input and what is label in a batch, for a network that needs this number of arguments.

    None stands for a function of the user's, which takes the batch as it is.

    A pair (inputs, whole numbers) has labels, unless the network needs two arguments. Any other tuple is the arguments
    of the network if it needs that many. Raises InputError where a tuple has more parts than the network needs: the
    rest may be labels, or optional arguments.
    """
    labels = labels_of(batch)
    if needed is not None and isinstance(batch, tuple | list) and len(batch) > 1:
        if len(batch) == 2 and batch[1] is None:
            batch = batch[0]
        elif labels is not None and needed == 2 and isinstance(batch[0], _ARRAYS):
            labels = None
        elif labels is None and any(isinstance(part, _ARRAYS) for part in batch[needed:]):
            raise _ambiguous(batch, needed)
    inputs = batch if needed is None or labels is None else batch[0]
    arguments = needed is not None and isinstance(inputs, tuple | list)
    if labels is not None:
        lengths = {len(labels)}
    else:
        lengths = set[int]().union(*map(lengths_of, inputs if arguments else [inputs]))
    if not lengths:
        raise InputError(
            f"a batch is {in_words(batch)}, without a tensor whose rows could be counted. "
            "Give tensors, or tuples or dicts of tensors, whose first dimension is the samples."
        )
    return Parts(inputs, labels, lengths, arguments)


def needed_arguments(network: nn.Module) -> int:
    """How many arguments the network's forward needs; 1 where it does not say."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = sum(parameter.kind in positional and parameter.default is parameter.empty for parameter in parameters)
    return max(1, needed)


def _ambiguous(batch: Sequence[Any], needed: int) -> InputError:
    others = " and ".join(map(in_words, batch[needed:]))
    return InputError(
        f"a batch is a {type(batch).__name__} of {len(batch)}: beside {in_words(batch[0])} it holds {others}, but "
        f"the network needs {needed} argument{'s' * (needed > 1)}. Labels are whole numbers, one per "
        "sample, in a pair (inputs, labels): give such pairs, or inputs alone, or forward=, for example "
        "forward=lambda network, batch: network(batch[0])."
    )


def in_words(part: Any) -> str:
    """A part of a batch, for messages.

    >>> in_words(torch.zeros(5, 2)), in_words(["a", "b"])
    ('float32 of shape (5, 2)', 'a list of 2')
    """
    if isinstance(part, _ARRAYS):
        return f"{str(part.dtype).removeprefix('torch.')} of shape {tuple(part.shape)}"
    if isinstance(part, Mapping):
        return f"a {type(part).__name__} of {', '.join(map(repr, part)) or 'nothing'}"
    return f"a {type(part).__name__}" + (f" of {len(part)}" if isinstance(part, tuple | list) else "")
