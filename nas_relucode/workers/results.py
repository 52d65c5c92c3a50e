"""Results that could not be written to the database, kept in files until it can be reached again."""

from __future__ import annotations

import json
from pathlib import Path

from nas_relucode.errors import InputError
from nas_relucode.files import read_text, write_atomically
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.record import Outcome

VERSION = 2
REMEDY = "Delete it; its candidate will be trained again."
FOLDER = "results"  # among a study's files


class SavedResults:
    """The saved results of a study, one file for each candidate, in a folder of the study's files.

    Files with another ``settings_digest`` belong to a study of the same name with other settings, and are not read.
    """

    def __init__(self, folder: Path, study: str, settings_digest: str) -> None:
        self.folder, self.study, self.settings_digest = folder / FOLDER, study, settings_digest

    def save(self, trial: int, outcome: Outcome) -> Path:
        """Writes the outcome of the trial with this number to a file, and returns its path."""
        content = {
            "version": VERSION,
            "study": self.study,
            "made": self.settings_digest,
            "trial": trial,
            "params": dict(outcome.candidate.params),
            "seed": outcome.candidate.seed,
            "record": outcome.record,
            "values": outcome.values,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(outcome.candidate)
        return write_atomically(path, lambda file: file.write_text(json.dumps(content), "utf-8"))

    def all(self) -> dict[int, Outcome]:
        """All saved outcomes by trial number."""
        results = [self._read(path) for path in sorted(self.folder.glob(f"{self.study}_*.json"))]
        return dict(result for result in results if result is not None)

    def find(self, candidate: Candidate) -> Outcome | None:
        """The saved outcome of a candidate; None if there is none."""
        result = self._read(self._path(candidate))
        return None if result is None else result[1]

    def remove(self, candidate: Candidate) -> None:
        """Removes the file of a candidate whose result is in the database."""
        self._path(candidate).unlink(missing_ok=True)

    def _path(self, candidate: Candidate) -> Path:
        return self.folder / f"{self.study}_{candidate.file_name}.json"

    def _read(self, path: Path) -> tuple[int, Outcome] | None:
        """The trial's number and its outcome; None if the file is of other settings or another study, or is gone."""
        try:
            text = read_text(path, REMEDY)
        except InputError:
            if path.exists():
                raise
            return None  # another worker that shares the folder has written the result and removed the file
        try:
            content = json.loads(text)
            if content["version"] != VERSION:
                return None
            if (content["study"], content["made"]) != (self.study, self.settings_digest):
                return None
            values = content["values"]
            outcome = Outcome(
                Candidate(content["params"], content["seed"]),
                content["record"],
                None if values is None else tuple(float(value) for value in values),
            )
            return int(content["trial"]), outcome
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}). {REMEDY}") from error
