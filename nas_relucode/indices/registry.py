"""Indices: one pure function a number that is read off the code space of a sample, and the dict that names them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from nas_relucode.cells import classes as knn
from nas_relucode.cells import classes as separation
from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.hamming import whole_theta
from nas_relucode.errors import InputError, unknown
from nas_relucode.indices import geometric as geometric_indices
from nas_relucode.indices import initialisation
from nas_relucode.indices.inputs import NEEDS, Evidence, known

NEIGHBOURS = 5  # that vote
KERNEL_SAMPLES = 128  # of NASWOT's kernel, as published
PATTERN_SAMPLES = 16  # of SWAP's patterns, as published
MANY_CELLS = 100_000  # beyond, indices that compare all cells with all are computed only by name


@dataclass(frozen=True)
class Index:
    """How to compute an index and how to read it."""

    compute: Callable[[Evidence], float]
    range: Callable[[Evidence], tuple[float, float]]
    direction: str | None = None  # "minimize" or "maximize" where there is a reason to prefer; else the study decides
    needs: tuple[str, ...] = ()  # fields of Evidence that must not be None, among NEEDS
    joint: bool = False  # of the whole network: it has no value for a layer
    all_pairs: bool = False  # all cells are compared with all: the time grows with their square

    @property
    def meaning(self) -> str:
        """The first line of the function's docstring."""
        return (self.compute.__doc__ or "").split("\n")[0]


def cell_count(of: Evidence) -> float:
    """Occupied cells: the number of distinct codes (section 3 of the paper).

    Fewer and larger cells go with robustness (Croce et al. 2018, cited there).
    """
    return float(len(of.cells))


def correct_cell_count(of: Evidence) -> float:
    """Cells that hold at least one correctly classified sample (Figure 1)."""
    return float(np.count_nonzero(known(of.correct_counts)))


def cells_per_sample(of: Evidence) -> float:
    """Occupied cells / samples. At 1 each sample is alone, and the count tells the sample's size.

    That TE-NAS' count of codes does so on common batches is known from its users (see `distinct_patterns`).
    """
    return len(of.cells) / of.samples


def singleton_fraction(of: Evidence) -> float:
    """The fraction of the occupied cells (section 3 of the paper) that hold one sample."""
    return float(np.mean(of.cells.sizes == 1))


def occupancy_entropy(of: Evidence) -> float:
    """Entropy in bits of the cell of a sample: -sum p log2 p with p = size / samples (Shannon 1948)."""
    p = of.cells.sizes / of.samples
    return float(abs(-(p * np.log2(p)).sum()))


def cell_purity(of: Evidence) -> float:
    """The fraction of the samples that have the most frequent label of their cell.

    Purity of a clustering: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", section 16.3.
    """
    return float(known(of.class_counts).max(axis=1).sum()) / of.samples


def edge_count(of: Evidence) -> float:
    """Pairs of occupied cells whose codes are at most graph_theta bits apart; adjacent cells at 1 (Lemma 1)."""
    return float(len(of.graph.edges))


def component_count(of: Evidence) -> float:
    """Connected components of the graph of the occupied cells (Definition 2)."""
    return float(len(of.graph.component_sizes))


def largest_component_share(of: Evidence) -> float:
    """The fraction of the occupied cells that lie in the largest connected component (Definition 2)."""
    return float(of.graph.component_sizes.max()) / len(of.cells)


def isolated_cell_fraction(of: Evidence) -> float:
    """The fraction of the occupied cells without a neighbour in the graph (Definition 2)."""
    return float(np.mean(of.graph.degrees == 0))


def within_class_distance(of: Evidence) -> float:
    """Mean of min(d_H, distance_theta) over the pairs of samples of one class (Definition 1); NaN if none."""
    return of.class_distances[0]


def between_class_distance(of: Evidence) -> float:
    """Mean of min(d_H, distance_theta) over the pairs of samples of two classes (Definition 1); NaN if none."""
    return of.class_distances[1]


def class_distance_ratio(of: Evidence) -> float:
    """within_class_distance / between_class_distance (Definition 1); below 1 classes are apart in the code space."""
    within, between = of.class_distances
    return within / between if between else math.nan


def class_silhouette(of: Evidence) -> float:
    """Mean silhouette of the classes over the samples under the Hamming distance: 1 apart, 0 mixed, NaN for one class.

    Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 20, 1987.
    """
    return separation.class_silhouette(of.codes, known(of.class_counts))


def dead_neuron_fraction(of: Evidence) -> float:
    """The fraction of the neurons whose bit is 0 for every sample.

    Lu et al., "Dying ReLU and Initialization", Communications in Computational Physics 28, 2020.
    """
    return float(np.mean(of.ones.sum(axis=0) == 0))


def always_on_fraction(of: Evidence) -> float:
    """The fraction of the neurons whose bit is 1 for every sample: on it they are linear (Definition 1)."""
    return float(np.mean(of.ones.sum(axis=0) == of.samples))


def connecting_theta_50(of: Evidence) -> float:
    """The smallest theta at which one component holds half of the occupied cells (single linkage); 0 for one cell.

    Unlike the graph at distance 1 it tells networks apart whose cells all lie further from each other.
    """
    return float(of.connectivity.theta_connecting(0.5))


def connecting_theta_90(of: Evidence) -> float:
    """The smallest theta at which one component holds 90 % of the occupied cells (single linkage); 0 for one cell."""
    return float(of.connectivity.theta_connecting(0.9))


def connecting_theta_100(of: Evidence) -> float:
    """The smallest theta that connects all occupied cells: the longest edge of their spanning tree; 0 for one cell."""
    return float(of.connectivity.theta_connecting(1.0))


def nearest_cell_distance(of: Evidence) -> float:
    """Mean Hamming distance (Definition 1) of an occupied cell to the nearest other; NaN for a single cell."""
    nearest = of.connectivity.nearest_distances
    return float(nearest.mean()) if len(nearest) > 1 else math.nan


def dendrogram_purity(of: Evidence) -> float:
    """How pure the smallest single-linkage cluster of cells around two samples of one class is in it, on average.

    1 if each class comes together before another joins it; NaN if no class has two samples (Heller and Ghahramani,
    "Bayesian Hierarchical Clustering", ICML 2005).
    """
    return of.connectivity.dendrogram_purity(known(of.class_counts))


def knn_accuracy(of: Evidence) -> float:
    """The fraction of the samples that the 5 nearest other samples in the code space vote into their class.

    Leave-one-out; ties at the fifth distance all vote. NaN for a single sample (Cover and Hart, "Nearest Neighbor
    Pattern Classification", IEEE Transactions on Information Theory, 1967).
    """
    return knn.knn_accuracy(of.codes, known(of.class_counts), k=NEIGHBOURS)


def new_cell_fraction(of: Evidence) -> float:
    """The fraction of the held-out samples that lie in a cell without any sample (section 3: non-empty cells)."""
    assert of.held_out is not None
    return float(of.held_out.cells.sizes[~of.held_out.occupied_by(of.space)].sum()) / of.held_out.samples


def varying_neurons(of: Evidence) -> float:
    """Effective number of varying neurons: the sum of the entropies in bits of their bits, -p log2 p - q log2 q.

    A neuron that is on for p of the samples counts for up to 1, a constant one for 0; the sum bounds the entropy of
    the codes, occupancy_entropy (Cover and Thomas, "Elements of Information Theory", theorem 2.6.6).
    """
    p = of.ones.sum(axis=0) / of.samples
    p = p[(p > 0) & (p < 1)]
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum())


def logdet_kernel(of: Evidence) -> float:
    """NASWOT: log |det K|, K = neurons - d_H, of the first 128 samples; NaN where two of their codes are equal.

    Published for networks at initialisation in train mode (Mellor et al., "Neural Architecture Search without
    Training", ICML 2021).
    """
    return initialisation.logdet_kernel(of.space.sample_codes(KERNEL_SAMPLES))


def distinct_patterns(of: Evidence) -> float:
    """SWAP: distinct columns of the samples x neurons bit matrix of the first 16 samples.

    Published for networks at initialisation (Peng et al., "SWAP-NAS", ICLR 2024). TE-NAS' number of distinct codes
    (Chen et al., ICLR 2021) is cell_count of a batch.
    """
    return initialisation.distinct_patterns(of.space.sample_codes(PATTERN_SAMPLES))


def regularised_patterns(of: Evidence) -> float:
    """Regularised SWAP: distinct_patterns * exp(-(p - mu)^2 / sigma), p the parameters in thousands.

    mu is the size of network that is wanted, sigma how far from it one may be (Peng et al., "SWAP-NAS", ICLR 2024).
    """
    assert of.wanted_size is not None
    assert of.parameters is not None
    mu, sigma = of.wanted_size
    codes = of.space.sample_codes(PATTERN_SAMPLES)
    return initialisation.regularised_patterns(codes, of.parameters, mu=mu, sigma=sigma)


def segment_transitions(of: Evidence) -> float:
    """Mean number of cell borders between two samples of one class, on the straight segment between them.

    Exact, after Sotoudeh and Thakur, "Computing Linear Restrictions of Neural Networks", NeurIPS 2019. NaN if no
    class has two samples. Computed where it is asked for.
    """
    transitions = known(of.transitions)
    return float(transitions.mean()) if len(transitions) else math.nan


def parameter_count(of: Evidence) -> float:
    """Parameters of the whole network (Definition 3), counted once where shared."""
    assert of.parameters is not None
    return float(of.parameters)


def _cells(of: Evidence) -> tuple[float, float]:
    return 1.0, float(of.most_cells)


def _correct_cells(of: Evidence) -> tuple[float, float]:
    return 0.0, float(min(int(known(of.correct_counts).sum()), of.most_cells))


def _share_of_samples(of: Evidence) -> tuple[float, float]:
    return 1 / of.samples, of.most_cells / of.samples


def _entropy(of: Evidence) -> tuple[float, float]:
    return 0.0, math.log2(of.most_cells)


def _purity(of: Evidence) -> tuple[float, float]:
    return float(known(of.class_counts).sum(axis=0).max()) / of.samples, 1.0


def _edges(of: Evidence) -> tuple[float, float]:
    return 0.0, len(of.cells) * (len(of.cells) - 1) / 2


def _components(of: Evidence) -> tuple[float, float]:
    return 1.0, float(len(of.cells))


def _share_of_cells(of: Evidence) -> tuple[float, float]:
    return 1 / len(of.cells), 1.0


def _distance(of: Evidence) -> tuple[float, float]:
    return 0.0, float(whole_theta(of.codes, of.distance_theta))


def _neurons(of: Evidence) -> tuple[float, float]:
    return 0.0, float(of.codes.neurons)


def _nearest(of: Evidence) -> tuple[float, float]:
    return 1.0, float(of.codes.neurons)


def _logdet(of: Evidence) -> tuple[float, float]:
    return 0.0, min(KERNEL_SAMPLES, of.samples) * math.log(of.codes.neurons)


def _patterns(of: Evidence) -> tuple[float, float]:
    return 1.0, float(min(of.codes.neurons, 2 ** min(PATTERN_SAMPLES, of.samples)))


def _regularised(of: Evidence) -> tuple[float, float]:
    return 0.0, _patterns(of)[1]


def _distance_to_other(of: Evidence) -> tuple[float, float]:
    assert of.geometry is not None
    return 0.0, float(sum(of.geometry.program.widths))


def _fraction(of: Evidence) -> tuple[float, float]:
    return 0.0, 1.0


def _silhouette(of: Evidence) -> tuple[float, float]:
    return -1.0, 1.0


def _positive(of: Evidence) -> tuple[float, float]:
    return 0.0, math.inf


CLASSES, CORRECT = ("class_counts",), ("correct_counts",)
SIZE = ("parameters", "wanted_size")
SHAPES, GEOMETRY = ("geometry",), ("geometry", "class_counts")

INDICES: dict[str, Index] = {
    "cell_count": Index(cell_count, _cells, "minimize"),
    "correct_cell_count": Index(correct_cell_count, _correct_cells, None, CORRECT),
    "cells_per_sample": Index(cells_per_sample, _share_of_samples, "minimize"),
    "singleton_fraction": Index(singleton_fraction, _fraction, "minimize"),
    "occupancy_entropy": Index(occupancy_entropy, _entropy, "minimize"),
    "cell_purity": Index(cell_purity, _purity, "maximize", CLASSES),
    "new_cell_fraction": Index(new_cell_fraction, _fraction, "minimize", ("held_out",)),
    "edge_count": Index(edge_count, _edges),
    "component_count": Index(component_count, _components, "minimize"),
    "largest_component_share": Index(largest_component_share, _share_of_cells, "maximize"),
    "isolated_cell_fraction": Index(isolated_cell_fraction, _fraction, "minimize"),
    "connecting_theta_50": Index(connecting_theta_50, _neurons, "minimize", all_pairs=True),
    "connecting_theta_90": Index(connecting_theta_90, _neurons, "minimize", all_pairs=True),
    "connecting_theta_100": Index(connecting_theta_100, _neurons, "minimize", all_pairs=True),
    "nearest_cell_distance": Index(nearest_cell_distance, _nearest, "minimize", all_pairs=True),
    "dendrogram_purity": Index(dendrogram_purity, _fraction, "maximize", CLASSES, all_pairs=True),
    "knn_accuracy": Index(knn_accuracy, _fraction, "maximize", CLASSES, all_pairs=True),
    "within_class_distance": Index(within_class_distance, _distance, "minimize", CLASSES),
    "between_class_distance": Index(between_class_distance, _distance, "maximize", CLASSES),
    "class_distance_ratio": Index(class_distance_ratio, _positive, "minimize", CLASSES),
    "class_silhouette": Index(class_silhouette, _silhouette, "maximize", CLASSES),
    "dead_neuron_fraction": Index(dead_neuron_fraction, _fraction, "minimize"),
    "always_on_fraction": Index(always_on_fraction, _fraction, "minimize"),
    "varying_neurons": Index(varying_neurons, _neurons),
    "logdet_kernel": Index(logdet_kernel, _logdet, "maximize"),
    "distinct_patterns": Index(distinct_patterns, _patterns, "maximize"),
    "regularised_patterns": Index(regularised_patterns, _regularised, "maximize", SIZE, joint=True),
    "segment_transitions": Index(segment_transitions, _positive, "minimize", ("transitions",), joint=True),
    "margin_mean_correct": Index(geometric_indices.margin_mean_correct, _positive, "maximize", GEOMETRY, joint=True),
    "margin_10_correct": Index(geometric_indices.margin_10_correct, _positive, "maximize", GEOMETRY, joint=True),
    "margin_50_correct": Index(geometric_indices.margin_50_correct, _positive, "maximize", GEOMETRY, joint=True),
    "margin_90_correct": Index(geometric_indices.margin_90_correct, _positive, "maximize", GEOMETRY, joint=True),
    "margin_mean_wrong": Index(geometric_indices.margin_mean_wrong, _positive, None, GEOMETRY, joint=True),
    "margin_10_wrong": Index(geometric_indices.margin_10_wrong, _positive, None, GEOMETRY, joint=True),
    "margin_50_wrong": Index(geometric_indices.margin_50_wrong, _positive, None, GEOMETRY, joint=True),
    "margin_90_wrong": Index(geometric_indices.margin_90_wrong, _positive, None, GEOMETRY, joint=True),
    "phantom_fraction": Index(geometric_indices.phantom_fraction, _fraction, None, SHAPES, joint=True),
    "unbounded_fraction": Index(geometric_indices.unbounded_fraction, _fraction, "minimize", SHAPES, joint=True),
    "confidence_growth": Index(geometric_indices.confidence_growth, _positive, "minimize", SHAPES, joint=True),
    "facet_count": Index(geometric_indices.facet_count, _positive, None, SHAPES, joint=True),
    "other_class_distance": Index(
        geometric_indices.other_class_distance, _distance_to_other, "maximize", SHAPES, joint=True
    ),
    "parameter_count": Index(parameter_count, _positive, "minimize", ("parameters",), joint=True),
}


def choose(names: Iterable[str] | None, of: Evidence) -> list[str]:
    """The names asked for, checked; None stands for every index that there is the evidence for.

    With more than 100,000 cells those that compare all pairs of cells are then left out.
    """
    able = [name for name, index in INDICES.items() if all(getattr(of, need) is not None for need in index.needs)]
    if names is None:
        return [name for name in able if len(of.cells) <= MANY_CELLS or not INDICES[name].all_pairs]
    chosen = list(names)
    for name in chosen:
        if name not in INDICES:
            raise unknown("index", name, INDICES)
        if name not in able:
            needs = " and ".join(NEEDS[need] for need in INDICES[name].needs)
            raise InputError(f"index {name!r} needs {needs}, which this network and data do not give. Leave it out.")
    return chosen


def compute_indices(of: Evidence | CodeSpace, names: Iterable[str] | None = None) -> dict[str, float]:
    """The indices asked for, by name; every index that the data allow if ``names`` is None (see `choose`).

    >>> from nas_relucode.codes import pack
    >>> space = CodeSpace.of(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1]]))
    >>> compute_indices(space, ["cell_count", "component_count", "connecting_theta_100"])
    {'cell_count': 3.0, 'component_count': 2.0, 'connecting_theta_100': 2.0}
    """
    of = Evidence(of) if isinstance(of, CodeSpace) else of
    return {name: INDICES[name].compute(of) for name in choose(names, of)}


def saturated_indices(of: Evidence | CodeSpace, values: dict[str, float]) -> list[str]:
    """The indices whose value lies at an end of its range, where it can no longer tell networks apart.

    >>> from nas_relucode.codes import pack
    >>> space = CodeSpace.of(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]))
    >>> saturated_indices(space, {"cell_count": 3.0, "component_count": 2.0})
    ['cell_count']
    """
    of = Evidence(of) if isinstance(of, CodeSpace) else of
    return [name for name, value in values.items() if any(math.isclose(value, end) for end in INDICES[name].range(of))]
