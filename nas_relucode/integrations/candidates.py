"""An objective for other frameworks' studies: parameters in, a flat dict of numbers out."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from nas_relucode.errors import InputError, NonFiniteError, unknown
from nas_relucode.study.candidates import SEED
from nas_relucode.study.objective import Objective
from nas_relucode.study.objectives import read_objectives
from nas_relucode.study.record import record_of
from nas_relucode.study.search_space import SearchSpace, own_value, parameter_value

OF_A_TRIAL = ("accuracy", "validation_loss", "train_accuracy", "parameters", "seconds")  # the test split is for reports


def needed(*modules: str, extra: str) -> Any:
    """The first of these modules that is installed.

    >>> needed("math", extra="numbers").pi > 3
    True
    >>> needed("no_such_module", extra="numbers")
    Traceback (most recent call last):
    nas_relucode.errors.InputError: no_such_module is not installed. Do: pip install 'nas-relucode[numbers]'
    """
    for module in modules:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            # A package that is installed, but lacks one of its own dependencies, raises its own error.
            if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
                raise
    raise InputError(f"{modules[0]} is not installed. Do: pip install 'nas-relucode[{extra}]'")


def run_candidate(
    objective: Objective, params: Mapping[str, Any], *, report: Callable[[dict[str, float]], None] | None = None
) -> dict[str, float]:
    """Trains and scores the candidate with these parameters; returns its results as one flat dict of numbers.

    ``params`` are those of the objective's search space and, if it has several, ``seed``. The dict holds the
    objectives under their own names, ``accuracy``, ``validation_loss``, ``train_accuracy``, ``parameters``,
    ``seconds``, ``epoch`` (the last one) and ``loss`` (of the training); every joint index as ``index``, those of a
    layer as ``layer:index``. Undefined and unknown values are left out, and so is the accuracy on the test split, which
    a search must not see. An accuracy floor has to be set in the framework.

    ``report`` is called after each epoch: with the flat point of the curve, and after the last one with the whole dict.

    Raises InputError for parameters that the objective does not have, and NonFiniteError with the reason if
    `Objective` would prune the trial: the training diverged, or an objective is undefined for the candidate.
    """
    trial = optuna.trial.FixedTrial(_checked(objective, params))
    if report is not None:
        on_epoch = _reporting(objective, report)
        objective = copy.copy(objective)
        objective.on_epoch = on_epoch
    try:
        objective(trial)
    except optuna.TrialPruned as pruned:
        raise NonFiniteError(f"{dict(params)}: {pruned}") from pruned
    record = record_of(trial)
    last = flat(record["curve"][-1]) if record["curve"] else {}
    result = last | flat(record | record["qualities"], OF_A_TRIAL)
    if report is not None:
        report(result)
    return result


def flat(record: Mapping[str, Any], names: Sequence[str] | None = None) -> dict[str, float]:
    """One dict of numbers from a trial's record, or from a point of its curve; None and infinite values are left out.

    ``names`` are the entries to take besides the indices; None takes all that are numbers.

    >>> flat({"epoch": 1, "joint": {"cell_count": 5.0}, "layers": {"head.1": {"cell_count": 2.0, "edge_count": None}}})
    {'epoch': 1.0, 'cell_count': 5.0, 'head.1:cell_count': 2.0}
    """
    chosen = record if names is None else names
    values = {name: record[name] for name in chosen if isinstance(record[name], int | float)}
    values |= record["joint"]
    for layer, indices in record["layers"].items():
        values |= {f"{layer}:{name}": value for name, value in indices.items()}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def directions_of(names: Sequence[str], directions: Sequence[str] | None = None) -> list[str]:
    """ "maximize" or "minimize" for each objective: the given ``directions``, or that of its index.

    >>> directions_of(["accuracy", "head.1:cell_count"])
    ['maximize', 'minimize']
    """
    if directions is None:
        return list(read_objectives(names).values())
    if len(directions) != len(names):
        raise InputError(f"there are {len(directions)} directions for {len(names)} objectives. Give one for each.")
    return list(read_objectives(zip(names, directions, strict=True)).values())


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers, which have an order.

    >>> are_numbers([1, 0.5]), are_numbers([True, False]), are_numbers(["8"])
    (True, False, False)
    """
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def space_of(objective: Objective) -> SearchSpace:
    """The objective's search space. Raises InputError if it has none, because its user builds the networks."""
    if objective.space is None:
        raise InputError(
            "the objective's networks come from build, which suggests parameters to Optuna only. Give it a search "
            "space and a factory."
        )
    return objective.space


def _checked(objective: Objective, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as the objective's own values; some frameworks pass numpy scalars or strings."""
    allowed = space_of(objective).parameters | {SEED: CategoricalDistribution(objective.seeds)}
    for name in params:
        if name not in allowed:
            raise unknown("parameter", name, allowed)
    given = {SEED: objective.seeds[0], **params}
    missing = [name for name in allowed if name not in given]
    if missing:
        raise InputError(f"there is no parameter {missing[0]!r} in {sorted(params)}. Give {', '.join(allowed)}.")
    return {name: _own(name, given[name], distribution) for name, distribution in allowed.items()}


def _own(name: str, value: Any, distribution: BaseDistribution) -> Any:
    value = value.item() if hasattr(value, "item") else value
    with contextlib.suppress(ValueError, TypeError):
        return own_value(distribution, value)
    try:
        return own_value(distribution, parameter_value(name, str(value), distribution))
    except ValueError as error:
        raise InputError(f"{name} {value!r} is not in the objective's search space: {distribution}.") from error


def _reporting(objective: Objective, report: Callable[[dict[str, float]], None]) -> Callable[..., None]:
    """An ``on_epoch`` that calls the objective's own, then reports every epoch of the training except the last."""

    def on_epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        if objective.on_epoch:
            objective.on_epoch(number, epoch, point)
        if 0 < epoch.number < objective.recipe.epochs:
            report(flat(point))

    return on_epoch
