"""The record of a trial, as Optuna then shows it, and those of earlier versions."""

from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hand_made import hand_made, study_of
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from nas_relucode.errors import InputError
from nas_relucode.ranking.selecting import select
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.objectives import best_accuracy
from nas_relucode.study.record import (
    ATTRIBUTE,
    Outcome,
    candidate_of,
    checked_record,
    objective_value,
    record_of,
    write_outcome,
)

CANDIDATE = Candidate({"head": "8", "learning_rate": 0.1})
VERSION_1 = {  # as 0.1.0 and earlier wrote it, in parts
    "objectives": ["accuracy", "cell_count"],
    "candidate": {"head": "8", "learning_rate": 0.1, "seed": 3},
    "parameters": 500,
    "validation_samples": 100,
    "seconds": 1.5,
    "accuracy": 0.9,
    "joint": {"cell_count": 10.0},
    "layers": {"head.1": {"cell_count": None}},
    "predictions": "the-id-of-an-artifact",
}


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"])


def test_the_record_is_one_attribute_and_the_values_are_the_objectives(study: optuna.Study):
    record = hand_made().user_attrs[ATTRIBUTE]
    trial = study.ask()
    values = write_outcome(trial, Outcome(CANDIDATE, record, (0.5, 3.0)))
    assert values == (0.5, 3.0)
    study.tell(trial, values)
    (kept,) = study.trials
    assert (kept.user_attrs[ATTRIBUTE], kept.values) == (record, [0.5, 3.0])


def test_optuna_treats_a_network_below_the_floor_as_infeasible(study: optuna.Study):
    for short_of in (-0.1, 0.0, 0.1):  # the last would be the best of them
        trial = study.ask()
        outcome = Outcome(
            CANDIDATE, hand_made().user_attrs[ATTRIBUTE], (short_of, -short_of), {"accuracy_floor": short_of}
        )
        study.tell(trial, write_outcome(trial, outcome))
    assert [trial.number for trial in study.best_trials] == [1]


def test_the_best_accuracy_is_read_without_the_rest_of_the_records():
    class Curve(list[Any]):
        """Points that nobody may look at: after each training all records would be read."""

        def __iter__(self) -> Any:
            raise AssertionError("the curve is read")

    accuracies = [0.5, 0.75, None, 0.25, 2, "high", True]  # of which no accuracy is above 1, a text or a truth
    records: list[Any] = [{"version": 2, "accuracy": accuracy, "curve": Curve([1])} for accuracy in accuracies]
    records += [VERSION_1 | {"accuracy": 0.6}, "no record", {}]
    trials = [
        optuna.trial.create_trial(values=[0.0, 0.0], user_attrs={ATTRIBUTE: record} if record else {})
        for record in records
    ]
    study = SimpleNamespace(get_trials=lambda **_: trials)
    assert best_accuracy(study) == 0.75  # type: ignore[arg-type]
    trials[1] = trials[0]
    assert best_accuracy(study) == 0.6  # type: ignore[arg-type]


def test_without_values_the_trial_is_to_be_pruned_and_says_why(study: optuna.Study):
    trial = study.ask()
    values = write_outcome(trial, Outcome(CANDIDATE, {"pruned": "the loss is NaN"}, None))
    assert isinstance(values, optuna.TrialPruned)
    assert str(values) == "the loss is NaN"
    study.tell(trial, state=TrialState.PRUNED)
    assert study.trials[0].user_attrs[ATTRIBUTE] == {"pruned": "the loss is NaN"}


def test_an_outcome_may_be_written_again_after_the_storage_was_lost(study: optuna.Study):
    outcome = Outcome(CANDIDATE, hand_made().user_attrs[ATTRIBUTE], (0.5, 3.0), {"accuracy_floor": -0.1})
    trial = study.ask()
    write_outcome(trial, outcome)
    with pytest.warns(UserWarning, match="constraint value is ignored"):
        values = write_outcome(trial, outcome)
    study.tell(trial, values)
    assert study.trials[0].state == TrialState.COMPLETE


def test_a_record_of_version_1_is_read_as_one_of_version_2_without_predictions():
    trial = hand_made()
    trial.user_attrs[ATTRIBUTE] = VERSION_1
    record = checked_record(trial, "old")
    assert candidate_of(record) == Candidate({"head": "8", "learning_rate": 0.1}, seed=3)
    assert record["qualities"] == {"parameters": 500, "seconds": 1.5}
    assert record["validation"] == {"samples": 100}
    values = {name: objective_value(record, name) for name in ("accuracy", "cell_count", "parameters")}
    assert values == {"accuracy": 0.9, "cell_count": 10.0, "parameters": 500.0}
    assert str(objective_value(record, "head.1:cell_count")) == "nan"
    assert record_of(trial) == record


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"version": 3}, "version 3.*reads 1 and 2"),
        ({"params": None}, "params"),
        ({"params": {"seed": 1}}, "params"),
        ({"seed": 0.5}, "seed"),
        ({"accuracy": 90}, "accuracy"),
        ({"validation": {"samples": 0}}, "validation"),
        ({"joint": [1]}, "joint"),
    ],
)
def test_a_record_that_cannot_be_ranked_is_an_error_that_names_the_trial_and_the_key(damage: Any, message: str):
    trial = hand_made()
    trial.user_attrs[ATTRIBUTE] = trial.user_attrs[ATTRIBUTE] | damage
    (stored,) = study_of([trial]).trials
    with pytest.raises(InputError, match=f"trial 0 of study 'mine'.*{message}"):
        checked_record(stored, "mine")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@given(st.sampled_from(sorted(hand_made().user_attrs[ATTRIBUTE])), ANY_JSON)
def test_any_value_of_any_key_is_ranked_or_refused_with_trial_and_key(key: str, value: Any):
    study = study_of([hand_made("8"), hand_made("16")])
    foreign = hand_made("4-4")
    foreign.user_attrs[ATTRIBUTE] = foreign.user_attrs[ATTRIBUTE] | {key: value}
    study.add_trial(foreign)
    try:
        select(study)
    except InputError as error:
        message = str(error)
    else:
        return
    assert key in message
    assert "trial 2" in message or "different" in message or "objectives" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("curve", [{"epoch": 0}]),
        ("saturated", {"joint": [["a"]]}),
        ("seed", 2**70),
        ("params", {"head": "8", "learning_rate": 10**400}),
        ("joint", {"cell_count": 10**400}),
        ("codes", {"last": "file"}),
        ("slices", [1]),
    ],
)
def test_what_a_report_could_not_use_is_refused_with_trial_and_key(key: str, value: Any):
    trial = hand_made()
    trial.user_attrs[ATTRIBUTE] = trial.user_attrs[ATTRIBUTE] | {key: value}
    with pytest.raises(InputError, match=rf"trial {trial.number} .*{key}"):
        checked_record(trial, "theirs")


def test_what_cannot_be_read_of_a_trial_without_a_result_is_left_out():
    trial = hand_made()
    trial.user_attrs[ATTRIBUTE] = {"failed": ["x"], "params": "x", "interrupted": "SIGTERM"}
    assert record_of(trial) == {"interrupted": "SIGTERM"}
