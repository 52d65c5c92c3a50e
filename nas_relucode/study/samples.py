"""The samples of a split, however they are given, as batches that can be read again and again in one order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, Subset, TensorDataset

from nas_relucode.codes.batches import batches, in_memory, in_words, read_batch, samples_of
from nas_relucode.codes.digests import SamplesDigest
from nas_relucode.errors import InputError, a_type
from nas_relucode.training.data import ImageData

BATCH_SIZE = 512  # samples, where the data do not come in batches
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
    if in_memory(data) is None and _read(data, split, labelled).digest != samples.digest:
        raise InputError(
            f"two passes over the {split} samples give different samples, or another order, so that the predictions of "
            "two networks could not be compared sample by sample. Give the data set itself, or a loader that neither "
            "shuffles, draws, nor augments at random."
        )
    return samples


def readable(data: Any, split: str) -> Any:
    """The data as what functions that read codes take: data in memory, or batches that can be read again and again.

    A Dataset, and a DataLoader that goes through its data set in order or at random, is read in the data set's order,
    without leaving out a last batch.
    """
    if isinstance(data, ImageData):
        raise InputError(f"the {split} samples are ImageData, which hold several splits. Give data.{split}.")
    if isinstance(data, DataLoader):
        data = _in_order(data)
    if isinstance(data, Dataset):
        tensors = _tensors(data)
        data = DataLoader(data, BATCH_SIZE, generator=torch.Generator()) if tensors is None else tensors
    if isinstance(data, tuple | list) and len(data) == 1:
        data = data[0]
    try:
        lies_in_memory = in_memory(data) is not None
    except InputError as error:
        raise type(error)(f"the {split} {error}") from error
    if not lies_in_memory and (isinstance(data, str | bytes) or not isinstance(data, Iterable)):
        raise InputError(f"the {split} samples are {a_type(data)}. {GIVE}.")
    if not lies_in_memory and iter(data) is data:
        raise InputError(
            f"the {split} samples are an iterator, which can be read once, but they are read for each network. {GIVE}."
        )
    return data


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


def _read(data: Any, split: str, labelled: bool) -> OrderedSamples:
    """The samples as they come in this pass."""
    digest, labels, count = SamplesDigest(), [np.zeros(0, np.int64)], 0
    for number, batch in enumerate(batches(data, BATCH_SIZE)):
        parts = read_batch(batch, None)
        count += samples_of(parts.inputs)
        digest.add({"inputs": parts.inputs, "labels": parts.labels})
        if parts.labels is not None:
            labels.append(parts.labels)
        elif labelled:
            raise InputError(
                f"batch {number} of the {split} samples ({in_words(batch)}) has no labels, one whole number per "
                f"sample, but accuracy is measured on them. {GIVE} of inputs and labels."
            )
    known = np.concatenate(labels)
    if known.min(initial=0) < 0:
        raise InputError(f"the smallest {split} label is {known.min()}. Give whole numbers from 0, one per sample.")
    return OrderedSamples(split, data, count, known if len(known) == count else None, digest.text)
