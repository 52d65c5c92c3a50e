"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """``write`` fills a temporary file beside ``path``, which then takes its place; nothing is left if it raises."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk there is nothing to remove
            temporary.unlink()
    return path
