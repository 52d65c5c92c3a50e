"""Occupied cells: the cells of the tessellation that hold at least one input of a sample (Equations 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_relucode.codes import Codes
from nas_relucode.errors import InputError


@dataclass(frozen=True)
class Cells:
    """The distinct codes of a sample, in an order that does not depend on the order of the samples."""

    codes: Codes  # one row a cell
    sizes: np.ndarray  # int64, (cells,): samples in each cell
    first: np.ndarray  # int64, (cells,): the first sample in each cell
    cell_of: np.ndarray  # int64, (samples,): the cell of each sample

    def __len__(self) -> int:
        return len(self.sizes)

    def class_counts(self, labels: np.ndarray, classes: int | None = None) -> np.ndarray:
        """Samples of each class in each cell: int64, (cells, classes).

        >>> from nas_relucode import find_cells, pack
        >>> find_cells(pack([[0, 1], [1, 1], [0, 1]])).class_counts(np.array([0, 1, 1]))
        array([[1, 1],
               [0, 1]])
        """
        labels = np.asarray(labels)
        if labels.shape != self.cell_of.shape:
            raise InputError(f"{labels.shape} labels were given for {len(self.cell_of)} samples. Give one a sample.")
        classes = int(labels.max(initial=-1)) + 1 if classes is None else classes
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise InputError(f"labels lie in {labels.min()}..{labels.max()}, but must lie in 0..{classes - 1}.")
        flat = np.bincount(self.cell_of * classes + labels, minlength=len(self) * classes)
        return flat.reshape(len(self), classes)


def find_cells(codes: Codes) -> Cells:
    """The occupied cells of a sample: its distinct codes, exactly.

    >>> from nas_relucode import pack
    >>> cells = find_cells(pack([[0, 1], [1, 1], [0, 1]]))
    >>> len(cells), cells.sizes, cells.cell_of
    (2, array([2, 1]), array([0, 1, 0]))
    """
    words = np.ascontiguousarray(codes.words)
    if words.shape[1] == 0:  # no neurons: every sample has the empty code
        some = np.minimum(len(words), 1)
        nothing = np.zeros(len(words), np.int64)
        return Cells(codes[:some], np.full(some, len(words)), np.zeros(some, np.int64), nothing)
    rows = words.view(np.dtype((np.void, words.itemsize * words.shape[1]))).reshape(len(words))
    _, first, cell_of, sizes = np.unique(rows, return_index=True, return_inverse=True, return_counts=True)
    return Cells(codes[first], sizes, first, cell_of)
