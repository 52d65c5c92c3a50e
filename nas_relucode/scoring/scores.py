"""score(network, data): the accuracy and every index asked for, of any network, which is left as it was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.code_spaces import code_space
from nas_relucode.codes.reading import ReadingOptions, read_options
from nas_relucode.errors import InputError, unknown
from nas_relucode.geometry.sample_geometry import Geometry, read_geometry
from nas_relucode.geometry.segments import segment_transitions
from nas_relucode.indices.inputs import Evidence
from nas_relucode.indices.registry import INDICES, compute_indices, saturated_indices
from nas_relucode.training.data import ImageData, Split

SEGMENTS = 100  # for the index segment_transitions, where it is named


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
    data: Any,
    *,
    indices: Iterable[str] | None = None,
    split: str = "train",
    held_out: str | Split | tuple[Any, Any] | Tensor | None = None,
    segments: int = 0,
    geometry: bool = False,
    module: str | None = None,
    wanted_size: tuple[float, float] | None = None,
    graph_theta: int = 1,
    distance_theta: int | None = None,
    **options: Unpack[ReadingOptions],
) -> Score:
    """Accuracy and code-space indices of ``network`` on one split of ``data``, or on given inputs and labels.

    ``network`` is any module with ReLUs; it runs on its own device and is left as it was. The options are those of
    `Reading`. ``data`` is ImageData, a Split, a tensor, a
    pair of inputs and labels, a DataLoader or an iterator of batches. A row of two or more outputs is taken for class
    scores. ``indices`` are names in `INDICES` (None: all that the data allow). ``held_out`` are other samples, or a
    split's name; None takes ImageData's validation split beside its train split. ``segments`` is the number of pairs of
    samples for segment_transitions, which takes long on deep networks: 0 leaves it out unless it is named. So does
    ``geometry`` with the indices of the cells as polyhedra, which are those of all ReLUs of the network, or of its
    ``module``, in the space of that module's inputs: a head's behind a convolutional network, say.
    ``wanted_size`` is mu and sigma of regularised_patterns, in thousands of parameters. Cells are joined up to
    ``graph_theta`` bits, distances are truncated at ``distance_theta`` (None: never).

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> result = score(network, torch.zeros(5, 1, 2, 2), indices=["cell_count"])
    >>> result.samples, result.joint, result.layers
    (5, {'cell_count': 1.0}, {'2': {'cell_count': 1.0}})
    """
    reading, forward = read_options(options)
    names = None if indices is None else [indices] if isinstance(indices, str) else list(indices)
    for name in names or []:
        if name not in INDICES:
            raise unknown("index", name, INDICES)
    sample, others, split = _samples(data, split, held_out)

    def wanted(need: str) -> bool:
        return names is None or any(need in INDICES[name].needs for name in names)

    space = code_space(network, sample, **options)
    held = code_space(network, others, **options) if others is not None and wanted("held_out") else None
    transitions = None
    if segments or (names is not None and wanted("transitions")):
        inputs, labels = _pair(sample)
        transitions = segment_transitions(
            network, inputs, labels, segments=segments or SEGMENTS, layers=reading.layers, forward=forward
        )
    shapes = None
    if geometry or (names is not None and wanted("geometry")):
        shapes = _geometry(network, sample, module)
    elif module is not None:
        of_polyhedra = ", ".join(name for name, index in INDICES.items() if "geometry" in index.needs)
        raise InputError(f"module {module!r} is for indices of polyhedra: name some of them too, of {of_polyhedra}.")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    evidence = {
        "joint": Evidence(space, parameters, graph_theta, distance_theta, held, transitions, shapes, wanted_size)
    }
    of_layers = None if names is None else [name for name in names if not INDICES[name].joint]
    if of_layers != []:  # what is the network's stands with the joint indices
        evidence |= _of_layers(evidence["joint"])
    found = {where: compute_indices(of, names if where == "joint" else of_layers) for where, of in evidence.items()}
    return Score(
        accuracy=None if space.correct_counts is None else float(space.correct_counts.sum()) / space.samples,
        split=split,
        samples=space.samples,
        joint=found["joint"],
        layers={layer.name: found.get(layer.name, {}) for layer in space.codes.layers},
        saturated={layer.name: [] for layer in space.codes.layers}
        | {where: saturated_indices(of, found[where]) for where, of in evidence.items()},
    )


def _of_layers(joint: Evidence) -> dict[str, Evidence]:
    """The evidence of each layer that has neurons."""
    found = {}
    for layer in joint.codes.layers:
        if layer.name == "joint":
            raise InputError("a module is called joint, as the codes of all layers are here. Give it another name.")
        if layer.neurons:
            held = None if joint.held_out is None else joint.held_out.layer(layer.name)
            space = joint.space.layer(layer.name)
            found[layer.name] = Evidence(space, None, joint.graph_theta, joint.distance_theta, held)
    return found


def _samples(data: Any, split: str, held_out: Any) -> tuple[Any, Any, str]:
    """What to take codes of, the held-out samples or None, and the name of the split."""
    if isinstance(data, ImageData):
        if held_out is None and split == "train" and len(data.validation):
            held_out = "validation"
        if isinstance(held_out, str):
            held_out = data.split(held_out)
        return _checked(data.split(split)), None if held_out is None else _checked(held_out), split
    if isinstance(held_out, str):
        raise InputError(f"held_out {held_out!r} names a split, but the data have none. Give the samples themselves.")
    return _checked(data), None if held_out is None else _checked(held_out), "given"


def _checked(data: Any) -> Any:
    """Inputs with labels as a Split, whose labels are known to be whole numbers from 0; else the data as they are."""
    if isinstance(data, Tensor | np.ndarray):
        data = Split(torch.as_tensor(data), None)
    elif isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[0], Tensor | np.ndarray):
        labels = None if data[1] is None else torch.as_tensor(data[1])
        if labels is None or labels.ndim < 2:  # else it is a second batch
            data = Split(torch.as_tensor(data[0]), labels)
    if isinstance(data, Split) and data.labels is not None:
        labels = data.labels
        if labels.is_floating_point() or labels.is_complex() or (len(labels) and int(labels.min()) < 0):
            kind = str(labels.dtype).removeprefix("torch.")
            raise InputError(f"labels are {kind}, some not whole numbers from 0. Give a class for each sample.")
    return data


def _geometry(network: nn.Module, sample: Any, module: str | None) -> Geometry:
    if isinstance(sample, Split):
        return read_geometry(network, sample.inputs, sample.labels, module=module)
    if isinstance(sample, Tensor):
        return read_geometry(network, sample, module=module)
    raise InputError("indices of the cells as polyhedra need inputs that can be read twice. Give tensors.")


def _pair(sample: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(sample, Split) or sample.labels is None:
        raise InputError("segment_transitions joins samples of one class. Give inputs with their labels, as tensors.")
    return sample.inputs, sample.labels
