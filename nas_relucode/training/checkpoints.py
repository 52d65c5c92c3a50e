"""Checkpoints: the state of a training on disk, so that an interrupted run resumes after its last epoch."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from nas_relucode.errors import InputError, a_type
from nas_relucode.files import check_file, write_atomically

MAGIC = b"nas-relucode checkpoint 2\n"
# The file goes on with a line: the SHA-256 of the head from here on, the SHA-256 of the body, the body's size in bytes;
# then a line of JSON: the settings; then the body as torch.save writes it: {"state": ..., "found": results}.
LINE_LENGTH = 64 + 1 + 64 + 1 + 20 + 1
REMEDY = "Delete it to start anew, or name another file."


def save_checkpoint(path: Path, state: Mapping[str, Any], *, settings: Mapping[str, Any], results: Any) -> Path:
    """Writes the state of a training (see `Epoch.state`), the settings it was started with and its results so far.

    ``state`` and ``results`` hold tensors and plain values only, ``settings`` plain values by name. The file is
    written whole or not at all, and replaces an earlier checkpoint of the same settings. Raises InputError, and leaves
    the file as it is, if ``path`` holds anything else: a checkpoint of other settings, a truncated one, a foreign file.
    Only the head of the earlier checkpoint is read, so one whose body was altered is replaced.
    """
    path = Path(path)
    settings_line = _json_line(settings)
    content = {"state": _plain(state, "state"), "found": _plain(results, "results")}
    if path.exists():
        with _opened(path) as file:
            _check_settings(path, _read_head(path, file)[0], json.loads(settings_line))

    body = saved_bytes(content)
    rest = f"{hashlib.sha256(body).hexdigest()} {len(body):020}\n".encode()
    head = hashlib.sha256(rest + settings_line).hexdigest().encode() + b" " + rest + settings_line

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(MAGIC + head)
            file.write(body)

    return write_atomically(path, write)


def write_tensors(path: Path, content: Any) -> Path:
    """Writes what `torch.save` would write, whole or not at all; the file's path."""
    body = saved_bytes(content)
    return write_atomically(path, lambda temporary: temporary.write_bytes(body))


def saved_bytes(content: Any) -> bytes:
    """What `torch.save` writes, in memory: on a full disk it raises a RuntimeError that says nothing of the disk."""
    body = io.BytesIO()
    torch.save(content, body)
    return body.getvalue()


def load_checkpoint(path: Path, *, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Any] | None:
    """The state and the results that `save_checkpoint` wrote, tensors on the CPU; None if there is no file.

    No code in the file is run (``weights_only``), and its SHA-256 is checked first. Raises InputError for a checkpoint
    of other settings, naming the differences; for a truncated or altered one; for a foreign file.
    """
    path = Path(path)
    if not path.exists():
        return None
    with _opened(path) as file:
        stored_settings, digest = _read_head(path, file)
        _check_settings(path, stored_settings, json.loads(_json_line(settings)))
        start = file.tell()
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise InputError(f"{path} was cut short or altered since it was written. {REMEDY}")
        file.seek(start)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a forged file can make pickle and zipfile raise almost anything
            raise InputError(f"{path} holds more than tensors and plain values ({error}). {REMEDY}") from error
    if not isinstance(content, dict) or set(content) != {"state", "found"}:
        raise InputError(f"{path} is not a checkpoint of a training. {REMEDY}")
    return content["state"], content["found"]


def _opened(path: Path) -> BufferedReader:
    return check_file(path, "Name a file.").open("rb")


def _read_head(path: Path, file: BinaryIO) -> tuple[dict[str, Any], str]:
    """The stored settings and the SHA-256 that the body should have; leaves ``file`` at the body."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC and magic[:-2] == MAGIC[:-2]:
        raise InputError(f"{path} is a checkpoint of another version of nas-relucode. {REMEDY}")
    if magic != MAGIC:
        raise InputError(f"{path} is {'cut short' if MAGIC.startswith(magic) else 'not a checkpoint'}. {REMEDY}")
    line, settings_line = file.read(LINE_LENGTH), file.readline()
    head_digest, _, rest = line.partition(b" ")
    if hashlib.sha256(rest + settings_line).hexdigest().encode() != head_digest:
        raise InputError(f"{path} was cut short or altered since it was written. {REMEDY}")
    body_digest, body_size = rest.split()
    if path.stat().st_size != file.tell() + int(body_size):
        raise InputError(f"{path} was cut short or altered since it was written. {REMEDY}")
    return json.loads(settings_line), body_digest.decode()


def _json_line(settings: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(_plain(settings, "settings")).encode() + b"\n"
    except TypeError as error:
        raise InputError(f"settings cannot be written as JSON ({error}). Give numbers, text, lists, dicts.") from error


def _check_settings(path: Path, stored: dict[str, Any], current: dict[str, Any]) -> None:
    absent = "nothing"
    differences = [
        f"{name} was {stored.get(name, absent)!r} and is {current.get(name, absent)!r}"
        for name in sorted({*stored, *current}, key=str)
        if stored.get(name, absent) != current.get(name, absent)
    ]
    if differences:
        raise InputError(
            f"{path} is a checkpoint of other settings: {'; '.join(differences)}. "
            "Give the settings that it was made with, or name another file."
        )


def _plain(value: Any, where: str) -> Any:
    """The value with tuples as lists and NumPy's numbers as Python's, as they are after reading.

    Raises InputError for anything that a checkpoint cannot hold.
    """
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}.{number}") for number, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor):
        return value
    raise InputError(
        f"{where} is {a_type(value)}, which a checkpoint cannot hold. Give tensors, numbers, text, lists, dicts."
    )
