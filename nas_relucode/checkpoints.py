"""Checkpoints: the state of a training on disk, so that a run that was interrupted goes on at its last epoch."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically

MAGIC = b"nas-relucode checkpoint 1\n"  # then 64 hexadecimal digits, the SHA-256 of the rest, a line end, the rest


def save_checkpoint(path: Path, state: Mapping[str, Any], *, made: Mapping[str, Any], found: Any) -> Path:
    """Writes ``state`` (see `Epoch.state`), the settings it was ``made`` with, and what was ``found`` so far.

    All three hold tensors and plain values only. The file is there whole or not at all, and takes the place of an
    earlier checkpoint of the same settings. Raises InputError, and leaves the file alone, where ``path`` holds
    anything else: a checkpoint of other settings, one that was cut short or altered, a foreign file.
    """
    path = Path(path)
    if path.exists():
        _check_made(path, _read(path)["made"], _plain(made, "made"))
    content = {"made": _plain(made, "made"), "state": _plain(state, "state"), "found": _plain(found, "found")}
    stream = io.BytesIO()
    torch.save(content, stream)
    body = stream.getvalue()
    head = MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n"
    return write_atomically(path, lambda temporary: temporary.write_bytes(head + body))


def load_checkpoint(path: Path, *, made: Mapping[str, Any]) -> tuple[dict[str, Any], Any] | None:
    """The state and what was found, tensors on the CPU; None where there is no file.

    Nothing in the file is run (``weights_only``), and its SHA-256 is checked first. Raises InputError for a checkpoint
    that was ``made`` with other settings, saying which; for one that was cut short or altered; for a foreign file.
    """
    path = Path(path)
    if not path.exists():
        return None
    content = _read(path)
    _check_made(path, content["made"], _plain(made, "made"))
    return content["state"], content["found"]


def _read(path: Path) -> dict[str, Any]:
    remedy = "Delete it to start anew, or name another file."
    with contextlib.suppress(IsADirectoryError):
        data = path.read_bytes()
        if not data.startswith(MAGIC):
            part = MAGIC.startswith(data)
            raise InputError(f"{path} is {'cut short' if part else 'no checkpoint'}. {remedy}")
        digest, _, body = data[len(MAGIC) :].partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise InputError(f"{path} was cut short or altered since it was written. {remedy}")
        try:
            content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        except Exception as error:  # what pickle and zipfile raise for a file that was made up is beyond counting
            raise InputError(f"{path} holds more than tensors and plain values ({error}). {remedy}") from error
        if not isinstance(content, dict) or set(content) != {"made", "state", "found"}:
            raise InputError(f"{path} is no checkpoint of a training. {remedy}")
        return content
    raise InputError(f"{path} is a folder. Name a file.")


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
