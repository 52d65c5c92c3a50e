"""An index of one batch, with the signature of the scores in zero-cost-nas and NASLib."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.code_spaces import code_space
from nas_relucode.codes.batches import in_words
from nas_relucode.codes.network_state import check_network
from nas_relucode.codes.reading import ReadingOptions
from nas_relucode.errors import InputError, unknown, whole_number
from nas_relucode.indices.inputs import IndexInputs
from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.cost import parameters

OF_A_BATCH = {"class_counts", "correct_counts", "parameters"}  # known of one labelled batch


def zero_cost_score(
    net: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    split_data: int = 1,
    loss_fn: Any = None,
    *,
    index: str = "logdet_kernel",
    **options: Unpack[ReadingOptions],
) -> float:
    """The ``index`` of the joint codes of one batch under ``net``, which is left as it was.

    The first five arguments are those with which zero-cost-nas and NASLib call every score. The batch goes through the
    network in ``split_data`` parts, cut as in these packages: samples ``i * n // split_data`` to
    ``(i + 1) * n // split_data``, so that a batch that ran out of memory can be tried again in smaller parts. In
    ``mode`` ``"eval"`` the value does not depend on the parts. In ``"train"``, the default because these scores are for
    networks at initialisation, normalisation uses the statistics of the part, as in these packages. ``loss_fn`` is
    ignored: no index has a loss.

    ``targets`` are classes if they are whole numbers, one per sample; others (soft labels, images) are ignored. The
    options are those of `Reading`, with ``mode`` ``"train"`` by default. The value is NaN if the index is undefined,
    e.g. logdet_kernel if two samples have one code.

    Raises InputError for an unknown index, one that a batch cannot give (see `MEASURES`), one that needs labels if
    there are none, and arguments of other types. Errors of the network itself pass through, so that a batch that ran
    out of memory can be tried again.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> _ = nn.init.eye_(network[0].weight)
    >>> zero_cost_score(network, torch.tensor([[1.0, 1.0], [1.0, -1.0], [2.0, 3.0]]), index="cell_count")
    2.0
    """
    if not isinstance(index, str) or index not in MEASURES:
        raise unknown("index of a batch", index, MEASURES)
    _check(net, inputs)
    options = {"mode": "train", **options}
    parts = _parts(inputs, targets, whole_number("split_data", split_data, least=1))
    space = code_space(net, parts, **options)
    batch = IndexInputs(space, parameters(net))
    if INDICES[index].missing(batch):
        raise InputError(
            f"index {index!r} needs targets that are whole numbers, one per sample, and rows of two or more class "
            f"scores if it counts correct samples. The targets are {in_words(targets)}."
        )
    return INDICES[index].value(batch)


MEASURES: dict[str, Callable[..., float]] = {
    name: partial(zero_cost_score, index=name)
    for name, index in INDICES.items()
    if not index.on_request and set(index.needs) <= OF_A_BATCH
}  # a function for each index of a batch, to be registered under its name


def _check(net: Any, inputs: Any) -> None:
    check_network(net, "net")
    if not isinstance(inputs, Tensor | np.ndarray) or not inputs.ndim:
        raise InputError(f"inputs are {in_words(inputs)}. Give a tensor with one row per sample.")


def _parts(inputs: Tensor, targets: Any, parts: int) -> Iterator[Any]:
    """The parts of the batch, none of them empty, with labels if there are any."""
    labels = _labels(targets, len(inputs))
    parts = min(parts, len(inputs))  # with more parts than samples, the parts that are not empty hold one sample
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
