"""Ax: an objective's search space and goals for `ax.Client`, and its values as means with standard errors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.integrations.candidates import are_numbers, directions_of, needed, run_candidate, space_of
from nas_relucode.study.objective import Objective
from nas_relucode.study.search_space import SearchSpace, only_value


def ax_parameters(space: SearchSpace) -> list[Any]:
    """The ``parameters`` of `Client.configure_experiment`. Seeds are not parameters: they give the standard error."""
    api = needed("ax.api.configs", extra="ax")
    parameters = [_parameter(api, name, d) for name, d in space.parameters.items() if not d.single()]
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
    space = space_of(objective).parameters
    constant = {name: only_value(distribution) for name, distribution in space.items() if distribution.single()}
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


def _parameter(api: Any, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        values = list(distribution.choices)
        types = {type(value).__name__ for value in values}
        if len(types) > 1 or not types <= {"str", "int", "float", "bool"}:
            raise InputError(f"{name} has choices of the types {', '.join(sorted(types))}. Ax needs a single one.")
        (type_name,) = types
        return api.ChoiceParameterConfig(
            name=name, values=values, parameter_type=type_name, is_ordered=are_numbers(values)
        )
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    whole = isinstance(distribution, IntDistribution)
    step = None if distribution.step is None or (whole and distribution.step == 1) else float(distribution.step)
    return api.RangeParameterConfig(
        name=name,
        bounds=(distribution.low, distribution.high),
        parameter_type="int" if whole else "float",
        step_size=step,
        scaling="log" if distribution.log else "linear",
    )


def _mean_and_error(values: Sequence[float]) -> float | tuple[float, float]:
    if len(values) == 1:
        return values[0]
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
