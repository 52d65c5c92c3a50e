"""Ax: an objective's search space and goals for `ax.Client`, and its values as means with standard errors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.integrations.candidates import directions_of, needed, parameter_values, run_candidate
from nas_relucode.study.objective import Objective
from nas_relucode.study.search_space import Interval, SearchSpace


def ax_parameters(space: SearchSpace) -> list[Any]:
    """The ``parameters`` of `Client.configure_experiment`. Seeds are not parameters: they give the standard error."""
    api = needed("ax.api.configs", extra="ax")
    parameters = []
    for name, values in parameter_values(space).items():
        if isinstance(values, Interval):
            bounds = (values.low, values.high)
            parameters.append(api.RangeParameterConfig(name=name, bounds=bounds, parameter_type="float", scaling="log"))
        elif len(values) > 1:
            ordered = name == "learning_rate"
            type_name = "float" if ordered else "str"
            choice = api.ChoiceParameterConfig(name=name, values=values, parameter_type=type_name, is_ordered=ordered)
            parameters.append(choice)
    if not parameters:
        raise InputError("the search space has one candidate, which Ax cannot search. Give two heads, or two rates.")
    return parameters


def ax_goal(objectives: Sequence[str], directions: Sequence[str] | None = None) -> str:
    """The ``objective`` of `Client.configure_optimization`; ``directions`` None: those of the indices.

    >>> ax_goal(["accuracy", "head.1:cell_count"])
    'accuracy, -head.1:cell_count'
    """
    pairs = zip(objectives, directions_of(objectives, directions), strict=True)
    return ", ".join(f"-{name}" if direction == "minimize" else name for name, direction in pairs)


def ax_data(objective: Objective, parameters: Mapping[str, Any]) -> dict[str, float | tuple[float, float]]:
    """The ``raw_data`` of `Client.complete_trial`: each objective's mean over the seeds and its standard error.

    The candidate is trained with each of the objective's seeds. With a single seed the standard error is unknown: Ax
    gets only the value, and infers the error. Raises NonFiniteError if one of the trainings diverges.
    """
    constant = {name: values[0] for name, values in _lists(objective.space) if len(values) == 1}
    runs = [run_candidate(objective, {**constant, **parameters, "seed": seed}) for seed in objective.seeds]
    return {name: _mean_and_error([run[name] for run in runs]) for name in objective.objectives}


def complete_ax_trial(client: Any, trial_index: int, parameters: Mapping[str, Any], objective: Objective) -> Any:
    """Runs a trial of `Client.get_next_trials` and completes it; returns its data, or None if it failed.

    A trial is marked as failed, with the reason, if `Objective` would prune it.
    """
    try:
        data = ax_data(objective, parameters)
    except NonFiniteError as error:
        client.mark_trial_failed(trial_index=trial_index, failed_reason=str(error))
        return None
    client.complete_trial(trial_index=trial_index, raw_data=data)
    return data


def _lists(space: SearchSpace) -> list[tuple[str, list[Any]]]:
    return [(name, values) for name, values in parameter_values(space).items() if isinstance(values, list)]


def _mean_and_error(values: Sequence[float]) -> float | tuple[float, float]:
    if len(values) == 1:
        return values[0]
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
