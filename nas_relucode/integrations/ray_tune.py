"""Ray Tune: an objective as a trainable, its search space, and OptunaSearch over all its objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas_relucode.errors import InputError
from nas_relucode.integrations.candidates import directions_of, needed, run_candidate
from nas_relucode.study.objective import Objective
from nas_relucode.study.search_space import SearchSpace


def ray_space(space: SearchSpace, *, seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """The ``param_space`` of a `ray.tune.Tuner`: choices, and intervals, on a logarithmic scale where they are so."""
    tune = needed("ray.tune", extra="ray")
    return {name: _domain(tune, distribution) for name, distribution in space.distributions(seeds).items()}


def _domain(tune: Any, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return tune.choice(list(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if isinstance(distribution, FloatDistribution):
        if distribution.log:
            return tune.loguniform(low, high)
        return tune.uniform(low, high) if step is None else tune.quniform(low, high, step)
    if step is not None and step > 1:
        return tune.qrandint(low, high, step)  # includes high, as the two others do not
    return tune.lograndint(low, high + 1) if distribution.log else tune.randint(low, high + 1)


def ray_trainable(objective: Objective | Callable[[], Objective], *, every_epoch: bool = False) -> Any:
    """The trainable of a `ray.tune.Tuner`: it reports what `run_candidate` returns, under the same names.

    The objective, with its data, is put into Ray's object store once. Give a function that returns it to have it made
    on the worker, on the worker's device. ``every_epoch`` reports each epoch's point, for schedulers that stop trials
    early; the scheduler's objective must then be on the curve. A trial that `Objective` would prune ends with an error,
    which Ray reports to the search algorithm as a failure.
    """
    tune = needed("ray.tune", extra="ray")

    def train_candidate(config: dict[str, Any], objective: Any) -> None:
        own = objective if isinstance(objective, Objective) else objective()
        if every_epoch:
            run_candidate(own, config, report=tune.report)
        else:
            tune.report(run_candidate(own, config))

    return tune.with_parameters(train_candidate, objective=objective)


def ray_search(objectives: Sequence[str], directions: Sequence[str] | None = None, **settings: Any) -> Any:
    """A `ray.tune.search.optuna.OptunaSearch` over the objectives; ``directions`` as in Optuna.

    ``directions`` None stands for those of the indices. ``settings`` are OptunaSearch's, e.g. ``seed``, ``sampler``, or
    ``points_to_evaluate`` for given candidates.
    """
    if not objectives:
        raise InputError("objectives is empty. Name at least one, e.g. accuracy.")
    search = needed("ray.tune.search.optuna", extra="ray")
    modes = [direction[:3] for direction in directions_of(objectives, directions)]
    if len(objectives) == 1:
        return search.OptunaSearch(metric=objectives[0], mode=modes[0], **settings)
    return search.OptunaSearch(metric=list(objectives), mode=modes, **settings)
