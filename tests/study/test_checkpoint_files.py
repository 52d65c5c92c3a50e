"""Checkpoints in a folder that several workers share, and their copies in a store."""

import threading
from pathlib import Path

import torch
from optuna.artifacts import FileSystemArtifactStore

from nas_relucode.study.checkpoint_files import CheckpointFiles

SETTINGS = {"head": "8"}


def save(files: CheckpointFiles, name: str, value: float) -> None:
    files.save(name, {"weight": torch.tensor([value])}, settings=SETTINGS, results=[value])


def loaded(files: CheckpointFiles, name: str) -> float | None:
    checkpoint = files.load(name, SETTINGS)
    return None if checkpoint is None else checkpoint[0]["weight"].item()


def stored(folder: Path, store: Path) -> CheckpointFiles:
    store.mkdir(exist_ok=True)
    return CheckpointFiles(folder, FileSystemArtifactStore(store))


def test_a_worker_may_remove_the_shared_folder_while_others_write(tmp_path: Path):
    errors: list[Exception] = []

    def train(name: str) -> None:
        files = CheckpointFiles(tmp_path / "checkpoints")
        try:
            for step in range(150):
                save(files, name, step)
                assert loaded(files, name) == step
                files.remove(name, SETTINGS)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=train, args=(f"worker {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not (tmp_path / "checkpoints").exists()


def test_another_machine_continues_from_the_copy_in_the_store(tmp_path: Path):
    here, there = (stored(tmp_path / folder, tmp_path / "store") for folder in ("here", "there"))
    save(here, "candidate", 1.0)
    assert loaded(there, "candidate") == 1.0
    there.remove("candidate", SETTINGS)
    assert loaded(stored(tmp_path / "third", tmp_path / "store"), "candidate") is None


def test_a_truncated_copy_is_ignored(tmp_path: Path):
    save(stored(tmp_path / "here", tmp_path / "store"), "candidate", 1.0)
    (copy,) = (tmp_path / "store").iterdir()
    copy.write_bytes(copy.read_bytes()[:-5])
    assert loaded(stored(tmp_path / "there", tmp_path / "store"), "candidate") is None
