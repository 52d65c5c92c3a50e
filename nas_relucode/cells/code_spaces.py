"""The code space of a sample under a network: its occupied cells, layer by layer and joint, and who lies in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.cells import Cells, CellTable, check_labels, find_cells
from nas_relucode.codes.capturing import CodeBatch, Reading, capture_batches
from nas_relucode.codes.codes import Codes
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.hamming.hamming import comparable


@dataclass(frozen=True)
class CodeSpace:
    """The cells that a sample occupies, and how many samples of each class, and correct ones, lie in each.

    Its size grows with the cells, times the classes: of a sample only the number of its cell is kept.
    """

    cells: Cells
    class_counts: np.ndarray | None = None  # int64, (cells, classes); None without labels
    correct_counts: np.ndarray | None = None  # int64, (cells,): samples whose class is their label; None if not known
    made: Mapping[str, Any] = field(default_factory=dict)  # the settings that made it: plain values for JSON

    @classmethod
    def of(cls, codes: Codes, labels: Any = None, correct: Any = None) -> CodeSpace:
        """The code space of samples whose codes are at hand, with a label and true or false for each, if known.

        >>> from nas_relucode import pack
        >>> CodeSpace.of(pack([[0, 1], [1, 1], [0, 1]]), labels=[0, 1, 1]).class_counts.tolist()
        [[1, 1], [0, 1]]
        """
        cells = find_cells(codes)
        counts: dict[str, np.ndarray | None] = {"labels": None, "correct": None}
        for name, given in {"labels": labels, "correct": correct}.items():
            if given is None:
                continue
            array = np.asarray(given)
            if array.shape != (codes.samples,) or (
                name == "labels" and (array.dtype.kind not in "iu" or array.min(initial=0) < 0)
            ):
                raise InputError(
                    f"{name} are {array.dtype} of shape {array.shape} for {codes.samples} samples. "
                    "Give one a sample: labels are whole numbers from 0, correct is true or false."
                )
            counts[name] = cells.class_counts(array.astype(np.int64 if name == "labels" else np.bool_).astype(np.int64))
        right = counts["correct"]
        if right is not None:
            right = right[:, 1] if right.shape[1] == 2 else np.zeros(len(cells), np.int64)
        return cls(cells, counts["labels"], right)

    @property
    def codes(self) -> Codes:
        """The distinct codes, a row a cell."""
        return self.cells.codes

    @property
    def samples(self) -> int:
        return len(self.cells.cell_of)

    @property
    def neurons(self) -> int:
        return self.cells.codes.neurons

    def layer(self, name: str) -> CodeSpace:
        """The code space of one layer alone: cells whose codes agree on the layer become one."""
        return self._joined(find_cells(self.codes.layer(name)))

    def sample_codes(self, samples: int | slice | np.ndarray) -> Codes:
        """The codes of chosen samples, by number, in the order given; a whole number stands for the first so many."""
        chosen = slice(int(samples)) if isinstance(samples, int | np.integer) else samples
        return self.codes[self.cells.cell_of[chosen]]

    def cells_by_class(self) -> np.ndarray:
        """Cells that hold at least one sample of a class: int64, (classes,); what the paper's released code counts."""
        if self.class_counts is None:
            raise InputError("the code space has no labels. Give them with the inputs.")
        return np.count_nonzero(self.class_counts, axis=0)

    def occupied_by(self, other: CodeSpace) -> np.ndarray:
        """Which of these cells hold a sample of ``other`` too: bool, (cells,). Both are of the same layers.

        >>> from nas_relucode import pack
        >>> CodeSpace.of(pack([[0, 1], [1, 1]])).occupied_by(CodeSpace.of(pack([[1, 1]])))
        array([False,  True])
        """
        words = np.concatenate([other.codes.words, comparable(other.codes, self.codes).words])
        both = find_cells(Codes(words, self.codes.layers))  # those of other come first, and are distinct
        return both.cell_of[len(other.cells) :] < len(other.cells)

    def _joined(self, cells: Cells) -> CodeSpace:
        """This space with its cells grouped: ``cells`` are those of its own cells taken for samples."""
        group = cells.cell_of
        sizes = np.zeros(len(cells), np.int64)
        np.add.at(sizes, group, self.cells.sizes)
        first = np.full(len(cells), np.iinfo(np.int64).max)
        np.minimum.at(first, group, self.cells.first)
        joined = Cells(cells.codes, sizes, first, group[self.cells.cell_of])

        def summed(counts: np.ndarray | None) -> np.ndarray | None:
            if counts is None:
                return None
            total = np.zeros((len(cells), *counts.shape[1:]), np.int64)
            np.add.at(total, group, counts)
            return total

        return replace(
            self, cells=joined, class_counts=summed(self.class_counts), correct_counts=summed(self.correct_counts)
        )


def code_space(
    network: nn.Module,
    data: Any,
    *,
    layers: str | Sequence[str] = "all",
    mode: str = "eval",
    preset: str = "paper",
    maps: str = "pixel",
    also: Sequence[str] = (),
    batch_size: int = 512,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    on_batch: Callable[[CodeBatch], object] | None = None,
) -> CodeSpace:
    """The code space of ``data`` under ``network``, taken batch by batch.

    ``data`` is a tensor of inputs, a pair of inputs and labels, a DataLoader or an iterator of batches, of any length:
    memory grows with the cells. ``on_batch`` is told each batch with its outputs: one pass serves codes and losses. The
    other arguments are those of `capture`. Samples are counted by class where they come with labels, and as correct
    where the network's outputs are rows of two and more class scores.

    >>> network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> _ = nn.init.ones_(network[0].weight)
    >>> space = code_space(network, (torch.tensor([[-1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0])))
    >>> space.cells.sizes, space.class_counts.tolist()
    (array([1, 2]), [[1, 0], [1, 1]])
    """
    chosen = (layers,) if isinstance(layers, str) else tuple(layers)
    smooth = (also,) if isinstance(also, str) else tuple(also)
    reading = Reading(layers=chosen, mode=mode, preset=preset, maps=maps, also=smooth)
    counter: _Counter | None = None
    for batch in capture_batches(network, data, reading=reading, batch_size=batch_size, forward=forward):
        counter = counter or _Counter(batch)
        counter.add(batch)
        if on_batch:
            on_batch(batch)
    if counter is None:
        raise InputError("there are no samples to take codes of. Give at least one.")
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(reading).items()}
    made = {"network": type(network).__name__, **settings, "dtype": counter.dtype, "torch": torch.__version__}
    return counter.space(made)


class _Counter:
    """The code space of the batches so far."""

    def __init__(self, batch: CodeBatch) -> None:
        self.table = CellTable(batch.codes.layers)
        self.dtype = batch.dtype
        self.cell_of: list[np.ndarray] = []
        self.labels = batch.labels is not None
        self.scores = self.labels and _class_scores(batch.outputs)
        self.class_counts = np.zeros((0, 0), np.int64)
        self.correct_counts = np.zeros(0, np.int64)

    def add(self, batch: CodeBatch) -> None:
        cell_of = self.table.add(batch.codes.words)
        self.cell_of.append(cell_of)
        if (batch.labels is not None) != self.labels:
            raise InputError(
                f"the batch at sample {batch.start} is labelled otherwise than the first. Label all or none."
            )
        if batch.labels is None:
            return
        if batch.labels.min(initial=0) < 0:
            raise InputError(f"labels go down to {batch.labels.min()}. Give whole numbers from 0, one a sample.")
        labels = check_labels(batch.labels)
        right = correct(batch.outputs, labels) if self.scores else None
        classes = max(self.class_counts.shape[1], int(labels.max(initial=0)) + 1)
        self.class_counts = _room(self.class_counts, (self.table.count, classes))
        np.add.at(self.class_counts, (cell_of, labels), 1)
        if right is not None:
            self.correct_counts = _room(self.correct_counts, (self.table.count,))
            np.add.at(self.correct_counts, cell_of[right], 1)

    def space(self, made: dict[str, Any]) -> CodeSpace:
        cells = self.table.cells(np.concatenate(self.cell_of))
        count = len(cells)
        return CodeSpace(
            cells,
            self.class_counts[:count].copy() if self.labels else None,
            self.correct_counts[:count].copy() if self.scores else None,
            made,
        )


def _room(counts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``counts`` in an array of at least ``shape``, new entries 0, that grows by half its rows."""
    if all(have >= need for have, need in zip(counts.shape, shape, strict=True)):
        return counts
    rows = shape[0] if counts.shape[0] >= shape[0] else max(shape[0], counts.shape[0] * 3 // 2)
    wider = np.zeros((max(rows, counts.shape[0]), *shape[1:]), np.int64)
    wider[tuple(slice(length) for length in counts.shape)] = counts
    return wider


def _class_scores(outputs: Tensor | None) -> bool:
    return outputs is not None and outputs.ndim == 2 and outputs.shape[1] >= 2


def correct(outputs: Tensor | None, labels: np.ndarray) -> np.ndarray:
    """Which samples have their label's score as the largest: bool, (samples,)."""
    assert outputs is not None
    if labels.max(initial=0) >= outputs.shape[1]:
        raise InputError(
            f"labels are out of range: the largest is {labels.max()}, but the network has {outputs.shape[1]} outputs. "
            f"Labels must lie in 0..{outputs.shape[1] - 1}."
        )
    if not bool(torch.isfinite(outputs).all()):
        raise NonFiniteError("the network's outputs are not finite. Check the weights and the inputs.")
    return np.asarray(outputs.argmax(dim=1).numpy() == labels)
