"""The graph of the occupied cells: an edge where two codes are at most theta bits apart (Lemma 1, Definition 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nas_relucode.cells import Cells
from nas_relucode.hamming import Pairs, pairs_within


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
        """The component of each cell: (cells,)."""
        weights = np.ones(len(self.edges), np.int8)
        matrix = coo_array((weights, (self.edges.first, self.edges.second)), shape=(self.cells, self.cells))
        return np.asarray(connected_components(matrix, directed=False)[1], np.int64)

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

    >>> from nas_relucode import find_cells, pack
    >>> graph = adjacency_graph(find_cells(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]])))
    >>> len(graph.edges), graph.component_sizes, graph.degrees
    (1, array([2, 1]), array([1, 1, 0]))
    """
    return AdjacencyGraph(len(cells), theta, pairs_within(cells.codes, theta))
