"""Writing files atomically: a file is complete or it does not exist."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Calls ``write`` with a temporary file beside ``path``, then renames it to ``path``, which is returned.

    If ``write`` raises, ``path`` is unchanged and the temporary file is removed. Temporary files that killed processes
    of this machine left for the same ``path`` are removed, too. Raises OSError that names ``path``.
    """
    prefix, suffix = f".{path.stem}-", f"-{platform.node()}{path.suffix}"
    temporary = path.with_name(f"{prefix}{os.getpid()}{suffix}")
    try:
        for leftover in path.parent.glob(f"{glob.escape(prefix)}*{glob.escape(suffix)}"):
            if _has_ended(leftover.name[len(prefix) : -len(suffix)]):
                leftover.unlink(missing_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk has no such file
            temporary.unlink()
    return path


def _has_ended(process: str) -> bool:
    """Whether ``process`` is the number of no running process; False where that cannot be determined."""
    if os.name != "posix" or not process.isdecimal():  # on Windows os.kill would end the process
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it belongs to another user
        pass
    return False
