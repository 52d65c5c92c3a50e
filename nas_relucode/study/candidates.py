"""A candidate is the parameters of a network, and a seed: what one trial trains, and how both are named."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas_relucode.errors import InputError, whole_number
from nas_relucode.texts import plain
from nas_relucode.training.names import LARGEST_SEED

SEED = "seed"  # the parameter of a trial that does not make another network
NAME = "network"  # a parameter whose value is a name already
LONGEST_FILE_NAME = 80  # characters of a candidate's parameters; longer ones are cut, and a digest tells them apart
FEWEST_DIGITS, ALL_DIGITS = 3, 17  # of numbers in names


def as_seed(seed: object) -> int:
    """A seed as an int. Raises InputError unless it is a whole number that torch's generators take.

    >>> as_seed(3.0)
    3
    """
    given = int(seed) if isinstance(seed, float) and seed.is_integer() else seed  # suggest_float(..., step=1)
    return whole_number("seed", given, most=LARGEST_SEED - 1)


def check_seeds(seeds: Any) -> list[int]:
    """Seeds as a list. Raises InputError unless they are whole numbers, each once, at least one."""
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise InputError(f"seeds are {seeds!r:.80}. Give a list of whole numbers from 0, for example [0, 1].")
    numbers = [as_seed(seed) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"seeds {numbers!r:.80} are refused. Give at least one, and each once, for example [0, 1].")
    return numbers


@dataclass(frozen=True)
class Candidate:
    """What one trial trains: the parameters of a network (those of the trial less the seed), and a seed.

    Candidates are equal if their parameters and seeds are; the order of the parameters does not matter.
    """

    params: Mapping[str, Any] = field(compare=False)  # of the network, by their names
    seed: int = 0
    network: str = field(init=False, repr=False)  # identifies the parameters, see `network_key`

    def __post_init__(self) -> None:
        if SEED in self.params:
            raise InputError(f"the parameters {dict(self.params)} hold a seed. Give it apart: Candidate(params, seed).")
        object.__setattr__(self, "params", dict(self.params))
        object.__setattr__(self, "network", network_key(self.params))

    @classmethod
    def of_trial(cls, params: Mapping[str, Any], seed: int = 0) -> Candidate:
        """From ``params``, those of a trial: one called seed is the seed, otherwise it is ``seed``.

        Raises InputError for a seed that is not a whole number.

        >>> Candidate.of_trial({"depth": 2, "seed": 3})
        Candidate(params={'depth': 2}, seed=3)
        """
        rest = {name: value for name, value in params.items() if name != SEED}
        return cls(rest, as_seed(params.get(SEED, seed)))

    @property
    def label(self) -> str:
        """The parameters as text, all of them.

        >>> Candidate({"head": "32-16", "learning_rate": 0.01}, seed=3).label
        'head=32-16 learning_rate=0.01'
        """
        return network_names([self.params])[0]

    @property
    def file_name(self) -> str:
        """What the candidate's files are called, without their endings: different for different candidates.

        >>> Candidate({"head": "32-16", "learning_rate": 0.01}, seed=3).file_name
        'head=32-16_learning_rate=0.01_seed=3'
        """
        text = "_".join(f"{name}={value_text(value)}" for name, value in self.params.items())
        name = re.sub(r"[^\w.=+-]", "-", text, flags=re.ASCII)[:LONGEST_FILE_NAME]
        if name != text:
            name += "_" + hashlib.sha256(self.network.encode()).hexdigest()[:8]
        return f"{name}_seed={self.seed}" if name else f"seed={self.seed}"

    @property
    def arguments(self) -> list[str]:
        """The candidate as arguments of `nas-relucode train`.

        >>> " ".join(Candidate({"head": "32-16", "learning_rate": 0.01}, seed=3).arguments)
        'head=32-16 learning_rate=0.01 --seed 3'
        """
        return [*(f"{name}={value_text(value)}" for name, value in self.params.items()), "--seed", str(self.seed)]


def network_key(params: Mapping[str, Any]) -> str:
    """A text that identifies the parameters of a network, whatever their order.

    >>> network_key({"b": 1, "a": None})
    '{"a": null, "b": 1}'
    """
    return json.dumps(dict(params), sort_keys=True, default=str)


def network_names(networks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short name for each network, made of the parameters that vary among them; all parameters if there is one.

    Different networks have different names. Numbers have as few digits as tell them apart, at least 3. A parameter that
    a network lacks is left out. The value of one called ``network`` stands alone.

    >>> network_names([{"depth": 3, "lr": 0.005312}, {"depth": 3, "lr": 0.1, "skip": True}])
    ['lr=0.00531', 'lr=0.1 skip=true']
    >>> network_names([{"network": "a"}, {"network": "b"}]), network_names([{"skip": None}, {"skip": "none"}])
    (['a', 'b'], ['skip=none', 'skip="none"'])
    """
    parameters = list(dict.fromkeys(name for params in networks for name in params))
    values = {name: [params.get(name, _Absent) for params in networks] for name in parameters}
    varying = [name for name in parameters if len(set(map(_identity, values[name]))) > 1]
    texts = {name: _distinct(values[name]) for name in (varying if len(networks) > 1 else parameters)}
    numbers: dict[str, int] = {}  # name -> how many networks of this name were met
    of_network: dict[str, str] = {}
    for params in networks:
        parts = [
            plain(text) if name == NAME else f"{plain(name)}={plain(text)}"
            for name, of_value in texts.items()
            if (text := of_value.get(_identity(params.get(name, _Absent)))) is not None
        ]
        key, name = network_key(params), " ".join(filter(None, parts)) or "network"
        if key not in of_network:
            numbers[name] = numbers.get(name, 0) + 1
            of_network[key] = name if numbers[name] == 1 else f"{name} ({numbers[name]})"
    return [of_network[network_key(params)] for params in networks]


class _Absent:
    """Stands for a parameter that a network does not have."""


def _identity(value: Any) -> str:
    """A text that is the same for equal values only, unlike `value_text`: "1" is not 1."""
    return "" if value is _Absent else json.dumps(value, sort_keys=True, default=str)


def _distinct(values: Iterable[Any]) -> dict[str, str]:
    """The identity of each value -> a short text; different values have different ones."""
    present = {_identity(value): value for value in values if value is not _Absent}
    for digits in range(FEWEST_DIGITS, ALL_DIGITS + 1):
        texts = {key: f"{v:.{digits}g}" if isinstance(v, float) else value_text(v) for key, v in present.items()}
        if len(set(texts.values())) == len(texts):
            return texts
    return {key: f'"{v}"' if isinstance(v, str) else value_text(v) for key, v in present.items()}


def value_text(value: Any) -> str:
    """A value as text from which `parameter_value` can read it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)
