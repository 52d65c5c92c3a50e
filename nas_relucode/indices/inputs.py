"""What an index reads: the code space of a sample and what else is known, computed once for all indices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.graph import AdjacencyGraph, Connectivity, adjacency_graph, connectivity
from nas_relucode.cells.hamming import class_distance_sums, ones_by_class, whole_theta
from nas_relucode.cells.occupied import Cells
from nas_relucode.codes.batches import as_array
from nas_relucode.codes.bits import Codes
from nas_relucode.codes.capturing import capture
from nas_relucode.codes.class_scores import TwoClasses
from nas_relucode.codes.reading import Forward, Reading, ReadingOptions
from nas_relucode.errors import InputError
from nas_relucode.geometry.affine_maps import AffineMaps, affine_deviations, affine_maps, spread
from nas_relucode.geometry.borders import margins
from nas_relucode.geometry.sample_geometry import Geometry, read_geometry
from nas_relucode.geometry.segments import same_class_pairs, segment_transitions

Value = TypeVar("Value")


class _Once:
    """Computes a value when it is first asked for, and keeps it."""

    _kept: dict[Any, Any]

    def _once(self, key: Any, compute: Callable[[], Value]) -> Value:
        if key not in self._kept:
            self._kept[key] = compute()
        value: Value = self._kept[key]
        return value


@dataclass(frozen=True, eq=False)
class NetworkSample(_Once):
    """The network and the samples themselves, for indices that need more than codes."""

    network: nn.Module
    inputs: Tensor  # (samples, ...)
    labels: Tensor | None  # whole numbers, (samples,)
    reading: Reading = field(default_factory=Reading)  # how codes are read
    forward: Forward | None = None  # the user's, or TwoClasses for a network with one logit
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def points(self) -> Tensor:
        """The inputs, which may be moved a little. Raises InputError for whole numbers."""
        if not self.inputs.is_floating_point():
            given = str(self.inputs.dtype).removeprefix("torch.")
            raise InputError(
                f"this index needs floating-point inputs, and these are {given}: it moves them a little, or takes "
                "gradients. Give inputs.float(), to a network that takes them, or leave the index out."
            )
        return self.inputs

    @property
    def on_points(self) -> Forward | None:
        """The user's ``forward`` for points near samples or between them, which have the first sample's label if the
        samples have labels: a batch of the form that it knows.
        """
        forward, labels = self.forward, self.labels
        if forward is None or labels is None:
            return forward
        first = labels[:1]

        def with_label(network: nn.Module, points: Tensor) -> Any:
            return forward(network, (points, first.to(points.device).expand(len(points))))

        return self._once("on_points", lambda: with_label)  # the same each time, so that the network is checked once

    def geometry(self, module: str | None = None) -> Geometry:
        """The cells as polyhedra, in the space of the network's inputs or of those of its ``module``."""
        self._check_no_forward()
        two_classes = isinstance(self.forward, TwoClasses)
        return self._once(
            ("geometry", module),
            lambda: read_geometry(self.network, self.inputs, self.labels, module=module, two_classes=two_classes),
        )

    def _check_no_forward(self) -> None:
        """Raises InputError if the user calls the network in a way of their own: its cells would be of other points."""
        forward = self.forward.forward if isinstance(self.forward, TwoClasses) else self.forward
        if forward is not None:
            raise InputError("cells as polyhedra are read off network(inputs). Leave out forward, or this index.")

    def transitions(self, segments: int) -> np.ndarray:
        """Cell borders between samples of one class on ``segments`` segments: int64, (segments,)."""
        if self.labels is None:
            raise InputError("segment_transitions joins samples of one class. Give inputs with their labels.")
        return segment_transitions(
            self.network,
            self.inputs,
            self.labels,
            segments=segments,
            layers=self.reading.layers,
            forward=self.on_points,
        )

    def first_labels(self, samples: int) -> np.ndarray:
        """int64, (samples,): the labels of the first samples."""
        if self.labels is None:
            raise InputError("this index compares predictions with labels. Give inputs with their labels.")
        return as_array(self.labels[:samples]).astype(np.int64)

    def affine_maps(self, samples: int) -> AffineMaps:
        """The affine maps of the cells of the first samples."""
        return self._once(
            ("affine_maps", samples), lambda: affine_maps(self.network, self.points[:samples], forward=self.on_points)
        )

    def cell_margins(self, samples: int) -> np.ndarray:
        """float64, (samples,): the distance of the first samples to the border of their cell."""
        self._check_no_forward()
        return self._once(("cell_margins", samples), lambda: margins(self.network, self.inputs[:samples]).distance)

    def codes_of(self, inputs: Tensor) -> Codes:
        """The codes of inputs, (samples, ...), one row each."""
        options: ReadingOptions = {**self.reading.options, "forward": self.on_points}
        return capture(self.network, inputs, **options)

    def flips(self, samples: int, radius: float, directions: int) -> float:
        """The mean number of bits that differ ``radius`` spreads away, in ``directions`` random directions."""

        def compute() -> float:
            inputs, generator = self.points[:samples], torch.Generator().manual_seed(0)
            own, length = self.codes_of(inputs), radius * spread(inputs)
            total = 0
            for _ in range(directions):
                noise = torch.randn(inputs.shape, generator=generator, dtype=torch.float64)
                noise *= length / noise.flatten(1).norm(dim=1).view(-1, *[1] * (inputs.ndim - 1))
                near = self.codes_of(inputs + noise.to(inputs))
                total += int(np.bitwise_count(own.words ^ near.words).sum())
            return total / directions / len(inputs)

        return self._once(("flips", samples, radius, directions), compute)

    def pairs(self, samples: int, pairs: int) -> tuple[Tensor, Tensor]:
        """The two ends of ``pairs`` segments between samples of one class."""
        first, second = same_class_pairs(self.first_labels(samples), pairs)
        return self.points[first], self.points[second]

    def affine_deviation(self, samples: int, pairs: int, points: int) -> float:
        """See `AffineDeviation`: ``pairs`` segments, each at ``points`` places."""
        starts, ends = self.pairs(samples, pairs)
        size = spread(self.affine_maps(samples).scores)
        deviations = affine_deviations(self.network, starts, ends, points=points, forward=self.on_points)
        return float(deviations.mean()) / size if size > 0 else math.nan

    def folding(self, samples: int, pairs: int, points: int) -> float:
        """See `SpaceFolding`: ``pairs`` segments, each at ``points`` places."""
        starts, ends = self.pairs(samples, pairs)
        steps = [self.codes_of(torch.lerp(starts, ends, step / points)).words for step in range(points + 1)]
        length = sum(np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64) for a, b in pairwise(steps))
        away = np.max([np.bitwise_count(steps[0] ^ step).sum(axis=1, dtype=np.int64) for step in steps], axis=0)
        moves = length > 0
        return float((1 - away[moves] / length[moves]).mean()) if moves.any() else math.nan


@dataclass(frozen=True, eq=False)
class IndexInputs(_Once):
    """What an index reads: the code space of a sample, of one layer or joint, and what else is known."""

    space: CodeSpace
    parameters: int | None = None  # of the whole network
    held_out: CodeSpace | None = None  # of other samples under the same network
    network_sample: NetworkSample | None = None  # the network with inputs that can be read twice
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.space.samples == 0 or self.space.neurons == 0:
            raise InputError(
                f"there are {self.space.samples} codes of {self.space.neurons} neurons. Give at least one."
            )

    @property
    def cells(self) -> Cells:
        return self.space.cells

    @property
    def codes(self) -> Codes:
        """The distinct codes, one row per cell."""
        return self.space.codes

    @property
    def samples(self) -> int:
        return self.space.samples

    @property
    def most_cells(self) -> int:
        """The number of cells that the sample could occupy at most."""
        return min(self.samples, 2 ** min(self.codes.neurons, 62))

    @property
    def class_counts(self) -> np.ndarray | None:
        return self.space.class_counts

    @property
    def correct_counts(self) -> np.ndarray | None:
        return self.space.correct_counts

    def graph(self, theta: int = 1) -> AdjacencyGraph:
        """The graph of the occupied cells, joined up to this distance (Definition 2)."""
        return self._once(("graph", theta), lambda: adjacency_graph(self.cells, theta=theta))

    @property
    def connectivity(self) -> Connectivity:
        """The graph's components for every theta at once."""
        return self._once("connectivity", lambda: connectivity(self.codes))

    @property
    def ones(self) -> np.ndarray:
        """Samples of each class with each bit set: int64, (classes, neurons). Without labels all are of one class."""
        counts = self.cells.sizes[:, None] if self.class_counts is None else self.class_counts
        return self._once("ones", lambda: ones_by_class(self.codes, counts))

    def class_distances(self, theta: int | None = None) -> tuple[float, float]:
        """Mean truncated distance of two samples of one class, and of two classes; NaN where there is no such pair."""
        return self._once(("class_distances", theta), lambda: self._class_distances(theta))

    def _class_distances(self, theta: int | None) -> tuple[float, float]:
        counts = self.class_counts
        assert counts is not None, "an index that needs class_counts says so in its `needs`"
        sizes = counts.sum(axis=0)
        within_pairs = (sizes * (sizes - 1) // 2).sum()
        between_pairs = self.samples * (self.samples - 1) // 2 - within_pairs
        if theta is None or whole_theta(self.codes, theta) == self.codes.neurons:
            # Not truncated: neuron by neuron, the pairs that differ are those of a sample with and one without the bit.
            ones = self.ones.sum(axis=0)
            within = float((self.ones * (sizes[:, None] - self.ones)).sum())
            between = float((ones * (self.samples - ones)).sum()) - within
        else:
            within, between = class_distance_sums(self.codes, counts, theta)
        return (
            float(within / within_pairs) if within_pairs else math.nan,
            float(between / between_pairs) if between_pairs else math.nan,
        )
