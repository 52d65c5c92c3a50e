"""Which networks of a study are equally accurate, and their order by the indices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
import optuna
import pandas as pd

from nas_relucode.errors import InputError
from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.choices import LEVEL
from nas_relucode.ranking.equality import SAMPLE_BY_SAMPLE, Equality, Tolerance, check_tolerance, compare
from nas_relucode.ranking.order import Named, check_order, costs, criteria, hypervolume, keys, places, silent_reasons
from nas_relucode.ranking.trials import NETWORK, accuracies, check_layers, objectives_of, saturated
from nas_relucode.ranking.trials import trials_frame as trials_frame
from nas_relucode.study.record import network_label


@dataclass(frozen=True)
class Ranking:
    """The networks of a study: means over their seeds, and who is ahead."""

    objectives: dict[str, str]  # name -> "maximize" or "minimize", in the study's order
    networks: pd.DataFrame  # a row a network, the best first; the columns are described in `rank`
    spread: pd.DataFrame  # sample standard deviation over the seeds of the numeric columns; NaN for a single seed
    threshold: float  # networks of at least this accuracy are equally accurate; NaN if none is feasible or tests decide
    silent: dict[str, str]  # indices that tell the equally accurate networks nothing apart -> why
    by: dict[str, str]  # what decides their order, with its direction; what is silent takes no part
    comparison: pd.DataFrame  # a row a network: how it compares with the best; see `rank`
    trainings: pd.DataFrame  # a row a network and seed: what the means are of
    hypervolume: float  # of the equally accurate networks, see `ordering.hypervolume`

    @property
    def front(self) -> pd.DataFrame:
        """The networks that no other is better than in every objective."""
        return self.networks[self.networks["front"]]

    @property
    def equal(self) -> pd.DataFrame:
        """The networks that are equally accurate with the best, in their order by the indices."""
        return self.networks[self.networks["equal"]].sort_values("place", kind="stable")

    @property
    def shown_objective(self) -> str:
        """What figures show against accuracy: the first other objective that has a value, else the parameters."""
        defined = (name for name in self.objectives if name != "accuracy" and self.networks[name].notna().any())
        return next(defined, "parameters")

    @property
    def chosen(self) -> list[str]:
        """The names of the equally accurate networks, in their order, and then of the others on the front."""
        on_front = self.front["network"]
        return [*self.equal["network"], *on_front[~self.front["equal"]]]

    @property
    def compared(self) -> pd.Series:
        """Which networks were compared with the best, booleans: the feasible ones that have an accuracy."""
        return self.comparison["difference"].notna()

    @property
    def deciding(self) -> dict[str, str]:
        """``by`` without what is silent."""
        return {name: direction for name, direction in self.by.items() if name not in self.silent}


def rank(
    study: optuna.Study,
    *,
    tolerance: Tolerance = "1se",
    by: Iterable[Named] | None = None,
    how: str = "pareto",
    weights: Mapping[str, float] | None = None,
    scale: str = "ranks",
    level: float = LEVEL,
    store: Any = None,
) -> Ranking:
    """Who is equally accurate with the best, in which order, and who is on the Pareto front of all objectives.

    A network is a head and a learning rate; its seeds are averaged first. The best is the feasible one of the highest
    mean accuracy (then of fewer parameters, then the first by its name). Who is equally accurate with it is decided by
    ``tolerance`` and ``level``, see `equality.compare`. By default it is the one-standard-error rule: a
    mean accuracy of at least the best one's minus one standard error. The standard error adds the two ways in which
    the best could have come out otherwise: by other seeds and by another validation sample. ``store``
    is Optuna's artifact store with the predictions of the trials, for comparisons sample by sample.

    Equally accurate networks are ordered by the indices ``by`` (see `ordering.criteria`; by default the
    study's other objectives) in the way ``how``: by their Pareto rank, lexicographically, or ``"weighted"`` with
    ``weights`` (1 where nothing is said) of ranks or standardised values (``scale``). Then accuracy decides, then
    fewer parameters, then the number of the first trial. Indices that are constant, undefined or saturated among them,
    or were not measured, take no part.

    A network is feasible if it reaches the study's accuracy floor and none of its seeds was pruned: because it
    diverged, or because an objective is undefined for it.

    Columns of ``networks``: network (its name), head, learning_rate, seeds, means of the numeric columns of
    `trials_frame`, ``trial`` (the number of the first), ``pruned`` (seeds), ``feasible``, ``front``, ``equal``
    (booleans), ``place`` (1 for the first of the equally accurate ones, NaN for the others), ``rank`` (the same, but
    shared by those that only the trials' numbers tell apart) and ``mark`` (in figures and tables).
    Columns of ``comparison``: difference, low, high, p and paired (see
    `equality.Equality`), ``key`` (what ``how`` orders by) and ``contribution`` (to the hypervolume); NaN
    where there is nothing to tell.
    """
    check_tolerance(tolerance, level)
    objectives = objectives_of(study)
    wanted = criteria([name for name in objectives if name != "accuracy"] if by is None else by, objectives)
    check_order(how, weights, wanted, scale)
    every_trial = trials_frame(study, also=wanted)  # checks each of them
    check_layers(study, wanted if by is not None else ())
    by_seed, networks, spread = _averaged(every_trial, study.study_name)
    networks["front"] = _front(networks, objectives)

    feasible = networks[networks["feasible"] & networks["accuracy"].notna()]
    equality = None
    if len(feasible):
        best = int(np.lexsort((feasible["parameters"], -feasible["accuracy"]))[0])
        names = list(zip(*(feasible[name] for name in NETWORK), strict=True))
        tested = accuracies(study, by_seed, names, store if tolerance in SAMPLE_BY_SAMPLE else None)
        equality = compare(tested, best, tolerance=tolerance, level=level, chosen=True)
    comparison = _comparison(networks, feasible.index, equality)
    networks["equal"] = networks.index.isin(feasible.index[equality.equal]) if equality else False

    equal = networks[networks["equal"]]
    silent = _silent(equal, wanted, saturated(study))
    deciding = {name: direction for name, direction in wanted.items() if name not in silent}
    table = costs(equal, deciding)
    shares = [(weights or {}).get(name, 1.0) for name in deciding]
    key = keys(table, how=how, weights=shares, scale=scale)
    volume, contributions = hypervolume(table)
    place, shared = places(key, *(equal[name].to_numpy() for name in ("accuracy", "parameters", "trial")))
    for frame, name, of_equal in (
        (networks, "place", place),
        (networks, "rank", shared),
        (comparison, "key", key),
        (comparison, "contribution", contributions),
    ):
        frame[name] = pd.Series(of_equal, index=equal.index, dtype=float)

    order = networks.sort_values(["place", "accuracy"], ascending=[True, False], kind="stable").index
    networks, spread, comparison = (part.loc[order].reset_index(drop=True) for part in (networks, spread, comparison))
    networks["mark"] = pd.Series(_marks(networks), dtype=object)
    threshold = equality.threshold if equality else math.nan
    return Ranking(objectives, networks, spread, threshold, silent, wanted, comparison, by_seed, volume)


def _averaged(every_trial: pd.DataFrame, study: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A row a network and seed; a row a network with the means over its seeds; the same with their deviations."""
    trials = every_trial[every_trial["ranked"]]
    if trials["accuracy"].isna().all():
        raise InputError(f"the networks of study {study!r} have no accuracy to rank by: they are autoencoders.")
    values = trials.drop(columns=["number", "state", "ranked", "retry_of", "reason"])
    by_seed = values.groupby([*NETWORK, "seed"]).agg(_mean).reset_index()  # a training that was repeated counts once
    groups = by_seed.drop(columns="seed").groupby(NETWORK)
    networks, spread = groups.agg(_mean).reset_index(), groups.agg(_deviation).reset_index()
    networks.insert(2, "seeds", groups.size().to_numpy())
    networks.insert(0, "network", pd.Series(map(network_label, networks[NETWORK].to_dict("records")), dtype=object))
    networks["trial"] = trials.groupby(NETWORK)["number"].min().to_numpy()
    pruned = every_trial[every_trial["pruned"]].groupby(NETWORK)["seed"].nunique()
    networks["pruned"] = pruned.reindex(pd.MultiIndex.from_frame(networks[NETWORK]), fill_value=0).to_numpy()
    networks["feasible"] = (networks.pop("infeasibility") <= 0) & (networks["pruned"] == 0)
    return by_seed, networks, spread


def _mean(values: pd.Series) -> float:
    """The mean, NaN if a value is; summed exactly, so that networks with the same values tie whatever their order."""
    return math.fsum(values) / len(values)


def _deviation(values: pd.Series) -> float:
    """The sample standard deviation; NaN for a single value."""
    mean = _mean(values)
    return math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1)) if len(values) > 1 else math.nan


def _front(networks: pd.DataFrame, objectives: dict[str, str]) -> np.ndarray:
    """Feasible networks that are not dominated; equal points stay together, and what is undefined is not on it."""
    points = costs(networks, objectives)
    front = networks["feasible"].to_numpy() & np.isfinite(points).all(axis=1)
    if front.any():
        front[front] = moocore.is_nondominated(points[front], keep_weakly=True)
    return front


def _marks(networks: pd.DataFrame) -> list[str]:
    """How figures and tables mark each network: its place, or a letter where it is on the front and less accurate."""
    letters = itertools.chain("abcdefghijklmnopqrstuvwxyz", itertools.repeat(" "))
    rows = networks[["place", "equal", "front"]].itertuples(index=False)
    return [f"{row.place:.0f}" if row.equal else next(letters) if row.front else "" for row in rows]


def _comparison(networks: pd.DataFrame, compared: pd.Index, equality: Equality | None) -> pd.DataFrame:
    """A row a network: what its comparison with the best found, NaN for those that were not compared."""
    found = pd.DataFrame(index=networks.index)
    for name in ("difference", "low", "high", "p"):
        values = getattr(equality, name) if equality else math.nan
        found[name] = pd.Series(values, index=compared, dtype=float)
    found["paired"] = networks.index.isin(compared[equality.paired]) if equality else False
    return found


def _silent(
    equal: pd.DataFrame, wanted: Iterable[str], saturated: Mapping[str, set[tuple[str, float]]]
) -> dict[str, str]:
    """The indices that can't order these networks, each with the reason."""
    shown = [name for name in equal.columns if name.rpartition(":")[2] in INDICES or name in wanted]
    everyone = set(zip(*(equal[name] for name in NETWORK), strict=True))
    return silent_reasons(equal[shown], [name for name, where in saturated.items() if everyone <= where])
