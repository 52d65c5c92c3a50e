"""All pairs of cells within theta, exactly: ours against FAISS, scipy, scikit-learn, and the cost of sorting alone."""

from __future__ import annotations

import measure

# isort: split
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from codes_to_measure import distinct_cells
from measure import Claim, Way
from scipy.spatial.distance import pdist
from sklearn.neighbors import BallTree

import nas_relucode as rc
from nas_relucode.codes.bits import Codes

FLAT = "FAISS IndexBinaryFlat.range_search"
CLAIMS = {
    "flat": Claim("pairs at distance 1, {cells} x 512", FLAT, 300, 60_000, 10_000, 50),
    "hash": Claim("pairs at distance 1, {cells} x 512", "FAISS IndexBinaryHash, nflip=1", 25, 60_000, 20_000, 25),
    "multihash": Claim(
        "pairs at distance 1, {cells} x 512", "FAISS IndexBinaryMultiHash, 2 hashes", None, 60_000, 20_000
    ),
    "pdist": Claim("pairs at distance 1, {cells} x 512", "scipy pdist", 1000, 5_000, 2_000, 400),
    "balltree": Claim("pairs at distance 1, {cells} x 512", "scikit-learn BallTree", 400, 5_000, 2_000, 160),
    "within 3": Claim("pairs within 3, {cells} x 512", FLAT, 30, 20_000, 5_000, 7.5),
    "limit": Claim(
        "pairs at distance 1, {cells} x 1024", "sort and one gather of the rows", 1 / 6, 1_000_000, 100_000, 1 / 6
    ),
}
HEAD, WIDE_HEAD = "256-256", "512-512"


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    faiss.omp_set_num_threads(1)

    def cells(name: str, head: str = HEAD) -> Codes:
        return distinct_cells(bench.cells(name), head, bench.data_root)

    some = cells("flat")
    bench.race(ours(some, 1), {"flat": flat(some, 1)})
    many = cells("hash")
    bench.race(ours(many, 1), {"hash": best_hash(many), "multihash": best_multihash(many)})
    few = cells("pdist")
    bench.race(ours(few, 1), {"pdist": distances(few), "balltree": best_ball_tree(few)})
    near = cells("within 3")
    bench.race(ours(near, 3), {"within 3": flat(near, 3)})
    wide = cells("limit", WIDE_HEAD)
    bench.race(Way(ours(wide, 1).run, nothing), {"limit": sort_and_gather(wide)})
    bench.finish()


def ours(codes: Codes, theta: int) -> Way:
    return Way(lambda: rc.cells.pairs_within(codes, theta), lambda pairs: (pairs.first, pairs.second, pairs.distance))


def flat(codes: Codes, theta: int) -> Way:
    def index() -> faiss.IndexBinary:
        return faiss.IndexBinaryFlat(codes.neurons)

    return faiss_way(codes, theta, index)


def best_hash(codes: Codes) -> Way:
    def with_bits(bits: int) -> Way:
        def index() -> faiss.IndexBinary:
            hash_index = faiss.IndexBinaryHash(codes.neurons, bits)
            hash_index.nflip = 1  # without it, pairs that differ in the hash are missed
            return hash_index

        return faiss_way(codes, 1, index, f"b = {bits}")

    return best([with_bits(bits) for bits in (16, 20, 24, 26, 28, 30, 32)])


def best_multihash(codes: Codes) -> Way:
    """Two codes one bit apart agree on one of two hashes of different bits: exact without flips."""

    def with_bits(bits: int) -> Way:
        return faiss_way(codes, 1, lambda: faiss.IndexBinaryMultiHash(codes.neurons, 2, bits), f"b = {bits}")

    return best([with_bits(bits) for bits in (24, 28, 32)])


def faiss_way(codes: Codes, theta: int, index: Callable[[], faiss.IndexBinary], setting: str = "") -> Way:
    rows = codes.words.view(np.uint8)

    def run() -> Any:
        filled = index()
        filled.add(rows)
        return filled.range_search(rows, theta + 1)  # strictly below

    def answer(result: Any) -> tuple[np.ndarray, ...]:
        limits, distance, second = result
        first = np.repeat(np.arange(len(rows)), np.diff(limits.astype(np.int64)))
        return in_order(first, second, distance)

    return Way(run, answer, setting)


def distances(codes: Codes) -> Way:
    """scipy's fastest Hamming distance is the squared Euclidean distance of zeros and ones."""
    bits = codes.bits().astype(np.float64)
    row, column = np.triu_indices(len(bits), 1)

    def run() -> Any:
        condensed = pdist(bits, "sqeuclidean")
        near = np.flatnonzero(condensed <= 1)
        return near, condensed[near]

    return Way(run, lambda result: in_order(row[result[0]], column[result[0]], result[1]), "sqeuclidean")


def best_ball_tree(codes: Codes) -> Way:
    bits = codes.bits().astype(np.float64)

    def with_leaves(size: int) -> Way:
        def run() -> Any:
            tree = BallTree(bits, leaf_size=size, metric="hamming")
            return tree.query_radius(bits, 1.5 / codes.neurons)

        def answer(neighbours: Any) -> tuple[np.ndarray, ...]:
            first = np.repeat(np.arange(len(bits)), [len(row) for row in neighbours])
            second = np.concatenate(list(neighbours))
            return in_order(first, second, (codes.words[first] != codes.words[second]).any(axis=1))

        return Way(run, answer, f"leaf_size = {size}")

    return best([with_leaves(size) for size in (2, 5, 10, 20)])


def sort_and_gather(codes: Codes) -> Way:
    """The least that a method by sorting has to do: sort one 64-bit key a row, and put the rows into that order."""
    rng = np.random.default_rng(0)
    odd = rng.integers(0, 2**63, codes.words.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    keys = (codes.words * odd).sum(axis=1, dtype=np.uint64)
    return Way(
        lambda: np.take(codes.words, np.argsort(keys), axis=0), nothing, "np.argsort of a 64-bit key a row, np.take"
    )


def nothing(result: Any) -> tuple[np.ndarray, ...]:
    """A lower limit has no result to compare."""
    return ()


def in_order(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each pair once, ordered as ours, from a list that may hold both (i, j) and (j, i), and (i, i)."""
    once = first < second
    first, second, distance = first[once], second[once], distance[once]
    order = np.lexsort((second, first))
    return tuple(array[order].astype(np.int64) for array in (first, second, distance))


def best(ways: list[Way]) -> Way:
    """The fastest of several settings of a peer, the second of two runs of each."""

    def seconds(way: Way) -> float:
        way.run()
        start = time.process_time()
        way.run()
        return time.process_time() - start

    return min(ways, key=seconds)


if __name__ == "__main__":
    main()
