"""The graph of the occupied cells: an edge where two codes are at most theta bits apart (Lemma 1, Definition 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas_relucode.cells.neighbours import Pairs, pairs_within
from nas_relucode.cells.occupied import Cells
from nas_relucode.codes.words import compiled, inlined


@dataclass(frozen=True)
class AdjacencyGraph:
    """Nodes are cells. At theta = 1 its edges are the paper's adjacent cells.

    Cells that share a facet are adjacent for parameters in general position; the converse of Lemma 1 does not hold
    from two hidden layers on: adjacent cells may lie apart.
    """

    cells: int
    theta: int
    edges: Pairs

    @cached_property
    def component_of(self) -> np.ndarray:
        """The component of each cell, numbered by their first cells: int64, (cells,)."""
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
    return AdjacencyGraph(len(cells), theta, pairs_within(cells.codes, theta))


@inlined
def root(parent, node):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The node that stands for a node's component; half of the way there is cut short."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def components(n, first, second):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The connected component of each of n nodes, numbered by their first nodes, by union and find: int64, (n,)."""
    parent = np.arange(n)  # of a node: one of its component with a smaller number, or itself
    for edge in range(first.shape[0]):
        a, b = root(parent, first[edge]), root(parent, second[edge])
        parent[max(a, b)] = min(a, b)
    found, count = np.empty(n, np.int64), 0
    for node in range(n):
        if parent[node] == node:
            found[node] = count
            count += 1
        else:
            found[node] = found[parent[node]]
    return found
