"""What an index reads: the code space of a sample and what else is known, computed once and shared by the indices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.graph import AdjacencyGraph, Connectivity, adjacency_graph, connectivity
from nas_relucode.cells.hamming import class_distance_sums, ones_by_class, whole_theta
from nas_relucode.cells.occupied import Cells
from nas_relucode.codes.bits import Codes
from nas_relucode.errors import InputError
from nas_relucode.geometry.sample_geometry import Geometry


@dataclass(frozen=True)
class Evidence:
    """What an index reads: the code space of a sample, of one layer or joint, and what else is known."""

    space: CodeSpace
    parameters: int | None = None  # of the whole network
    graph_theta: int = 1  # cells are joined up to this distance
    distance_theta: int | None = None  # distances are truncated here; None stands for infinity
    held_out: CodeSpace | None = None  # of other samples under the same network
    transitions: np.ndarray | None = None  # int64, (segments,): cells crossed between two samples of one class
    geometry: Geometry | None = None  # the cells of the sample as polyhedra
    wanted_size: tuple[float, float] | None = None  # mu and sigma of regularised SWAP, in thousands of parameters

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
        """The distinct codes, a row a cell."""
        return self.space.codes

    @property
    def samples(self) -> int:
        return self.space.samples

    @cached_property
    def graph(self) -> AdjacencyGraph:
        return adjacency_graph(self.cells, theta=self.graph_theta)

    @cached_property
    def connectivity(self) -> Connectivity:
        return connectivity(self.codes)

    @property
    def class_counts(self) -> np.ndarray | None:
        return self.space.class_counts

    @property
    def correct_counts(self) -> np.ndarray | None:
        return self.space.correct_counts

    @cached_property
    def ones(self) -> np.ndarray:
        """Samples of each class with each bit set: int64, (classes, neurons). Without labels all are of one class."""
        counts = self.cells.sizes[:, None] if self.class_counts is None else self.class_counts
        return ones_by_class(self.codes, counts)

    @cached_property
    def class_distances(self) -> tuple[float, float]:
        """Mean truncated distance of two samples of one class, and of two classes; NaN where there is no such pair."""
        counts = known(self.class_counts)
        sizes = counts.sum(axis=0)
        within_pairs = (sizes * (sizes - 1) // 2).sum()
        between_pairs = self.samples * (self.samples - 1) // 2 - within_pairs
        if whole_theta(self.codes, self.distance_theta) == self.codes.neurons:
            # Not truncated: neuron by neuron, the pairs that differ are those of a sample with and one without the bit.
            ones = self.ones.sum(axis=0)
            within = float((self.ones * (sizes[:, None] - self.ones)).sum())
            between = float((ones * (self.samples - ones)).sum()) - within
        else:
            assert self.distance_theta is not None
            within, between = class_distance_sums(self.codes, counts, self.distance_theta)
        return (
            float(within / within_pairs) if within_pairs else math.nan,
            float(between / between_pairs) if between_pairs else math.nan,
        )

    @property
    def most_cells(self) -> int:
        """The number of cells that the sample could occupy at most."""
        return min(self.samples, 2 ** min(self.codes.neurons, 62))


NEEDS = {
    "class_counts": "labels",
    "correct_counts": "labels and class scores",
    "parameters": "the network's parameters",
    "held_out": "held-out samples",
    "transitions": "segments",
    "geometry": "the cells as polyhedra",
    "wanted_size": "wanted_size (mu and sigma, in thousands of parameters)",
}


def known(counts: np.ndarray | None) -> np.ndarray:
    """What `choose` has made sure of."""
    assert counts is not None
    return counts
