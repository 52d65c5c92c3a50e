"""How far the codes of the layers tell the classes apart, as numbers beside the pictures (Figures 2 to 6)."""

from __future__ import annotations

import math

import numpy as np

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.knn import knn_accuracy
from nas_relucode.codes.codes import Codes
from nas_relucode.errors import InputError
from nas_relucode.hamming.hamming import ones_by_class

BLOCK_BITS = 2**22  # unpacked at once


def class_silhouette(cells: Codes, class_counts: np.ndarray) -> float:
    """The mean silhouette of the classes over the samples under the Hamming distance, exactly, in linear time.

    Of a sample it is (b - a) / max(a, b): a its mean distance to the others of its class, b that to the nearest other
    class; 0 where it is alone in its class, or both are 0. ``cells`` are distinct codes and ``class_counts`` (cells,
    classes) the samples of each class in each. Between -1 and 1; NaN where all samples are of one class.
    Source: Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 20, 1987.

    >>> from nas_relucode import pack
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

    >>> from nas_relucode import pack
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
