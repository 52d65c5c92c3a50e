"""An objective where another framework has the study: parameters in, a flat dict of numbers out."""

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
            # What is installed, but lacks something itself, says so in its own words.
            if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
                raise
    raise InputError(f"{modules[0]} is not installed. Do: pip install 'nas-relucode[{extra}]'")


def run_candidate(
    objective: Objective,
    params: Mapping[str, Any],
    *,
    report: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Trains and scores the candidate that ``params`` names: what `Objective` finds, as one flat dict of numbers.

    ``params`` are ``head``, ``learning_rate`` and, if the objective has several, ``seed``. In the dict are the
    objectives under their own names, ``accuracy``, ``validation_loss``, ``train_accuracy``, ``parameters``,
    ``seconds``, ``epoch`` (the last) and ``loss`` (of the training); every joint index as ``index``, every layer's as
    ``layer:index``. What is undefined or unknown is left out. So is the accuracy on the test split, which no search
    may see; an accuracy floor is the framework's to set.

    ``report`` is told each epoch's point of the curve, also flat, and after the last epoch the whole dict: as many
    reports as epochs.

    Raises InputError for parameters that the objective does not have, and NonFiniteError with the reason where
    `Objective` would prune the trial: the training diverged, or an objective is undefined for the candidate.
    """
    trial = optuna.trial.FixedTrial(_checked(objective, params))
    told = objective
    if report is not None:
        told = copy.copy(objective)
        told.on_epoch = _chained(objective, report)
    try:
        told(trial)
    except optuna.TrialPruned as pruned:
        raise NonFiniteError(f"{dict(params)}: {pruned}") from pruned
    found = record_of(trial)
    result = flat(found["curve"][-1]) | flat(found, OF_A_TRIAL)
    if report is not None:
        report(result)
    return result


def flat(found: Mapping[str, Any], names: Sequence[str] | None = None) -> dict[str, float]:
    """One dict of numbers from what a trial found, or from a point of its curve; what is None is left out.

    ``names`` are the plain entries to take, None for all that are numbers.

    >>> flat({"epoch": 1, "joint": {"cell_count": 5.0}, "layers": {"head.1": {"cell_count": 2.0, "edge_count": None}}})
    {'epoch': 1.0, 'cell_count': 5.0, 'head.1:cell_count': 2.0}
    """
    chosen = found if names is None else names
    values = {name: found[name] for name in chosen if isinstance(found[name], int | float)}
    values |= found["joint"]
    for layer, indices in found["layers"].items():
        values |= {f"{layer}:{name}": value for name, value in indices.items()}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def directions_of(names: Sequence[str], given: Sequence[str] | None = None) -> list[str]:
    """ "maximize" or "minimize" for each objective: as ``given``, else as its index says.

    >>> directions_of(["accuracy", "head.1:cell_count"])
    ['maximize', 'minimize']
    """
    if given is not None:
        if len(given) != len(names):
            raise InputError(f"there are {len(given)} directions for {len(names)} objectives. Give one for each.")
        for direction in given:
            if direction not in ("maximize", "minimize"):
                raise unknown("direction", direction, ["maximize", "minimize"])
        return list(given)
    found: dict[str, str | None] = dict(zip(QUALITIES, ("maximize", "minimize"), strict=True))
    for name in names:
        if name not in found:
            index = name.rpartition(":")[2]
            if index not in INDICES:
                raise unknown("objective", name, [*QUALITIES, *INDICES, "LAYER:INDEX"])
            found[name] = INDICES[index].direction
        if found[name] is None:
            raise InputError(f"there is no reason to prefer a large or a small {name}. Give directions, one for each.")
    return [str(found[name]) for name in names]


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
    """The parameters as the objective's own values; frameworks hand some over as numpy's, or as text."""
    for name in params:
        if name not in PARAMETERS:
            raise unknown("parameter", name, PARAMETERS)
    found = {"seed": objective.seeds[0], **params}
    known = parameter_values(objective.space) | {"seed": objective.seeds}
    kinds: dict[str, Callable[[Any], Any]] = {"head": str, "learning_rate": float, "seed": int}
    for name, values in known.items():
        if name not in found:
            raise InputError(f"there is no parameter {name!r} in {sorted(params)}. Give head and learning_rate.")
        try:
            value = kinds[name](found[name])
            if name == "seed" and value != float(found[name]):
                raise ValueError(f"{found[name]!r} is no whole number")
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} {found[name]!r} is not a {kinds[name].__name__}.") from error
        inside = values.low <= value <= values.high if isinstance(values, Interval) else value in values
        if not inside:
            raise InputError(f"{name} {value!r} is not in the objective's search space: {values}.")
        found[name] = value
    return found


def _chained(objective: Objective, report: Callable[[dict[str, float]], None]) -> Callable[..., None]:
    """An ``on_epoch`` that tells the objective's own one and reports every epoch of the training but the last."""

    def on_epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        if objective.on_epoch:
            objective.on_epoch(number, epoch, point)
        if 0 < epoch.number < objective.recipe.epochs:
            report(flat(point))

    return on_epoch
