"""A trained network's prediction for each validation sample, kept as an artifact of its Optuna trial."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from torch import nn, no_grad

from nas_relucode.codes.network_state import untouched
from nas_relucode.errors import InputError
from nas_relucode.training.data import Split

VERSION = 1
FILE = "predictions.npz"  # the artifact's name in Optuna's dashboard
FOLDER = "artifacts"  # among a study's files
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Predictions:
    """The predicted class of each sample, and whether it is correct.

    >>> predictions = Predictions.from_classes([0, 2, 1], [0, 2, 2])
    >>> predictions.classes.dtype, predictions.correct.tolist()
    (dtype('uint8'), [True, True, False])
    """

    classes: np.ndarray  # (samples,), of the smallest unsigned integer type that holds them
    correct: np.ndarray  # bool, (samples,)
    labels: str  # SHA-256 of the labels in their order: only networks with the same digest can be compared

    @classmethod
    def from_classes(cls, classes: Any, labels: Any) -> Predictions:
        """From predicted class numbers and labels, both (samples,). Raises InputError for other shapes or values."""
        classes, labels = np.asarray(classes), np.asarray(labels)
        if classes.shape != labels.shape or classes.ndim != 1:
            raise InputError(
                f"predictions have shape {classes.shape} and labels {labels.shape}. Give both as (samples,)."
            )
        if len(classes) and (classes.dtype.kind not in "iu" or classes.min() < 0):
            raise InputError(
                f"predictions are {classes.dtype} numbers from {classes.min()}, but must be class numbers, integers "
                "from 0. Give the argmax of the outputs."
            )
        smallest = np.min_scalar_type(int(classes.max(initial=0)))
        digest = hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
        return cls(classes.astype(smallest), classes == labels, digest)

    def __len__(self) -> int:
        return len(self.classes)


def predict(network: nn.Module, data: Split, *, batch_size: int = 512) -> Predictions:
    """The predictions of ``network`` in evaluation mode; its state is restored. Raises InputError without labels."""
    if data.labels is None:
        raise InputError("the split has no labels to compare predictions with. Give a split with labels.")
    with untouched(network), no_grad():
        classes = [network(inputs).argmax(dim=1).cpu().numpy() for inputs in data.inputs.split(batch_size)]
    return Predictions.from_classes(np.concatenate(classes), data.labels.cpu().numpy())


def file_store(folder: str | Path) -> FileSystemArtifactStore:
    """The artifact store among a study's files: ``folder/artifacts``, created if it is missing."""
    path = Path(folder, FOLDER)
    path.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(path)


def upload_predictions(predictions: Predictions, trial: optuna.Trial, store: Any) -> str:
    """Uploads the predictions as an artifact of a running trial and returns the artifact's id.

    ``store`` is any artifact store of Optuna: FileSystemArtifactStore (of a folder that exists), Boto3ArtifactStore ...
    A prediction takes 9 bits before compression if there are at most 256 classes. `select` reads the artifact by its
    id, which is stored under ``predictions`` in the trial's attribute.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE)
        path.write_bytes(to_bytes(predictions))
        return upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=trial)


def read_predictions(artifact: str, store: Any, where: str) -> Predictions:
    """The predictions in an artifact. Raises InputError, naming the trial by ``where``, if it is missing or damaged."""
    try:
        with store.open_reader(artifact) as reader:
            content = reader.read()
    except ArtifactNotFound as error:
        raise InputError(
            f"the predictions of {where}, artifact {artifact}, are not in this store. "
            "Give the store that the study was run with, or no store to compare by accuracies."
        ) from error
    try:
        return from_bytes(content)
    except InputError as error:
        raise InputError(f"the predictions of {where}, artifact {artifact}: {error}") from error


def to_bytes(predictions: Predictions) -> bytes:
    """The bytes of an .npz file without pickles."""
    header = json.dumps({"version": VERSION, "samples": len(predictions), "labels": predictions.labels})
    file = io.BytesIO()
    np.savez_compressed(
        file,
        header=np.frombuffer(header.encode(), np.uint8),
        classes=predictions.classes,
        correct=np.packbits(predictions.correct),
    )
    return file.getvalue()


def from_bytes(content: bytes) -> Predictions:
    """The predictions in the bytes from `to_bytes`. Raises InputError for damaged ones (an .npz has checksums)."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            classes, bits = file["classes"], file["correct"]
            header = json.loads(file["header"].tobytes())
        version, samples, labels = header["version"], header["samples"], str(header["labels"])
        consistent = classes.dtype.kind == "u" and classes.shape == (samples,) and bits.shape == ((samples + 7) // 8,)
        correct = np.unpackbits(bits, count=samples).astype(bool)
    except UNREADABLE as error:
        raise InputError("the file is damaged or holds no predictions. Run the trial again.") from error
    if version != VERSION or not consistent:
        raise InputError(
            f"the file has version {version} (this reads {VERSION}), or arrays that do not fit. Run the trial again."
        )
    return Predictions(classes, correct, labels)
