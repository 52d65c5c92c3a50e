"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """``write`` fills a temporary file beside ``path``, which then takes its place; nothing is left if it raises.

    What a process that was killed left behind of the same ``path`` is removed, if it ran on this machine.
    """
    before, after = f".{path.stem}-", f"-{platform.node()}{path.suffix}"
    temporary = path.with_name(f"{before}{os.getpid()}{after}")
    try:
        for left in path.parent.glob(f"{glob.escape(before)}*{glob.escape(after)}"):
            if _ended(left.name[len(before) : -len(after)]):
                left.unlink(missing_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk there is nothing to remove
            temporary.unlink()
    return path


def _ended(process: str) -> bool:
    """Whether no process has this number any more; False of what is no number, and where it cannot be asked."""
    if os.name != "posix" or not process.isdecimal():  # on Windows os.kill ends a process whatever the signal
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's
        pass
    return False
