"""Search spaces: the parameters of a study's networks, and the candidate that a trial suggests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from nas_relucode.errors import InputError, unknown
from nas_relucode.study.candidates import SEED, Candidate, check_seeds, value_text
from nas_relucode.study.storage import stored_table
from nas_relucode.toml_files import parse, read_toml
from nas_relucode.training.names import parse_head

LEARNING_RATE = "learning_rate"  # the parameter that is the recipe's, not the network's
MOST_LAYERS = 1000  # of a head
MOST_CANDIDATES = 100_000  # of a space that is searched completely
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


@dataclass(frozen=True)
class Interval:
    """All learning rates from low to high, drawn uniformly on a logarithmic scale."""

    low: float  # above 0
    high: float  # above low

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise InputError(f"the interval {self.low:g} .. {self.high:g} must satisfy 0 < low < high.")


@dataclass(frozen=True)
class HeadGrid:
    """All heads of the given depths with every layer as wide as one of ``widths``."""

    depths: tuple[int, ...]  # numbers of layers
    widths: tuple[int, ...]  # neurons that a layer may have

    def __post_init__(self) -> None:
        if not self.depths or not self.widths or min(*self.depths, *self.widths) < 1:
            raise InputError(
                f"depths {list(self.depths)} and widths {list(self.widths)} must hold at least one item, none below 1."
            )
        if max(self.depths) > MOST_LAYERS:
            raise InputError(f"depths {list(self.depths)} hold more than {MOST_LAYERS} layers. Give smaller depths.")
        if sum(len(self.widths) ** depth for depth in self.depths) > MOST_CANDIDATES:
            raise InputError(
                f"depths {list(self.depths)} and widths {list(self.widths)} give more than 100,000 heads. "
                "Give fewer widths or smaller depths."
            )

    def heads(self) -> tuple[str, ...]:
        """
        >>> HeadGrid(depths=(1, 2), widths=(8, 16)).heads()
        ('8', '16', '8-8', '8-16', '16-8', '16-16')
        """
        products = itertools.chain.from_iterable(itertools.product(self.widths, repeat=d) for d in self.depths)
        return tuple("-".join(map(str, widths)) for widths in products)


@dataclass(frozen=True)
class Range:
    """All numbers from low to high: whole ones if low, high and step are, and uniform on a logarithmic scale if log."""

    low: int | float  # the smallest value
    high: int | float  # the largest value
    step: int | float | None = None  # distance of the values; left out: 1 for whole numbers, else none
    log: bool = False  # uniform on a logarithmic scale


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of a study's networks, each with the values that it may have.

    ``parameters`` maps a name to a list of values (categorical), to a table such as ``{"low": 1, "high": 4}`` (see
    `Range`), or to one of Optuna's distributions, as which all of them are kept. ``heads`` and ``learning_rates`` are
    short for the parameters ``head`` and ``learning_rate``: two lists, or all heads of some depths and widths
    (`HeadGrid`) and an `Interval`.

    >>> space = SearchSpace(heads=("512", "256-256"), learning_rates=(0.1, 0.001))
    >>> space.size, len(space.candidates(seeds=[0, 1]))
    (4, 8)
    >>> SearchSpace(parameters={"depth": {"low": 1, "high": 4}}).parameters
    {'depth': IntDistribution(high=4, log=False, low=1, step=1)}
    """

    heads: tuple[str, ...] | HeadGrid | None = None  # widths joined by "-", or {depths = [1, 2], widths = [8, 16]}
    learning_rates: tuple[float, ...] | Interval | None = None  # a list, or {low = 0.001, high = 0.1}
    parameters: dict[str, Any] = field(default_factory=dict)  # name = [values] or {low, high, step, log}

    def __post_init__(self) -> None:
        given = _parameters_of(self.heads, self.learning_rates)
        for name in given:
            if name in self.parameters:
                raise InputError(f"the parameter {name} is given twice: as {name}s, and in parameters. Give it once.")
        given |= self.parameters
        if not given:
            raise InputError("the search space has no parameters. Give at least one, e.g. depth = [1, 2].")
        for name, value in {"heads": None, "learning_rates": None}.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "parameters", {name: _distribution(name, values) for name, values in given.items()})

    @property
    def size(self) -> int | None:
        """The number of networks; None if there is no end to them."""
        sizes = [_size(distribution) for distribution in self.parameters.values()]
        return None if None in sizes else math.prod(sizes)  # type: ignore[arg-type]

    def candidates(self, seeds: Sequence[int]) -> list[Candidate]:
        """Every candidate of a finite space, ordered by seed first: each network comes once before any is repeated."""
        self.check_countable()
        product = itertools.product(seeds, *map(_values, self.parameters.values()))
        return [Candidate(dict(zip(self.parameters, values, strict=True)), seed) for seed, *values in product]

    def check_countable(self) -> None:
        """Raises InputError if the networks cannot all be trained: there is no end to them, or more than 100,000."""
        endless = [name for name, distribution in self.parameters.items() if _size(distribution) is None]
        if endless:
            raise InputError(
                f"the search space is not finite: {', '.join(endless)} can be any number of an interval. Set trials in "
                "[search] to the number of candidates to draw."
            )
        if self.size is not None and self.size > MOST_CANDIDATES:
            raise InputError(
                f"the search space has {self.size:,} networks. Set trials in [search] to the number of candidates to "
                "draw."
            )

    def distributions(self, seeds: Sequence[int]) -> dict[str, BaseDistribution]:
        """The distribution from which `suggest` draws each parameter of a trial."""
        return self.parameters | ({SEED: CategoricalDistribution(list(seeds))} if len(seeds) > 1 else {})

    def suggest(self, trial: BaseTrial, seeds: Sequence[int], seed: int | None = None) -> Candidate:
        """The candidate of the parameters that the trial suggests; its seed is ``seed``, or one of ``seeds``."""
        params = {name: _suggest(trial, name, distribution) for name, distribution in self.parameters.items()}
        return Candidate(params, suggest_seed(trial, seeds) if seed is None else seed)

    def table(self) -> dict[str, Any]:
        """The space as a TOML file holds it, with all parameters in one form.

        >>> SearchSpace(heads=("8",), learning_rates=Interval(0.01, 0.1)).table()
        {'parameters': {'head': ['8'], 'learning_rate': {'low': 0.01, 'high': 0.1, 'log': True}}}
        """
        return {"parameters": {name: _table(distribution) for name, distribution in self.parameters.items()}}


def suggest_seed(trial: BaseTrial, seeds: Sequence[int]) -> int:
    """The seed of a trial: a parameter where there are several ``seeds``."""
    return int(trial.suggest_categorical(SEED, list(seeds))) if len(seeds) > 1 else seeds[0]


def only_value(distribution: BaseDistribution) -> Any:
    """The value of a distribution that has one."""
    (value,) = _values(distribution)
    return value


def own_value(distribution: BaseDistribution, value: Any) -> Any:
    """``value`` in the type of the distribution's own values; some frameworks pass NumPy's numbers or strings.

    Raises ValueError for a value that the distribution does not have.

    >>> own_value(CategoricalDistribution([0.1, 1.0]), 1), own_value(IntDistribution(1, 4), 2.0)
    (1.0, 2)
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[distribution.choices.index(value)]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    number, step = float(value), distribution.step
    is_on_grid = step is None or abs(math.remainder(number - distribution.low, step)) < 1e-8
    if not distribution.low <= number <= distribution.high or not is_on_grid:
        raise ValueError(f"{value!r} is not one of its values")
    return int(number) if isinstance(distribution, IntDistribution) else number


def parameter_value(name: str, text: str, distribution: BaseDistribution) -> Any:
    """The value of a parameter that is written as ``text``, in the type of the distribution's values.

    >>> parameter_value("skip", "true", CategoricalDistribution([True, False, None]))
    True
    """
    if isinstance(distribution, CategoricalDistribution):
        for value in distribution.choices:
            if text == value_text(value):
                return value
    types: set[type] = {int if isinstance(distribution, IntDistribution) else float}
    if isinstance(distribution, CategoricalDistribution):
        types = {type(value) for value in distribution.choices}
    for number_type in (int, float):
        if number_type in types:
            try:
                return number_type(text)
            except ValueError:
                pass
    if str in types:
        return text
    raise InputError(f"{name} {text!r} is not one of the parameter's values: {_table(distribution)}.")


def _parameters_of(heads: Any, learning_rates: Any) -> dict[str, Any]:
    """The brief forms of a space as values of parameters."""
    for name, values in {"heads": heads, LEARNING_RATE + "s": learning_rates}.items():
        if isinstance(values, str | int | float):
            raise InputError(f"{name} is {values!r}. Give a list, even of a single item.")
    parameters: dict[str, Any] = {}
    if heads is not None:
        parameters["head"] = list(heads.heads() if isinstance(heads, HeadGrid) else heads)
    if isinstance(learning_rates, Interval):
        parameters[LEARNING_RATE] = FloatDistribution(learning_rates.low, learning_rates.high, log=True)
    elif learning_rates is not None:
        parameters[LEARNING_RATE] = list(learning_rates)
    return parameters


def _distribution(name: str, values: Any) -> BaseDistribution:
    """Optuna's distribution for what is given as the values of a parameter. Raises InputError, naming the parameter."""
    if name == SEED:
        raise InputError("seed is not a parameter of a network. Give seeds apart: seeds = [0, 1].")
    if not name or "=" in name:
        raise InputError(f"a parameter cannot be called {name!r}: networks are named NAME=VALUE. Leave '=' out.")
    try:
        distribution = values if isinstance(values, BaseDistribution) else _read_values(name, values)
        _check_numbers(name, distribution)
    except (ValueError, TypeError, ArithmeticError) as error:  # Optuna counts the steps by decimals
        raise InputError(f"the parameter {name} cannot have the values {values!r} ({error}).") from error
    return distribution


def _read_values(name: str, values: Any) -> BaseDistribution:
    if isinstance(values, Mapping):
        given = parse(Range, values, f"the parameter {name}")
        numbers = [number for number in (given.low, given.high, given.step) if number is not None]
        if all(isinstance(number, int) for number in numbers):
            return IntDistribution(
                int(given.low), int(given.high), log=given.log, step=1 if given.step is None else int(given.step)
            )
        return FloatDistribution(given.low, given.high, log=given.log, step=given.step)
    if not isinstance(values, list | tuple):
        raise InputError(f"{name} is {values!r}. Give a list, even of a single item, or low and high.")
    if not values or len(set(values)) != len(values):
        raise InputError(f"the values {list(values)} of {name} must hold at least one item, and none twice.")
    if len(set(map(value_text, values))) != len(values):
        raise InputError(f"two of the values {list(values)} of {name} are written alike. Give texts and numbers apart.")
    if name == "head":
        for head in values:
            parse_head(str(head))
    return CategoricalDistribution([float(v) if name == LEARNING_RATE else v for v in values])


def _check_numbers(name: str, distribution: BaseDistribution) -> None:
    """Raises InputError for values that are not finite, and for learning rates that are not above 0."""
    if isinstance(distribution, CategoricalDistribution):
        numbers = [value for value in distribution.choices if isinstance(value, int | float)]
    else:
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        numbers = [distribution.low, distribution.high]
    for number in numbers:
        if name == LEARNING_RATE and not 0 < number < math.inf:
            raise InputError(f"learning rate {number!r} is out of range. Give positive numbers, e.g. 0.01.")
        if not math.isfinite(number):
            raise InputError(f"the parameter {name} has the value {number!r}. Give finite numbers.")


def _suggest(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return own_value(distribution, trial.suggest_categorical(name, list(distribution.choices)))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    options: dict[str, Any] = {"log": distribution.log}
    if distribution.step is not None and not distribution.log:
        options["step"] = distribution.step
    if isinstance(distribution, IntDistribution):
        return int(trial.suggest_int(name, distribution.low, distribution.high, **options))
    return float(trial.suggest_float(name, distribution.low, distribution.high, **options))


def _size(distribution: BaseDistribution) -> int | None:
    """The number of values; None if there is no end to them."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.single():
        return 1
    if distribution.step is None:
        return None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _values(distribution: BaseDistribution) -> list[Any]:
    """All values of a finite distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    size, step = _size(distribution), distribution.step or 0
    assert size is not None
    return [own_value(distribution, min(distribution.low + number * step, distribution.high)) for number in range(size)]


def _table(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    table: dict[str, Any] = {"low": distribution.low, "high": distribution.high}
    usual_step = 1 if isinstance(distribution, IntDistribution) else None
    return (
        table
        | ({} if distribution.step == usual_step else {"step": distribution.step})
        | ({"log": True} if distribution.log else {})
    )


def load_search_space(name: str) -> SearchSpace:
    """A built-in search space by ``name``, or the user's own by a path that ends in .toml.

    >>> load_search_space("table1").parameters["head"].choices
    ('512', '256-256', '256-128-128')
    """
    return parse(SearchSpace, read_toml("search_spaces", name), f"search space {name}")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Which candidates a study trains: all of a finite space, or ``trials`` of them, drawn by a sampler."""

    space: str | SearchSpace | None = None  # a built-in name, a path ending in .toml, or a table
    parameters: dict[str, Any] = field(default_factory=dict)  # the parameters of a space, in the place of ``space``
    seeds: tuple[int, ...] = (0,)  # each network is trained with every one
    trials: int | None = None  # how many a sampler draws; left out: every network with every seed
    sampler: str = "tpe"  # or "nsga2", "random"; only with trials
    together: int = 1  # how many candidates that differ in learning rate and seed are trained as one batched network
    finalist_seeds: int | None = None  # seeds of the networks that are still in question when all others are done

    def __post_init__(self) -> None:
        if (self.space is None) == (not self.parameters):
            raise InputError("the search needs either a space or parameters. Give one of them in [search].")
        if self.parameters:
            object.__setattr__(self, "space", SearchSpace(parameters=self.parameters))
            object.__setattr__(self, "parameters", {})
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        check_seeds(self.seeds)
        for name in ("trials", "together", "finalist_seeds"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is too small. Give at least 1.")

    @property
    def all_seeds(self) -> list[int]:
        """The seeds, and further ones for the finalists: the smallest that are not among them.

        >>> SearchSettings(space="digits", seeds=(0, 3), finalist_seeds=4).all_seeds
        [0, 3, 1, 2]
        """
        others = (seed for seed in itertools.count() if seed not in self.seeds)
        return [*self.seeds, *itertools.islice(others, max(0, (self.finalist_seeds or 0) - len(self.seeds)))]

    @property
    def search_space(self) -> SearchSpace:
        """The space itself, also where it is given by name."""
        assert self.space is not None
        return load_search_space(self.space) if isinstance(self.space, str) else self.space


def stored_search(study: optuna.Study) -> SearchSettings:
    """What a stored study searches. Raises InputError for a study that nas-relucode did not create."""
    return parse(SearchSettings, stored_table(study).get("search"), f"search of the settings of {study.study_name!r}")
