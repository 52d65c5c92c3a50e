"""Data of any length as batches, and what a batch holds: inputs, perhaps labels, and how many samples it may have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError, a_type

_ARRAYS = (Tensor, np.ndarray)
_PARTS = (*_ARRAYS, Mapping, tuple, list)
_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
LABELS = ("labels", "label")  # where a batch is a dict


class Slices:
    """The batches of a tensor, of a pair of inputs and labels or of a dict of tensors."""

    def __init__(self, data: Any, batch_size: int) -> None:
        self.data = data
        self.batch_size = batch_size
        labelled = isinstance(data, tuple) and isinstance(data[-1], Tensor)
        self.samples = len(data[-1]) if labelled else samples_of(data)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self.samples, self.batch_size):
            yield rows_of(self.data, self.samples, slice(start, start + self.batch_size))


def batches(data: Any, batch_size: int) -> Iterable[Any]:
    """`Slices` of data in memory, batches of a Dataset; those of a DataLoader or of another iterable as they are."""
    pair = in_memory(data)
    if pair is not None:
        return Slices(pair[0] if pair[1] is None else pair, batch_size)
    if isinstance(data, torch.utils.data.Dataset):
        return torch.utils.data.DataLoader(data, batch_size, generator=torch.Generator())
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise InputError(
            f"data is {a_type(data)}. Give a tensor of inputs, (inputs, labels), a Split, a Dataset, a DataLoader "
            "or an iterator of batches."
        )
    return data


def in_memory(data: Any) -> tuple[Any, Tensor | None] | None:
    """Inputs, and labels where they are given apart, of data that lie in memory; None for batches.

    Data in memory are a tensor, an array, a dict of them, a Split, or a pair of inputs and labels. Raises InputError
    for inputs that are no numbers, and for labels that are not one whole number per sample.
    """
    if hasattr(data, "inputs") and hasattr(data, "labels"):  # a Split
        data = (data.inputs, data.labels)
    is_pair = isinstance(data, tuple | list) and len(data) == 2
    if is_pair and isinstance(data, list) and labels_of(data) is not None and _alike(*data):
        raise InputError(
            f"data are a list of two, each {in_words(data[0])}: two batches, or inputs and their labels. Give "
            "(inputs, labels) as a tuple, or iter([batch, batch])."
        )
    if is_pair and (isinstance(data, tuple) or labels_of(data) is not None):
        inputs = _inputs(data[0])
        return inputs, None if data[1] is None else _labels(data[1], inputs)
    if isinstance(data, (*_ARRAYS, Mapping)) or hasattr(data, "to_numpy"):
        return _inputs(data), None
    return None


def _alike(one: Any, other: Any) -> bool:
    """Whether two parts have one shape and one type."""
    return all(hasattr(part, "dtype") for part in (one, other)) and in_words(one) == in_words(other)


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


def _inputs(values: Any) -> Any:
    """The inputs of data in memory: lists of numbers as a tensor, anything else as it is."""
    if hasattr(values, "to_numpy"):  # a table
        raise InputError(f"inputs are {a_type(values)}. Give numbers: inputs.to_numpy(dtype='float32').")
    if isinstance(values, Tensor | Mapping) or any(True for _ in leaves(values)):
        if isinstance(values, np.ndarray) and values.dtype.kind not in "biufc":
            raise InputError(f"inputs are {in_words(values)}. Give numbers.")
        return values
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"inputs are {in_words(values)}, not of numbers. Give a tensor or an array.") from error


def _labels(values: Any, inputs: Any) -> Tensor:
    whole = whole_numbers(values)
    if whole is None or len(whole) not in lengths_of(inputs):
        raise InputError(
            f"labels are {in_words(values)} for {_counts(lengths_of(inputs))} inputs. {_remedy(values, whole)}"
        )
    kept = _tensor(values) if isinstance(values, _ARRAYS) else None
    return kept if kept is not None and kept.dtype in _WHOLE else torch.from_numpy(whole)


def _remedy(values: Any, whole: np.ndarray | None) -> str:
    """What to do about labels that cannot be used; ``whole`` are their numbers, if they are whole ones."""
    if whole is not None:
        return "Give as many labels as inputs, one whole number per sample."
    try:
        array = as_array(values)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty(0, object)
    if array.ndim == 2 and array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all():
        return "They are one-hot. Give whole numbers, one per sample: labels.argmax(1)."
    if array.ndim == 1 and array.dtype.kind == "f":
        return "Give whole numbers, one per sample, that name classes; only classifiers can be compared."
    return "Give whole numbers, one per sample; numpy.unique(names, return_inverse=True)[1] numbers names."


def whole_numbers(values: Any) -> np.ndarray | None:
    """Whole numbers of the shape (samples,) or (samples, 1), of any type, as int64, (samples,); None for others.

    >>> whole_numbers([0.0, 2.0]), whole_numbers(np.array([[True], [False]])), whole_numbers([0.5])
    (array([0, 2]), array([1, 0]), None)
    """
    try:
        array = as_array(values)
    except (TypeError, ValueError, RuntimeError):  # lists of several lengths
        return None
    if not array.ndim or array.shape[1:] not in ((), (1,)) or array.dtype.kind not in "biuf":
        return None
    array = array.reshape(-1)
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
    return whole if (whole == array).all() else None


def as_array(values: Any) -> np.ndarray:
    """The values as a NumPy array; a tensor may lie on any device and have any type."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())
    return np.asarray(values)


def each(batch: Any, change: Callable[[Any], Any]) -> Any:
    """The batch with ``change`` applied to each of its tensors and arrays."""
    if isinstance(batch, _ARRAYS):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: each(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, [each(value, change) for value in batch])
    return batch


def copied(batch: Any) -> Any:
    """The batch with copies of its tensors and arrays, which may be overwritten."""
    return each(batch, lambda values: values.clone() if isinstance(values, Tensor) else values.copy())


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


def moved(batch: Any, device: torch.device | None, floats: torch.dtype | None = None) -> Any:
    """The batch with its tensors and arrays as tensors on ``device``, or where they are.

    NumPy's floats, which are float64 unless one asks for others, become ``floats``, the type of a network's weights;
    tensors keep theirs.
    """

    def move(values: Tensor | np.ndarray) -> Tensor:
        is_float = isinstance(values, np.ndarray) and values.dtype.kind == "f"
        return _tensor(values).to(device=device, dtype=floats if is_float else None)

    return each(batch, move)


def _tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:  # torch warns of read-only memory
        values = values.copy()
    return torch.as_tensor(values)


def _like(batch: Sequence[Any], parts: list[Any]) -> Any:
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)  # type: ignore[call-arg]


def labels_of(batch: Any) -> np.ndarray | None:
    """The labels of a batch: int64, (samples,); None if it has none. See `read_batch`.

    >>> labels_of({"x": torch.zeros(2, 3), "label": [4, 5]})
    array([4, 5])
    """
    return _split(batch, None)[1]


def _split(batch: Any, needed: int | None) -> tuple[Any, np.ndarray | None]:
    """The inputs and the labels of a batch; all of it and None if it has no labels. See `read_batch`."""
    inputs: Any
    if isinstance(batch, Mapping):
        name = next((name for name in LABELS if name in batch), None)
        if name is None or (needed is not None and len(batch) <= needed):
            return batch, None
        values = batch[name]
        inputs = {key: value for key, value in batch.items() if key != name}
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        *others, values = batch
        if len(batch) == needed and (len(batch) > 2 or isinstance(batch[0], _ARRAYS)):
            return batch, None  # the network needs them all
        others_too = needed is not None or any(_labels_beside(part, values) is not None for part in others)
        if len(others) > 1 and needed != len(others) and others_too:
            return batch, None  # more than one part may be the labels
        inputs = others[0] if len(others) == 1 else tuple(others)
    else:
        return batch, None
    labels = _labels_beside(values, inputs)
    return (batch, None) if labels is None else (inputs, labels)


def _labels_beside(values: Any, inputs: Any) -> np.ndarray | None:
    """The labels that a part of a batch beside its inputs may be; None if it is none."""
    if not isinstance(values, (*_ARRAYS, tuple, list)):
        return None
    is_float = "float" in str(getattr(values, "dtype", ""))
    if is_float and getattr(inputs, "shape", None) == getattr(values, "shape", ()):
        return None  # two batches of one feature
    labels = whole_numbers(values)
    return labels if labels is not None and len(labels) in lengths_of(inputs) else None


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
        raise InputError(
            f"{in_words(data)} may have {_counts(lengths)} samples. "
            "Give tensors, or tuples or dicts of tensors, whose first dimension is the samples."
        )
    return lengths.pop()


def _counts(lengths: set[int]) -> str:
    return " or ".join(map(str, sorted(lengths))) or "no"


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


@dataclass(frozen=True, eq=False)
class Parts:
    """What a batch holds."""

    batch: Any  # as it came
    inputs: Any  # without the labels: a tensor, a dict or a tuple of arguments
    labels: np.ndarray | None  # int64, (samples,)
    lengths: set[int]  # the numbers of samples that it may have, of which the activations have one
    whole: bool  # a function of the user's takes the batch as it came

    @property
    def passed(self) -> Any:
        """What the network, or the user's function, is called with."""
        return self.batch if self.whole else self.inputs

    @property
    def arguments(self) -> bool:
        """Whether the inputs are a tuple of arguments of the network."""
        return not self.whole and isinstance(self.inputs, tuple | list)

    def with_inputs(self, inputs: Any) -> Any:
        """What is passed for other inputs of the same form."""
        if not self.whole or self.labels is None:
            return inputs
        if isinstance(self.batch, Mapping):
            return {**self.batch, **inputs}
        return _like(self.batch, [*(inputs if len(self.batch) > 2 else [inputs]), self.batch[-1]])

    def moved(self, device: torch.device, floats: torch.dtype) -> Parts:
        """The same on a device; see `moved`."""
        parts = replace(self, inputs=moved(self.inputs, device, floats))
        return replace(parts, batch=moved(parts.with_inputs(parts.inputs), device, floats))

    def rows(self, samples: int, rows: slice | list[int]) -> Any:
        """What is passed for some of the ``samples`` samples."""
        if self.arguments:
            return _like(self.inputs, [rows_of(part, samples, rows) for part in self.inputs])
        return rows_of(self.passed, samples, rows)

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else "whole numbers as labels"
        return f"{in_words(self.inputs)} as inputs, {labels}"


def read_batch(batch: Any, needed: int | None) -> Parts:
    """What is input and what is label in a batch, for a network that needs this number of arguments.

    None stands for a function of the user's, which takes the batch as it is, with its labels.

    Labels are whole numbers, one per sample, of any type, of the shape (samples,) or (samples, 1): the second of a
    pair, the last of a longer tuple if the network needs all others or no other could be labels, or the entry
    ``labels`` or ``label`` of a dict. Where the network needs all parts of a batch, none is its labels. Raises
    InputError where a tuple has more parts than the network needs: the rest may be labels, or optional arguments.
    """
    if needed is not None and isinstance(batch, tuple | list) and len(batch) == 2 and batch[1] is None:
        batch = batch[0]
    inputs, labels = _split(batch, needed)
    arguments = needed is not None and isinstance(inputs, tuple | list)
    if arguments and labels is None and any(isinstance(part, _ARRAYS) for part in batch[needed:]):
        raise _ambiguous(batch, needed or 1)
    if labels is not None:
        lengths = {len(labels)}
    else:
        lengths = set[int]().union(*map(lengths_of, inputs if arguments else [inputs]))
    if not lengths:
        raise InputError(
            f"a batch is {in_words(batch)}, without a tensor whose rows could be counted. "
            "Give tensors, or tuples or dicts of tensors, whose first dimension is the samples."
        )
    return Parts(batch, inputs, labels, lengths, needed is None)


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
        f"a batch is {a_type(batch)} of {len(batch)}: beside {in_words(batch[0])} it holds {others}, but "
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
        return f"{a_type(part)} of {', '.join(map(repr, part)) or 'nothing'}"
    return a_type(part) + (f" of {len(part)}" if isinstance(part, tuple | list) else "")
