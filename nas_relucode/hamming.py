"""The Hamming distance of codes, truncated at theta (Definition 1): one pair, all pairs, all pairs within theta."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from nas_relucode.codes import WORD, Codes
from nas_relucode.errors import InputError


def _compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled, and kept on disk where there is a place for it."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # no folder to write to
        return njit(function)


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows of some codes, first < second, ordered by first and then second."""

    first: np.ndarray  # int64, (pairs,)
    second: np.ndarray  # int64, (pairs,)
    distance: np.ndarray  # int64, (pairs,): the Hamming distance, not truncated

    def __len__(self) -> int:
        return len(self.first)


def distance_matrix(codes: Codes, other: Codes | None = None, *, theta: float | None = None) -> np.ndarray:
    """Truncated Hamming distances min(d_H, theta) between all rows: int64, (samples, other samples).

    ``theta`` None stands for infinity. The matrix is dense: meant for up to some thousands of rows.

    >>> from nas_relucode import pack
    >>> distance_matrix(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), theta=2)
    array([[0, 1, 2],
           [1, 0, 2],
           [2, 2, 0]])
    """
    other = codes if other is None else other
    if [layer.neurons for layer in codes.layers] != [layer.neurons for layer in other.layers]:
        raise InputError(
            f"the codes have {codes.neurons} and {other.neurons} neurons in {len(codes.layers)} and "
            f"{len(other.layers)} layers. A distance needs codes of the same layers of the same network."
        )
    return _matrix(codes.words, other.words, bound(codes, theta))


def pairs_within(codes: Codes, theta: float) -> Pairs:
    """All pairs of different rows at a Hamming distance of at most ``theta``, exactly.

    The rows are the leaves of a binary trie, two subtrees are compared at once, and left as soon as the bits that
    they share differ in more than theta places. For theta of a few bits the time grows little faster than the rows;
    as theta nears the typical distance of two rows it grows with all pairs.
    Rows with equal codes are pairs at distance 0: join distinct codes (`find_cells`) to get edges.

    >>> from nas_relucode import pack
    >>> pairs = pairs_within(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), theta=2)
    >>> pairs.first, pairs.second, pairs.distance
    (array([0, 1]), array([1, 2]), array([1, 2]))
    """
    most = bound(codes, theta)
    if len(codes.words) < 2 or codes.neurons == 0:
        first, second = np.triu_indices(len(codes.words), k=1)
        return Pairs(first, second, np.zeros(len(first), np.int64))
    big_endian = codes.words.astype(">u8")
    order = np.argsort(big_endian.view(np.dtype((np.void, big_endian.strides[0])))[:, 0], kind="stable")
    rows = codes.words[order]
    first, second, distance = _join(rows, *_trie(rows), most)
    ends = np.sort([order[first], order[second]], axis=0)
    by_rows = np.lexsort(ends[::-1])
    return Pairs(ends[0, by_rows], ends[1, by_rows], distance[by_rows])


def bound(codes: Codes, theta: float | None) -> int:
    """theta as a number no larger than needed: the number of neurons stands for infinity."""
    if theta is None or theta == math.inf:
        return codes.neurons
    if isinstance(theta, bool) or not isinstance(theta, int | np.integer) or theta < 0:
        raise InputError(f"theta {theta!r} is not a whole number of at least 0. Give one, or None for infinity.")
    return min(int(theta), codes.neurons)


def ones_by_class(codes: Codes, labels: np.ndarray, classes: int) -> np.ndarray:
    """How many samples of each class have each bit set: int64, (classes, neurons), counted word by word."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    ones = np.zeros((classes, codes.words.shape[1] * WORD), np.int64)
    for word in range(codes.words.shape[1]):
        column = np.ascontiguousarray(codes.words[order, word : word + 1]).view(np.uint8)
        bits = np.unpackbits(column, axis=1, bitorder="little")
        ones[present, word * WORD : (word + 1) * WORD] = np.add.reduceat(bits, starts, axis=0, dtype=np.int64)
    return ones[:, codes.columns]


def class_distance_sums(cells: Codes, class_counts: np.ndarray, theta: int) -> tuple[float, float]:
    """Sums of min(d_H, theta) over all pairs of samples of one class, and over all pairs of samples of two classes.

    ``cells`` are distinct codes and ``class_counts`` (cells, classes) the samples of each class that have them: pairs
    of cells are looked at, pairs of samples are counted.
    """
    within, total = _class_sums(cells.words, class_counts.astype(np.float64), bound(cells, theta))
    return float(within), float(total - within)


@_compiled
def _popcount(x):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The bits set in a word; compilers know this sum as one instruction."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@_compiled
def _distance(a, i, b, j, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    """min(d_H, theta + 1) of a[i] and b[j]: the count stops after the word in which it exceeds theta."""
    distance = np.int64(0)
    for word in range(a.shape[1]):
        distance += _popcount(a[i, word] ^ b[j, word])
        if distance > theta:
            return theta + 1
    return distance


@_compiled
def _matrix(a, b, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    result = np.empty((a.shape[0], b.shape[0]), np.int64)
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            result[i, j] = min(_distance(a, i, b, j, theta), theta)
    return result


@_compiled
def _trie(rows):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The binary trie of sorted rows: the first bit, left and right child of each node.

    Node m < n splits the sorted rows before row m; node n + i is the leaf of row i. Bits are counted from the highest
    of the first word. Equal rows are split at a bit behind the last one.
    """
    n, words = rows.shape
    bit = np.full(2 * n, 64 * words, np.int64)
    for m in range(1, n):
        for word in range(words):
            x = rows[m - 1, word] ^ rows[m, word]
            if x != 0:
                bit[m] = 64 * word
                while x >> np.uint64(63) == 0:
                    x <<= np.uint64(1)
                    bit[m] += 1
                break
    # Nodes with a smaller first bit are higher: one pass with a stack of the nodes on the right edge.
    left, right = np.empty(n, np.int64), np.empty(n, np.int64)
    edge, top = np.empty(n, np.int64), 0
    for m in range(1, n):
        left[m], right[m] = n + m - 1, n + m
        while top > 0 and bit[edge[top - 1]] > bit[m]:
            top -= 1
            left[m] = edge[top]
        if top > 0:
            right[edge[top - 1]] = m
        edge[top] = m
        top += 1
    return bit, left, right


@_compiled
def _join(rows, bit, left, right, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    """All pairs of rows within theta: at each node, the two sides are walked down together."""
    n = rows.shape[0]
    found, room = 0, 1024
    pairs = np.empty((3, room), np.int64)
    stack = np.empty((4, 64), np.int64)  # a node, another node, the first bit not compared yet, bits that differ so far
    for m in range(1, n):
        stack[:, 0] = left[m], right[m], bit[m], 0
        top = 1
        while top > 0:
            top -= 1
            a, b, start, distance = stack[0, top], stack[1, top], stack[2, top], stack[3, top]
            stop = min(bit[a], bit[b])
            i, j = a % n, b % n  # a row below each node
            for word in range(start >> 6, (stop + 63) >> 6):
                x = rows[i, word] ^ rows[j, word]
                if word == start >> 6:
                    x &= np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(start & 63)
                if word == stop >> 6:
                    x &= ~(np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(stop & 63))
                distance += _popcount(x)
                if distance > theta:
                    break
            if distance > theta:
                continue
            if a >= n and b >= n:
                if found == room:
                    wider = np.empty((3, 2 * room), np.int64)
                    wider[:, :room] = pairs
                    pairs, room = wider, 2 * room
                pairs[0, found], pairs[1, found], pairs[2, found] = i, j, distance
                found += 1
                continue
            if top + 2 > stack.shape[1]:
                deeper = np.empty((4, 2 * stack.shape[1]), np.int64)
                deeper[:, : stack.shape[1]] = stack
                stack = deeper
            if b >= n or (a < n and bit[a] <= bit[b]):
                stack[:, top] = left[a], b, stop, distance
                stack[:, top + 1] = right[a], b, stop, distance
            else:
                stack[:, top] = a, left[b], stop, distance
                stack[:, top + 1] = a, right[b], stop, distance
            top += 2
    return pairs[0, :found].copy(), pairs[1, :found].copy(), pairs[2, :found].copy()


@_compiled
def _class_sums(words, counts, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    sizes = counts.sum(axis=1)
    within, total = 0.0, 0.0
    for i in range(words.shape[0]):
        for j in range(i + 1, words.shape[0]):
            distance = min(_distance(words, i, words, j, theta), theta)
            total += distance * sizes[i] * sizes[j]
            for label in range(counts.shape[1]):
                within += distance * counts[i, label] * counts[j, label]
    return within, total
