"""Cell-level clustering: how the cells come together as theta grows, for every theta at once (section 2, at its end).

Two cells hang together at theta if a chain of cells leads from one to the other in steps of at most theta bits. These
components are the clusters of single linkage, and a minimum spanning tree holds them all: cut its edges above theta.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas_relucode.cells.graph import components, root
from nas_relucode.cells.spanning import SpanningTree, spanning_tree
from nas_relucode.codes.bits import Codes
from nas_relucode.codes.words import compiled
from nas_relucode.errors import InputError


@dataclass(frozen=True)
class Connectivity:
    """The components of the cells at every theta. Theta 0 leaves each cell alone."""

    cells: int
    tree: SpanningTree

    @cached_property
    def thetas(self) -> np.ndarray:
        """0 and every theta at which components come together, growing: int64, (steps,)."""
        return np.unique(np.append(0, self.tree.distance))

    @cached_property
    def component_counts(self) -> np.ndarray:
        """Components at each of ``thetas``: int64, (steps,)."""
        return self.cells - np.searchsorted(self.tree.distance, self.thetas, side="right")

    @cached_property
    def largest_components(self) -> np.ndarray:
        """Cells in the largest component at each of ``thetas``: int64, (steps,)."""
        return _largest(self.cells, self.tree.first, self.tree.second, self.tree.distance, self.thetas)

    @cached_property
    def nearest_distances(self) -> np.ndarray:
        """The distance of each cell to the nearest other, its shortest edge in the tree: int64, (cells,)."""
        nearest = np.full(self.cells, np.iinfo(np.int64).max)
        np.minimum.at(nearest, self.tree.first, self.tree.distance)
        np.minimum.at(nearest, self.tree.second, self.tree.distance)
        return nearest

    def component_count(self, theta: int) -> int:
        """Components at ``theta``."""
        return int(self.cells - np.searchsorted(self.tree.distance, theta, side="right"))

    def theta_connecting(self, share: float) -> int:
        """The smallest theta at which one component holds at least ``share`` of the cells; 0 for a single cell."""
        if not 0 < share <= 1:
            raise InputError(f"share {share!r} is out of range. Give a number above 0 and at most 1.")
        return int(self.thetas[np.argmax(self.largest_components >= share * self.cells - 1e-9)])

    def clusters(self, theta: int) -> np.ndarray:
        """The single-linkage cluster of each cell at ``theta``, numbered by their first cells: int64, (cells,)."""
        edges = int(np.searchsorted(self.tree.distance, theta, side="right"))
        return components(self.cells, self.tree.first[:edges], self.tree.second[:edges])

    def purity(self, theta: int, class_counts: np.ndarray) -> float:
        """The fraction of the samples that have the most frequent label of their cluster at ``theta``.

        ``class_counts`` (cells, classes) are the samples of each class in each cell.
        """
        clusters = self.clusters(theta)
        total = np.zeros((clusters.max(initial=-1) + 1, class_counts.shape[1]), np.int64)
        np.add.at(total, clusters, class_counts)
        return float(total.max(axis=1).sum() / class_counts.sum())

    def dendrogram_purity(self, class_counts: np.ndarray) -> float:
        """How pure the smallest cluster around two samples of one class is in that class, on average over such pairs.

        Between 0 and 1, 1 if each class is together before another joins; NaN if no class has two samples.
        Source: Heller and Ghahramani, "Bayesian Hierarchical Clustering", ICML 2005.
        """
        tree = self.tree
        total, pairs = _dendrogram_purity(class_counts, tree.first, tree.second, tree.distance)
        return float(total / pairs) if pairs else float("nan")


def connectivity(codes: Codes, *, threads: int | None = None) -> Connectivity:
    """The connectivity of distinct ``codes`` at every theta, from their minimum spanning tree.

    >>> from nas_relucode.codes import pack
    >>> profile = connectivity(pack([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]))
    >>> profile.thetas, profile.component_counts, profile.largest_components
    (array([0, 1, 3]), array([3, 2, 1]), array([1, 2, 3]))
    >>> profile.theta_connecting(0.5), profile.theta_connecting(1), profile.clusters(2)
    (1, 3, array([0, 0, 1]))
    """
    return Connectivity(codes.samples, spanning_tree(codes, threads=threads))


@compiled
def _largest(n, first, second, distance, thetas):  # type: ignore[no-untyped-def]  # pragma: no cover
    parent, size = np.arange(n), np.ones(n, np.int64)
    result, largest, edge = np.empty(thetas.shape[0], np.int64), min(n, 1), 0
    for step in range(thetas.shape[0]):
        while edge < distance.shape[0] and distance[edge] <= thetas[step]:
            a, b = root(parent, first[edge]), root(parent, second[edge])
            if size[a] > size[b]:
                a, b = b, a
            parent[a] = b
            size[b] += size[a]
            largest = max(largest, size[b])
            edge += 1
        result[step] = largest
    return result


@compiled
def _dendrogram_purity(class_counts, first, second, distance):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The sum over pairs of samples of one class of the purity of their smallest cluster, and the number of pairs.

    Edges of one length join at once: the pairs of a new cluster are its own less those of the clusters it is made of.
    """
    n, classes = class_counts.shape
    counts = class_counts.astype(np.float64)
    parent = np.arange(n)
    inside = np.zeros((n, classes))  # pairs of each class that lie together already
    total, pairs = 0.0, 0.0
    for cell in range(n):
        size = counts[cell].sum()
        for c in range(classes):
            inside[cell, c] = counts[cell, c] * (counts[cell, c] - 1) / 2
            if size > 0:
                total += inside[cell, c] * counts[cell, c] / size
            pairs += inside[cell, c]
    start = 0
    while start < distance.shape[0]:
        stop = start
        while stop < distance.shape[0] and distance[stop] == distance[start]:
            a, b = root(parent, first[stop]), root(parent, second[stop])
            parent[b] = a
            counts[a] += counts[b]
            inside[a] += inside[b]
            stop += 1
        for edge in range(start, stop):
            a = root(parent, first[edge])
            size = counts[a].sum()
            for c in range(classes):  # a cluster is met once for each of its edges: after the first nothing is new
                new = counts[a, c] * (counts[a, c] - 1) / 2 - inside[a, c]
                if new > 0:
                    total += new * counts[a, c] / size
                    pairs += new
                    inside[a, c] += new
        start = stop
    return total, pairs
