"""Shards: a data set in parts that are read one by one, from a folder of files, Ray Data or any batches."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np
import torch
from torch import Tensor, distributed, nn

from nas_relucode.cells.code_spaces import CodeSpace, code_space, load_code_space, merge_code_spaces, save_code_space
from nas_relucode.cells.occupied import check_labels
from nas_relucode.codes.batches import Slices, batches
from nas_relucode.codes.digests import SamplesDigest
from nas_relucode.codes.network_state import plain_settings
from nas_relucode.codes.reading import ReadingOptions, read_options
from nas_relucode.codes.relus import unwrapped
from nas_relucode.errors import InputError, a_type, whole_number
from nas_relucode.npz_files import array_names, read_arrays

NEEDED = "A shard is an .npz file with inputs (samples, ...) and, if known, labels (samples,)"


def list_shards(shards: Any) -> Sequence[Any]:
    """The shards as a sequence: the files of a folder in the order of their names, a single file, or a list as it is.

    Raises InputError for anything else, such as whole data, which `cut_into_shards` cuts.
    """
    if isinstance(shards, str | Path):
        path = Path(shards)
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            raise InputError(f"there is no .npz file in {path}. {NEEDED}.")
        return files
    if _is_ray(shards):
        return [shards]
    if not isinstance(shards, Sequence) or isinstance(shards, tuple):
        raise InputError(
            f"shards are {a_type(shards)}. Give a folder of .npz files, a Ray Dataset, or a list with a shard "
            "in each place; cut_into_shards makes a list of whole data."
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
        return "inputs" in array_names(path, "")
    except InputError:
        return False


def cut_into_shards(data: Any, shards: int, *, batch_size: int = 512) -> list[Any]:
    """At most ``shards`` shards of whole data, in order: of a tensor of inputs, (inputs, labels) or a Split.

    They are cut between batches, so that the batches, and with them the codes, are those of the whole data.

    >>> [len(shard) for shard in cut_into_shards(torch.zeros(2000, 3), 3)]
    [1024, 976]
    """
    shards = whole_number("shards", shards, least=1)
    batch_size = whole_number("batch size", batch_size, least=1)
    whole = batches(data, batch_size)
    if not isinstance(whole, Slices):
        raise InputError(f"{a_type(data)} cannot be cut into shards. Give a tensor, (inputs, labels), a Split.")
    all_batches = -(-whole.samples // batch_size)
    return list(Slices(whole.data, max(1, -(-all_batches // shards)) * batch_size))


class ShardBatches:
    """The batches of one shard, and the SHA-256 of its content, which is known after the last batch.

    uint8 inputs of a file or of Ray Data are scaled to 0 .. 1; other data are passed on as they are.
    """

    def __init__(self, shard: Any, batch_size: int) -> None:
        self.shard = shard
        self.batch_size = batch_size
        self._digest = SamplesDigest()

    def __iter__(self) -> Iterator[Any]:
        self._digest = SamplesDigest()
        for batch, stored in self._read():
            self._digest.add(batch)
            yield _scaled(batch) if stored else batch

    def read(self) -> str:
        """Reads the whole shard and returns its SHA-256."""
        self._digest = SamplesDigest()
        for batch, _ in self._read():
            self._digest.add(batch)
        return self.digest()

    def digest(self) -> str:
        """The SHA-256 of the inputs and labels, which does not depend on the batches."""
        return self._digest.text

    def _read(self) -> Iterator[tuple[Any, bool]]:
        """The batches as they are stored, each with whether it comes from a file or from Ray Data."""
        if isinstance(self.shard, str | Path):
            yield from ((batch, True) for batch in batches(_load_file(Path(self.shard)), self.batch_size))
        elif _is_ray(self.shard):
            yield from ((batch, True) for batch in _ray_batches(self.shard, self.batch_size))
        else:
            yield from ((batch, False) for batch in batches(self.shard, self.batch_size))


def _scaled(batch: Any) -> Any:
    inputs, labels = batch if isinstance(batch, tuple) else (batch, None)
    if inputs.dtype == torch.uint8:
        inputs = inputs.float() / 255
    return inputs if labels is None else (inputs, labels)


def _load_file(path: Path) -> Any:
    arrays = read_arrays(path, f"{NEEDED}: plain arrays, by numpy.savez.", ("inputs", "labels"))
    return _checked(arrays, str(path))


def _is_ray(shard: Any) -> bool:
    return hasattr(shard, "iter_batches") and hasattr(shard, "context")


def _ray_batches(dataset: Any, batch_size: int) -> Iterator[Any]:
    """The batches of a Ray Dataset in the order of its rows, which Ray would change for the sake of speed."""
    options = dataset.context.execution_options
    order_was_preserved = options.preserve_order
    options.preserve_order = True
    try:
        for columns in dataset.iter_batches(batch_size=batch_size, batch_format="numpy"):
            yield _checked(columns, "the Ray Dataset")
    finally:
        options.preserve_order = order_was_preserved


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
            "Give whole numbers from 0, one per sample."
        )
    return _tensor(inputs), _tensor(check_labels(labels))


def _tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor, in this machine's byte order and in memory that may be written to."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


Result = TypeVar("Result")

PATIENCE = timedelta(days=365)  # for the slowest process; a process that dies is noticed at once
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessesError(RuntimeError):
    """Another process could not go on, so that some shards have no code space; the same call resumes."""


def code_space_of_shards(
    network: nn.Module,
    shards: Any,
    *,
    folder: str | Path,
    on_shard: Callable[[int, CodeSpace], object] | None = None,
    **options: Unpack[ReadingOptions],
) -> CodeSpace | None:
    """The code space of data in shards, its samples in the order of the shards; None in every process but the first.

    ``shards`` are a folder of .npz files in the order of their names, with ``inputs`` as the network takes them (uint8
    is scaled to 0 .. 1) and ``labels``, if known; a Ray Dataset with these columns, which is one shard; or a list of
    files, Ray Datasets and data for `code_space`. The options are those of `Reading`.

    Each process that torchrun has started, or that belongs to an initialised process group, records its share of the
    shards, and only indexes a lazy list at these; a single process records all. A shard's code space is written to
    ``folder``, which all processes must see, as soon as it is complete. The same call, with any number of processes,
    resumes with the missing shards. The first process merges them.

    The result does not depend on the number of processes. It is that of one pass over all data if every shard except
    the last is a whole number of batches, as `cut_into_shards` makes them; otherwise the batches differ, and with them
    perhaps bits within rounding of 0. Memory grows with the occupied cells, and holds one whole file. ``on_shard`` is
    called with the number and the code space of each shard that this process has recorded or found in ``folder``.

    Raises InputError if ``folder`` holds shards of other data, weights or settings (``forward`` is not compared), and
    if the processes do not agree on them; ProcessesError if another process could not go on.
    """
    recorder = _Recorder(network, options)
    with _all_processes() as processes:
        prepared = processes.together(lambda: recorder.prepare(shards, Path(folder)))
        for number, settings in enumerate(prepared):
            different = _differences(settings, prepared[0])
            if different:
                raise InputError(
                    f"process {number} differs from process 0: {different}. "
                    "Give all the same shards and settings, and weights from one file or of one seed."
                )
        mine = range(processes.rank, len(recorder.shards), processes.world)
        shares = processes.together(lambda: {number: recorder.record(number, on_shard) for number in mine})
        if processes.rank:
            return None
        digests = {number: digest for share in shares for number, digest in share.items()}
        return merge_code_spaces(recorder.stored(number, digests[number]) for number in sorted(digests))


class _Recorder:
    """Records shards in a folder, and reads those that are recorded."""

    def __init__(self, network: nn.Module, options: ReadingOptions) -> None:
        self.network = unwrapped(network)
        self.options = options
        self.reading, _ = read_options(options)

    def prepare(self, shards: Any, folder: Path) -> dict[str, Any]:
        """The settings, which must be equal in all processes."""
        self.shards = list_shards(shards)
        self.folder = folder
        if isinstance(shards, str | Path) and folder.resolve() in (
            Path(shards).resolve(),
            Path(shards).parent.resolve(),
        ):
            raise InputError(f"{folder} holds the shards themselves. Name another folder for their code spaces.")
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = {
            "network": type(self.network).__name__,
            **self.reading.decisive,
            "torch": torch.__version__,
            "batch_size": self.reading.batch_size,
            "weights": _weights_digest(self.network),
        }
        return self.settings | {"shards": len(self.shards)}

    def record(self, number: int, on_shard: Callable[[int, CodeSpace], object] | None) -> str:
        """Makes sure that the folder holds the shard's code space; returns the SHA-256 of the shard's data."""
        file, batches = self._file(number), ShardBatches(self.shards[number], self.reading.batch_size)
        try:
            if file.exists():
                data = batches.read()
                space = self.stored(number, data)
            else:
                space = code_space(self.network, batches, **self.options)
                data = batches.digest()
                shard = {"batch_size": self.settings["batch_size"], "weights": self.settings["weights"], "data": data}
                save_code_space(replace(space, settings={**space.settings, "shard": shard}), file)
        except InputError as error:
            raise type(error)(f"shard {number}: {error}") from error
        if on_shard:
            on_shard(number, space)
        return data

    def stored(self, number: int, data: str) -> CodeSpace:
        """The code space of a shard in the folder, refused if it is of other data or settings."""
        file = self._file(number)
        if not file.exists():
            raise InputError(f"{file} was recorded, but is not visible here. Name a folder that all processes see.")
        space = load_code_space(file)
        settings = dict(space.settings)
        shard = settings.pop("shard", {})
        different = _differences({**settings, **shard}, self.settings | {"data": data})
        if different:
            raise InputError(f"{file} does not fit: {different}. Name another folder, or delete the file.")
        return replace(space, settings=settings)

    def _file(self, number: int) -> Path:
        return self.folder / f"shard-{number:06}.npz"


def _differences(settings: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The settings that are not as expected, as a part of a sentence; empty if there are none."""
    return ", ".join(
        f"other {name}" if name in ("data", "weights") else f"{name} {settings.get(name)!r} and not {value!r}"
        for name, value in expected.items()
        if settings.get(name) != value
    )


def _weights_digest(network: nn.Module) -> str:
    """A SHA-256 of the modules, of every weight and buffer, and of the numbers and texts among their attributes."""
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", repr(network)).encode())
    digest.update(repr(plain_settings(network)).encode())
    for name, value in {**network.state_dict(), **dict(network.named_buffers())}.items():
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Processes:
    """The processes that share the work: this one's number, how many there are, and their group."""

    rank: int = 0
    world: int = 1
    group: Any = None

    def together(self, step: Callable[[], Result]) -> list[Result]:
        """What ``step`` returns in each process. If it raises in one, it raises in all, after all have finished."""
        if self.world == 1:
            return [step()]
        result, failed = None, None
        try:
            result = step()
        except Exception as error:
            failed = error
        results: list[Any] = [None] * self.world
        mine = (result, failed and f"{type(failed).__name__}: {failed}")
        try:
            distributed.all_gather_object(results, mine, group=self.group)
        except RuntimeError as error:
            raise failed or ProcessesError(f"a process ended before all had finished ({error})") from error
        if failed:
            raise failed
        for number, (_, message) in enumerate(results):
            if message:
                raise ProcessesError(f"process {number} could not go on ({message})")
        return [result for result, _ in results]


@contextmanager
def _all_processes() -> Iterator[_Processes]:
    """All processes of the initialised group, or those that torchrun has started; otherwise only this one.

    Codes are exchanged through files, messages through gloo whatever the group's backend: no device is involved.
    """
    if not distributed.is_available():
        yield _Processes()
        return
    own = not distributed.is_initialized() and all(os.environ.get(name) for name in TORCHRUN)
    if own:  # keys of its own in torchrun's store, apart from others' and from an earlier call's
        store, rank, world = next(distributed.rendezvous("env://"))
        call = store.add(f"nas-relucode/calls/{rank}", 1)
        store = distributed.PrefixStore(f"nas-relucode/call/{call}", store)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=PATIENCE)
    elif not distributed.is_initialized() or distributed.get_world_size() == 1:
        yield _Processes()
        return
    group = None if own else distributed.new_group(backend="gloo", timeout=PATIENCE)
    try:
        yield _Processes(distributed.get_rank(), distributed.get_world_size(), group)
    finally:
        distributed.destroy_process_group(group)
