"""Search spaces: the heads and learning rates of a study, and the candidate that a trial suggests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import BaseTrial

from nas_relucode.errors import InputError, unknown
from nas_relucode.study.storage import stored_table
from nas_relucode.toml_files import parse, read_toml
from nas_relucode.training.names import check_seed, parse_head

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


@dataclass(frozen=True)
class Candidate:
    """What one trial trains: a head and a learning rate, with a seed."""

    head: str
    learning_rate: float
    seed: int = 0

    @property
    def params(self) -> dict[str, Any]:
        """The candidate as the parameters of an Optuna trial."""
        return {"head": self.head, "learning_rate": self.learning_rate, "seed": self.seed}

    @property
    def name(self) -> str:
        """What the candidate's files are called, without their endings.

        >>> Candidate("32-16", 0.01, seed=3).name
        '32-16_0.01_seed_3'
        """
        return f"{self.head}_{float(self.learning_rate)!r}_seed_{self.seed}"

    @property
    def options(self) -> list[str]:
        """The candidate as options of the command line.

        >>> " ".join(Candidate("32-16", 0.01, seed=3).options)
        '--head 32-16 --learning-rate 0.01 --seed 3'
        """
        return ["--head", self.head, "--learning-rate", repr(float(self.learning_rate)), "--seed", str(self.seed)]

    @property
    def label(self) -> str:
        """The candidate in tables and figures, where the seeds of a network stand in one row.

        >>> Candidate("32-16", 0.01, seed=3).label
        '32-16 @ 0.01'
        """
        return f"{self.head} @ {self.learning_rate:g}"


@dataclass(frozen=True)
class Interval:
    """All learning rates from low to high, drawn uniformly on a logarithmic scale."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise InputError(f"the interval {self.low:g} .. {self.high:g} must satisfy 0 < low < high.")


@dataclass(frozen=True)
class HeadGrid:
    """All heads of the given depths with every layer as wide as one of ``widths``."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.depths or not self.widths or min(*self.depths, *self.widths) < 1:
            raise InputError(
                f"depths {list(self.depths)} and widths {list(self.widths)} must hold at least one item, none below 1."
            )
        if sum(len(self.widths) ** depth for depth in self.depths) > 100_000:
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
class SearchSpace:
    """Heads times learning rates. Finite if the learning rates are a list, and then every candidate can be named.

    >>> space = SearchSpace(heads=("512", "256-256"), learning_rates=(0.1, 0.001))
    >>> len(space.candidates(seeds=[0, 1]))
    8
    """

    heads: tuple[str, ...] | HeadGrid
    learning_rates: tuple[float, ...] | Interval

    def __post_init__(self) -> None:
        for name in ("heads", "learning_rates"):
            values = getattr(self, name)
            if isinstance(values, str | int | float):
                raise InputError(f"{name} is {values!r}. Give a list, even of a single item.")
            if isinstance(values, list):
                object.__setattr__(self, name, tuple(values))
        for head in self.head_list:
            parse_head(head)
        if isinstance(self.learning_rates, tuple):
            for rate in self.learning_rates:
                if not 0 < rate < math.inf:
                    raise InputError(f"learning rate {rate!r} is out of range. Give positive numbers, e.g. 0.01.")
        for name, values in {"heads": self.head_list, "learning_rates": self.learning_rates}.items():
            if isinstance(values, tuple) and (not values or len(set(values)) != len(values)):
                raise InputError(f"{name} {list(values)} must hold at least one item, and none twice.")

    @property
    def head_list(self) -> tuple[str, ...]:
        return self.heads.heads() if isinstance(self.heads, HeadGrid) else self.heads

    @property
    def is_finite(self) -> bool:
        return isinstance(self.learning_rates, tuple)

    def candidates(self, seeds: list[int]) -> list[Candidate]:
        """Every candidate of a finite space, ordered by seed first: each network comes once before any is repeated."""
        if isinstance(self.learning_rates, Interval):
            low, high = self.learning_rates.low, self.learning_rates.high
            raise InputError(
                f"the interval of learning rates {low:g} .. {high:g} has no list of candidates. Draw some instead."
            )
        product = itertools.product(seeds, self.head_list, self.learning_rates)
        return [Candidate(head, rate, seed) for seed, head, rate in product]

    def distributions(self, seeds: list[int]) -> dict[str, BaseDistribution]:
        """The distribution from which `suggest` draws each parameter."""
        rates = self.learning_rates
        distributions: dict[str, BaseDistribution] = {
            "head": CategoricalDistribution(list(self.head_list)),
            "learning_rate": FloatDistribution(rates.low, rates.high, log=True)
            if isinstance(rates, Interval)
            else CategoricalDistribution(list(rates)),
        }
        return distributions | ({"seed": CategoricalDistribution(list(seeds))} if len(seeds) > 1 else {})

    def suggest(self, trial: BaseTrial, seeds: list[int]) -> Candidate:
        """The candidate of the head, learning rate and, if there are several, seed that the trial suggests."""
        head = trial.suggest_categorical("head", list(self.head_list))
        if isinstance(self.learning_rates, Interval):
            rate = trial.suggest_float("learning_rate", self.learning_rates.low, self.learning_rates.high, log=True)
        else:
            rate = trial.suggest_categorical("learning_rate", list(self.learning_rates))
        seed = trial.suggest_categorical("seed", list(seeds)) if len(seeds) > 1 else seeds[0]
        return Candidate(str(head), float(rate), int(seed))


def load_search_space(name: str) -> SearchSpace:
    """A built-in search space by name, or the user's own by a path that ends in .toml.

    >>> load_search_space("table1").heads
    ('512', '256-256', '256-128-128')
    """
    return parse(SearchSpace, read_toml("search_spaces", name), f"search space {name}")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Which candidates a study trains: all of a finite space, or ``trials`` of them, drawn by a sampler."""

    space: str | SearchSpace  # a built-in name, a path ending in .toml, or a table with heads and learning_rates
    seeds: tuple[int, ...] = (0,)
    trials: int | None = None
    sampler: str = "tpe"
    together: int = 1  # how many candidates of one head are trained as one batched network, without checkpoints

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"seeds {list(self.seeds)} must be different whole numbers of at least 0.")
        for seed in self.seeds:
            check_seed(seed)
        for name in ("trials", "together"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is too small. Give at least 1.")

    @property
    def search_space(self) -> SearchSpace:
        """The space itself, also where it is given by name."""
        return load_search_space(self.space) if isinstance(self.space, str) else self.space


def stored_search(study: optuna.Study) -> SearchSettings:
    """What a stored study searches. Raises InputError for a study that nas-relucode did not create."""
    return parse(SearchSettings, stored_table(study)["search"], f"the stored settings of study {study.study_name!r}")
