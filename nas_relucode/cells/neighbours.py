"""All pairs of codes within theta bits of each other, exactly: found in buckets of equal parts, or one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_relucode.cells.hamming import bound
from nas_relucode.codes.bits import WORD, Codes
from nas_relucode.codes.words import ALL, BLOCK, compiled, distances_to, popcount, row_hash

BUCKET_COST = 4  # a comparison in a bucket takes about as long as 4 of a sweep over all pairs


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows of some codes, first < second, ordered by first and then second."""

    first: np.ndarray  # int64, (pairs,)
    second: np.ndarray  # int64, (pairs,)
    distance: np.ndarray  # int64, (pairs,): the Hamming distance, not truncated

    def __len__(self) -> int:
        return len(self.first)


def pairs_within(codes: Codes, theta: float) -> Pairs:
    """All pairs of different rows at a Hamming distance of at most ``theta``, exactly.

    Split into theta + 1 parts, two codes within theta are equal in one of them: for each part the rows are put into
    buckets of equal parts, and compared within a bucket. Time then grows with the rows and the pairs found. Where the
    buckets would be long (many rows of few neurons, or theta near the typical distance), all pairs are compared.
    Memory grows with the rows and the pairs found.
    Rows with equal codes are pairs at distance 0: join distinct codes (`find_cells`) to get edges.

    >>> from nas_relucode.codes import pack
    >>> pairs = pairs_within(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), theta=2)
    >>> pairs.first, pairs.second, pairs.distance
    (array([0, 1]), array([1, 2]), array([1, 2]))
    """
    most = bound(codes, theta)
    rows = np.ascontiguousarray(codes.words)
    samples = len(rows)
    found, pairs = -1, np.empty((3, 0), np.int64)
    if most < WORD:
        found, pairs = _in_buckets(rows, most, _masks(rows.shape[1], most + 1), samples**2 // 2 // BUCKET_COST)
    if found < 0:
        found, pairs = _one_by_one(rows, np.ascontiguousarray(rows.T), most)
    return Pairs(*_in_order(samples, pairs[:, :found]))


def _masks(words: int, parts: int) -> np.ndarray:
    """Which bits of a word belong to each part: uint64, (parts,); ALL where a part is made of whole words."""
    if parts <= words:
        return np.full(parts, ALL, np.uint64)
    return np.array([sum(1 << bit for bit in range(part, WORD, parts)) for part in range(parts)], np.uint64)


@compiled
def _wider(pairs):  # type: ignore[no-untyped-def]  # pragma: no cover
    wider = np.empty((3, 2 * pairs.shape[1]), np.int64)
    wider[:, : pairs.shape[1]] = pairs
    return wider


@compiled
def _in_buckets(rows, theta, masks, most_comparisons):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The pairs within theta, each from the first part in which it is equal; -1 if that takes too many comparisons.

    Each row is compared with the row before it in its bucket, then with the one before that, and so on: all rows take
    a step at once. Loops without branches keep what they need and count on; a processor guesses none of these wrong.
    """
    n, words = rows.shape
    parts = masks.shape[0]
    whole = parts <= words  # part p is then words p, p + parts, ...; else it is some bits of every word
    step = parts if whole else 1
    slots = 1
    while slots < 4 * n:
        slots *= 2
    last, before = np.empty(slots, np.int32), np.empty(n, np.int32)  # the last row of a bucket, the row before a row
    row, other, near = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(BLOCK, np.int64)
    distances = np.empty(BLOCK, np.uint64)
    pairs, found, comparisons = np.empty((3, 1024), np.int64), 0, 0
    for part in range(parts):
        last[:] = -1
        open_rows = 0
        for i in range(n):
            slot = np.int64(row_hash(rows, i, part if whole else 0, step, masks[part]) >> np.uint64(8)) & (slots - 1)
            before[i] = last[slot]
            last[slot] = i
            row[open_rows], other[open_rows] = i, before[i]
            open_rows += 1 if before[i] >= 0 else 0
        while open_rows > 0:
            comparisons += open_rows
            if comparisons > most_comparisons + n:
                return -1, pairs
            still_open = 0
            for start in range(0, open_rows, BLOCK):
                count = 0
                for k in range(start, min(start + BLOCK, open_rows)):
                    i, j = row[k], other[k]
                    d = np.uint64(0)
                    for word in range(words):
                        d += popcount(rows[i, word] ^ rows[j, word])
                    near[count], distances[count] = (np.int64(i) << 32) | np.int64(j), d
                    count += 1 if d <= np.uint64(theta) else 0
                    row[still_open], other[still_open] = i, before[j]
                    still_open += 1 if before[j] >= 0 else 0
                for k in range(count):
                    i, j = near[k] >> 32, near[k] & 0xFFFFFFFF
                    first, differ = -1, np.uint64(1)
                    while differ != np.uint64(0) and first < part:
                        first, differ = first + 1, np.uint64(0)
                        word = first if whole else 0
                        while word < words:
                            differ |= (rows[i, word] ^ rows[j, word]) & masks[first]
                            word += step
                    if first == part and differ == np.uint64(0):
                        if found == pairs.shape[1]:
                            pairs = _wider(pairs)
                        pairs[0, found], pairs[1, found], pairs[2, found] = j, i, distances[k]
                        found += 1
            open_rows = still_open
    return found, pairs


@compiled
def _one_by_one(rows, columns, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    n = rows.shape[0]
    out = np.empty(BLOCK, np.uint64)
    pairs, found = np.empty((3, 1024), np.int64), 0
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        for i in range(stop):
            distances_to(rows[i], columns, start, stop, out)
            for begin in range(start, stop, 32):  # most of these hold no pair, and are left after one look
                end = min(begin + 32, stop)
                near = np.int64(0)
                for k in range(begin - start, end - start):
                    near += np.int64(out[k] <= np.uint64(theta))
                for k in range(max(begin, i + 1) if near else end, end):
                    if out[k - start] <= np.uint64(theta):
                        if found == pairs.shape[1]:
                            pairs = _wider(pairs)
                        pairs[0, found], pairs[1, found], pairs[2, found] = i, k, out[k - start]
                        found += 1
    return found, pairs


@compiled
def _in_order(rows, pairs):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The pairs ordered by their first row and then their second: sorted by counting, the second row first."""
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
