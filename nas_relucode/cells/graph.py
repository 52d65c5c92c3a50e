"""The graph of the occupied cells: at one theta (Lemma 1, Definition 2), and its components at every theta at once.

Two cells are connected at theta if a chain of cells leads from one to the other in steps of at most theta bits. These
components are the clusters of single linkage (the cell-level clustering at the end of the paper's section 2), and a
minimum spanning tree determines them for every theta: remove its edges above theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas_relucode.cells.neighbours import Pairs, pairs_within
from nas_relucode.cells.occupied import Cells, check_counts
from nas_relucode.cells.spanning import SpanningTree, spanning_tree
from nas_relucode.codes.bits import Codes
from nas_relucode.codes.words import compiled, inlined
from nas_relucode.errors import finite_number, whole_number


@dataclass(frozen=True, eq=False)
class AdjacencyGraph:
    """The graph whose nodes are cells, with an edge wherever two codes are at most theta bits apart.

    At theta = 1 its edges are the paper's adjacent cells. Cells that share a facet are adjacent for parameters in
    general position. From two hidden layers on the converse of Lemma 1 is false: adjacent cells may lie apart.
    """

    cells: int  # their number
    theta: int
    edges: Pairs  # pairs of cells at most theta apart

    def __repr__(self) -> str:
        return f"AdjacencyGraph: {self.cells} cells, {len(self.edges)} edges at theta = {self.theta}"

    @cached_property
    def component_of(self) -> np.ndarray:
        """The component of each cell, numbered in the order of their first cells: int64, (cells,)."""
        return components(self.cells, self.edges.first, self.edges.second)

    @cached_property
    def component_sizes(self) -> np.ndarray:
        """Cells in each component: int64, (components,)."""
        return np.bincount(self.component_of)

    @cached_property
    def degrees(self) -> np.ndarray:
        """Neighbours of each cell: int64, (cells,)."""
        ends = np.concatenate([self.edges.first, self.edges.second])
        return np.bincount(ends, minlength=self.cells)


def adjacency_graph(cells: Cells, *, theta: int = 1) -> AdjacencyGraph:
    """The graph that joins occupied cells whose codes are at most ``theta`` bits apart, exactly.

    >>> from nas_relucode.cells import find_cells
    >>> from nas_relucode.codes import pack
    >>> graph = adjacency_graph(find_cells(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]])))
    >>> len(graph.edges), graph.component_sizes, graph.degrees
    (1, array([2, 1]), array([1, 1, 0]))
    """
    theta = whole_number("theta", theta)
    return AdjacencyGraph(len(cells), theta, pairs_within(cells.codes, theta))


@dataclass(frozen=True, eq=False)
class Connectivity:
    """The components of the cells at every theta. At theta 0 each cell is a component of its own."""

    cells: int  # their number
    tree: SpanningTree  # the minimum spanning tree of their codes

    def __repr__(self) -> str:
        half, all_ = self.theta_connecting(0.5), self.theta_connecting(1)
        return f"Connectivity: {self.cells} cells; half of them connected at theta = {half}, all at theta = {all_}"

    @cached_property
    def thetas(self) -> np.ndarray:
        """0 and every theta at which components merge, ascending: int64, (steps,)."""
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
        """The distance of each cell to the nearest other cell, its shortest edge in the tree: int64, (cells,)."""
        distances = np.full(self.cells, np.iinfo(np.int64).max)
        np.minimum.at(distances, self.tree.first, self.tree.distance)
        np.minimum.at(distances, self.tree.second, self.tree.distance)
        return distances

    def component_count(self, theta: int) -> int:
        """Components at ``theta``."""
        return self.cells - self._edges(theta)

    def _edges(self, theta: float) -> int:
        """The edges of the tree that are at most ``theta`` long, the first ones."""
        theta = theta if theta == math.inf else finite_number("theta", theta)
        return int(np.searchsorted(self.tree.distance, theta, side="right"))

    def theta_connecting(self, share: float) -> int:
        """The smallest theta at which one component holds at least ``share`` of the cells; 0 for a single cell."""
        share = finite_number("share", share, most=1, above=True)
        return int(self.thetas[np.argmax(self.largest_components >= share * self.cells - 1e-9)])

    def clusters(self, theta: int) -> np.ndarray:
        """The single-linkage cluster of each cell at ``theta``, in the order of their first cells: int64, (cells,)."""
        edges = self._edges(theta)
        return components(self.cells, self.tree.first[:edges], self.tree.second[:edges])

    def purity(self, theta: int, class_counts: np.ndarray) -> float:
        """The fraction of the samples that have the most frequent label of their cluster at ``theta``.

        ``class_counts`` (cells, classes) are the samples of each class in each cell.
        """
        class_counts = check_counts(class_counts, self.cells)
        clusters = self.clusters(theta)
        cluster_counts = np.zeros((clusters.max(initial=-1) + 1, class_counts.shape[1]), np.int64)
        np.add.at(cluster_counts, clusters, class_counts)
        return float(cluster_counts.max(axis=1).sum() / class_counts.sum())

    def dendrogram_purity(self, class_counts: np.ndarray) -> float:
        """The mean, over all pairs of samples of one class, of this class's share of the smallest cluster around both.

        Between 0 and 1; 1 if every class is one cluster before another class joins it; NaN if no class has two samples.
        Source: Heller and Ghahramani, "Bayesian Hierarchical Clustering", ICML 2005.
        """
        class_counts, tree = check_counts(class_counts, self.cells), self.tree
        total, pairs = _dendrogram_purity(class_counts, tree.first, tree.second, tree.distance)
        return float(total / pairs) if pairs else float("nan")


def connectivity(codes: Codes, *, threads: int | None = None) -> Connectivity:
    """The components of distinct ``codes`` at every theta, from their minimum spanning tree.

    >>> from nas_relucode.codes import pack
    >>> profile = connectivity(pack([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]))
    >>> profile.thetas, profile.component_counts, profile.largest_components
    (array([0, 1, 3]), array([3, 2, 1]), array([1, 2, 3]))
    >>> profile.theta_connecting(0.5), profile.theta_connecting(1), profile.clusters(2)
    (1, 3, array([0, 0, 1]))
    """
    tree = spanning_tree(codes, threads=threads)
    return Connectivity(codes.samples, tree)


@inlined
def root(parent, node):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The representative of a node's component in union-find; halves the path to it."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def components(n, first, second):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The connected component of each of n nodes, in the order of their first nodes, by union-find: int64, (n,)."""
    parent = np.arange(n)  # a node of the same component with a smaller number, or the node itself
    for edge in range(first.shape[0]):
        a, b = root(parent, first[edge]), root(parent, second[edge])
        parent[max(a, b)] = min(a, b)
    component_of, count = np.empty(n, np.int64), 0
    for node in range(n):
        if parent[node] == node:
            component_of[node] = count
            count += 1
        else:
            component_of[node] = component_of[parent[node]]
    return component_of


@compiled
def _largest(n, first, second, distance, thetas):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The size of the largest component at each of ``thetas``; edges are sorted by distance: int64, (thetas,)."""
    parent, size = np.arange(n), np.ones(n, np.int64)
    largest_at, largest, edge = np.empty(thetas.shape[0], np.int64), min(n, 1), 0
    for step in range(thetas.shape[0]):
        while edge < distance.shape[0] and distance[edge] <= thetas[step]:
            a, b = root(parent, first[edge]), root(parent, second[edge])
            if size[a] > size[b]:
                a, b = b, a
            parent[a] = b
            size[b] += size[a]
            largest = max(largest, size[b])
            edge += 1
        largest_at[step] = largest
    return largest_at


@compiled
def _dendrogram_purity(class_counts, first, second, distance):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The sum over pairs of samples of one class of the purity of their smallest cluster, and the number of pairs.

    Edges of one length merge at once. The new pairs of a cluster are all its pairs less those that were in one cluster
    before.
    """
    n, classes = class_counts.shape
    counts = class_counts.astype(np.float64)
    parent = np.arange(n)
    counted = np.zeros((n, classes))  # pairs of each class within a cluster that are in the sum already
    total, pairs = 0.0, 0.0
    for cell in range(n):
        size = counts[cell].sum()
        for c in range(classes):
            counted[cell, c] = counts[cell, c] * (counts[cell, c] - 1) / 2
            if size > 0:
                total += counted[cell, c] * counts[cell, c] / size
            pairs += counted[cell, c]
    start = 0
    while start < distance.shape[0]:
        stop = start
        while stop < distance.shape[0] and distance[stop] == distance[start]:
            a, b = root(parent, first[stop]), root(parent, second[stop])
            parent[b] = a
            counts[a] += counts[b]
            counted[a] += counted[b]
            stop += 1
        for edge in range(start, stop):
            a = root(parent, first[edge])
            size = counts[a].sum()
            for c in range(classes):  # a cluster comes up once for each of its edges, and has new pairs at the first
                new = counts[a, c] * (counts[a, c] - 1) / 2 - counted[a, c]
                if new > 0:
                    total += new * counts[a, c] / size
                    pairs += new
                    counted[a, c] += new
        start = stop
    return total, pairs
