"""The score of any network: its accuracy and its code-space indices on a sample."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from torch import Tensor, nn

from nas_relucode.cells.code_spaces import code_space
from nas_relucode.codes.batches import in_memory, moved
from nas_relucode.codes.capturing import CodeBatch
from nas_relucode.codes.network_state import float_type_of
from nas_relucode.codes.reading import ReadingOptions, read_options
from nas_relucode.errors import InputError, listed_items
from nas_relucode.indices.index import Index
from nas_relucode.indices.inputs import IndexInputs, NetworkSample
from nas_relucode.indices.registry import Indices, choose, named, saturated_indices
from nas_relucode.qualities.cost import parameters
from nas_relucode.texts import aligned, html_table, plain, with_spread
from nas_relucode.training.data import ImageData, Split

SHOWN_INDICES, SHOWN_LAYERS = 12, 5  # at most, where a score is printed
SATURATED = "* at an end of its range, where it no longer distinguishes networks"


@dataclass(frozen=True)
class Score:
    """Accuracy and indices of a network on a sample. An index that is undefined for the sample is NaN."""

    accuracy: float | None  # on the samples scored; None without labels, or without two or more class scores per sample
    split: str  # "train", "validation", "test", "all" or "given"
    samples: int
    joint: dict[str, float]  # the indices of the codes of all chosen layers
    layers: dict[str, dict[str, float]]  # the indices of each layer's codes
    saturated: dict[str, list[str]]  # "joint" or a layer -> its indices that lie at an end of their range
    parts: str = ""  # what of the data was taken for inputs, and for labels, in words

    def __repr__(self) -> str:
        table = [row[: 2 + SHOWN_LAYERS] for row in self.rows()[: 1 + SHOWN_INDICES]]
        hidden = {"indices": len(self.joint) - SHOWN_INDICES, "layers": len(self.layers) - SHOWN_LAYERS}
        more = [f"{count} more {what}" for what, count in hidden.items() if count > 0]
        notes = ([f"... and {', '.join(more)}: see .joint, .layers"] if more else []) + [SATURATED]
        return "\n".join([self._title(), f"  {self.parts}", aligned(table), *notes])

    def _repr_html_(self) -> str:
        """Every index, as a notebook shows it."""
        return f"<p>{self._title()}<br>{html.escape(self.parts)}</p>{html_table(self.rows())}<p>{SATURATED}</p>"

    def _title(self) -> str:
        accuracy = "no accuracy" if self.accuracy is None else f"{self.accuracy_name} {self.accuracy:.4f}"
        return f"Score: {accuracy} on {self.samples:,} samples ({self.split})"

    @property
    def accuracy_name(self) -> str:
        """What the accuracy is called: that of a split by its name, ``train_accuracy``; of samples given, accuracy."""
        return f"{self.split}_accuracy" if self.split in ("train", "validation", "test") else "accuracy"

    def rows(self) -> list[list[str]]:
        """One row per index, with a column for the joint codes and one for each layer; saturated values have a star."""
        columns = {"joint": self.joint, **self.layers}
        rows = [["index", *map(plain, columns)]]
        for index in self.joint:
            cells = []
            for where, values in columns.items():
                star = "*" if index in self.saturated.get(where, ()) else ""
                cells.append(with_spread(values[index]) + star if index in values else "")
            rows.append([index, *cells])
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""

        def or_none(values: dict[str, float]) -> dict[str, float | None]:
            return {name: None if math.isnan(value) else value for name, value in values.items()}

        return {
            self.accuracy_name: self.accuracy,
            "split": self.split,
            "samples": self.samples,
            "joint": or_none(self.joint),
            "layers": {layer: or_none(values) for layer, values in self.layers.items()},
            "saturated": self.saturated,
        }


def score(
    network: nn.Module,
    data: Any,
    *,
    indices: Indices = None,
    split: str | None = None,
    held_out: str | Split | tuple[Any, Any] | Tensor | None = None,
    **options: Unpack[ReadingOptions],
) -> Score:
    """Accuracy and code-space indices of ``network`` on one split of ``data``, or on given inputs and labels.

    ``network`` is any module with ReLUs; it runs on its own device and is left as it was. ``data`` is ImageData, a
    Split, a tensor, a pair of inputs and labels, a Dataset, a DataLoader or an iterator of batches. Outputs of two or
    more numbers per sample are taken as class scores. The options are those of `Reading`.

    ``indices`` are names of `INDICES`, or indices with settings, such as ``EdgeCount(theta=3)``; ``"all"``, or None,
    stands for every index that the data allow, except those that are computed on request (``Index.on_request``: of the
    cells as polyhedra, of sensitivity, segment_transitions and regularised_patterns). A result has the plain name of
    its index; if several of one name are requested, they have their settings beside it: ``edge_count[theta=3]``. An
    index with settings takes the place of the one that ``"all"`` would add.

    ``split`` names the split of ImageData, "train" if it is None; other data have none.
    ``held_out`` are other samples, or a split's name; None takes ImageData's validation split beside its train split.

    >>> import torch
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> result = score(network, torch.zeros(5, 1, 2, 2), indices=["cell_count"])
    >>> result.samples, result.joint, result.layers
    (5, {'cell_count': 1.0}, {'2': {'cell_count': 1.0}})
    """
    indices = None if indices is None else listed_items("indices", indices, Index)
    requested = named(indices)[0].values()  # a wrong name is an error before the network runs
    sample, held_out_sample, split = _samples(data, split, held_out)
    parts: list[str] = []

    def note(batch: CodeBatch) -> None:
        if not parts:
            parts.append(batch.parts)

    space = code_space(network, sample, **options, on_batch=note)
    held_out_space = None
    if held_out_sample is not None and any("held_out" in index.needs for index in requested):
        held_out_space = code_space(network, held_out_sample, **options)
    inputs = {
        "joint": IndexInputs(space, parameters(network), held_out_space, _network_sample(network, sample, options))
    }
    if not all(index.joint for index in requested):
        inputs |= _layer_inputs(inputs["joint"])
    chosen = {layer: choose(indices, read, joint=layer == "joint") for layer, read in inputs.items()}
    values = {
        layer: {name: index.value(inputs[layer]) for name, index in own_indices.items()}
        for layer, own_indices in chosen.items()
    }
    return Score(
        accuracy=None if space.correct_counts is None else float(space.correct_counts.sum()) / space.samples,
        split=split,
        samples=space.samples,
        joint=values["joint"],
        layers={layer.name: values.get(layer.name, {}) for layer in space.codes.layers},
        saturated={layer.name: [] for layer in space.codes.layers}
        | {layer: saturated_indices(inputs[layer], computed, chosen[layer]) for layer, computed in values.items()},
        parts=parts[0],
    )


def _layer_inputs(joint: IndexInputs) -> dict[str, IndexInputs]:
    """What the indices of each layer read; a layer without neurons has none."""
    inputs = {}
    for layer in joint.codes.layers:
        if layer.name == "joint":
            raise InputError("a module is called joint, the name for the codes of all layers. Rename the module.")
        if layer.neurons:
            held_out_space = None if joint.held_out is None else joint.held_out.layer(layer.name)
            inputs[layer.name] = IndexInputs(joint.space.layer(layer.name), held_out=held_out_space)
    return inputs


def _network_sample(network: nn.Module, sample: Any, options: ReadingOptions) -> NetworkSample | None:
    pair = in_memory(sample)
    if pair is None or not isinstance(pair[0], Tensor | np.ndarray):
        return None
    reading, forward = read_options(options)
    inputs, labels = moved(pair[0], None, float_type_of(network)), pair[1]
    return NetworkSample(network, inputs, None if labels is None else labels.reshape(-1).long(), reading, forward)


def _samples(data: Any, split: str | None, held_out: Any) -> tuple[Any, Any, str]:
    """The sample to read codes of, the held-out samples or None, and the name of the split."""
    if isinstance(data, ImageData):
        split = "train" if split is None else split
        if held_out is None and split == "train" and len(data.validation):
            held_out = "validation"
        if isinstance(held_out, str):
            held_out = data.split(held_out)
        return data.split(split), held_out, split
    for name, value in {"split": split, "held_out": held_out}.items():
        if isinstance(value, str):
            raise InputError(f"{name} {value!r} names a split, but the data have none. Give the samples themselves.")
    return data, held_out, "given"
