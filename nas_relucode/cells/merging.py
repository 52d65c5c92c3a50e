"""One code space from those of the shards of a sample, taken one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nas_relucode.cells.cells import CellTable
from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.errors import InputError


def merge_code_spaces(shards: Iterable[CodeSpace]) -> CodeSpace:
    """One code space from those of shards of a sample, in the order of the samples, as if taken in one go.

    ``shards`` may come from an iterator that loads them: memory grows with the occupied cells of all, and holds two
    shards at most. Raises InputError unless all were made with the same settings and know the same of their samples.

    >>> from nas_relucode import pack
    >>> merged = merge_code_spaces(CodeSpace.of(pack(bits)) for bits in ([[0, 1], [1, 1]], [[1, 0], [0, 1]]))
    >>> merged.cells.sizes, merged.cells.cell_of
    (array([2, 1, 1]), array([0, 1, 2, 0]))
    """
    merged: _Merged | None = None
    for number, shard in enumerate(shards):
        merged = merged or _Merged(shard)
        merged.add(number, shard)
    if merged is None:
        raise InputError("there are no code spaces to merge. Give at least one.")
    return merged.space()


class _Merged:
    """The code space of the shards so far."""

    def __init__(self, first: CodeSpace) -> None:
        self.settings = _settings(first)
        self.made = first.made
        self.table = CellTable(first.codes.layers)
        self.samples = 0
        self.cell_of: list[np.ndarray] = []
        known = {"class_counts": first.class_counts, "correct_counts": first.correct_counts}
        self.counts = {name: np.zeros((0, 0), np.int64) for name, counts in known.items() if counts is not None}

    def add(self, number: int, shard: CodeSpace) -> None:
        settings = _settings(shard)
        if settings != self.settings:
            raise InputError(
                f"shard {number} was made otherwise than shard 0 (layers {[layer.name for layer in settings[0]]}, "
                f"settings {settings[1]}, labels and outputs known or not). Merge code spaces that were made alike."
            )
        before = self.table.count
        cells = self.table.add(shard.codes.words)  # the shard's cells are distinct: no cell comes twice
        new = cells >= before
        self.table.sizes[cells] += shard.cells.sizes - 1  # the table has counted a cell as one sample
        self.table.first[cells[new]] = shard.cells.first[new] + self.samples
        for name, kept in self.counts.items():
            counts = getattr(shard, name).reshape(len(cells), -1)
            self.counts[name] = _room(kept, len(self.table.sizes), counts.shape[1])
            self.counts[name][cells, : counts.shape[1]] += counts
        self.cell_of.append(cells.astype(np.uint32)[shard.cells.cell_of])
        self.samples += shard.samples

    def space(self) -> CodeSpace:
        cells = self.table.cells(np.concatenate(self.cell_of, dtype=np.int64))
        counts = {name: counts[: len(cells)].copy() for name, counts in self.counts.items()}
        correct = counts["correct_counts"].reshape(len(cells)) if "correct_counts" in counts else None
        return CodeSpace(cells, counts.get("class_counts"), correct, self.made)


def _settings(shard: CodeSpace) -> tuple[Any, ...]:
    return shard.codes.layers, dict(shard.made), shard.class_counts is None, shard.correct_counts is None


def _room(counts: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """``counts`` in an array of so many rows and columns, or more if it has more, new entries 0."""
    shape = (max(rows, counts.shape[0]), max(columns, counts.shape[1]))
    if counts.shape == shape:
        return counts
    wider = np.zeros(shape, np.int64)
    wider[: counts.shape[0], : counts.shape[1]] = counts
    return wider
