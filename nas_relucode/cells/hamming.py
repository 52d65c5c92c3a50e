"""The Hamming distance of codes, truncated at theta (Definition 1): matrices, blocks, histograms and sums by class."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nas_relucode.codes.bits import WORD, Codes
from nas_relucode.codes.words import BLOCK, compiled, distances_to
from nas_relucode.errors import InputError


def distance_matrix(codes: Codes, other: Codes | None = None, *, theta: float | None = None) -> np.ndarray:
    """Truncated Hamming distances min(d_H, theta) between all rows: int32, (samples, other samples).

    ``theta`` None stands for infinity. The matrix is dense: take `distance_blocks` where it would not fit.

    >>> from nas_relucode.codes import pack
    >>> distance_matrix(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), theta=2).tolist()
    [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
    """
    other = codes if other is None else comparable(codes, other)
    return _matrix(codes.words, _columns(other), bound(codes, theta))


def distance_blocks(
    codes: Codes, other: Codes | None = None, *, theta: float | None = None, rows: int = 1024
) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of `distance_matrix`, at most ``rows`` at a time: pairs of the first row's number and a block.

    >>> from nas_relucode.codes import pack
    >>> [(start, block.tolist()) for start, block in distance_blocks(pack([[0, 0], [0, 1], [1, 1]]), rows=2)]
    [(0, [[0, 1, 2], [1, 0, 1]]), (2, [[2, 1, 0]])]
    """
    if rows < 1:
        raise InputError(f"{rows} rows make no block. Give at least 1.")
    columns = _columns(codes if other is None else comparable(codes, other))
    most = bound(codes, theta)
    for start in range(0, codes.samples, rows):
        yield start, _matrix(codes.words[start : start + rows], columns, most)


def distance_histogram(codes: Codes, other: Codes | None = None) -> np.ndarray:
    """How many pairs of rows are 0, 1, 2, ... bits apart: int64, (neurons + 1,), without a matrix.

    The pairs are those of different rows of ``codes``, each once, or all rows of ``codes`` with all of ``other``.
    Time grows with the pairs.

    >>> from nas_relucode.codes import pack
    >>> distance_histogram(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]])).tolist()
    [0, 1, 1, 1]
    """
    counts = np.zeros(codes.neurons + 1, np.int64)
    _histogram(codes.words, _columns(codes if other is None else comparable(codes, other)), other is None, counts)
    return counts


def comparable(codes: Codes, other: Codes) -> Codes:
    """``other``, if its layers are those of ``codes``; else an InputError."""
    if [layer.neurons for layer in codes.layers] != [layer.neurons for layer in other.layers]:
        raise InputError(
            f"the codes have {codes.neurons} and {other.neurons} neurons in {len(codes.layers)} and "
            f"{len(other.layers)} layers. A distance needs codes of the same layers of the same network."
        )
    return other


def bound(codes: Codes, theta: float | None) -> int:
    """theta as a number no larger than needed: the number of neurons stands for infinity."""
    if theta is None or theta == math.inf:
        return codes.neurons
    if isinstance(theta, bool) or not isinstance(theta, int | np.integer) or theta < 0:
        raise InputError(f"theta {theta!r} is not a whole number of at least 0. Give one, or None for infinity.")
    return min(int(theta), codes.neurons)


def ones_by_class(cells: Codes, class_counts: np.ndarray) -> np.ndarray:
    """How many samples of each class have each bit set: int64, (classes, neurons).

    ``class_counts`` (cells, classes) are the samples of each class in each of the ``cells``.
    """
    ones = np.zeros((class_counts.shape[1], cells.words.shape[1] * WORD), np.int64)
    _count_ones(cells.words, *np.nonzero(class_counts), class_counts, ones)
    return ones[:, cells.columns]


def class_distance_sums(cells: Codes, class_counts: np.ndarray, theta: int) -> tuple[float, float]:
    """Sums of min(d_H, theta) over all pairs of samples of one class, and over all pairs of samples of two classes.

    ``cells`` are distinct codes and ``class_counts`` (cells, classes) the samples of each class that have them: pairs
    of cells are looked at, pairs of samples are counted.
    """
    classes, rows = np.nonzero(class_counts.T)  # ordered by class, so that each class is one range
    weights = class_counts[rows, classes].astype(np.uint64)
    stops = np.searchsorted(classes, classes, side="right")
    words = cells.words[rows]
    within, total = _class_sums(words, np.ascontiguousarray(words.T), weights, stops, bound(cells, theta))
    return float(within), float(total - within)


def _columns(codes: Codes) -> np.ndarray:
    return np.ascontiguousarray(codes.words.T)


def _matrix(rows: np.ndarray, columns: np.ndarray, theta: int) -> np.ndarray:
    result = np.empty((len(rows), columns.shape[1]), np.int32)  # made here, as numpy asks for large pages
    _fill(result, rows, columns, theta)
    return result


@compiled
def _fill(result, rows, columns, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    n, m = result.shape
    out = np.empty(BLOCK, np.uint64)
    for top in range(0, n, 16):  # rows that share the columns of a block while they are in the cache
        for start in range(0, m, BLOCK):
            stop = min(m, start + BLOCK)
            for i in range(top, min(n, top + 16)):
                distances_to(rows[i], columns, start, stop, out)
                part = result[i, start:stop]
                for k in range(stop - start):
                    part[k] = min(out[k], np.uint64(theta))


@compiled
def _histogram(rows, columns, once, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    out = np.empty(BLOCK, np.uint64)
    for start in range(0, columns.shape[1], BLOCK):
        stop = min(columns.shape[1], start + BLOCK)
        for i in range(stop if once else rows.shape[0]):
            distances_to(rows[i], columns, start, stop, out)
            for k in range(max(0, i + 1 - start) if once else 0, stop - start):
                counts[np.int64(out[k])] += 1


@compiled
def _count_ones(words, rows, classes, class_counts, ones):  # type: ignore[no-untyped-def]  # pragma: no cover
    for item in range(rows.shape[0]):
        count = class_counts[rows[item], classes[item]]
        counted = ones[classes[item]]
        for word in range(words.shape[1]):
            x = words[rows[item], word]
            for bit in range(64):
                counted[64 * word + bit] += np.int64((x >> np.uint64(bit)) & np.uint64(1)) * count


@compiled
def _class_sums(rows, columns, weights, stops, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Rows are ordered by class, and row i's class ends before row stops[i]."""
    n = rows.shape[0]
    out = np.empty(BLOCK, np.uint64)
    within, total = np.uint64(0), np.uint64(0)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        for i in range(stop):
            distances_to(rows[i], columns, start, stop, out)
            first = max(0, i + 1 - start)
            same = min(max(first, stops[i] - start), stop - start)
            near, far = np.uint64(0), np.uint64(0)
            for k in range(first, same):
                near += min(out[k], np.uint64(theta)) * weights[start + k]
            for k in range(same, stop - start):
                far += min(out[k], np.uint64(theta)) * weights[start + k]
            within += near * weights[i]
            total += (near + far) * weights[i]
    return within, total
