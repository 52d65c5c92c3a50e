"""measure(net, inputs, targets, ...): an index of one batch, called as the zero-cost packages call their scores."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.code_spaces import code_space
from nas_relucode.codes.reading import ReadingOptions
from nas_relucode.errors import InputError, unknown
from nas_relucode.indices.inputs import IndexInputs
from nas_relucode.indices.registry import INDICES

OF_A_BATCH = {"class_counts", "correct_counts", "parameters"}  # what one labelled batch can give an index


def measure(
    net: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    split_data: int = 1,
    loss_fn: Any = None,
    *,
    index: str = "logdet_kernel",
    **options: Unpack[ReadingOptions],
) -> float:
    """An index of the joint codes of one batch under ``net``, which is left as it was.

    The first five arguments are those with which zero-cost-nas and NASLib call every score. ``split_data`` is the
    number of parts in which the batch goes through the network, the parts that these packages make: samples
    ``i * n // split_data`` to ``(i + 1) * n // split_data``, no part larger, so that what ran out of memory can be
    tried again in smaller ones. A code belongs to its sample, so in ``mode`` ``"eval"`` the value is the same for any
    number of parts. In ``"train"``, the default because these scores are for networks at initialisation, normalisation
    uses the statistics of the part, as it does there. ``loss_fn`` takes no part: no index has a loss.

    ``targets`` give an index classes where they are whole numbers, one a sample; others (soft labels, images) are not
    looked at. The options are those of `Reading`, with ``mode`` ``"train"`` by default. The value is NaN where the
    index is undefined, e.g. logdet_kernel where two samples have one code.

    Raises InputError for an unknown index, one that a batch cannot give (see `MEASURES`), one that needs labels where
    there are none, and arguments of another kind than these. What the network itself raises passes through, so that a
    batch that found no memory can be tried again.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> _ = nn.init.eye_(network[0].weight)
    >>> measure(network, torch.tensor([[1.0, 1.0], [1.0, -1.0], [2.0, 3.0]]), index="cell_count")
    2.0
    """
    if not isinstance(index, str) or index not in MEASURES:
        raise unknown("index of a batch", index, MEASURES)
    _check(net, inputs)
    options = {"mode": "train", **options}
    parts = _parts(inputs, targets, _number_of_parts(split_data))
    space = code_space(net, parts, **options)
    batch = IndexInputs(space, sum(parameter.numel() for parameter in net.parameters()))
    if INDICES[index].missing(batch):
        raise InputError(
            f"index {index!r} needs targets that are whole numbers, one a sample, and rows of two and more class "
            f"scores where it tells who is correct. Targets are {_described(targets)}."
        )
    return INDICES[index].compute(batch)


MEASURES: dict[str, Callable[..., float]] = {
    name: partial(measure, index=name)
    for name, index in INDICES.items()
    if not index.on_request and set(index.needs) <= OF_A_BATCH
}  # one function an index that a batch can give, to register under its name


def _check(net: Any, inputs: Any) -> None:
    if not isinstance(net, nn.Module):
        raise InputError(f"net is {_described(net)}. Give a torch.nn.Module.")
    if not isinstance(inputs, Tensor | np.ndarray) or not inputs.ndim:
        raise InputError(f"inputs are {_described(inputs)}. Give a tensor with a row a sample; targets apart.")


def _number_of_parts(split_data: Any) -> int:
    try:
        parts = operator.index(split_data)
    except TypeError:
        parts = 0
    if parts < 1 or isinstance(split_data, bool):
        raise InputError(
            f"split_data {split_data!r} is not a whole number of at least 1. "
            "Give the number of parts, 1 for the batch as it is."
        )
    return parts


def _parts(inputs: Tensor, targets: Any, parts: int) -> Iterator[Any]:
    """Parts of the batch, with labels where there are some; none is empty."""
    labels = _labels(targets, len(inputs))
    parts = min(parts, len(inputs))  # of more parts, those that are not empty hold one sample as well
    for i in range(parts):
        rows = slice(i * len(inputs) // parts, (i + 1) * len(inputs) // parts)
        yield inputs[rows] if labels is None else (inputs[rows], labels[rows])


def _labels(targets: Any, samples: int) -> Tensor | None:
    if not isinstance(targets, Tensor | np.ndarray) or targets.shape != (samples,):
        return None
    if isinstance(targets, np.ndarray) and targets.dtype.kind not in "iu":
        return None
    labels = torch.as_tensor(targets)
    return None if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool else labels


def _described(given: Any) -> str:
    if not isinstance(given, Tensor | np.ndarray):
        return type(given).__name__
    return f"{str(given.dtype).removeprefix('torch.')} of shape {tuple(given.shape)}"
