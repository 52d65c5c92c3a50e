"""What is injected: files with other bytes, plain values and arrays of which one is another, and small file systems."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import random
import subprocess
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**70, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "1", "accuracy", "\0", "\ud800", "<b>", "9" * 5000),
    *([], [1], ["a"], [[["a"]]], [{}], {}, {"": 1}, {"1": "y"}, {"samples": 2**62}, {"a": [None]}),
]
TOKENS = [
    *(b"", b"[", b"]", b"{", b'"', b"'", b"=", b"\n", b"#", b"-", b"9" * 400, b"9" * 5000, b"[" * 600, b"nan", b"inf"),
    *(b"1e999", b"true", b"2**62", b"4611686018427387904", b"1979-05-27", b"\x00", b"\xff\xfe", "é".encode(), b"0x"),
]


def damaged(rng: random.Random, content: bytes) -> bytes:
    """The content with a few bytes changed, left out, doubled or replaced by tokens."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at, size = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 8, 64])
        change = rng.randrange(6)
        if change == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1 and at < len(data):
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif change == 2:
            del data[at : at + size]
        elif change == 3:
            data[at:at] = data[at : at + size]
        elif change == 4:
            data[at : at + rng.choice([0, size])] = rng.choice(TOKENS)
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def mutated(rng: random.Random, value: Any) -> Any:
    """A copy of plain values, in which one is another, is missing, or is new."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 2, 3])):
        containers = list(_containers(changed))
        container = rng.choice(containers)
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        new = copy.deepcopy(rng.choice([*VALUES, value]))  # what is drawn is changed in its turn
        if not keys or rng.random() < 0.1:
            if isinstance(container, dict):
                container[rng.choice(["", "x", "1", "accuracy", "head", "seed"])] = new
            else:
                container.append(new)
        elif rng.random() < 0.15:
            del container[rng.choice(keys)]
        else:
            container[rng.choice(keys)] = new
    return changed


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for item in list(value.values() if isinstance(value, dict) else value)[:50]:
            yield from _containers(item)


def npz(arrays: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def forged(rng: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """A sound .npz file in which an array has another type, shape or values, is missing, or is no array."""
    arrays = dict(arrays)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    change = rng.randrange(7)
    if change == 0:
        del arrays[name]
    elif change == 1:
        with contextlib.suppress(ValueError, TypeError):
            arrays[name] = array.astype(rng.choice(["f2", "f8", "i1", "i8", "u8", "c16", "U3", "M8[s]", "m8[s]", "?"]))
    elif change == 2:
        arrays[name] = array[..., None] if rng.random() < 0.5 else array.reshape(-1)[: rng.randrange(array.size + 1)]
    elif change == 3 and array.dtype.kind in "fiu" and array.size:
        arrays[name] = array.copy()
        arrays[name].reshape(-1)[rng.randrange(array.size)] = rng.choice([0, 1, 2, 100])
    elif change == 4:
        arrays[name] = np.asarray(rng.choice([0, -1, 2**62, math.nan, math.inf, "text", [], [[]]]))
    elif change == 5:
        with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
            for other, kept in arrays.items():
                np.save(member := io.BytesIO(), kept)
                text = damaged(rng, member.getvalue()) if other == name else member.getvalue()
                archive.writestr(f"{other}.npy", text)
        return stream.getvalue()
    else:
        return damaged(rng, npz(arrays))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return npz(arrays)


@contextlib.contextmanager
def file_system(folder: Path, size: int) -> Iterator[None]:
    """A tmpfs of so many bytes at an empty folder. Raises OSError where none can be mounted."""
    try:
        mount(folder, f"size={size}", "tmpfs")
    except subprocess.CalledProcessError as error:
        raise OSError(f"no small file system can be mounted here: {error.stderr.strip()}") from error
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(folder: Path, options: str, *source: str) -> None:
    """Mounts a tmpfs with these options, or mounts it again with other ones."""
    command = ["mount", "-t", "tmpfs", "-o", options, *source, str(folder)]
    subprocess.run(command, capture_output=True, text=True, check=True)
