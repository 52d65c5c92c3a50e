"""The exact minimum spanning tree of the cells: ours against scipy, against plain Prim, and at 300,000 cells."""

from __future__ import annotations

import measure

# isort: split
import os
from typing import Any

import numpy as np
from codes_to_measure import distinct_cells
from measure import Claim, Way
from numba import njit
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist

from nas_relucode.cells.spanning import spanning_tree
from nas_relucode.codes.bits import Codes

WORK = "spanning tree, {cells} x 512"
CLAIMS = {
    "scipy": Claim(WORK, "scipy pdist and minimum_spanning_tree", 150, 5_000, 2_000, 100),
    "prim": Claim(WORK, "plain Prim on packed words", 2, 60_000, 10_000, None),
    "memory": Claim(WORK + ", memory", "1 GiB", 1, 60_000, 20_000, 1),
    "large": Claim(WORK + ", the machine's threads, by the clock", "60 s", 1, 300_000, 30_000, 1),
}
HEAD = "256-256"


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    root = bench.data_root
    few = distinct_cells(bench.cells("scipy"), HEAD, root)
    bench.race(ours(few), {"scipy": by_scipy(few)})
    many = distinct_cells(bench.cells("prim"), HEAD, root)
    bench.race(ours(many), {"prim": Way(lambda: prim(many.words), lambda edges: (np.sort(edges[2]),))})
    cells = bench.cells("memory")
    (usage,) = measure.alone(["tree"], cells, cells, HEAD, root)
    note = f"above the start; {measure.mebibytes(usage.peak_bytes)} with Python, torch and numba"
    bench.row("memory", usage.added_bytes, 2**30, note, measure.mebibytes)
    cells = bench.cells("large")
    distinct_cells(cells, HEAD, root)  # trained by one thread, so that they are the same on every machine
    threads = os.cpu_count() or 1
    (usage,) = measure.alone(["tree"], cells, cells, HEAD, root, threads=threads)
    note = f"{threads} threads; peak {measure.mebibytes(usage.peak_bytes)}; 1 run"
    bench.row("large", usage.seconds, 60, note)
    bench.finish()


def ours(codes: Codes) -> Way:
    return Way(lambda: spanning_tree(codes), lambda tree: checked(codes, tree))


def checked(codes: Codes, tree: Any) -> tuple[np.ndarray]:
    """The sorted distances of the edges, checked: all minimum spanning trees have the same ones."""
    apart = np.bitwise_count(codes.words[tree.first] ^ codes.words[tree.second]).sum(axis=1)
    assert np.array_equal(apart, tree.distance)
    return (np.sort(tree.distance),)


def by_scipy(codes: Codes) -> Way:
    """scipy's fastest way: the squared Euclidean distance of zeros and ones, and half of the matrix."""
    bits = codes.bits().astype(np.float64)
    n = len(bits)
    starts = np.concatenate([[0], np.cumsum(np.arange(n - 1, -1, -1))])
    columns = np.triu_indices(n, 1)[1]

    def run() -> Any:
        matrix = csr_array((pdist(bits, "sqeuclidean"), columns, starts), shape=(n, n))
        return minimum_spanning_tree(matrix, overwrite=True)

    return Way(run, lambda tree: (np.sort(tree.data).astype(np.int64),), "sqeuclidean, upper triangle")


@njit(cache=True)
def popcount(x):
    """The number of bits set in a word; LLVM turns this sum into one instruction."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True)
def prim(rows):
    """Prim's algorithm written with care: the rows outside the tree are kept contiguous, and loops have no branches.

    First end, second end and distance of each edge: int64, (3, rows - 1).
    """
    n, words = rows.shape
    outside, name = rows[1:].copy(), np.arange(1, n)
    nearest, source, distance = np.full(n - 1, 1 << 40), np.zeros(n - 1, np.int64), np.empty(n - 1, np.int64)
    edges = np.empty((3, n - 1), np.int64)
    row, current, left = 0, rows[0].copy(), n - 1
    for k in range(n - 1):
        for j in range(left):
            d = np.int64(0)
            for word in range(words):
                d += popcount(current[word] ^ outside[j, word])
            distance[j] = d
        for j in range(left):
            nearer = distance[j] < nearest[j]
            nearest[j] = distance[j] if nearer else nearest[j]
            source[j] = row if nearer else source[j]
        at = np.argmin(nearest[:left])
        edges[0, k], edges[1, k], edges[2, k] = source[at], name[at], nearest[at]
        row, current[:] = name[at], outside[at]
        left -= 1
        outside[at], name[at], nearest[at], source[at] = outside[left], name[left], nearest[left], source[left]
    return edges


if __name__ == "__main__":
    main()
