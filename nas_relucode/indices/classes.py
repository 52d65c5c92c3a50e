"""Indices that say how far the code space keeps the classes of the samples apart; they need labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_relucode.errors import whole_number
from nas_relucode.indices.index import Index, known

if TYPE_CHECKING:
    from nas_relucode.indices.inputs import IndexInputs

NEIGHBOURS = 5  # that vote


class CellPurity(Index):
    """The fraction of the samples that have the most frequent label of their cell.

    Purity of a clustering: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", section 16.3.
    """

    direction = "maximize"
    needs = ("class_counts",)

    def compute(self, inputs: IndexInputs) -> float:
        return float(known(inputs.class_counts).max(axis=1).sum()) / inputs.samples

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return float(known(inputs.class_counts).sum(axis=0).max()) / inputs.samples, 1.0


class DendrogramPurity(Index):
    """How pure the smallest single-linkage cluster of cells around two samples of one class is in it, on average.

    1 if each class comes together before another joins it; NaN if no class has two samples (Heller and Ghahramani,
    "Bayesian Hierarchical Clustering", ICML 2005).
    """

    direction = "maximize"
    bounds = (0.0, 1.0)
    needs = ("class_counts",)
    all_pairs = True

    def compute(self, inputs: IndexInputs) -> float:
        return inputs.connectivity.dendrogram_purity(known(inputs.class_counts))


class KnnAccuracy(Index):
    """The fraction of the samples that the 5 nearest other samples in the code space vote into their class.

    Leave-one-out; ties at the fifth distance all vote. NaN for a single sample (Cover and Hart, "Nearest Neighbor
    Pattern Classification", IEEE Transactions on Information Theory, 1967).
    """

    direction = "maximize"
    bounds = (0.0, 1.0)
    needs = ("class_counts",)
    all_pairs = True

    def compute(self, inputs: IndexInputs) -> float:
        from nas_relucode.cells.classes import knn_accuracy

        return knn_accuracy(inputs.codes, known(inputs.class_counts), k=NEIGHBOURS)


@dataclass(frozen=True)
class ClassDistanceIndex(Index):
    """An index of the distances between samples, min(Hamming distance, ``theta``); None: not truncated."""

    theta: int | None = None

    needs = ("class_counts",)

    def __post_init__(self) -> None:
        if self.theta is not None:
            whole_number("theta", self.theta)

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        from nas_relucode.cells.hamming import whole_theta

        return 0.0, float(whole_theta(inputs.codes, self.theta))


class WithinClassDistance(ClassDistanceIndex):
    """Mean of min(d_H, theta) over the pairs of samples of one class (Definition 1); NaN if there are none."""

    direction = "minimize"

    def compute(self, inputs: IndexInputs) -> float:
        return inputs.class_distances(self.theta)[0]


class BetweenClassDistance(ClassDistanceIndex):
    """Mean of min(d_H, theta) over the pairs of samples of two classes (Definition 1); NaN if there are none."""

    direction = "maximize"

    def compute(self, inputs: IndexInputs) -> float:
        return inputs.class_distances(self.theta)[1]


class ClassDistanceRatio(ClassDistanceIndex):
    """within_class_distance / between_class_distance (Definition 1); below 1 classes are apart in the code space."""

    direction = "minimize"

    def compute(self, inputs: IndexInputs) -> float:
        within, between = inputs.class_distances(self.theta)
        return within / between if between else math.nan

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, math.inf


class ClassSilhouette(Index):
    """Mean silhouette of the classes over the samples under the Hamming distance: 1 apart, 0 mixed, NaN for one class.

    Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 20, 1987.
    """

    direction = "maximize"
    bounds = (-1.0, 1.0)
    needs = ("class_counts",)

    def compute(self, inputs: IndexInputs) -> float:
        from nas_relucode.cells.classes import class_silhouette

        return class_silhouette(inputs.codes, known(inputs.class_counts))
