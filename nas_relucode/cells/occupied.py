"""Occupied cells: the cells of the tessellation that hold at least one input of a sample (Equations 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_relucode.codes.batches import as_array
from nas_relucode.codes.bits import Codes, Layer, check_codes
from nas_relucode.codes.words import ALL, compiled, row_hash
from nas_relucode.errors import InputError

MOST_CLASSES = 100_000  # samples are counted in a table of cells x classes
EMPTY = np.uint64(0)  # a slot of a hash table without a cell; of type uint64, as numba compares words only with words
HIGH, LOW = np.uint64(0xFFFFFFFF00000000), np.uint64(0x00000000FFFFFFFF)


@dataclass(frozen=True, eq=False)
class Cells:
    """The distinct codes of a sample, in the order of their first samples."""

    codes: Codes  # one row per cell
    sizes: np.ndarray  # int64, (cells,): samples in each cell
    first: np.ndarray  # int64, (cells,): the first sample in each cell
    cell_of: np.ndarray  # int64, (samples,): the cell of each sample

    def __len__(self) -> int:
        return len(self.sizes)

    def __repr__(self) -> str:
        return f"Cells: {len(self)} cells of {len(self.cell_of)} samples, {self.codes.neurons} neurons"

    def class_counts(self, labels: np.ndarray, classes: int | None = None) -> np.ndarray:
        """Samples of each class in each cell: int64, (cells, classes).

        >>> from nas_relucode.cells import find_cells
        >>> from nas_relucode.codes import pack
        >>> find_cells(pack([[0, 1], [1, 1], [0, 1]])).class_counts(np.array([0, 1, 1]))
        array([[1, 1],
               [0, 1]])
        """
        labels = as_array(labels)
        if labels.shape != self.cell_of.shape:
            raise InputError(
                f"labels have shape {labels.shape} for {len(self.cell_of)} samples. Give one label per sample."
            )
        labels = check_labels(labels)
        classes = int(labels.max(initial=-1)) + 1 if classes is None else classes
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise InputError(f"labels lie in {labels.min()}..{labels.max()}, but must lie in 0..{classes - 1}.")
        flat = np.bincount(self.cell_of * classes + labels, minlength=len(self) * classes)
        return flat.reshape(len(self), classes)


def check_labels(labels: np.ndarray) -> np.ndarray:
    """The labels as int64. Raises InputError unless they are whole numbers below MOST_CLASSES."""
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels are {labels.dtype}. Give whole numbers from 0, one per sample.")
    if len(labels) and int(labels.max()) >= MOST_CLASSES:
        raise InputError(f"labels go up to {labels.max()}. Number the classes from 0, below {MOST_CLASSES}.")
    return labels.astype(np.int64)


def check_counts(class_counts: Any, cells: int) -> np.ndarray:
    """Class counts of so many cells as int64, (cells, classes). Raises InputError for any other array.

    Compiled code does not check the bounds of arrays: it takes counts that come from here.
    """
    counts = np.asarray(class_counts)
    if counts.dtype.kind not in "iub" or counts.ndim != 2 or len(counts) != cells:
        raise InputError(
            f"class counts are {counts.dtype} of shape {counts.shape} for {cells} cells. Give whole numbers, with a "
            "row for each cell and a column for each class, as in the class_counts of the same code space."
        )
    if counts.min(initial=0) < 0:
        raise InputError(f"class counts go down to {counts.min()}. Give numbers of samples, from 0.")
    return np.ascontiguousarray(counts, np.int64)


def find_cells(codes: Codes) -> Cells:
    """The occupied cells of a sample: its distinct codes, exactly.

    Codes with equal hashes are compared bit by bit, so that a collision of hashes costs time only.

    >>> from nas_relucode.codes import pack
    >>> cells = find_cells(pack([[0, 1], [1, 1], [0, 1]]))
    >>> len(cells), cells.sizes, cells.first, cells.cell_of
    (2, array([2, 1]), array([0, 1]), array([0, 1, 0]))
    """
    check_codes(codes)
    rows = np.ascontiguousarray(codes.words)
    sizes, first, cell_of = (np.empty(len(rows), np.int64) for _ in range(3))
    count = _insert(rows, _slots(len(rows)), rows, first, sizes, 0, 0, False, cell_of)
    distinct = codes if count == len(rows) else codes[first[:count]]
    return Cells(distinct, sizes[:count].copy(), first[:count].copy(), cell_of)


class CellTable:
    """The cells of samples that come in batches; its memory grows with the cells, not with the samples."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self.layers = layers
        self.count = 0  # cells so far; the rows of the following arrays beyond it are free
        self.samples = 0  # samples so far
        self.words = np.empty((0, layers[-1].stop if layers else 0), np.uint64)
        self.sizes = np.empty(0, np.int64)
        self.first = np.empty(0, np.int64)
        self._table = _slots(0)

    def add(self, words: np.ndarray) -> np.ndarray:
        """The cell of each of a batch of packed codes (samples, words): int64, (samples,)."""
        needed = self.count + len(words)  # if every sample is in a cell of its own
        if needed >= 2**32 - 1:
            raise InputError(f"there may be {needed} cells, but one code space holds at most {2**32 - 2}. Use shards.")
        if 2 * needed > len(self._table):
            self._table = _filled(_slots(needed), self.words, self.count)
        if needed > len(self.words):
            room = needed if self.count == 0 else max(needed, self.count + self.count // 2)
            for name in ("words", "sizes", "first"):
                array = getattr(self, name)
                larger = np.empty((room, *array.shape[1:]), array.dtype)
                larger[: self.count] = array[: self.count]
                setattr(self, name, larger)
        cell_of = np.empty(len(words), np.int64)
        rows = np.ascontiguousarray(words)
        self.count = _insert(
            rows, self._table, self.words, self.first, self.sizes, self.count, self.samples, True, cell_of
        )
        self.samples += len(words)
        return cell_of

    def cells(self, cell_of: np.ndarray) -> Cells:
        """The cells of all samples so far; ``cell_of`` (samples,) joins what `add` returned for their batches."""
        kept = slice(self.count) if 2 * self.count >= len(self.words) else np.arange(self.count)  # a view, or a copy
        return Cells(Codes(self.words[kept], self.layers), self.sizes[kept], self.first[kept], cell_of)


def _slots(cells: int) -> np.ndarray:
    """An empty hash table for ``cells`` cells: uint64, (slots,); a slot in use holds half a hash and a cell + 1."""
    return np.zeros(1 << max(2 * cells - 1, 1).bit_length(), np.uint64)


@compiled
def _filled(slots, words, count):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The table ``slots``, filled with the first ``count`` rows of ``words``, which are distinct."""
    last = slots.shape[0] - 1
    for cell in range(count):
        tag = row_hash(words, cell, 0, 1, ALL)
        slot = np.int64(tag >> np.uint64(8)) & last
        while slots[slot] != EMPTY:
            slot = (slot + 1) & last
        slots[slot] = (tag & HIGH) | np.uint64(cell + 1)
    return slots


@compiled
def _insert(rows, slots, words, first, sizes, count, samples, keep, cell_of):  # type: ignore  # pragma: no cover
    """Writes the cell of each row to ``cell_of``, adding cells where needed, and returns the number of cells.

    With ``keep`` new codes are copied to ``words``; without it ``words`` are ``rows``, and nothing is copied.
    """
    last = slots.shape[0] - 1
    places = np.arange(words.shape[0]) if keep else first  # words[places[cell]] is the code of a cell
    for i in range(rows.shape[0]):
        tag = row_hash(rows, i, 0, 1, ALL)
        slot = np.int64(tag >> np.uint64(8)) & last
        cell = np.int64(-1)
        while slots[slot] != EMPTY:
            if (slots[slot] ^ tag) & HIGH == EMPTY:
                cell = np.int64(slots[slot] & LOW) - 1
                differ = EMPTY
                for word in range(rows.shape[1]):
                    differ |= rows[i, word] ^ words[places[cell], word]
                if differ == EMPTY:
                    break
                cell = np.int64(-1)
            slot = (slot + 1) & last
        if cell < 0:
            cell = count
            slots[slot] = (tag & HIGH) | np.uint64(cell + 1)
            sizes[cell], first[cell] = 0, samples + i
            if keep:
                for word in range(rows.shape[1]):
                    words[cell, word] = rows[i, word]
            count += 1
        sizes[cell] += 1
        cell_of[i] = cell
    return count
