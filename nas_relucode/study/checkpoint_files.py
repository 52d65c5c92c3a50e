"""Where the checkpoints of a study's candidates lie: in its folder, and where others must find them in a store."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.artifacts.exceptions import ArtifactNotFound

from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.study.artifact_stores import StoreAwayError
from nas_relucode.training.checkpoints import load_checkpoint, save_checkpoint

TRIES = 10


class CheckpointFiles:
    """A checkpoint for each training by its name, in ``folder``; a copy in ``store``, one of Optuna's, if there is one.

    Without a store the folder itself has to be shared by those who may go on with a training.
    """

    def __init__(self, folder: Path, store: Any = None) -> None:
        self.folder, self.store = folder, store

    def load(self, name: str, made: Mapping[str, Any]) -> tuple[dict[str, Any], Any] | None:
        """The state of the training and what was found, as `load_checkpoint` has them; None where there is none."""
        path = self._path(name)
        fetched = not path.exists() and self._fetch(path, _key(name, made))
        try:
            return load_checkpoint(path, settings=made)
        except InputError:
            if not fetched:  # a copy that a dying worker cut short is no one's work: train anew
                raise
            path.unlink()
            return None

    def save(self, name: str, state: Mapping[str, Any], *, made: Mapping[str, Any], found: Any) -> None:
        """Writes a checkpoint in the place of the last one; its copy is left out while the store is away."""
        path = self._path(name)
        for tries_left in reversed(range(TRIES)):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                save_checkpoint(path, state, settings=made, results=found)
                break
            except (FileNotFoundError, FileExistsError):  # another worker found the folder empty, and removed it
                if not tries_left:
                    raise
        if self.store is not None:
            with contextlib.suppress(StoreAwayError), path.open("rb") as file:
                self.store.write(_key(name, made), file)

    def remove(self, name: str, made: Mapping[str, Any]) -> None:
        """Removes the checkpoint of a training that has come to its end, and the folder after the last."""
        self._path(name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others lie there
            self.folder.rmdir()
        if self.store is not None:
            with contextlib.suppress(ArtifactNotFound, StoreAwayError):
                self.store.remove(_key(name, made))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.pt"

    def _fetch(self, path: Path, key: str) -> bool:
        if self.store is None:
            return False
        try:
            with self.store.open_reader(key) as reader:
                content = io.BytesIO(reader.read())
        except ArtifactNotFound:
            return False

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                shutil.copyfileobj(content, file)

        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
        return True


def _key(name: str, made: Mapping[str, Any]) -> str:
    return f"checkpoint-{name}-{digest(made)}"


def digest(made: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that tell the settings apart by which a file was made."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:8]
