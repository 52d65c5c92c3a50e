"""Reads .npz files of plain arrays; every way in which a file can be foreign or damaged is one InputError."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nas_relucode.errors import InputError
from nas_relucode.files import check_file


def read_arrays(path: str | Path, needed: str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, read without pickle: all, or those of ``names`` that there are.

    ``needed`` says in errors what the file should hold. Every member of the file is opened, so that one with a damaged
    name is noticed although nobody asks for it.
    """
    with _members(path, needed) as (archive, members):
        return {name: _array(archive, info) for name, info in members.items() if names is None or name in names}


def array_names(path: str | Path, needed: str) -> list[str]:
    """The names of the arrays of an .npz file, see `read_arrays`."""
    with _members(path, needed) as (_, members):
        return list(members)


@contextlib.contextmanager
def _members(path: str | Path, needed: str) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An .npz file and its members by the names of the arrays; whatever is raised meanwhile becomes an InputError."""
    path = check_file(path, needed)
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            _check_end(stream, len(archive.infolist()))
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for info in members.values():
                archive.open(info).close()
            yield archive, members
    except InputError as error:
        raise InputError(f"{path} cannot be read: it {error} {needed}") from error
    except Exception as error:  # numpy and zipfile raise almost anything for damaged and foreign files
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{path} cannot be read: it is damaged, or not an .npz file of plain arrays ({reason}). {needed}"
        ) from error


def _check_end(stream: BinaryIO, members: int) -> None:
    """Raises InputError if the file's last record counts other members than its directory holds."""
    stream.seek(-22, os.SEEK_END)  # numpy writes no comment behind it
    end = stream.read()
    if not end.startswith(b"PK\5\6") or int.from_bytes(end[10:12], "little") != members:
        raise InputError("is damaged at its end.")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        shape, _, dtype = getattr(np.lib.format, f"read_array_header_{version[0]}_0")(member)
        size = member.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.hasobject:
        raise InputError(f"holds Python objects in {info.filename!r}, which are not read.")
    if size != info.file_size:  # before memory is taken for a size that nobody has checked
        raise InputError(f"is damaged: {info.filename!r} has {info.file_size} bytes, but says that it has {size}.")
    with archive.open(info) as member:
        array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # to the end, where the checksum is compared
        return array
