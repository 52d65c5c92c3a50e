"""The record of a trial, as Optuna then shows it."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import FixedTrial, TrialState

from nas_relucode.study.predictions import Predictions, read_predictions
from nas_relucode.study.record import ATTRIBUTE, Outcome, write_outcome
from nas_relucode.study.search_space import Candidate

CANDIDATE = Candidate("8", 0.1, 0)
PREDICTIONS = Predictions.from_classes([0, 1, 1], [0, 1, 0])


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"])


@pytest.fixture
def store(tmp_path: Path) -> FileSystemArtifactStore:
    return FileSystemArtifactStore(tmp_path)


def test_the_record_is_one_attribute_and_the_values_are_the_objectives(study: optuna.Study):
    record = {"accuracy": 0.5, "joint": {"cell_count": 3.0}}
    trial = study.ask()
    values = write_outcome(trial, Outcome(CANDIDATE, record, (0.5, 3.0)), None)
    assert values == (0.5, 3.0)
    study.tell(trial, values)
    (kept,) = study.trials
    assert (kept.user_attrs, kept.values) == ({ATTRIBUTE: record}, [0.5, 3.0])


def test_optuna_treats_a_network_below_the_floor_as_infeasible(study: optuna.Study):
    for short_of in (-0.1, 0.0, 0.1):  # the last would be the best of them
        trial = study.ask()
        outcome = Outcome(CANDIDATE, {}, (short_of, -short_of), {"accuracy_floor": short_of})
        study.tell(trial, write_outcome(trial, outcome, None))
    assert [trial.number for trial in study.best_trials] == [1]


def test_without_values_the_trial_is_to_be_pruned_and_says_why(study: optuna.Study):
    trial = study.ask()
    values = write_outcome(trial, Outcome(CANDIDATE, {"pruned": "the loss is NaN"}, None), None)
    assert isinstance(values, optuna.TrialPruned)
    assert str(values) == "the loss is NaN"
    study.tell(trial, state=TrialState.PRUNED)
    assert study.trials[0].user_attrs == {ATTRIBUTE: {"pruned": "the loss is NaN"}}


def test_the_record_names_the_artifact_with_the_predictions(study: optuna.Study, store: FileSystemArtifactStore):
    trial, record = study.ask(), {"accuracy": 2 / 3}
    write_outcome(trial, Outcome(CANDIDATE, record, (0.5, 3.0), {}, PREDICTIONS), store)
    again = read_predictions(study.trials[0].user_attrs[ATTRIBUTE]["predictions"], store, "trial 0")
    assert (again.classes.tolist(), again.correct.tolist()) == ([0, 1, 1], [True, True, False])
    assert record == {"accuracy": 2 / 3}  # the outcome may be written into another trial yet


@pytest.mark.parametrize("kind", ["no store", "no predictions", "no study"])
def test_predictions_without_a_store_or_a_study_are_left_out(
    study: optuna.Study, store: FileSystemArtifactStore, tmp_path: Path, kind: str
):
    trial: Any = FixedTrial({}) if kind == "no study" else study.ask()
    predictions = None if kind == "no predictions" else PREDICTIONS
    write_outcome(trial, Outcome(CANDIDATE, {}, (0.5, 3.0), {}, predictions), None if kind == "no store" else store)
    assert trial.user_attrs == {ATTRIBUTE: {}}
    assert list(tmp_path.iterdir()) == []


def test_an_outcome_may_be_written_again_after_the_storage_was_lost(
    study: optuna.Study, store: FileSystemArtifactStore
):
    outcome = Outcome(CANDIDATE, {"accuracy": 0.5}, (0.5, 3.0), {"accuracy_floor": -0.1}, PREDICTIONS)
    trial = study.ask()
    write_outcome(trial, outcome, store)
    with pytest.warns(UserWarning, match="constraint value is ignored"):
        values = write_outcome(trial, outcome, store)
    study.tell(trial, values)
    (kept,) = study.trials
    assert kept.state == TrialState.COMPLETE
    assert read_predictions(kept.user_attrs[ATTRIBUTE]["predictions"], store, "trial 0").labels == PREDICTIONS.labels
