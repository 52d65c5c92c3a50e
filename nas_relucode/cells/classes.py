"""The vote of the nearest neighbours in the code space: how far codes alone tell the classes apart."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.hamming import ones_by_class
from nas_relucode.codes.bits import Codes
from nas_relucode.codes.words import BLOCK, compiled, distances_to
from nas_relucode.errors import InputError


def knn_accuracy(cells: Codes, class_counts: np.ndarray, *, k: int = 5, threads: int | None = None) -> float:
    """The fraction of the samples that the vote of their ``k`` nearest other samples gives their label.

    Neighbours are samples at the smallest Hamming distances; all at the distance of the k-th vote, so that no order
    matters, and a tied vote counts in parts. ``cells`` are distinct codes and ``class_counts`` (cells, classes) the
    samples of each class in each. NaN for a single sample. Time grows with the square of the cells.

    >>> from nas_relucode.codes import pack
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


BLOCK_BITS = 2**22  # unpacked at once


def class_silhouette(cells: Codes, class_counts: np.ndarray) -> float:
    """The mean silhouette of the classes over the samples under the Hamming distance, exactly, in linear time.

    Of a sample it is (b - a) / max(a, b): a its mean distance to the others of its class, b that to the nearest other
    class; 0 where it is alone in its class, or both are 0. ``cells`` are distinct codes and ``class_counts`` (cells,
    classes) the samples of each class in each. Between -1 and 1; NaN where all samples are of one class.
    Source: Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 20, 1987.

    >>> from nas_relucode.codes import pack
    >>> class_silhouette(pack([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]), np.array([[1, 0], [1, 0], [0, 2]]))
    0.8541666666666666
    """
    counts = class_counts[:, class_counts.sum(axis=0) > 0]
    sizes = counts.sum(axis=0)
    if len(sizes) < 2:
        return math.nan
    # A code is as far from a class, in all, as the class has ones; each bit of its own turns ones into zeros.
    ones = ones_by_class(cells, counts)
    turned = (sizes[:, None] - 2 * ones).T.astype(np.float64)
    rows = max(1, BLOCK_BITS // max(1, cells.neurons))
    total = 0.0
    for start in range(0, cells.samples, rows):
        part = slice(start, start + rows)
        sums = ones.sum(axis=1) + cells[part].bits().astype(np.float64) @ turned
        row, own = np.nonzero((counts[part] > 0) & (sizes > 1))
        within = sums[row, own] / (sizes[own] - 1)
        means = (sums / sizes)[row]
        means[np.arange(len(row)), own] = np.inf
        nearest = means.min(axis=1)
        larger = np.maximum(within, nearest)
        silhouettes = np.divide(nearest - within, larger, out=np.zeros_like(larger), where=larger > 0)
        total += float(silhouettes @ counts[part][row, own])
    return total / float(sizes.sum())


def separability(space: CodeSpace, *, k: int = 5, threads: int | None = None) -> dict[str, dict[str, float]]:
    """`knn_accuracy` (of ``k`` neighbours) and `class_silhouette` of all layers jointly ("joint") and of each layer.

    Raises InputError without labels.

    >>> from nas_relucode.codes import pack
    >>> separability(CodeSpace.of(pack([[0, 0], [0, 0], [1, 1], [1, 1]]), labels=[0, 0, 1, 1]), k=1)["joint"]
    {'knn_accuracy': 1.0, 'class_silhouette': 1.0}
    """
    if space.class_counts is None:
        raise InputError("separability needs labels, which the code space has none of. Give them with the inputs.")
    spaces = {"joint": space} | {layer.name: space.layer(layer.name) for layer in space.codes.layers}
    found = {}
    for name, one in spaces.items():
        assert one.class_counts is not None
        found[name] = {
            "knn_accuracy": knn_accuracy(one.codes, one.class_counts, k=k, threads=threads),
            "class_silhouette": class_silhouette(one.codes, one.class_counts),
        }
    return found
