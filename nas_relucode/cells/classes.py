"""How well the codes separate the classes: the vote of the nearest neighbours, and the silhouette of the classes."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.hamming import as_columns, ones_by_class
from nas_relucode.cells.occupied import check_counts
from nas_relucode.codes.bits import Codes
from nas_relucode.codes.words import BLOCK, GLANCE, any_below, compiled, distances_to
from nas_relucode.errors import InputError, thread_count, whole_number

BLOCK_BITS = 2**22  # bits that are unpacked at once


def knn_accuracy(cells: Codes, class_counts: np.ndarray, *, k: int = 5, threads: int | None = None) -> float:
    """The fraction of the samples whose label wins the vote of their ``k`` nearest other samples.

    The nearest are those at the smallest Hamming distances. All samples at the distance of the k-th one vote, so that
    the order of samples does not matter; a label that ties with t - 1 others counts 1 / t. ``cells`` are distinct codes
    and ``class_counts`` (cells, classes) the samples of each class in each. NaN for a single sample. Time grows with
    the square of the cells.

    >>> from nas_relucode.codes import pack
    >>> knn_accuracy(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), np.array([[2, 0], [0, 1], [0, 2]]), k=1)
    0.8
    """
    k, threads = whole_number("k", k, least=1), thread_count(threads)
    class_counts = check_counts(class_counts, cells.samples)
    samples = int(class_counts.sum())
    if samples < 2:
        return float("nan")
    rows, columns = np.ascontiguousarray(cells.words), as_columns(cells)
    sizes = class_counts.sum(axis=1)
    parts = np.array_split(np.arange(len(rows)), max(1, len(rows) // 256))

    def correct_votes(queries: np.ndarray) -> float:
        return float(_votes(rows, columns, queries, sizes, class_counts, cells.neurons, min(k, samples - 1)))

    with ThreadPoolExecutor(threads or torch.get_num_threads()) as pool:
        return sum(pool.map(correct_votes, parts)) / samples


@compiled
def _votes(rows, columns, queries, sizes, class_counts, neurons, k):  # type: ignore[no-untyped-def]  # pragma: no cover
    """How many samples of the cells ``queries`` get their label by vote; a tie counts in parts."""
    n, classes = class_counts.shape
    distances = np.empty(n, np.uint64)
    samples_at = np.zeros(neurons + 1, np.int64)  # samples at each distance up to ``limit``
    votes = np.empty(classes, np.int64)
    correct = 0.0
    for query in queries:
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            distances_to(rows[query], columns, start, stop, distances[start:stop])
        samples_at[:] = 0
        limit, within = neurons, -1  # other samples within ``limit`` bits, which are at least k in the end
        for start in range(0, n, GLANCE):
            stop = min(n, start + GLANCE)
            near = any_below(distances, start, stop, np.uint64(limit + 1))
            for j in range(start if near else stop, stop):
                d = np.int64(distances[j])
                if d <= limit:
                    samples_at[d] += sizes[j]
                    within += sizes[j]
                    while within - samples_at[limit] >= k:
                        within -= samples_at[limit]
                        limit -= 1
        votes[:] = 0
        for start in range(0, n, GLANCE):
            stop = min(n, start + GLANCE)
            near = any_below(distances, start, stop, np.uint64(limit + 1))
            for j in range(start if near else stop, stop):
                if np.int64(distances[j]) <= limit:
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
                correct += count / tied
            votes[label] += 1
    return correct


def class_silhouette(cells: Codes, class_counts: np.ndarray) -> float:
    """The mean silhouette of the classes over the samples under the Hamming distance, exactly, in linear time.

    A sample's silhouette is (b - a) / max(a, b), with a the mean distance to the other samples of its class and b the
    mean distance to the samples of the nearest other class; 0 if it is the only one of its class, or both are 0.
    ``cells`` are distinct codes and ``class_counts`` (cells, classes) the samples of each class in each. Between -1 and
    1; NaN if all samples are of one class.
    Source: Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 20, 1987.

    >>> from nas_relucode.codes import pack
    >>> class_silhouette(pack([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]), np.array([[1, 0], [1, 0], [0, 2]]))
    0.8541666666666666
    """
    class_counts = check_counts(class_counts, cells.samples)
    counts = class_counts[:, class_counts.sum(axis=0) > 0]
    sizes = counts.sum(axis=0)
    if len(sizes) < 2:
        return math.nan
    # The distances of the zero code to a class sum up to the ones of the class. Each bit that is set in a code adds
    # the samples that have a 0 there and subtracts those that have a 1.
    ones = ones_by_class(cells, counts)
    changes = (sizes[:, None] - 2 * ones).T.astype(np.float64)
    rows = max(1, BLOCK_BITS // max(1, cells.neurons))
    total = 0.0
    for start in range(0, cells.samples, rows):
        part = slice(start, start + rows)
        sums = ones.sum(axis=1) + cells[part].bits().astype(np.float64) @ changes
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
    """`knn_accuracy` (of ``k`` neighbours) and `class_silhouette` of all layers together ("joint") and of each layer.

    Raises InputError without labels.

    >>> from nas_relucode.codes import pack
    >>> separability(CodeSpace.of(pack([[0, 0], [0, 0], [1, 1], [1, 1]]), labels=[0, 0, 1, 1]), k=1)["joint"]
    {'knn_accuracy': 1.0, 'class_silhouette': 1.0}
    """
    if space.class_counts is None:
        raise InputError("separability needs labels, but the code space has none. Give them with the inputs.")
    spaces = {"joint": space} | {layer.name: space.layer(layer.name) for layer in space.codes.layers}
    values = {}
    for name, subspace in spaces.items():
        assert subspace.class_counts is not None
        values[name] = {
            "knn_accuracy": knn_accuracy(subspace.codes, subspace.class_counts, k=k, threads=threads),
            "class_silhouette": class_silhouette(subspace.codes, subspace.class_counts),
        }
    return values
