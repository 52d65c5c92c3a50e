"""The code space of a sample under a network: its occupied cells, layer by layer and joint, and who lies in them."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.hamming import check_comparable
from nas_relucode.cells.occupied import Cells, CellTable, check_labels, find_cells
from nas_relucode.codes.bits import Codes, Layer
from nas_relucode.codes.capturing import CodeBatch, capture_batches
from nas_relucode.codes.reading import ReadingOptions, read_options
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.files import write_atomically


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

        >>> from nas_relucode.codes import pack
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

        >>> from nas_relucode.codes import pack
        >>> CodeSpace.of(pack([[0, 1], [1, 1]])).occupied_by(CodeSpace.of(pack([[1, 1]])))
        array([False,  True])
        """
        words = np.concatenate([other.codes.words, check_comparable(other.codes, self.codes).words])
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
    on_batch: Callable[[CodeBatch], object] | None = None,
    **options: Unpack[ReadingOptions],
) -> CodeSpace:
    """The code space of ``data`` under ``network``, read batch by batch; the options are those of `Reading`.

    ``data`` is a tensor of inputs, a pair of inputs and labels, a DataLoader or an iterator of batches, of any length:
    memory grows with the cells. ``on_batch`` is called with each batch and its outputs, so that one pass serves codes
    and losses. Samples are counted by class if they come with labels, and as correct if the network's outputs are rows
    of two or more class scores.

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
        raise InputError("there are no samples to take codes of. Give at least one.")
    made = {"network": type(network).__name__, **reading.decisive, "dtype": counter.dtype, "torch": torch.__version__}
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


def merge_code_spaces(shards: Iterable[CodeSpace]) -> CodeSpace:
    """One code space from those of shards of a sample, in the order of the samples, as if taken in one go.

    ``shards`` may come from an iterator that loads them: memory grows with the occupied cells of all, and holds two
    shards at most. Raises InputError unless all were made with the same settings and know the same of their samples.

    >>> from nas_relucode.codes import pack
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
            self.counts[name] = _at_least(kept, len(self.table.sizes), counts.shape[1])
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


def _at_least(counts: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """``counts`` in an array of so many rows and columns, or more if it has more, new entries 0."""
    shape = (max(rows, counts.shape[0]), max(columns, counts.shape[1]))
    if counts.shape == shape:
        return counts
    wider = np.zeros(shape, np.int64)
    wider[: counts.shape[0], : counts.shape[1]] = counts
    return wider


VERSION = 1
UNREADABLE = (  # what numpy and zipfile raise for damaged files; RuntimeError for the flags of encryption or others
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
FIELDS = ("words", "sizes", "first", "cell_of")


def save_code_space(space: CodeSpace, path: str | Path) -> Path:
    """Writes ``space`` to an .npz file: its arrays, and a header with the version, layers, settings and a SHA-256."""
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"{path} does not end in .npz. Name the file so.")
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
        "made": dict(space.made),
    }
    text = json.dumps(header | {"sha256": _digest(header, arrays)})

    def write(temporary: Path) -> None:
        np.savez(temporary, header=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]

    return write_atomically(path, write)


def load_code_space(path: str | Path) -> CodeSpace:
    """The code space in a file that `save_code_space` wrote. Nothing in it is executed.

    Raises InputError for a file that is something else, was cut short or altered, or is of another version.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        version, digest = header["version"], header.pop("sha256")
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}. Give a file that save_code_space wrote.") from error
    except UNREADABLE as error:
        raise InputError(f"{path} is no code space, or was cut short ({error}). Save it again.") from error
    if version != VERSION:
        raise InputError(
            f"{path} is of version {version}, but this package reads version {VERSION}. Take the codes again."
        )
    if digest != _digest(header, arrays):
        raise InputError(f"{path} was altered: its content does not have the SHA-256 it was saved with. Save it again.")
    layers = tuple(Layer(name, tuple(shape), start, activation) for name, shape, start, activation in header["layers"])
    words, sizes, first, cell_of = (arrays[name] for name in FIELDS)
    cells = Cells(Codes(words, layers), sizes, first, cell_of.astype(np.int64))
    return CodeSpace(cells, arrays.get("class_counts"), arrays.get("correct_counts"), header["made"])


def _digest(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
