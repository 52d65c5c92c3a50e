"""Indices: one pure function a number that is read off the code space of a sample, and the dict that names them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas_relucode.adjacency import AdjacencyGraph, adjacency_graph
from nas_relucode.cells import Cells, find_cells
from nas_relucode.codes import Codes
from nas_relucode.errors import InputError, unknown
from nas_relucode.hamming import bound, class_distance_sums, ones_by_class


@dataclass(frozen=True)
class CodeSpace:
    """What an index reads: the codes of a sample, of one layer or joint, and what is known of the samples."""

    codes: Codes
    labels: np.ndarray | None = None  # int64, (samples,)
    correct: np.ndarray | None = None  # bool, (samples,): the network's class is the label
    parameters: int | None = None  # of the whole network
    graph_theta: int = 1  # cells are joined up to this distance
    distance_theta: int | None = None  # distances are truncated here; None stands for infinity

    def __post_init__(self) -> None:
        if self.codes.samples == 0 or self.codes.neurons == 0:
            raise InputError(
                f"there are {self.codes.samples} codes of {self.codes.neurons} neurons. Give at least one."
            )
        for name, kind in {"labels": np.int64, "correct": np.bool_}.items():
            given = getattr(self, name)
            if given is None:
                continue
            array = np.asarray(given)
            if array.shape != (self.codes.samples,) or (
                name == "labels" and (array.dtype.kind not in "iu" or array.min() < 0)
            ):
                raise InputError(
                    f"{name} are {array.dtype} of shape {array.shape} for {self.codes.samples} samples. "
                    "Give one a sample: labels are whole numbers from 0, correct is true or false."
                )
            object.__setattr__(self, name, array.astype(kind))

    @cached_property
    def cells(self) -> Cells:
        return find_cells(self.codes)

    @cached_property
    def graph(self) -> AdjacencyGraph:
        return adjacency_graph(self.cells, theta=self.graph_theta)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Samples of each class in each cell: int64, (cells, classes)."""
        assert self.labels is not None
        return self.cells.class_counts(self.labels)

    @cached_property
    def ones(self) -> np.ndarray:
        """Samples of each class with each bit set: int64, (classes, neurons). Without labels all are of one class."""
        labels = np.zeros(self.codes.samples, np.int64) if self.labels is None else self.labels
        return ones_by_class(self.codes, labels, int(labels.max()) + 1)

    @cached_property
    def class_distances(self) -> tuple[float, float]:
        """Mean truncated distance of two samples of one class, and of two classes; NaN where there is no such pair."""
        sizes = self.class_counts.sum(axis=0)
        samples = sizes.sum()
        within_pairs = (sizes * (sizes - 1) // 2).sum()
        between_pairs = samples * (samples - 1) // 2 - within_pairs
        if bound(self.codes, self.distance_theta) == self.codes.neurons:
            # Not truncated: neuron by neuron, the pairs that differ are those of a sample with and one without the bit.
            ones = self.ones.sum(axis=0)
            within = float((self.ones * (sizes[:, None] - self.ones)).sum())
            between = float((ones * (samples - ones)).sum()) - within
        else:
            assert self.distance_theta is not None
            within, between = class_distance_sums(self.cells.codes, self.class_counts, self.distance_theta)
        return (
            float(within / within_pairs) if within_pairs else math.nan,
            float(between / between_pairs) if between_pairs else math.nan,
        )

    @property
    def most_cells(self) -> int:
        """The number of cells that the sample could occupy at most."""
        return min(self.codes.samples, 2 ** min(self.codes.neurons, 62))


@dataclass(frozen=True)
class Index:
    """How to compute an index and how to read it."""

    compute: Callable[[CodeSpace], float]
    range: Callable[[CodeSpace], tuple[float, float]]
    direction: str | None = None  # "minimize" or "maximize" where there is a reason to prefer; else the study decides
    needs: tuple[str, ...] = ()  # fields of CodeSpace that must not be None

    @property
    def meaning(self) -> str:
        """The first line of the function's docstring."""
        return (self.compute.__doc__ or "").split("\n")[0]


def cell_count(space: CodeSpace) -> float:
    """Occupied cells: the number of distinct codes (section 3 of the paper).

    Fewer and larger cells go with robustness (Croce et al. 2018, cited there).
    """
    return float(len(space.cells))


def correct_cell_count(space: CodeSpace) -> float:
    """Cells that hold at least one correctly classified sample (Figure 1)."""
    return float(len(np.unique(space.cells.cell_of[space.correct])))


def cells_per_sample(space: CodeSpace) -> float:
    """Occupied cells / samples. At 1 each sample is alone, and the count tells the sample's size."""
    return len(space.cells) / space.codes.samples


def singleton_fraction(space: CodeSpace) -> float:
    """The fraction of the occupied cells that hold one sample."""
    return float(np.mean(space.cells.sizes == 1))


def occupancy_entropy(space: CodeSpace) -> float:
    """Entropy in bits of the cell of a sample: -sum p log2 p with p = size / samples."""
    p = space.cells.sizes / space.codes.samples
    return float(abs(-(p * np.log2(p)).sum()))


def cell_purity(space: CodeSpace) -> float:
    """The fraction of the samples that have the most frequent label of their cell."""
    return float(space.class_counts.max(axis=1).sum()) / space.codes.samples


def edge_count(space: CodeSpace) -> float:
    """Pairs of occupied cells whose codes are at most graph_theta bits apart; adjacent cells at 1 (Lemma 1)."""
    return float(len(space.graph.edges))


def component_count(space: CodeSpace) -> float:
    """Connected components of the graph of the occupied cells."""
    return float(len(space.graph.component_sizes))


def largest_component_share(space: CodeSpace) -> float:
    """The fraction of the occupied cells that lie in the largest connected component."""
    return float(space.graph.component_sizes.max()) / len(space.cells)


def isolated_cell_fraction(space: CodeSpace) -> float:
    """The fraction of the occupied cells without a neighbour in the graph."""
    return float(np.mean(space.graph.degrees == 0))


def within_class_distance(space: CodeSpace) -> float:
    """Mean of min(d_H, distance_theta) over the pairs of samples of one class; NaN if there is no such pair."""
    return space.class_distances[0]


def between_class_distance(space: CodeSpace) -> float:
    """Mean of min(d_H, distance_theta) over the pairs of samples of two classes; NaN if there is no such pair."""
    return space.class_distances[1]


def class_distance_ratio(space: CodeSpace) -> float:
    """within_class_distance / between_class_distance; below 1 classes are apart in the code space."""
    within, between = space.class_distances
    return within / between if between else math.nan


def dead_neuron_fraction(space: CodeSpace) -> float:
    """The fraction of the neurons whose bit is 0 for every sample."""
    return float(np.mean(space.ones.sum(axis=0) == 0))


def always_on_fraction(space: CodeSpace) -> float:
    """The fraction of the neurons whose bit is 1 for every sample."""
    return float(np.mean(space.ones.sum(axis=0) == space.codes.samples))


def parameter_count(space: CodeSpace) -> float:
    """Parameters of the whole network, counted once where shared."""
    assert space.parameters is not None
    return float(space.parameters)


def _cells(space: CodeSpace) -> tuple[float, float]:
    return 1.0, float(space.most_cells)


def _correct_cells(space: CodeSpace) -> tuple[float, float]:
    assert space.correct is not None
    return 0.0, float(min(int(space.correct.sum()), space.most_cells))


def _share_of_samples(space: CodeSpace) -> tuple[float, float]:
    return 1 / space.codes.samples, space.most_cells / space.codes.samples


def _entropy(space: CodeSpace) -> tuple[float, float]:
    return 0.0, math.log2(space.most_cells)


def _purity(space: CodeSpace) -> tuple[float, float]:
    return float(space.class_counts.sum(axis=0).max()) / space.codes.samples, 1.0


def _edges(space: CodeSpace) -> tuple[float, float]:
    return 0.0, len(space.cells) * (len(space.cells) - 1) / 2


def _components(space: CodeSpace) -> tuple[float, float]:
    return 1.0, float(len(space.cells))


def _share_of_cells(space: CodeSpace) -> tuple[float, float]:
    return 1 / len(space.cells), 1.0


def _distance(space: CodeSpace) -> tuple[float, float]:
    return 0.0, float(bound(space.codes, space.distance_theta))


def _fraction(space: CodeSpace) -> tuple[float, float]:
    return 0.0, 1.0


def _positive(space: CodeSpace) -> tuple[float, float]:
    return 0.0, math.inf


INDICES: dict[str, Index] = {
    "cell_count": Index(cell_count, _cells, "minimize"),
    "correct_cell_count": Index(correct_cell_count, _correct_cells, None, ("correct",)),
    "cells_per_sample": Index(cells_per_sample, _share_of_samples, "minimize"),
    "singleton_fraction": Index(singleton_fraction, _fraction, "minimize"),
    "occupancy_entropy": Index(occupancy_entropy, _entropy, "minimize"),
    "cell_purity": Index(cell_purity, _purity, "maximize", ("labels",)),
    "edge_count": Index(edge_count, _edges),
    "component_count": Index(component_count, _components, "minimize"),
    "largest_component_share": Index(largest_component_share, _share_of_cells, "maximize"),
    "isolated_cell_fraction": Index(isolated_cell_fraction, _fraction, "minimize"),
    "within_class_distance": Index(within_class_distance, _distance, "minimize", ("labels",)),
    "between_class_distance": Index(between_class_distance, _distance, "maximize", ("labels",)),
    "class_distance_ratio": Index(class_distance_ratio, _positive, "minimize", ("labels",)),
    "dead_neuron_fraction": Index(dead_neuron_fraction, _fraction, "minimize"),
    "always_on_fraction": Index(always_on_fraction, _fraction, "minimize"),
    "parameter_count": Index(parameter_count, _positive, "minimize", ("parameters",)),
}


def choose(names: Iterable[str] | None, space: CodeSpace) -> list[str]:
    """The names asked for, checked; None stands for every index that ``space`` has the data for."""
    able = [name for name, index in INDICES.items() if all(getattr(space, need) is not None for need in index.needs)]
    if names is None:
        return able
    chosen = list(names)
    for name in chosen:
        if name not in INDICES:
            raise unknown("index", name, INDICES)
        if name not in able:
            needs = " and ".join(INDICES[name].needs)
            raise InputError(f"index {name!r} needs {needs}, which this network and data do not give. Leave it out.")
    return chosen


def compute_indices(space: CodeSpace, names: Iterable[str] | None = None) -> dict[str, float]:
    """The indices asked for, by name; every index that the data allow if ``names`` is None.

    >>> from nas_relucode import pack
    >>> space = CodeSpace(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1]]))
    >>> compute_indices(space, ["cell_count", "component_count", "dead_neuron_fraction"])
    {'cell_count': 3.0, 'component_count': 2.0, 'dead_neuron_fraction': 0.0}
    """
    return {name: INDICES[name].compute(space) for name in choose(names, space)}


def saturated_indices(space: CodeSpace, values: dict[str, float]) -> list[str]:
    """The indices whose value lies at an end of its range, where it can no longer tell networks apart.

    >>> from nas_relucode import pack
    >>> space = CodeSpace(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]))
    >>> saturated_indices(space, {"cell_count": 3.0, "component_count": 2.0})
    ['cell_count']
    """
    return [
        name for name, value in values.items() if any(math.isclose(value, end) for end in INDICES[name].range(space))
    ]
