"""The code space of a sample: the cells that it occupies, joint and layer by layer, and the samples in each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.hamming import check_comparable
from nas_relucode.cells.occupied import Cells, CellTable, check_labels, find_cells
from nas_relucode.codes.batches import as_array
from nas_relucode.codes.bits import Codes, Layer
from nas_relucode.codes.capturing import CodeBatch, capture_batches
from nas_relucode.codes.reading import ReadingOptions, read_options
from nas_relucode.errors import InputError, NonFiniteError, a_type, whole_number
from nas_relucode.files import check_ending, write_atomically
from nas_relucode.npz_files import read_arrays
from nas_relucode.texts import aligned, html_table, plain

SHOWN_LAYERS = 10  # at most, where a code space is printed


@dataclass(frozen=True, eq=False)
class CodeSpace:
    """The cells that a sample occupies, and the number of samples in each, by class and correctly classified.

    Its size grows with cells x classes: of a sample only the number of its cell is kept.
    """

    cells: Cells
    class_counts: np.ndarray | None = None  # int64, (cells, classes); None without labels
    correct_counts: np.ndarray | None = None  # int64, (cells,): correctly classified samples; None if unknown
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the network and the reading, plain values for JSON

    @classmethod
    def of(cls, codes: Codes, labels: Any = None, correct: Any = None) -> CodeSpace:
        """The code space of given codes; ``labels`` are whole numbers and ``correct`` is true or false, one per sample.

        >>> from nas_relucode.codes import pack
        >>> CodeSpace.of(pack([[0, 1], [1, 1], [0, 1]]), labels=[0, 1, 1]).class_counts.tolist()
        [[1, 1], [0, 1]]
        """
        cells = find_cells(codes)
        counts: dict[str, np.ndarray | None] = {"labels": None, "correct": None}
        for name, values in {"labels": labels, "correct": correct}.items():
            if values is None:
                continue
            array = as_array(values)
            whole = array.dtype.kind in "iu" and array.min(initial=0) >= 0
            valid = whole if name == "labels" else array.dtype.kind == "b" or np.isin(array, (0, 1)).all()
            if array.shape != (codes.samples,) or not valid:
                raise InputError(
                    f"{name} are {array.dtype} of shape {array.shape} for {codes.samples} samples. "
                    "Give one per sample: labels as whole numbers from 0, correct as true or false."
                )
            counts[name] = cells.class_counts(array.astype(np.int64 if name == "labels" else np.bool_).astype(np.int64))
        by_correctness = counts["correct"]  # (cells, 2), or (cells, 1) if no sample is correct
        if by_correctness is not None:
            by_correctness = by_correctness[:, 1:].sum(axis=1)
        return cls(cells, counts["labels"], by_correctness)

    def __repr__(self) -> str:
        rows = self._rows()
        more = [f"... and {len(rows) - 1 - SHOWN_LAYERS} more layers"] if len(rows) - 1 > SHOWN_LAYERS else []
        return "\n".join([self._title(), aligned(rows[: SHOWN_LAYERS + 1]), *more])

    def _repr_html_(self) -> str:
        """The table of layers, as a notebook shows it."""
        return f"<p>{self._title()}</p>{html_table(self._rows())}"

    def _title(self) -> str:
        classes = "" if self.class_counts is None else f", {self.class_counts.shape[1]} classes"
        right = "" if self.correct_counts is None else f", {self.correct_counts.sum() / self.samples:.1%} correct"
        return f"CodeSpace: {self.samples:,} samples in {len(self.cells):,} cells{classes}{right}"

    def _rows(self) -> list[list[str]]:
        layers = [[plain(layer.name), f"{layer.neurons:,}", layer.activation] for layer in self.codes.layers]
        return [["layer", "neurons", "activation"], *layers]

    @property
    def codes(self) -> Codes:
        """The distinct codes, one row per cell."""
        return self.cells.codes

    @property
    def samples(self) -> int:
        return len(self.cells.cell_of)

    @property
    def neurons(self) -> int:
        return self.cells.codes.neurons

    def layer(self, name: str) -> CodeSpace:
        """The code space of one layer: cells whose codes agree on this layer become one cell.

        ``name`` is that of the layer.
        """
        return self._joined(find_cells(self.codes.layer(name)))

    def sample_codes(self, samples: int | slice | np.ndarray) -> Codes:
        """The codes of the samples with these numbers, in this order; an int means that many samples from the start."""
        is_count = isinstance(samples, int | np.integer)
        chosen = slice(whole_number("samples", samples)) if is_count else samples
        return self.codes[self.cells.cell_of[chosen]]

    def cells_by_class(self) -> np.ndarray:
        """Cells that hold at least one sample of each class: int64, (classes,), as the paper's released code counts."""
        if self.class_counts is None:
            raise InputError("the code space has no labels. Give them with the inputs.")
        return np.count_nonzero(self.class_counts, axis=0)

    def occupied_by(self, other: CodeSpace) -> np.ndarray:
        """Which of these cells hold a sample of ``other``, a code space of the same layers: bool, (cells,).

        >>> from nas_relucode.codes import pack
        >>> CodeSpace.of(pack([[0, 1], [1, 1]])).occupied_by(CodeSpace.of(pack([[1, 1]])))
        array([False,  True])
        """
        words = np.concatenate([other.codes.words, check_comparable(other.codes, self.codes).words])
        both = find_cells(Codes(words, self.codes.layers))  # the cells of other come first, and are distinct
        return both.cell_of[len(other.cells) :] < len(other.cells)

    def _joined(self, cells: Cells) -> CodeSpace:
        """This space with some cells joined: ``cells`` groups its own cells as if they were samples."""
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
    on_batch: Callable[[CodeBatch], object] | None = None,
    **options: Unpack[ReadingOptions],
) -> CodeSpace:
    """The code space of ``data`` under ``network``, read batch by batch; the options are those of `Reading`.

    ``data`` is a tensor of inputs, a pair of inputs and labels, a Dataset, a DataLoader or an iterator of batches, of
    any length: memory grows with the cells. ``on_batch`` is called with each batch and its outputs, so that one pass
    serves codes and losses. Samples are counted by class if they come with labels, and as correct if the network's
    outputs are rows of two or more class scores.

    >>> network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> _ = nn.init.ones_(network[0].weight)
    >>> space = code_space(network, (torch.tensor([[-1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0])))
    >>> space.cells.sizes, space.class_counts.tolist()
    (array([1, 2]), [[1, 0], [1, 1]])
    """
    reading, _ = read_options(options)
    counter: _Counter | None = None
    for batch in capture_batches(network, data, **options):
        counter = counter or _Counter(batch)
        counter.add(batch)
        if on_batch:
            on_batch(batch)
    if counter is None:
        raise InputError("there are no samples to read codes of. Give at least one.")
    settings = {"network": type(network).__name__, **reading.decisive, "dtype": counter.dtype}
    return counter.space(settings | {"torch": torch.__version__})


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
                f"only some batches have labels: the one at sample {batch.start} differs. Label all or none."
            )
        if batch.labels is None:
            return
        if batch.labels.min(initial=0) < 0:
            raise InputError(f"the smallest label is {batch.labels.min()}. Give whole numbers from 0, one per sample.")
        labels = check_labels(batch.labels)
        classes = max(self.class_counts.shape[1], int(labels.max(initial=0)) + 1)
        self.class_counts = _enlarged(self.class_counts, (self.table.count, classes))
        np.add.at(self.class_counts, (cell_of, labels), 1)
        if self.scores:
            self.correct_counts = _enlarged(self.correct_counts, (self.table.count,))
            np.add.at(self.correct_counts, cell_of[correct(batch.outputs, labels)], 1)

    def space(self, settings: dict[str, Any]) -> CodeSpace:
        cells = self.table.cells(np.concatenate(self.cell_of))
        count = len(cells)
        return CodeSpace(
            cells,
            self.class_counts[:count].copy() if self.labels else None,
            self.correct_counts[:count].copy() if self.scores else None,
            settings,
        )


def _enlarged(counts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``counts`` in an array of at least ``shape``, padded with 0; rows grow by half, to be copied seldom."""
    if all(have >= need for have, need in zip(counts.shape, shape, strict=True)):
        return counts
    rows = counts.shape[0] if counts.shape[0] >= shape[0] else max(shape[0], counts.shape[0] * 3 // 2)
    columns = tuple(map(max, counts.shape[1:], shape[1:]))
    larger = np.zeros((rows, *columns), np.int64)
    larger[tuple(slice(length) for length in counts.shape)] = counts
    return larger


def _class_scores(outputs: Tensor | None) -> bool:
    return outputs is not None and outputs.ndim == 2 and outputs.shape[1] >= 2


def correct(outputs: Tensor | None, labels: np.ndarray) -> np.ndarray:
    """Which samples have the largest score at their label: bool, (samples,)."""
    assert outputs is not None
    if labels.max(initial=0) >= outputs.shape[1]:
        raise InputError(
            f"labels are out of range: the largest is {labels.max()}, but the network has {outputs.shape[1]} outputs. "
            f"Labels must lie in 0..{outputs.shape[1] - 1}."
        )
    if not bool(torch.isfinite(outputs).all()):
        raise NonFiniteError("the network's outputs are not finite. Check the weights and the inputs.")
    return np.asarray(outputs.argmax(dim=1).numpy() == labels)


def merge_code_spaces(shards: Iterable[CodeSpace]) -> CodeSpace:
    """The code space of a sample from the code spaces of its shards, in the order of the samples.

    It is equal to the code space of one pass over the whole sample. ``shards`` may be an iterator that loads them:
    memory grows with the occupied cells, and holds two shards at most. Raises InputError unless all have the same
    settings, and all or none have labels and class scores.

    >>> from nas_relucode.codes import pack
    >>> merged = merge_code_spaces(CodeSpace.of(pack(bits)) for bits in ([[0, 1], [1, 1]], [[1, 0], [0, 1]]))
    >>> merged.cells.sizes, merged.cells.cell_of
    (array([2, 1, 1]), array([0, 1, 2, 0]))
    """
    merged: _Merged | None = None
    if not isinstance(shards, Iterable):
        raise InputError(f"shards are {a_type(shards)}. Give several code spaces.")
    for number, shard in enumerate(shards):
        if not isinstance(shard, CodeSpace):
            raise InputError(f"shard {number} is {a_type(shard)}. Give code spaces.")
        merged = merged or _Merged(shard)
        merged.add(number, shard)
    if merged is None:
        raise InputError("there are no code spaces to merge. Give at least one.")
    return merged.space()


class _Merged:
    """The code space of the shards so far."""

    def __init__(self, first: CodeSpace) -> None:
        self.settings = _comparable(first)
        self.space_settings = first.settings
        self.table = CellTable(first.codes.layers)
        self.samples = 0
        self.cell_of: list[np.ndarray] = []
        known = {"class_counts": first.class_counts, "correct_counts": first.correct_counts}
        self.counts = {name: np.zeros((0, 0), np.int64) for name, counts in known.items() if counts is not None}

    def add(self, number: int, shard: CodeSpace) -> None:
        settings = _comparable(shard)
        if settings != self.settings:
            raise InputError(
                f"shard {number} differs from shard 0 in layers ({[layer.name for layer in settings[0]]}), in settings "
                f"({settings[1]}), or in having labels or class scores. Merge code spaces with equal settings."
            )
        before = self.table.count
        cells = self.table.add(shard.codes.words)  # the shard's cells are distinct: no cell comes twice
        new = cells >= before
        self.table.sizes[cells] += shard.cells.sizes - 1  # the table has counted a cell as one sample
        self.table.first[cells[new]] = shard.cells.first[new] + self.samples
        for name, kept in self.counts.items():
            counts = getattr(shard, name).reshape(len(cells), -1)
            self.counts[name] = _enlarged(kept, (len(self.table.sizes), counts.shape[1]))
            self.counts[name][cells, : counts.shape[1]] += counts
        self.cell_of.append(cells.astype(np.uint32)[shard.cells.cell_of])
        self.samples += shard.samples

    def space(self) -> CodeSpace:
        cells = self.table.cells(np.concatenate(self.cell_of, dtype=np.int64))
        counts = {name: counts[: len(cells)].copy() for name, counts in self.counts.items()}
        correct = counts["correct_counts"].reshape(len(cells)) if "correct_counts" in counts else None
        return CodeSpace(cells, counts.get("class_counts"), correct, self.space_settings)


def _comparable(shard: CodeSpace) -> tuple[Any, ...]:
    return shard.codes.layers, dict(shard.settings), shard.class_counts is None, shard.correct_counts is None


VERSION = 1
FIELDS = ("words", "sizes", "first", "cell_of")


def save_code_space(space: CodeSpace, path: str | Path) -> Path:
    """Writes ``space`` to an .npz file: its arrays, and a header with version, layers, settings and a SHA-256."""
    path = check_ending(Path(path), ".npz")
    arrays = {
        "words": space.codes.words,
        "sizes": space.cells.sizes,
        "first": space.cells.first,
        "cell_of": space.cells.cell_of.astype(np.uint32),
    }
    for name in ("class_counts", "correct_counts"):
        if getattr(space, name) is not None:
            arrays[name] = getattr(space, name)
    header: dict[str, Any] = {
        "version": VERSION,
        "layers": [[layer.name, list(layer.shape), layer.start, layer.activation] for layer in space.codes.layers],
        "made": dict(space.settings),
    }
    text = json.dumps(header | {"sha256": _digest(header, arrays)})

    def write(temporary: Path) -> None:
        np.savez(temporary, header=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]

    return write_atomically(path, write)


def load_code_space(path: str | Path) -> CodeSpace:
    """The code space in a file that `save_code_space` wrote. Nothing in the file is executed.

    Raises InputError for any other file, one that was cut short or altered, and one of another version.
    """
    arrays = read_arrays(path, "It is not a code space, or was cut short: save it again.")
    try:
        header = json.loads(arrays.pop("header").tobytes())
        version, digest = header["version"], header.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a code space, or was cut short ({error}). Save it again.") from error
    if version != VERSION:
        raise InputError(
            f"{path} is of version {version}, but this package reads version {VERSION}. Read the codes again."
        )
    if digest != _digest(header, arrays):
        raise InputError(f"{path} was altered: its content does not have the SHA-256 it was saved with. Save it again.")
    try:
        return _space(header, arrays)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path} is not a code space ({error}). Save it again.") from error


def _space(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> CodeSpace:
    """The code space of a file's parts. Raises ValueError, among others, if they do not belong together."""
    layers = tuple(Layer(str(n), tuple(map(int, s)), int(start), str(a)) for n, s, start, a in header["layers"])
    words, sizes, first, cell_of = (arrays[name] for name in FIELDS)
    class_counts, correct_counts = arrays.get("class_counts"), arrays.get("correct_counts")
    cells, starts = len(words), [0, *(layer.stop for layer in layers)]
    fit = (
        words.dtype == np.uint64
        and words.shape == (cells, starts.pop())
        and all(min(layer.shape, default=1) >= 0 for layer in layers)
        and starts == [layer.start for layer in layers]
        and all(array.dtype.kind in "iu" for array in (sizes, first, cell_of))
        and sizes.shape == first.shape == (cells,)
        and cell_of.ndim == 1
        and np.array_equal(np.bincount(cell_of, minlength=cells), sizes)
        and (class_counts is None or (class_counts.ndim == 2 and len(class_counts) == cells))
        and (correct_counts is None or correct_counts.shape == (cells,))
    )
    if not fit:
        raise ValueError("its arrays do not belong together")
    all_cells = Cells(Codes(words, layers), sizes, first, cell_of.astype(np.int64))
    return CodeSpace(all_cells, class_counts, correct_counts, dict(header["made"]))


def _digest(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
