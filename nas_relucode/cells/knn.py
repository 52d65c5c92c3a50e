"""The vote of the nearest neighbours in the code space: how far codes alone tell the classes apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from nas_relucode.codes.codes import Codes
from nas_relucode.codes.words import BLOCK, compiled, distances_to
from nas_relucode.errors import InputError


def knn_accuracy(cells: Codes, class_counts: np.ndarray, *, k: int = 5, threads: int | None = None) -> float:
    """The fraction of the samples that the vote of their ``k`` nearest other samples gives their label.

    Neighbours are samples at the smallest Hamming distances; all at the distance of the k-th vote, so that no order
    matters, and a tied vote counts in parts. ``cells`` are distinct codes and ``class_counts`` (cells, classes) the
    samples of each class in each. NaN for a single sample. Time grows with the square of the cells.

    >>> from nas_relucode import pack
    >>> knn_accuracy(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), np.array([[2, 0], [0, 1], [0, 2]]), k=1)
    0.8
    """
    if k < 1:
        raise InputError(f"k {k} is not positive. Give the number of neighbours that vote.")
    samples = int(class_counts.sum())
    if samples < 2:
        return float("nan")
    rows = np.ascontiguousarray(cells.words)
    columns = np.ascontiguousarray(rows.T)
    sizes = class_counts.sum(axis=1)
    parts = np.array_split(np.arange(len(rows)), max(1, len(rows) // 256))

    def right(queries: np.ndarray) -> float:
        return float(_votes(rows, columns, queries, sizes, class_counts, cells.neurons, min(k, samples - 1)))

    with ThreadPoolExecutor(threads or torch.get_num_threads()) as pool:
        return sum(pool.map(right, parts)) / samples


@compiled
def _votes(rows, columns, queries, sizes, class_counts, neurons, k):  # type: ignore[no-untyped-def]  # pragma: no cover
    """How many samples of the cells ``queries`` are voted right."""
    n, classes = class_counts.shape
    out = np.empty(n, np.uint64)
    at = np.zeros(neurons + 1, np.int64)  # samples at each distance up to ``far``
    votes = np.empty(classes, np.int64)
    right = 0.0
    for query in queries:
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            distances_to(rows[query], columns, start, stop, out[start:stop])
        at[:] = 0
        far, within = neurons, -1  # at least k other samples lie within ``far``, and ``within`` is how many
        for start in range(0, n, 32):
            stop = min(n, start + 32)
            near = np.int64(0)
            for j in range(start, stop):
                near += np.int64(out[j] <= np.uint64(far))
            for j in range(start if near else stop, stop):
                d = np.int64(out[j])
                if d <= far:
                    at[d] += sizes[j]
                    within += sizes[j]
                    while within - at[far] >= k:
                        within -= at[far]
                        far -= 1
        votes[:] = 0
        for start in range(0, n, 32):
            stop = min(n, start + 32)
            near = np.int64(0)
            for j in range(start, stop):
                near += np.int64(out[j] <= np.uint64(far))
            for j in range(start if near else stop, stop):
                if np.int64(out[j]) <= far:
                    for c in range(classes):
                        votes[c] += class_counts[j, c]
        for label in range(classes):
            count = class_counts[query, label]
            if count == 0:
                continue
            votes[label] -= 1  # a sample does not vote for itself
            most, tied = votes.max(), np.int64(0)
            for c in range(classes):
                tied += np.int64(votes[c] == most)
            if votes[label] == most:
                right += count / tied
            votes[label] += 1
    return right
