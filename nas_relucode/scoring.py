"""score(network, data): the accuracy and every index asked for, of any network, which is left as it was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes import Codes, capture_with_outputs
from nas_relucode.data import ImageData, Split
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.indices import CodeSpace, compute_indices, saturated_indices


@dataclass(frozen=True)
class Score:
    """What `score` found. Indices that are undefined for the sample are NaN."""

    accuracy: float | None  # on the samples scored; None without labels or rows of two and more class scores
    split: str  # "train", "validation", "test", "all" or "given"
    samples: int
    joint: dict[str, float]  # the indices of the codes of all chosen layers
    layers: dict[str, dict[str, float]]  # the indices of each layer's codes
    saturated: dict[str, list[str]]  # "joint" or a layer -> its indices that lie at an end of their range

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""

        def plain(values: dict[str, float]) -> dict[str, float | None]:
            return {name: None if math.isnan(value) else value for name, value in values.items()}

        return {
            "accuracy": self.accuracy,
            "split": self.split,
            "samples": self.samples,
            "joint": plain(self.joint),
            "layers": {layer: plain(values) for layer, values in self.layers.items()},
            "saturated": self.saturated,
        }


def score(
    network: nn.Module,
    data: ImageData | Split | tuple[Tensor, Tensor | None] | Tensor,
    *,
    layers: str | Sequence[str] = "all",
    indices: Iterable[str] | None = None,
    split: str = "train",
    graph_theta: int = 1,
    distance_theta: int | None = None,
    batch_size: int = 512,
) -> Score:
    """Accuracy and code-space indices of ``network`` on one split of ``data``, or on given inputs and labels.

    ``network`` is any module with ReLUs and one input; it runs on its own device and is left as it was (see `capture`).
    A row of two or more outputs is taken for class scores.
    ``layers`` is read as in `capture`, ``indices`` are names in `INDICES` (None: all that the data allow),
    cells are joined up to ``graph_theta`` bits, distances are truncated at ``distance_theta`` (None: never).

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> result = score(network, torch.zeros(5, 1, 2, 2), indices=["cell_count"])
    >>> result.samples, result.joint, result.layers
    (5, {'cell_count': 1.0}, {'2': {'cell_count': 1.0}})
    """
    inputs, labels, split = _samples(data, split)
    codes, outputs = capture_with_outputs(network, inputs, layers=layers, batch_size=batch_size)
    correct = None if labels is None else _correct(outputs, labels)
    parameters = sum(parameter.numel() for parameter in network.parameters())

    def space(codes: Codes, parameters: int | None) -> CodeSpace:
        return CodeSpace(codes, labels, correct, parameters, graph_theta, distance_theta)

    joint = space(codes, parameters)
    names = None if indices is None else [indices] if isinstance(indices, str) else list(indices)
    values = compute_indices(joint, names)
    result = Score(
        accuracy=None if correct is None else float(correct.mean()),
        split=split,
        samples=codes.samples,
        joint=values,
        layers={},
        saturated={"joint": saturated_indices(joint, values)},
    )
    for layer in codes.layers:
        # The number of parameters is the network's: it stands with the joint indices alone.
        alone = space(codes.layer(layer.name), None)
        chosen = None if names is None else [name for name in names if name != "parameter_count"]
        result.layers[layer.name] = compute_indices(alone, chosen)
        result.saturated[layer.name] = saturated_indices(alone, result.layers[layer.name])
    return result


def _samples(data: Any, split: str) -> tuple[Tensor, np.ndarray | None, str]:
    if isinstance(data, ImageData):
        data = data.split(split)
    else:
        split = "given"
        if isinstance(data, Tensor | np.ndarray):
            data = Split(torch.as_tensor(data), None)
        elif isinstance(data, tuple | list) and len(data) == 2:
            data = Split(torch.as_tensor(data[0]), None if data[1] is None else torch.as_tensor(data[1]))
        elif not isinstance(data, Split):
            raise InputError(
                f"data is a {type(data).__name__}. Give ImageData, a Split, a tensor of inputs or (inputs, labels)."
            )
    labels = None if data.labels is None else data.labels.cpu().numpy()
    if labels is not None and (labels.dtype.kind not in "iu" or labels.min(initial=0) < 0):
        raise InputError(f"labels are {labels.dtype} from {labels.min()}. Give whole numbers from 0, one a sample.")
    return data.inputs, labels, split


def _correct(outputs: Tensor | None, labels: np.ndarray) -> np.ndarray | None:
    """Which samples are classified as labelled; None if the outputs are not one row of class scores a sample."""
    if outputs is None or outputs.ndim != 2 or outputs.shape[1] < 2:
        return None
    if labels.max() >= outputs.shape[1]:
        raise InputError(
            f"labels are out of range: the largest is {labels.max()}, but the network has {outputs.shape[1]} outputs. "
            f"Labels must lie in 0..{outputs.shape[1] - 1}."
        )
    if not bool(torch.isfinite(outputs).all()):
        raise NonFiniteError("the network's outputs are not finite. Check the weights and the inputs.")
    return np.asarray(outputs.argmax(dim=1).numpy() == labels)
