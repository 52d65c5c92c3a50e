"""Code spaces on disk: an .npz without pickles, whole or not at all, refused where it was cut short or altered."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nas_relucode.cells.cells import Cells
from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.codes.codes import Codes, Layer
from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically

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
