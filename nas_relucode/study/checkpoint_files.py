"""The checkpoints of a study's candidates: files in its folder, with copies in an artifact store for other machines."""

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
from nas_relucode.study.artifact_stores import StoreUnavailableError
from nas_relucode.training.checkpoints import load_checkpoint, save_checkpoint

ATTEMPTS = 10


class CheckpointFiles:
    """One checkpoint for each training, by name, in ``folder``, with a copy in ``store``, an artifact store.

    Without a store, workers can only continue each other's trainings if they share the folder. ``settings`` are
    those that a checkpoint was made with.
    """

    def __init__(self, folder: Path, store: Any = None) -> None:
        self.folder, self.store = folder, store

    def load(self, name: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Any] | None:
        """The training's state and its results so far, as from `load_checkpoint`; None if there is no checkpoint."""
        path = self._path(name)
        fetched = not path.exists() and self._fetch(path, _key(name, settings))
        try:
            return load_checkpoint(path, settings=settings)
        except InputError:
            if not fetched:  # a copy may have been cut short by a dying worker: then the training starts anew
                raise
            path.unlink()
            return None

    def save(self, name: str, state: Mapping[str, Any], *, settings: Mapping[str, Any], results: Any) -> None:
        """Writes a checkpoint over the last one; the copy is skipped while the store is unavailable."""
        path = self._path(name)
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                save_checkpoint(path, state, settings=settings, results=results)
                break
            except (FileNotFoundError, FileExistsError):  # another worker removed the folder, which was empty
                if not attempts_left:
                    raise
        if self.store is not None:
            with contextlib.suppress(StoreUnavailableError), path.open("rb") as file:
                self.store.write(_key(name, settings), file)

    def remove(self, name: str, settings: Mapping[str, Any]) -> None:
        """Removes the checkpoint of a finished training and, if it was the last one, the folder."""
        self._path(name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder has other checkpoints
            self.folder.rmdir()
        if self.store is not None:
            with contextlib.suppress(ArtifactNotFound, StoreUnavailableError):
                self.store.remove(_key(name, settings))

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


def _key(name: str, settings: Mapping[str, Any]) -> str:
    return f"checkpoint-{name}-{digest(settings)}"


def digest(settings: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of a hash of the settings that a file was made with."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
