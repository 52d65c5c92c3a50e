"""What a trial keeps: one user attribute, written and read here.

The record of a complete trial is a dict of plain values for JSON:

    candidate, objectives         the parameters with the seed; the names of the trial's values, in their order
    accuracy, validation_loss     on the validation split; accuracy is None for an autoencoder
    train_accuracy, test_accuracy the test split is for reports only; None without one
    joint, layers, saturated      what `Score.as_dict` gives: the indices of all chosen layers, and of each
    split, samples                of which samples the codes are
    curve                         one point per epoch, from `CodeCurve`; epoch 0 is before the training
    parameters, validation_samples, device, seconds (of the training only)
    codes                         epoch -> file of the code space kept after it
    slices                        files of the pictures of cells, if any were drawn
    predictions                   the id of the artifact with the validation predictions, if they are kept

A trial without a result has the reason instead: ``pruned`` (beside what was known until then), ``failed`` or
``interrupted``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from nas_relucode.study.search_space import Candidate

if TYPE_CHECKING:
    from nas_relucode.study.predictions import Predictions

ATTRIBUTE = "relucode"  # the user attribute that holds the record
QUALITIES = ("accuracy", "validation_loss")  # objectives that are not indices


@dataclass(frozen=True)
class Outcome:
    """How a training ended, apart from its trial, to which it may be written later and by another process."""

    candidate: Candidate
    record: dict[str, Any]  # without the predictions; with the reason if there are no values
    values: tuple[float, ...] | None  # of the objectives; None if the trial is to be pruned
    constraints: Mapping[str, float] = field(default_factory=dict)  # feasible up to 0
    predictions: Predictions | None = None


def write_outcome(trial: BaseTrial, outcome: Outcome, store: Any) -> tuple[float, ...] | optuna.TrialPruned:
    """Writes an outcome into its trial and returns the values to tell, or the exception that prunes the trial.

    ``store`` is the artifact store for the predictions, which only a trial of a study has; None keeps none.
    """
    record = dict(outcome.record)
    if outcome.predictions is not None and store is not None and isinstance(trial, optuna.Trial):
        from nas_relucode.study.predictions import upload_predictions  # imports torch, which `status` can do without

        record["predictions"] = upload_predictions(outcome.predictions, trial, store)
    trial.set_user_attr(ATTRIBUTE, record)
    for name, value in outcome.constraints.items():
        trial.set_constraint(name, value)
    return optuna.TrialPruned(record["pruned"]) if outcome.values is None else outcome.values


def write_failed(trial: optuna.Trial, error: BaseException) -> None:
    """Keeps the reason of a failure, as text that any file can hold: a path in it need not be UTF-8."""
    reason = f"{type(error).__name__}: {error}"[:1000].encode("utf-8", "backslashreplace").decode()
    trial.set_user_attr(ATTRIBUTE, {"failed": reason})


def write_interrupted(trial: optuna.Trial, reason: str) -> None:
    """Keeps the reason why a trial was stopped before its end."""
    trial.set_user_attr(ATTRIBUTE, {"interrupted": reason})


def record_of(trial: BaseTrial | FrozenTrial) -> dict[str, Any]:
    """The record of a trial; empty if it has none."""
    record: dict[str, Any] = trial.user_attrs.get(ATTRIBUTE, {})
    return record


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials that have a record, by their numbers."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return [trial for trial in trials if ATTRIBUTE in trial.user_attrs]


def objective_value(record: Mapping[str, Any], name: str) -> float:
    """The value of an objective in a record; NaN if it is undefined.

    >>> objective_value({"layers": {"head.1": {"cell_count": 5.0}}}, "head.1:cell_count")
    5.0
    """
    layer, _, index = name.rpartition(":")
    values = record if name in QUALITIES else record["layers"][layer] if layer else record["joint"]
    return math.nan if values[index] is None else float(values[index])


def network_label(row: Any) -> str:
    """How a network is called in tables and figures: its head and its learning rate.

    >>> network_label({"head": "8-4", "learning_rate": 0.01})
    '8-4 @ 0.01'
    """
    return Candidate(row["head"], row["learning_rate"]).label
