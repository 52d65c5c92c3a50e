"""Files: one is written whole or not at all, and read only if it is a regular file of a size that can be right."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nas_relucode.errors import InputError
from nas_relucode.processes import TOKEN, is_alive, machine

_numbers = itertools.count()  # of the temporary files of this process
LARGEST_TEXT = 16 * 2**20  # bytes of a file of settings or of a trial's result


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Calls ``write`` with a temporary file beside ``path``, then renames it to ``path``, which is returned.

    If ``write`` raises, ``path`` is unchanged and the temporary file is removed. Temporary files that killed processes
    of this machine left for the same ``path`` are removed, too. Raises OSError that names ``path``.
    """
    write_together({path: write})
    return path


def write_together(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """`write_atomically` of several files: none is renamed before all are written, so that an error leaves all."""
    temporaries: dict[Path, Path] = {}
    try:
        for path, write in writers.items():
            with _named(path):
                temporaries[path] = _temporary(path)
                write(temporaries[path])
        for path, temporary in temporaries.items():
            with _named(path):
                temporary.replace(path)
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):  # a read-only disk has no such file
                temporary.unlink()


def _temporary(path: Path) -> Path:
    """The name of a temporary file that nobody else writes, also no other thread.

    Removes those that processes of this machine left when they were killed.
    """
    place = hashlib.sha256(machine().encode()).hexdigest()[:12]
    prefix, suffix = f".{path.stem}-", f"-{place}{path.suffix}"
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*{glob.escape(suffix)}"):
        owner = re.fullmatch(r"(\d+)\.(\w+)\.\d+", leftover.name[len(prefix) : -len(suffix)])
        if owner and not is_alive(int(owner[1]), owner[2]):
            leftover.unlink(missing_ok=True)
    return path.with_name(f"{prefix}{os.getpid()}.{TOKEN}.{next(_numbers)}{suffix}")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names ``path`` in an OSError, in the place of its temporary file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written ({error.strerror or error})") from error


def check_ending(path: Path, ending: str) -> Path:
    """The path of a file to be written. Raises InputError if its name does not end in ``ending``, e.g. .pt."""
    if path.suffix != ending:
        if path.name in ("", ending):
            raise InputError(f"{str(path)!r} has no name before {ending}. Name a file, e.g. name{ending}.")
        raise InputError(f"{path} does not end in {ending}. Give the file this ending, e.g. {path.stem}{ending}.")
    return path


def check_new(path: Path, ending: str) -> Path:
    """As `check_ending`; raises InputError also for a file that exists, or whose folder does not."""
    if check_ending(path, ending).exists():
        raise InputError(f"{path} exists already. Name a new file.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.parent}. Create it, or name another file.")
    return path


def check_folder(folder: Path) -> Path:
    """A folder that may be made or written to. Raises InputError if a file stands in its way."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, so nothing can be written to {folder}. Give another folder.")
    return folder


def check_file(path: str | Path, needed: str, most: int | None = None) -> Path:
    """The path of a regular file of at most ``most`` bytes. Raises InputError, ending in ``needed``, for anything else.

    A device or a pipe may have no end, and opening a pipe may wait for ever.
    """
    if not str(path):
        raise InputError(f"'' names no file. {needed}")
    path = Path(path)
    try:
        if not path.exists():
            raise InputError(f"{path} cannot be read: there is no such file. {needed}")
        if not path.is_file():
            raise InputError(f"{path} cannot be read: it is not a file. {needed}")
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # a name too long, or with a null character
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({error}). {needed}") from error
    if most is not None and size > most:
        raise InputError(f"{path} cannot be read: it has {size:,} bytes, more than {most:,}. {needed}")
    return path


def read_text(path: str | Path, needed: str, most: int = LARGEST_TEXT) -> str:
    """The text of a file in UTF-8, less the mark that some editors put first (a BOM).

    Raises InputError, ending in ``needed``, if it cannot be read.
    """
    try:
        return check_file(path, needed, most).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). {needed}") from error
