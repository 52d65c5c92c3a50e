"""measure(net, inputs, targets, ...): an index of one batch, called as the zero-cost packages call their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.code_spaces import code_space
from nas_relucode.errors import InputError, unknown
from nas_relucode.indices.evidence import Evidence
from nas_relucode.indices.indices import INDICES

OF_A_BATCH = {"class_counts", "correct_counts", "parameters"}  # what one labelled batch can give an index


def measure(
    net: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    split_data: int = 1,
    loss_fn: Any = None,
    *,
    index: str = "logdet_kernel",
    layers: str | Sequence[str] = "all",
    mode: str = "train",
    preset: str = "paper",
    maps: str = "pixel",
    also: Sequence[str] = (),
) -> float:
    """An index of the joint codes of one batch under ``net``, which is left as it was.

    The first five arguments are those with which zero-cost-nas and NASLib call every score. ``split_data`` is the
    number of parts in which the batch goes through the network, the parts that these packages make: samples
    ``i * n // split_data`` to ``(i + 1) * n // split_data``, no part larger, so that what ran out of memory can be
    tried again in smaller ones. A code belongs to its sample, so in ``mode`` ``"eval"`` the value is the same for any
    number of parts. In ``"train"``, the default because these scores are for networks at initialisation, normalisation
    uses the statistics of the part, as it does there. ``loss_fn`` takes no part: no index has a loss.

    ``targets`` give an index classes where they are whole numbers, one a sample; others (soft labels, images) are not
    looked at. ``layers``, ``mode``, ``preset``, ``maps`` and ``also`` are those of `capture`. The value is NaN where
    the index is undefined, e.g. logdet_kernel where two samples have one code.

    Raises InputError for an unknown index, one that a batch cannot give (see `MEASURES`), one that needs labels where
    there are none, and ``split_data`` below 1.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> _ = nn.init.eye_(network[0].weight)
    >>> measure(network, torch.tensor([[1.0, 1.0], [1.0, -1.0], [2.0, 3.0]]), index="cell_count")
    2.0
    """
    if index not in MEASURES:
        raise unknown("index of a batch", index, MEASURES)
    if split_data < 1:
        raise InputError(f"split_data {split_data!r} is below 1. Give the number of parts, 1 for the batch as it is.")
    space = code_space(
        net, _parts(inputs, targets, split_data), layers=layers, mode=mode, preset=preset, maps=maps, also=also
    )
    of = Evidence(space, sum(parameter.numel() for parameter in net.parameters()))
    missing = [need for need in INDICES[index].needs if getattr(of, need) is None]
    if missing:
        raise InputError(
            f"index {index!r} needs targets that are whole numbers, one a sample, and rows of two and more class "
            f"scores where it tells who is correct. Targets are {_described(targets)}."
        )
    return INDICES[index].compute(of)


MEASURES: dict[str, Callable[..., float]] = {
    name: partial(measure, index=name) for name, of in INDICES.items() if set(of.needs) <= OF_A_BATCH
}  # one function an index that a batch can give, to register under its name


def _parts(inputs: Tensor, targets: Any, split_data: int) -> Iterator[Any]:
    """Parts of the batch, with labels where there are some; none is empty."""
    labels = _labels(targets, len(inputs))
    for i in range(split_data):
        rows = slice(i * len(inputs) // split_data, (i + 1) * len(inputs) // split_data)
        if rows.start < rows.stop:
            yield inputs[rows] if labels is None else (inputs[rows], labels[rows])


def _labels(targets: Any, samples: int) -> Tensor | None:
    if not isinstance(targets, Tensor | np.ndarray):
        return None
    labels = torch.as_tensor(targets)
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return labels if whole and labels.shape == (samples,) else None


def _described(targets: Any) -> str:
    if not isinstance(targets, Tensor | np.ndarray):
        return type(targets).__name__
    tensor = torch.as_tensor(targets)
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
