"""The samples of a split, however they are given, as batches that can be read again and again in one order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, Subset, TensorDataset

from nas_relucode.codes.batches import batches, leaves, samples_of
from nas_relucode.errors import InputError
from nas_relucode.training.data import ImageData, Split

BATCH_SIZE = 512  # samples, where the data do not come in batches
LABELS = ("labels", "label")  # where a batch is a dict
ARRAYS = (Tensor, np.ndarray)
GIVE = "Give tensors or arrays (inputs, labels), a Split, a Dataset or a DataLoader"


@dataclass(frozen=True, eq=False)
class OrderedSamples:
    """Samples in an order that is the same in each pass."""

    split: str  # "validation" or "test", for messages
    data: Any = field(repr=False)  # from `readable`
    samples: int
    labels: np.ndarray | None = field(repr=False)  # int64, (samples,)
    digest: str  # of inputs and labels in their order


def ordered_samples(data: Any, split: str, *, labelled: bool = True) -> OrderedSamples:
    """The samples of a split on which a network is evaluated.

    Data that do not lie in memory are read twice. Raises InputError if there are no samples, if some have no label
    though they are to be ``labelled``, or if the two passes differ, since the predictions of different networks are
    compared sample by sample.
    """
    data = readable(data, split)
    samples = _read(data, split, labelled)
    if not samples.samples:
        raise InputError(f"there are no {split} samples, but accuracy is measured on them. {GIVE} with samples in it.")
    if isinstance(data, Batches) and _read(data, split, labelled).digest != samples.digest:
        raise InputError(
            f"two passes over the {split} samples give different samples, or another order, so that the predictions of "
            "two networks could not be compared sample by sample. Give the data set itself, or a loader that neither "
            "shuffles, draws, nor augments at random."
        )
    return samples


def readable(data: Any, split: str) -> Any:
    """The data as what functions that read codes take: a Split, a pair of inputs and labels, or `Batches`.

    A Dataset, and a DataLoader that goes through its data set in order or at random, is read in the data set's order,
    without leaving out a last batch. Batches are pairs of inputs and labels: of a dict the entry ``labels`` or
    ``label``, of a tuple the last tensor, if it has one whole number per sample. Arrays of float64 become float32.
    """
    if isinstance(data, ImageData):
        raise InputError(f"the {split} samples are ImageData, which hold several splits. Give data.{split}.")
    if isinstance(data, Split):
        return data
    if isinstance(data, DataLoader):
        data = _in_order(data)
    if isinstance(data, Dataset):
        tensors = _tensors(data)
        data = DataLoader(data, BATCH_SIZE, generator=torch.Generator()) if tensors is None else tensors
    pair = _in_memory(data, split)
    if pair is not None:
        return pair if isinstance(pair[0], Mapping) else Split(*pair)
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise InputError(f"the {split} samples are a {type(data).__name__}. {GIVE}.")
    if iter(data) is data:
        raise InputError(
            f"the {split} samples are an iterator, which can be read once, but they are read for each network. {GIVE}."
        )
    return Batches(data)


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches (inputs, labels) that can be read again and again; the labels are int64, or None where there are none."""

    data: Iterable[Any]

    def __iter__(self) -> Iterator[Any]:
        for batch in self.data:
            pair = pair_of(batch)
            yield pair if pair[1] is not None else batch


def _in_order(loader: DataLoader[Any]) -> Any:
    """The data set of a loader that goes through it in order or at random; any other loader as it is."""
    plain = type(loader.batch_sampler) is BatchSampler and type(loader.sampler) in (SequentialSampler, RandomSampler)
    if not plain:
        return loader
    default = loader.collate_fn is torch.utils.data.default_collate
    if default and _tensors(loader.dataset) is not None:
        return loader.dataset
    return DataLoader(
        loader.dataset,
        loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator(),  # a pass draws no number of torch's own random state
    )


def _tensors(data: Dataset[Any]) -> tuple[Tensor, ...] | None:
    """Inputs and labels, if there are any, of a TensorDataset or of a part of one; None for any other data set."""
    if type(data) is TensorDataset:
        return data.tensors if len(data.tensors) <= 2 else None
    if type(data) is Subset and (tensors := _tensors(data.dataset)) is not None:
        return tuple(tensor[torch.as_tensor(data.indices)] for tensor in tensors)
    return None


def _in_memory(data: Any, split: str) -> tuple[Any, Tensor | None] | None:
    """Inputs and labels of data that lie in memory: one tensor or dict of tensors, alone or with labels; else None."""
    if isinstance(data, (*ARRAYS, Mapping)):
        inputs, labels = pair_of(data)
    elif isinstance(data, tuple | list) and 1 <= len(data) <= 2 and isinstance(data[0], (*ARRAYS, Mapping)):
        inputs, labels = data[0], None
        if len(data) == 2 and data[1] is not None:
            labels = _labels(data[1], samples_of(inputs))
            if labels is None and isinstance(data, list):
                return None  # two batches
            if labels is None:
                raise InputError(
                    f"the {split} labels are not one whole number for each of {samples_of(inputs)} inputs."
                )
    else:
        return None
    if isinstance(inputs, Mapping):
        return {name: _tensor(values) for name, values in inputs.items()}, labels
    return _tensor(inputs), labels


def pair_of(batch: Any) -> tuple[Any, Tensor | None]:
    """A batch as its inputs and its labels, int64, (samples,); None if it has no labels."""
    if isinstance(batch, Mapping):
        for name in LABELS:
            if name in batch and (labels := _labels(batch[name], samples_of(batch))) is not None:
                return {key: value for key, value in batch.items() if key != name}, labels
        return batch, None
    if isinstance(batch, tuple | list) and len(batch) > 1:
        *inputs, last = batch
        labels = _labels(last, samples_of(batch))
        if labels is not None:
            return inputs[0] if len(inputs) == 1 else tuple(inputs), labels
    if isinstance(batch, tuple | list) and len(batch) == 1:
        return batch[0], None
    return batch, None


def _labels(values: Any, samples: int) -> Tensor | None:
    """One whole number per sample, int64; None if the values are something else."""
    if not isinstance(values, (*ARRAYS, list, tuple)):
        return None
    try:
        labels = torch.as_tensor(np.array(values) if isinstance(values, np.ndarray) else values)
    except (TypeError, ValueError, RuntimeError):
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != samples or labels.is_complex():
        return None
    whole = labels.to(torch.int64)
    return whole if bool((whole == labels).all()) else None


def _tensor(values: Any) -> Any:
    if not isinstance(values, np.ndarray):
        return values
    return torch.from_numpy(values.astype(np.float32 if values.dtype == np.float64 else values.dtype))


def _read(data: Any, split: str, labelled: bool) -> OrderedSamples:
    """The samples as they come in this pass."""
    digest, labels, count = SamplesDigest(), [np.zeros(0, np.int64)], 0
    for number, batch in enumerate(batches(data, BATCH_SIZE)):
        batch_inputs, batch_labels = pair_of(batch)
        count += samples_of(batch_inputs)
        digest.add(batch_inputs, batch_labels)
        if batch_labels is not None:
            labels.append(batch_labels.cpu().numpy())
        elif labelled:
            raise InputError(
                f"batch {number} of the {split} samples has no labels, one whole number per sample, but accuracy is "
                f"measured on them. {GIVE} of inputs and labels."
            )
    known = np.concatenate(labels)
    if known.min(initial=0) < 0:
        raise InputError(f"the smallest {split} label is {known.min()}. Give whole numbers from 0, one per sample.")
    return OrderedSamples(split, data, count, known if len(known) == count else None, digest.text)


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
        for name, values in leaves({"inputs": inputs, "labels": labels}):
            array = np.ascontiguousarray(values.detach().cpu() if isinstance(values, Tensor) else values)
            key = f"{name} {array.dtype.str} {array.shape[1:]}"
            self._parts.setdefault(key, hashlib.sha256()).update(array.data)

    @property
    def text(self) -> str:
        """The digest of the batches so far."""
        parts = {name: digest.hexdigest() for name, digest in self._parts.items()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
