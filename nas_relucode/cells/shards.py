"""Shards: a data set in parts that are read one by one, from a folder of files, Ray Data or anything in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_relucode.cells.cells import check_labels
from nas_relucode.cells.stored_spaces import UNREADABLE
from nas_relucode.codes.batches import Slices, batches
from nas_relucode.errors import InputError

NEEDED = "A shard is an .npz file with inputs (samples, ...) and, if they are known, labels (samples,)"


def list_shards(shards: Any) -> Sequence[Any]:
    """The shards that are meant: the files of a folder in the order of their names, a single one, or a list's own.

    Raises InputError for whatever is no shards: data that are whole are cut by `cut_into_shards`.
    """
    if isinstance(shards, str | Path):
        path = Path(shards)
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            raise InputError(f"there is no .npz file in {path}. {NEEDED}.")
        return files
    if _of_ray(shards):
        return [shards]
    if not isinstance(shards, Sequence) or isinstance(shards, tuple):
        raise InputError(
            f"shards are a {type(shards).__name__}. Give a folder of .npz files, a Ray Dataset, or a list with a shard "
            "in each place; cut_into_shards makes one of data that are whole."
        )
    if not shards:
        raise InputError("there are no shards. Give at least one.")
    return shards


def holds_shards(path: str | Path) -> bool:
    """Whether this is a folder with .npz files in it, or an .npz file with inputs."""
    path = Path(path)
    if path.is_dir():
        return any(path.glob("*.npz"))
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return "inputs" in file.files
    except UNREADABLE:
        return False


def cut_into_shards(data: Any, shards: int, *, batch_size: int = 512) -> list[Any]:
    """At most so many shards of data that are whole, in order: a tensor of inputs, (inputs, labels) or a Split.

    They are cut between batches, so that the batches, and with them the codes, are those of the whole.

    >>> [len(shard) for shard in cut_into_shards(torch.zeros(2000, 3), 3)]
    [1024, 976]
    """
    if shards < 1 or batch_size < 1:
        raise InputError(f"{shards} shards of batches of {batch_size} cannot be cut. Give at least 1 of each.")
    whole = batches(data, batch_size)
    if not isinstance(whole, Slices):
        raise InputError(
            f"a {type(data).__name__} cannot be cut into shards. Give a tensor, (inputs, labels), a Split."
        )
    all_batches = -(-whole.samples // batch_size)
    return list(Slices(whole.data, max(1, -(-all_batches // shards)) * batch_size))


class ShardBatches:
    """The batches of one shard, and the SHA-256 of what it holds, known once it was read to its end.

    Of a file or of Ray Data, uint8 inputs are scaled to 0 .. 1; all else is given on as it is.
    """

    def __init__(self, shard: Any, batch_size: int) -> None:
        self.shard = shard
        self.batch_size = batch_size
        self.digests: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        self.digests = {}
        for batch, stored in self._read():
            self._hash(batch)
            yield _scaled(batch) if stored else batch

    def read(self) -> str:
        """Reads the whole shard and returns its SHA-256."""
        self.digests = {}
        for batch, _ in self._read():
            self._hash(batch)
        return self.digest()

    def digest(self) -> str:
        """Of the inputs and of the labels, each as one, whatever the batches are."""
        found = {where: digest.hexdigest() for where, digest in sorted(self.digests.items())}
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def _read(self) -> Iterator[tuple[Any, bool]]:
        """The batches as they are stored, and whether they are of a file or of Ray Data."""
        if isinstance(self.shard, str | Path):
            yield from ((batch, True) for batch in batches(_of_file(Path(self.shard)), self.batch_size))
        elif _of_ray(self.shard):
            yield from ((batch, True) for batch in _ray_batches(self.shard, self.batch_size))
        else:
            yield from ((batch, False) for batch in batches(self.shard, self.batch_size))

    def _hash(self, batch: Any) -> None:
        for where, values in _leaves(batch, ""):
            kind = str(values.dtype).removeprefix("torch.")
            digest = self.digests.setdefault(f"{where} {kind} {tuple(values.shape[1:])}", hashlib.sha256())
            if isinstance(values, Tensor):  # as bytes, because numpy has not every dtype of torch
                values = values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            digest.update(np.ascontiguousarray(values))


def _leaves(batch: Any, where: str) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """The tensors and arrays in a batch, and where they are in it."""
    if isinstance(batch, Tensor | np.ndarray):
        yield where, batch
    elif isinstance(batch, Mapping | tuple | list):
        for key, value in batch.items() if isinstance(batch, Mapping) else enumerate(batch):
            yield from _leaves(value, f"{where}/{key}")


def _scaled(batch: Any) -> Any:
    inputs, labels = batch if isinstance(batch, tuple) else (batch, None)
    if inputs.dtype == torch.uint8:
        inputs = inputs.float() / 255
    return inputs if labels is None else (inputs, labels)


def _of_file(path: Path) -> Any:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in ("inputs", "labels")}
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}. {NEEDED}.") from error
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({error}). {NEEDED}: plain arrays, by numpy.savez.") from error
    return _checked(arrays, str(path))


def _of_ray(shard: Any) -> bool:
    return hasattr(shard, "iter_batches") and hasattr(shard, "context")


def _ray_batches(dataset: Any, batch_size: int) -> Iterator[Any]:
    """The batches of a Ray Dataset in the order of its rows, which Ray otherwise changes for the sake of speed."""
    options = dataset.context.execution_options
    before = options.preserve_order
    options.preserve_order = True
    try:
        for columns in dataset.iter_batches(batch_size=batch_size, batch_format="numpy"):
            yield _checked(columns, "the Ray Dataset")
    finally:
        options.preserve_order = before


def _checked(arrays: Mapping[str, np.ndarray], where: str) -> Any:
    """The inputs, or a pair of them and the labels, as tensors."""
    if "inputs" not in arrays:
        raise InputError(f"{where} holds no inputs. {NEEDED}.")
    inputs, labels = arrays["inputs"], arrays.get("labels")
    if inputs.dtype.kind not in "fiub" or not inputs.ndim or 0 in inputs.shape:
        raise InputError(f"inputs in {where} are {inputs.dtype} of shape {inputs.shape}. {NEEDED}: numbers.")
    if labels is None:
        return _tensor(inputs)
    if labels.shape != inputs.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(
            f"labels in {where} are {labels.dtype} of shape {labels.shape} for {len(inputs)} inputs. "
            "Give whole numbers from 0, one a sample."
        )
    return _tensor(inputs), _tensor(check_labels(labels))


def _tensor(array: np.ndarray) -> Tensor:
    """Of this machine's byte order, in memory of its own where it was lent for reading only."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
