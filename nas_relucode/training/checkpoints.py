"""Checkpoints: the state of a training on disk, so that a run that was interrupted goes on at its last epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically

MAGIC = b"nas-relucode checkpoint 2\n"
# Then a line: the SHA-256 of the head from here on, the SHA-256 of the body, the body's bytes; a line of JSON: what it
# was made with; the body, which torch.save wrote.
LINE = 64 + 1 + 64 + 1 + 20 + 1
REMEDY = "Delete it to start anew, or name another file."


def save_checkpoint(path: Path, state: Mapping[str, Any], *, made: Mapping[str, Any], found: Any) -> Path:
    """Writes ``state`` (see `Epoch.state`), the settings it was ``made`` with, and what was ``found`` so far.

    ``state`` and ``found`` hold tensors and plain values only, ``made`` plain values, under names. The file is there
    whole or not at all, and takes the place of an earlier checkpoint of the same settings. Raises InputError, and
    leaves the file alone, where ``path`` holds anything else: a checkpoint of other settings, one that was cut short,
    a foreign file. Of the earlier checkpoint the head alone is read, so that one altered behind it is replaced.
    """
    path = Path(path)
    settings = _json(made)
    content = {"state": _plain(state, "state"), "found": _plain(found, "found")}
    if path.exists():
        with _opened(path) as file:
            _check_made(path, _read_head(path, file)[0], json.loads(settings))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(MAGIC + bytes(LINE) + settings)
            body = _Hashed(file)
            torch.save(content, body)
            rest = f"{body.digest.hexdigest()} {body.size:020}\n".encode()
            file.seek(len(MAGIC))
            file.write(hashlib.sha256(rest + settings).hexdigest().encode() + b" " + rest)

    return write_atomically(path, write)


def load_checkpoint(path: Path, *, made: Mapping[str, Any]) -> tuple[dict[str, Any], Any] | None:
    """The state and what was found, tensors on the CPU; None where there is no file.

    Nothing in the file is run (``weights_only``), and its SHA-256 is checked first. Raises InputError for a checkpoint
    that was ``made`` with other settings, saying which; for one that was cut short or altered; for a foreign file.
    """
    path = Path(path)
    if not path.exists():
        return None
    with _opened(path) as file:
        before, digest = _read_head(path, file)
        _check_made(path, before, json.loads(_json(made)))
        start = file.tell()
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise InputError(f"{path} was cut short or altered since it was written. {REMEDY}")
        file.seek(start)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # what pickle and zipfile raise for a file that was made up is beyond counting
            raise InputError(f"{path} holds more than tensors and plain values ({error}). {REMEDY}") from error
    if not isinstance(content, dict) or set(content) != {"state", "found"}:
        raise InputError(f"{path} is no checkpoint of a training. {REMEDY}")
    return content["state"], content["found"]


class _Hashed:
    """A file to write to that knows the SHA-256 and the number of bytes of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, part: bytes) -> int:
        self.digest.update(part)
        self.size += len(part)
        return self.file.write(part)

    def flush(self) -> None:
        self.file.flush()


def _opened(path: Path) -> BufferedReader:
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file.")
    return path.open("rb")


def _read_head(path: Path, file: BinaryIO) -> tuple[dict[str, Any], str]:
    """What the checkpoint was made with, and the SHA-256 that its body should have, at which ``file`` is then."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC and magic[:-2] == MAGIC[:-2]:
        raise InputError(f"{path} is no checkpoint of this version of nas-relucode. {REMEDY}")
    if magic != MAGIC:
        raise InputError(f"{path} is {'cut short' if MAGIC.startswith(magic) else 'no checkpoint'}. {REMEDY}")
    line, settings = file.read(LINE), file.readline()
    known, _, rest = line.partition(b" ")
    if hashlib.sha256(rest + settings).hexdigest().encode() != known:
        raise InputError(f"{path} was cut short or altered since it was written. {REMEDY}")
    digest, size = rest.split()
    if path.stat().st_size != file.tell() + int(size):
        raise InputError(f"{path} was cut short or altered since it was written. {REMEDY}")
    return json.loads(settings), digest.decode()


def _json(made: Mapping[str, Any]) -> bytes:
    """The settings as a line, so that they compare alike before and after reading."""
    try:
        return json.dumps(_plain(made, "made")).encode() + b"\n"
    except TypeError as error:
        raise InputError(f"made cannot be written as JSON ({error}). Give numbers, text, lists, dicts.") from error


def _check_made(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    absent = "nothing"
    other = [
        f"{name} was {before.get(name, absent)!r} and is {now.get(name, absent)!r}"
        for name in sorted({*before, *now}, key=str)
        if before.get(name, absent) != now.get(name, absent)
    ]
    if other:
        raise InputError(
            f"{path} is a checkpoint of other settings: {'; '.join(other)}. "
            "Give the settings that it was made with, or name another file."
        )


def _plain(value: Any, where: str) -> Any:
    """Tuples as lists, as JSON has them, so that settings compare alike after reading; other things are refused."""
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}.{place}") for place, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor):
        return value
    raise InputError(
        f"{where} is a {type(value).__name__}, which no checkpoint holds. Give tensors, numbers, text, lists, dicts."
    )
