"""The Hamming distance of codes, truncated at theta (Definition 1): matrices, blocks, histograms and sums by class."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nas_relucode.cells.occupied import check_counts
from nas_relucode.codes.bits import WORD, Codes, check_codes
from nas_relucode.codes.words import BLOCK, compiled, distances_to
from nas_relucode.errors import InputError, whole_number

SHARING = 16  # rows that are compared with a block of columns while it is in the cache


def distance_matrix(codes: Codes, other: Codes | None = None, *, theta: float | None = None) -> np.ndarray:
    """Truncated Hamming distances min(d_H, theta) between all rows: int32, (samples, other samples).

    ``other`` holds the codes of the columns; None: the same codes.

    ``theta`` None stands for infinity. The matrix is dense: use `distance_blocks` where it does not fit into memory.

    >>> from nas_relucode.codes import pack
    >>> distance_matrix(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), theta=2).tolist()
    [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
    """
    columns = as_columns(codes if other is None else check_comparable(codes, other))
    return _matrix(codes.words, columns, whole_theta(codes, theta))


def distance_blocks(
    codes: Codes, other: Codes | None = None, *, theta: float | None = None, rows: int = 1024
) -> Iterator[tuple[int, np.ndarray]]:
    """`distance_matrix` in blocks of at most ``rows`` rows: pairs of the number of the first row and the block.

    ``other`` holds the codes of the columns, as in `distance_matrix`.

    >>> from nas_relucode.codes import pack
    >>> [(start, block.tolist()) for start, block in distance_blocks(pack([[0, 0], [0, 1], [1, 1]]), rows=2)]
    [(0, [[0, 1, 2], [1, 0, 1]]), (2, [[2, 1, 0]])]
    """
    rows = whole_number("rows", rows, least=1)
    columns = as_columns(codes if other is None else check_comparable(codes, other))
    limit = whole_theta(codes, theta)
    for start in range(0, codes.samples, rows):
        yield start, _matrix(codes.words[start : start + rows], columns, limit)


def distance_histogram(codes: Codes, other: Codes | None = None) -> np.ndarray:
    """How many pairs of rows are 0, 1, 2, ... bits apart: int64, (neurons + 1,), without a matrix.

    Counts each pair of different rows of ``codes`` once, or, with ``other``, each row of ``codes`` with each row of
    ``other``. Time is proportional to the number of pairs.

    >>> from nas_relucode.codes import pack
    >>> distance_histogram(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]])).tolist()
    [0, 1, 1, 1]
    """
    columns = as_columns(codes if other is None else check_comparable(codes, other))
    counts = np.zeros(codes.neurons + 1, np.int64)
    _histogram(codes.words, columns, other is None, counts)
    return counts


def check_comparable(codes: Codes, other: Codes) -> Codes:
    """``other``; an InputError unless its layers have as many neurons as those of ``codes``."""
    check_codes(codes)
    check_codes(other)
    if [layer.neurons for layer in codes.layers] != [layer.neurons for layer in other.layers]:
        raise InputError(
            f"the codes have {codes.neurons} and {other.neurons} neurons in {len(codes.layers)} and "
            f"{len(other.layers)} layers. A distance needs codes of the same layers of the same network."
        )
    return other


def whole_theta(codes: Codes, theta: float | None) -> int:
    """``theta`` as an int; infinity (or None) becomes the number of neurons, beyond which no distance lies."""
    check_codes(codes)
    if theta is None or theta == math.inf:
        return codes.neurons
    return min(whole_number("theta", theta), codes.neurons)


def as_columns(codes: Codes) -> np.ndarray:
    """The words transposed, as `distances_to` reads them: uint64, (words, samples), C order."""
    check_codes(codes)
    return np.ascontiguousarray(codes.words.T)


def ones_by_class(cells: Codes, class_counts: np.ndarray) -> np.ndarray:
    """How many samples of each class have each bit set: int64, (classes, neurons).

    ``class_counts`` (cells, classes) are the samples of each class in each of the ``cells``.
    """
    class_counts = check_counts(class_counts, cells.samples)
    ones = np.zeros((class_counts.shape[1], cells.words.shape[1] * WORD), np.int64)
    _count_ones(cells.words, *np.nonzero(class_counts), class_counts, ones)
    return ones[:, cells.columns]


def class_distance_sums(cells: Codes, class_counts: np.ndarray, theta: int) -> tuple[float, float]:
    """Sums of min(d_H, theta) over all pairs of samples of one class, and over all pairs of samples of two classes.

    ``cells`` are distinct codes and ``class_counts`` (cells, classes) the samples of each class in each. Each pair of
    cells is compared once, however many pairs of samples it stands for.
    """
    class_counts = check_counts(class_counts, cells.samples)
    classes, rows = np.nonzero(class_counts.T)  # ordered by class, so that the rows of a class are contiguous
    weights = class_counts[rows, classes].astype(np.uint64)
    stops = np.searchsorted(classes, classes, side="right")
    words = cells.words[rows]
    within, total = _class_sums(words, np.ascontiguousarray(words.T), weights, stops, whole_theta(cells, theta))
    return float(within), float(total - within)


def _matrix(rows: np.ndarray, columns: np.ndarray, theta: int) -> np.ndarray:
    matrix = np.empty((len(rows), columns.shape[1]), np.int32)  # allocated by numpy, which asks for large pages
    _fill(matrix, rows, columns, theta)
    return matrix


@compiled
def _fill(matrix, rows, columns, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    n, m = matrix.shape
    distances = np.empty(BLOCK, np.uint64)
    for top in range(0, n, SHARING):
        for start in range(0, m, BLOCK):
            stop = min(m, start + BLOCK)
            for i in range(top, min(n, top + SHARING)):
                distances_to(rows[i], columns, start, stop, distances)
                part = matrix[i, start:stop]
                for k in range(stop - start):
                    part[k] = min(distances[k], np.uint64(theta))


@compiled
def _histogram(rows, columns, each_pair_once, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    distances = np.empty(BLOCK, np.uint64)
    for start in range(0, columns.shape[1], BLOCK):
        stop = min(columns.shape[1], start + BLOCK)
        for i in range(stop if each_pair_once else rows.shape[0]):
            distances_to(rows[i], columns, start, stop, distances)
            for k in range(max(0, i + 1 - start) if each_pair_once else 0, stop - start):
                counts[np.int64(distances[k])] += 1


@compiled
def _count_ones(words, rows, classes, class_counts, ones):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Adds to ``ones`` (classes, bits) the cells ``rows``, counted as samples of ``classes``: both (items,)."""
    for item in range(rows.shape[0]):
        count = class_counts[rows[item], classes[item]]
        class_ones = ones[classes[item]]
        for word in range(words.shape[1]):
            x = words[rows[item], word]
            for bit in range(64):
                class_ones[64 * word + bit] += np.int64((x >> np.uint64(bit)) & np.uint64(1)) * count


@compiled
def _class_sums(rows, columns, weights, stops, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sums within classes and over all pairs. Rows are ordered by class; row i's class ends before row stops[i]."""
    n = rows.shape[0]
    distances = np.empty(BLOCK, np.uint64)
    within, total = np.uint64(0), np.uint64(0)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        for i in range(stop):
            distances_to(rows[i], columns, start, stop, distances)
            first = max(0, i + 1 - start)
            class_end = min(max(first, stops[i] - start), stop - start)
            same, different = np.uint64(0), np.uint64(0)
            for k in range(first, class_end):
                same += min(distances[k], np.uint64(theta)) * weights[start + k]
            for k in range(class_end, stop - start):
                different += min(distances[k], np.uint64(theta)) * weights[start + k]
            within += same * weights[i]
            total += (same + different) * weights[i]
    return within, total
