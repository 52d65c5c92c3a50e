"""Connected components of a graph of cells: ours against networkx and scipy."""

from __future__ import annotations

import measure

# isort: split
import itertools
from typing import Any

import networkx as nx
import numpy as np
from codes_to_measure import distinct_cells
from measure import Claim, Way
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import nas_relucode as rc

WORK = "components, {cells} cells and twice as many edges"
CLAIMS = {
    "networkx": Claim(WORK, "networkx, from the edges", 40, 1_000_000, 50_000, 40),
    "built": Claim(WORK, "networkx, its graph built before", None, 1_000_000, 50_000, None),
    "scipy": Claim(WORK, "scipy csgraph, from the edges", None, 1_000_000, 50_000, None),
}


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    n = bench.cells("networkx")
    edges = some_pairs(n, bench)
    ends = np.stack([edges.first, edges.second], axis=1)
    built = graph(n, ends)

    def by_scipy() -> np.ndarray:
        matrix = coo_array((np.ones(len(edges), np.int8), (edges.first, edges.second)), shape=(n, n))
        return connected_components(matrix, directed=False)[1]

    ours = Way(lambda: rc.cells.AdjacencyGraph(n, 1, edges).component_of, in_order)
    peers = {
        "networkx": Way(lambda: list(nx.connected_components(graph(n, ends))), lambda sets: by_sets(n, sets)),
        "built": Way(lambda: list(nx.connected_components(built)), lambda sets: by_sets(n, sets)),
        "scipy": Way(by_scipy, in_order),
    }
    bench.race(ours, peers)
    bench.finish()


def some_pairs(cells: int, bench: measure.Bench) -> rc.cells.Pairs:
    """Twice as many pairs as cells, drawn from those within the smallest theta that has so many."""
    codes = distinct_cells(cells, "64-64", bench.data_root)
    for theta in itertools.count(1):
        pairs = rc.cells.pairs_within(codes, theta)
        if len(pairs) >= 2 * cells:
            chosen = np.sort(np.random.default_rng(0).choice(len(pairs), 2 * cells, replace=False))
            return rc.cells.Pairs(pairs.first[chosen], pairs.second[chosen], pairs.distance[chosen])


def graph(cells: int, ends: np.ndarray) -> nx.Graph:
    nodes_and_edges = nx.Graph()
    nodes_and_edges.add_nodes_from(range(cells))
    nodes_and_edges.add_edges_from(ends.tolist())
    return nodes_and_edges


def by_sets(cells: int, components: list[set[int]]) -> tuple[np.ndarray]:
    component_of = np.empty(cells, np.int64)
    for number, component in enumerate(components):
        component_of[list(component)] = number
    return in_order(component_of)


def in_order(component_of: Any) -> tuple[np.ndarray]:
    """Each cell's component, named by its first cell."""
    _, first, component_of = np.unique(component_of, return_index=True, return_inverse=True)
    return (first[component_of],)


if __name__ == "__main__":
    main()
