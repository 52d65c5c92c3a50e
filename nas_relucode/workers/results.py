"""What a trial is told of its training; where it can not be told, a file keeps that until the storage is back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.study.predictions import from_bytes, to_bytes
from nas_relucode.study.record import Outcome, write_outcome
from nas_relucode.study.search_space import Candidate

VERSION = 1
FOLDER = "results"  # of a study's files


def ended(trial: optuna.Trial, outcome: Outcome, store: Any) -> FrozenTrial:
    """A trial as it will be when it has been told its outcome, for `Queue.tell`; its predictions are in the store then.

    A study in memory stands in for its own: there Optuna says how an outcome is written.
    """
    stand_in = _in_memory(trial.study.directions)
    asked = stand_in.ask()
    told = write_outcome(asked, outcome, store)
    if isinstance(told, optuna.TrialPruned):
        end = stand_in.tell(asked, state=TrialState.PRUNED)
    else:
        end = stand_in.tell(asked, told)
    end.number, end._trial_id, end.datetime_start = trial.number, trial._trial_id, trial.datetime_start
    end.params, end.distributions = trial.params, trial.distributions
    end.user_attrs = trial.user_attrs | end.user_attrs
    return end


def _in_memory(directions: list[optuna.study.StudyDirection]) -> optuna.Study:
    """A study for a moment, of which Optuna's log says nothing."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(directions=directions)
    finally:
        optuna.logging.set_verbosity(verbosity)


class SavedResults:
    """The files of results that wait to be handed in, one a candidate, in a study's folder."""

    def __init__(self, folder: Path, study: str, made: str) -> None:
        self.folder, self.study, self.made = folder / FOLDER, study, made

    def save(self, trial: int, outcome: Outcome) -> Path:
        """Writes the outcome of the trial with this number."""
        predictions = outcome.predictions
        content = {
            "version": VERSION,
            "study": self.study,
            "made": self.made,
            "trial": trial,
            "candidate": outcome.candidate.params,
            "found": outcome.record,
            "values": outcome.values,
            "constraints": dict(outcome.constraints),
            "predictions": None if predictions is None else base64.b64encode(to_bytes(predictions)).decode(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(outcome.candidate)
        return write_atomically(path, lambda file: file.write_text(json.dumps(content), "utf-8"))

    def all(self) -> dict[int, Outcome]:
        """The outcomes by the numbers of their trials."""
        read = [self._read(path) for path in sorted(self.folder.glob(f"{self.study}_*.json"))]
        return dict(item for item in read if item is not None)

    def of(self, candidate: Candidate) -> Outcome | None:
        """The outcome of a candidate, if there is one."""
        found = self._read(self._path(candidate))
        return None if found is None else found[1]

    def remove(self, candidate: Candidate) -> None:
        """Removes the file of a candidate whose trial has been told."""
        self._path(candidate).unlink(missing_ok=True)

    def _path(self, candidate: Candidate) -> Path:
        return self.folder / f"{self.study}_{candidate.name}.json"

    def _read(self, path: Path) -> tuple[int, Outcome] | None:
        """What `save` wrote; None if it is of other settings or another study of this name, or is no longer there."""
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["version"] != VERSION or (content["study"], content["made"]) != (self.study, self.made):
                return None
            values, predictions = content["values"], content["predictions"]
            outcome = Outcome(
                Candidate(**content["candidate"]),
                content["found"],
                None if values is None else tuple(float(value) for value in values),
                content["constraints"],
                None if predictions is None else from_bytes(base64.b64decode(predictions)),
            )
            return int(content["trial"]), outcome
        except FileNotFoundError:  # another worker of this folder has handed it in
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}). Delete it: its candidate is then trained again.") from error
