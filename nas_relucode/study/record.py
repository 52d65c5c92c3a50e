"""What came of a candidate, kept apart from its trial: a trial may be told later, and by another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from nas_relucode.study.search_space import Candidate

if TYPE_CHECKING:
    from nas_relucode.study.predictions import Predictions

ATTRIBUTE = "relucode"  # the one user attribute that holds everything found in a trial


@dataclass(frozen=True)
class Outcome:
    """The end of one training: values, or in ``found`` the reason why there are none."""

    candidate: Candidate
    found: dict[str, Any]  # plain values: the trial's attribute
    values: tuple[float, ...] | None  # of the objectives; None where the trial is to be pruned
    constraints: Mapping[str, float] = field(default_factory=dict)  # feasible up to 0
    predictions: Predictions | None = None


def write_outcome(trial: BaseTrial, outcome: Outcome, store: Any) -> tuple[float, ...] | optuna.TrialPruned:
    """Writes an outcome into its trial and returns the values to tell, or the exception that prunes the trial.

    ``store`` is the artifact store for the predictions, which only a trial of a study has; None keeps none.
    """
    found = dict(outcome.found)
    if outcome.predictions is not None and store is not None and isinstance(trial, optuna.Trial):
        from nas_relucode.study.predictions import upload_predictions  # imports torch, which `status` can do without

        found["predictions"] = upload_predictions(outcome.predictions, trial, store)
    trial.set_user_attr(ATTRIBUTE, found)
    for name, value in outcome.constraints.items():
        trial.set_constraint(name, value)
    return optuna.TrialPruned(found["pruned"]) if outcome.values is None else outcome.values


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials that carry our attribute, by their numbers."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return [trial for trial in trials if ATTRIBUTE in trial.user_attrs]


def network_label(row: Any) -> str:
    """How a network is called in tables and figures: its head and its learning rate.

    >>> network_label({"head": "8-4", "learning_rate": 0.01})
    '8-4 @ 0.01'
    """
    return Candidate(row["head"], row["learning_rate"]).label
