"""Syne Tune: an objective's search space, and its values through a Reporter, once per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas_relucode.integrations.candidates import are_numbers, directions_of, needed, run_candidate
from nas_relucode.study.candidates import SEED
from nas_relucode.study.objective import Objective
from nas_relucode.study.search_space import SearchSpace


def syne_tune_space(space: SearchSpace, *, seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """The ``config_space`` of a scheduler: choices, of numbers in their order, and intervals."""
    spaces = needed("syne_tune.config_space", extra="syne-tune")
    return {
        name: spaces.choice(list(seeds)) if name == SEED else _domain(spaces, distribution)
        for name, distribution in space.distributions(seeds).items()
    }


def _domain(spaces: Any, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        choices: list[Any] = list(distribution.choices)
        if len(choices) > 1 and are_numbers(choices):
            return spaces.ordinal(sorted(choices), kind="equal")
        return spaces.choice(choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    whole = isinstance(distribution, IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None and not (whole and step == 1):
        return spaces.finrange(low, high, round((high - low) / step) + 1, cast_int=whole)
    if whole:
        return spaces.lograndint(low, high) if distribution.log else spaces.randint(low, high)
    return spaces.loguniform(low, high) if distribution.log else spaces.uniform(low, high)


def syne_tune_costs(objectives: Sequence[str]) -> list[str]:
    """The ``metrics`` of a scheduler that minimises all of them, as Syne Tune's for several objectives do.

    >>> syne_tune_costs(["accuracy", "cell_count"])
    ['cost:accuracy', 'cost:cell_count']
    """
    return [f"cost:{name}" for name in objectives]


def syne_tune_report(
    objective: Objective,
    config: Mapping[str, Any],
    *,
    directions: Sequence[str] | None = None,
    every_epoch: bool = False,
    reporter: Any = None,
) -> dict[str, float]:
    """Runs the candidate in a worker of Syne Tune and reports its results; returns those of `run_candidate`.

    Each objective is also reported as ``cost:NAME``, negated if it is maximised, because schedulers have one direction
    for all. ``directions`` are as in Optuna, or None for those of the indices.

    There is one report at the end. With ``every_epoch`` there is one for each epoch (``epoch`` 1, 2, ... is the
    resource for schedulers that stop trials early); the scheduler's objective must then be on the curve. ``reporter``
    is a `syne_tune.Reporter`, or None for a new one, which writes to standard output, where Syne Tune reads it. Raises
    NonFiniteError if `Objective` would prune the trial: the worker ends with an error, and Syne Tune counts the trial
    as failed.
    """
    signs = {"maximize": -1.0, "minimize": 1.0}
    ways = directions_of(objective.objectives, directions)
    send = needed("syne_tune", extra="syne-tune").Reporter() if reporter is None else reporter

    def report(values: dict[str, float]) -> None:
        pairs = zip(objective.objectives, ways, strict=True)
        costs = {f"cost:{name}": signs[way] * values[name] for name, way in pairs if name in values}
        send(**(values | costs | {"epoch": int(values["epoch"])}))

    if every_epoch:
        return run_candidate(objective, config, report=report)
    results = run_candidate(objective, config)
    report(results)
    return results
