"""Exact neighbours of codes under the Hamming distance: all pairs within theta bits, and the k nearest of each code."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from nas_relucode.cells.hamming import SHARING, as_columns, whole_theta
from nas_relucode.codes.bits import WORD, Codes, check_codes
from nas_relucode.codes.words import ALL, BLOCK, GLANCE, any_below, compiled, distances_to, doubled, popcount, row_hash
from nas_relucode.errors import InputError, thread_count, whole_number

BUCKET_COST = 4  # a comparison within a bucket takes about as long as 4 comparisons in a sweep over all pairs
FIRST_ROOM = 1024  # pairs for which there is room at first
ITSELF = np.uint64(0xFFFFFFFFFFFFFFFF)  # above every distance: a row is not its own neighbour


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows of some codes, first < second, ordered by first and then second."""

    first: np.ndarray  # int64, (pairs,)
    second: np.ndarray  # int64, (pairs,)
    distance: np.ndarray  # int64, (pairs,): the Hamming distance, not truncated

    def __len__(self) -> int:
        return len(self.first)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} at {distance}" for distance, count in enumerate(np.bincount(self.distance)[:9]))
        return f"Pairs: {len(self)}; by distance (up to 8): {counts or 'none'}"


def pairs_within(codes: Codes, theta: float) -> Pairs:
    """All pairs of different rows at a Hamming distance of at most ``theta``, exactly.

    If codes are split into theta + 1 parts, two codes within theta bits agree on at least one part. For each part the
    rows are put into buckets of rows that agree on it, and compared within their bucket: time then grows with the rows
    and the pairs. Where buckets would be long (many rows of few neurons, or theta near the typical distance), all pairs
    are compared. Memory grows with the rows and the pairs. Rows with equal codes are pairs at distance 0: pass distinct
    codes (`find_cells`) to get the edges of a graph.

    >>> from nas_relucode.codes import pack
    >>> pairs = pairs_within(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), theta=2)
    >>> pairs.first, pairs.second, pairs.distance
    (array([0, 1]), array([1, 2]), array([1, 2]))
    """
    limit = whole_theta(codes, theta)
    rows = np.ascontiguousarray(codes.words)
    samples = len(rows)
    count, pairs = -1, np.empty((3, 0), np.int64)
    if limit < WORD:
        count, pairs = _in_buckets(rows, limit, _masks(rows.shape[1], limit + 1), samples**2 // 2 // BUCKET_COST)
    if count < 0:
        count, pairs = _one_by_one(rows, as_columns(codes), limit)
    return Pairs(*_in_order(samples, pairs[:, :count]))


def _masks(words: int, parts: int) -> np.ndarray:
    """The bits of a word that belong to each part: uint64, (parts,); ALL where a part consists of whole words."""
    if parts <= words:
        return np.full(parts, ALL, np.uint64)
    return np.array([sum(1 << bit for bit in range(part, WORD, parts)) for part in range(parts)], np.uint64)


@compiled
def _in_buckets(rows, theta, masks, most_comparisons):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The number of pairs within theta and the pairs (3, room): first, second, distance; -1 for too many comparisons.

    Each row is compared with the row before it in its bucket, then with the one before that, and so on; all rows take
    a step at once. A pair counts for the first part on which its rows agree. The loops write every candidate and only
    advance the counter for those to keep, because a processor would mispredict a branch.
    """
    n, words = rows.shape
    parts = masks.shape[0]
    whole = parts <= words  # part p consists of the words p, p + parts, ...; else of some bits of every word
    step = parts if whole else 1
    slots = 1
    while slots < 4 * n:
        slots *= 2
    last, previous = np.empty(slots, np.int32), np.empty(n, np.int32)  # a bucket's last row, the row before each row
    row, partner = np.empty(n, np.int32), np.empty(n, np.int32)  # rows that go on, and whom they are compared with
    near, distances = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.uint64)  # pairs within theta, packed into a word
    pairs, pair_count, comparisons = np.empty((3, FIRST_ROOM), np.int64), 0, 0
    for part in range(parts):
        last[:] = -1
        open_rows = 0
        for i in range(n):
            slot = np.int64(row_hash(rows, i, part if whole else 0, step, masks[part]) >> np.uint64(8)) & (slots - 1)
            previous[i] = last[slot]
            last[slot] = i
            row[open_rows], partner[open_rows] = i, previous[i]
            open_rows += 1 if previous[i] >= 0 else 0
        while open_rows > 0:
            comparisons += open_rows
            if comparisons > most_comparisons + n:
                return -1, pairs
            still_open = 0
            for start in range(0, open_rows, BLOCK):
                count = 0
                for k in range(start, min(start + BLOCK, open_rows)):
                    i, j = row[k], partner[k]
                    d = np.uint64(0)
                    for word in range(words):
                        d += popcount(rows[i, word] ^ rows[j, word])
                    near[count], distances[count] = (np.int64(i) << 32) | np.int64(j), d
                    count += 1 if d <= np.uint64(theta) else 0
                    row[still_open], partner[still_open] = i, previous[j]
                    still_open += 1 if previous[j] >= 0 else 0
                for k in range(count):
                    i, j = near[k] >> 32, near[k] & 0xFFFFFFFF
                    first_equal, differ = -1, np.uint64(1)  # the first part on which the rows agree
                    while differ != np.uint64(0) and first_equal < part:
                        first_equal, differ = first_equal + 1, np.uint64(0)
                        word = first_equal if whole else 0
                        while word < words:
                            differ |= (rows[i, word] ^ rows[j, word]) & masks[first_equal]
                            word += step
                    if first_equal == part and differ == np.uint64(0):
                        if pair_count == pairs.shape[1]:
                            pairs = doubled(pairs)
                        pairs[0, pair_count], pairs[1, pair_count], pairs[2, pair_count] = j, i, distances[k]
                        pair_count += 1
            open_rows = still_open
    return pair_count, pairs


@compiled
def _one_by_one(rows, columns, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    """As `_in_buckets`, by comparing all pairs."""
    n = rows.shape[0]
    distances = np.empty(BLOCK, np.uint64)
    above = np.uint64(theta) + np.uint64(1)
    pairs, pair_count = np.empty((3, FIRST_ROOM), np.int64), 0
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        for i in range(stop):
            distances_to(rows[i], columns, start, stop, distances)
            for begin in range(start, stop, GLANCE):
                end = min(begin + GLANCE, stop)
                near = any_below(distances, begin - start, end - start, above)
                for k in range(max(begin, i + 1) if near else end, end):
                    if distances[k - start] < above:
                        if pair_count == pairs.shape[1]:
                            pairs = doubled(pairs)
                        pairs[0, pair_count], pairs[1, pair_count], pairs[2, pair_count] = i, k, distances[k - start]
                        pair_count += 1
    return pair_count, pairs


@compiled
def _in_order(rows, pairs):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The pairs sorted by their first and then their second row: two counting sorts, by the second row first."""
    m = pairs.shape[1]
    order = np.arange(m)
    for end in (1, 0):
        starts = np.zeros(rows + 1, np.int64)
        for k in range(m):
            starts[pairs[end, k] + 1] += 1
        for row in range(rows):
            starts[row + 1] += starts[row]
        moved = np.empty(m, np.int64)
        for k in order:
            moved[starts[pairs[end, k]]] = k
            starts[pairs[end, k]] += 1
        order = moved
    return pairs[0][order], pairs[1][order], pairs[2][order]


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest other rows of each row of some codes, ordered by distance and then by row."""

    rows: np.ndarray  # int64, (samples, k)
    distances: np.ndarray  # int64, (samples, k): Hamming distances, not truncated

    def __repr__(self) -> str:
        return f"Nearest: {self.rows.shape[1]} neighbours of each of {len(self.rows)} codes"


def nearest(codes: Codes, k: int, *, threads: int | None = None) -> Nearest:
    """The ``k`` nearest other rows of each row, exactly; among rows at the same distance those that come first.

    Rows with equal codes are neighbours at distance 0. Time grows with the square of the rows, memory with rows x k.
    ``threads`` (None: torch's number) do not change the result. Raises InputError unless there are more than k rows.

    >>> from nas_relucode.codes import pack
    >>> neighbours = nearest(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), 2)
    >>> neighbours.rows.tolist(), neighbours.distances.tolist()
    ([[1, 2], [0, 2], [1, 0]], [[1, 3], [1, 2], [2, 3]])
    """
    check_codes(codes)
    k, threads = whole_number("k", k, least=1), thread_count(threads) or torch.get_num_threads()
    if k >= codes.samples:
        raise InputError(f"k {k} is too large: each of {codes.samples} codes has {codes.samples - 1} others.")
    rows, columns = np.ascontiguousarray(codes.words), as_columns(codes)
    keys = np.empty((len(rows), k), np.uint64)
    starts = np.linspace(0, len(rows), min(len(rows), 8 * threads) + 1).astype(int)

    def search(start: int, stop: int) -> None:
        _search(rows, columns, start, stop, keys)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, starts[:-1], starts[1:]))
    return Nearest((keys & np.uint64(0xFFFFFFFF)).astype(np.int64), (keys >> np.uint64(32)).astype(np.int64))


@compiled
def _search(rows, columns, begin, end, keys):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fills keys[begin:end] with the k least keys of each row, ascending: distance << 32 | number of the other row."""
    n, k = rows.shape[0], keys.shape[1]
    distances = np.empty(BLOCK, np.uint64)
    keys[begin:end] = ITSELF
    for top in range(begin, end, SHARING):
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            for i in range(top, min(end, top + SHARING)):
                distances_to(rows[i], columns, start, stop, distances)
                if start <= i < stop:
                    distances[i - start] = ITSELF
                best = keys[i]
                limit = best[k - 1] >> np.uint64(32)  # a later row at this distance does not replace an earlier one
                for first in range(0, stop - start, GLANCE):
                    last = min(first + GLANCE, stop - start)
                    near = any_below(distances, first, last, limit)
                    for j in range(first if near else last, last):
                        if distances[j] < limit:
                            key = (distances[j] << np.uint64(32)) | np.uint64(start + j)
                            place = k - 1
                            while place > 0 and best[place - 1] > key:
                                best[place] = best[place - 1]
                                place -= 1
                            best[place] = key
                            limit = best[k - 1] >> np.uint64(32)
