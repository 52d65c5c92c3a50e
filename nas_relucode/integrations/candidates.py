"""An objective for other frameworks' studies: parameters in, a flat dict of numbers out."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

from nas_relucode.errors import InputError, NonFiniteError, unknown
from nas_relucode.indices.registry import INDICES
from nas_relucode.study.objective import Objective
from nas_relucode.study.record import QUALITIES, record_of
from nas_relucode.study.search_space import Interval, SearchSpace

PARAMETERS = ("head", "learning_rate", "seed")
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
    objective: Objective,
    params: Mapping[str, Any],
    *,
    report: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Trains and scores the candidate with these parameters; returns its results as one flat dict of numbers.

    ``params`` are ``head``, ``learning_rate`` and, if the objective has several, ``seed``. The dict holds the
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
    result = flat(record["curve"][-1]) | flat(record, OF_A_TRIAL)
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
    if directions is not None:
        if len(directions) != len(names):
            raise InputError(f"there are {len(directions)} directions for {len(names)} objectives. Give one for each.")
        for direction in directions:
            if direction not in ("maximize", "minimize"):
                raise unknown("direction", direction, ["maximize", "minimize"])
        return list(directions)
    preferred: dict[str, str | None] = dict(zip(QUALITIES, ("maximize", "minimize"), strict=True))
    for name in names:
        if name not in preferred:
            index = name.rpartition(":")[2]
            if index not in INDICES:
                raise unknown("objective", name, [*QUALITIES, *INDICES, "LAYER:INDEX"])
            preferred[name] = INDICES[index].direction
        if preferred[name] is None:
            raise InputError(f"{name} has no preferred direction. Give directions, one for each objective.")
    return [str(preferred[name]) for name in names]


def parameter_values(space: SearchSpace, seeds: Sequence[int] = (0,)) -> dict[str, list[Any] | Interval]:
    """Each parameter's values, in the order of `SearchSpace.suggest`: a list of them, or the interval.

    >>> parameter_values(SearchSpace(heads=("8",), learning_rates=Interval(0.01, 0.1)), seeds=[0, 1])
    {'head': ['8'], 'learning_rate': Interval(low=0.01, high=0.1), 'seed': [0, 1]}
    """
    rates = space.learning_rates
    values: dict[str, list[Any] | Interval] = {
        "head": list(space.head_list),
        "learning_rate": rates if isinstance(rates, Interval) else list(rates),
    }
    return values | ({"seed": list(seeds)} if len(seeds) > 1 else {})


def _checked(objective: Objective, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as the objective's own values; some frameworks pass numpy scalars or strings."""
    for name in params:
        if name not in PARAMETERS:
            raise unknown("parameter", name, PARAMETERS)
    checked = {"seed": objective.seeds[0], **params}
    allowed = parameter_values(objective.space) | {"seed": objective.seeds}
    types: dict[str, Callable[[Any], Any]] = {"head": str, "learning_rate": float, "seed": int}
    for name, values in allowed.items():
        if name not in checked:
            raise InputError(f"there is no parameter {name!r} in {sorted(params)}. Give head and learning_rate.")
        try:
            value = types[name](checked[name])
            if name == "seed" and value != float(checked[name]):
                raise ValueError(f"{checked[name]!r} is not a whole number")
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} {checked[name]!r} is not a {types[name].__name__}.") from error
        is_allowed = values.low <= value <= values.high if isinstance(values, Interval) else value in values
        if not is_allowed:
            raise InputError(f"{name} {value!r} is not in the objective's search space: {values}.")
        checked[name] = value
    return checked


def _reporting(objective: Objective, report: Callable[[dict[str, float]], None]) -> Callable[..., None]:
    """An ``on_epoch`` that calls the objective's own, then reports every epoch of the training except the last."""

    def on_epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        if objective.on_epoch:
            objective.on_epoch(number, epoch, point)
        if 0 < epoch.number < objective.recipe.epochs:
            report(flat(point))

    return on_epoch
