"""How networks are compared and ordered: the options that `select`, `compare` and the command line share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from nas_relucode.errors import InputError, finite_number, whole_number
from nas_relucode.ranking.choices import LEVEL
from nas_relucode.ranking.criteria import Criterion, check_way
from nas_relucode.ranking.equality import check_rule
from nas_relucode.study.defaults import MARGIN


class RankingOptions(TypedDict, total=False):
    """The keyword arguments of `select` and `compare` that say how networks are compared and ordered; see `Ranking`."""

    margin: float | None
    rule: str
    by: Iterable[Criterion] | None
    purpose: str | None
    how: str
    weights: Mapping[str, float] | None
    scale: str
    level: float
    resamples: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How networks are compared with the best one, which are finalists, and in which order.

    Each feasible network is compared with the best one, over seeds and validation samples: ``"equal"`` if the
    difference of their accuracies is shown to be less than ``margin``, ``"worse"`` if it is shown to be lower,
    otherwise ``"cannot be told"``; see `ranking.equality.judge`, also for ``level``. By default (None) the margin is
    the study's own: that of its settings, if `run_study` made it, else of its `Recorder` or `Objective`.

    ``rule`` decides who is a finalist: ``"1se"``, all whose mean accuracy is at least that of the best network less one
    standard error (a rule of thumb: they are not shown to be equal); ``"margin"``, the best network and those that are
    shown to be equal to it.

    Finalists are ordered by the indices ``by`` (see `ranking.criteria.read_criteria`; by default the study's other
    objectives or, without any, parameters and FLOPs) in the way ``how``: by their Pareto rank, lexicographically, or
    ``"weighted"``, with ``weights`` (1 unless given) of ranks or standardised values (``scale``). ``purpose``, one of
    `ranking.choices.PURPOSES`, stands for the order that the evidence supports for it. Then higher accuracy decides,
    then fewer parameters, then the number of the first trial. Indices that are constant, undefined, saturated or not
    measured among the finalists are silent: they take no part. ``resamples`` and ``seed`` are those of
    `Selection.ahead`.

    Raises InputError for values out of range. An unknown option is a TypeError, as in any call.
    """

    margin: float = MARGIN
    rule: str = "1se"
    by: Iterable[Criterion] | None = None
    purpose: str | None = None
    how: str = "pareto"
    weights: Mapping[str, float] | None = None
    scale: str = "ranks"
    level: float = LEVEL
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("resamples", self.resamples, least=1)
        whole_number("seed", self.seed)
        finite_number("margin", self.margin)
        if self.weights is not None and not isinstance(self.weights, Mapping):
            raise InputError(f"weights are {self.weights!r}. Give a dict of names and numbers, {{'cell_count': 2}}.")
        check_rule(self.rule, self.margin, self.level)
        if self.purpose is not None and self.by is not None:
            raise InputError("by and purpose both say what orders the networks. Give one of them.")
        check_way(self.how, self.weights, self.scale)
        object.__setattr__(self, "weights", dict(self.weights or {}) or None)
