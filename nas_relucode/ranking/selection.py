"""Choosing among equally accurate networks: which ones of a study are equal, their order, and how stable it is."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import moocore
import numpy as np
import optuna
import pandas as pd

from nas_relucode.errors import InputError
from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.choices import LEVEL
from nas_relucode.ranking.equality import SAMPLE_BY_SAMPLE, Equality, Tolerance, check_tolerance, compare
from nas_relucode.ranking.order import (
    Criterion,
    check_order,
    costs,
    hypervolume,
    places,
    read_criteria,
    silent_reasons,
    sort_keys,
    stays_ahead,
)
from nas_relucode.ranking.trials import NETWORK, accuracies, check_layers, network_of, objectives_of
from nas_relucode.ranking.trials import saturated as saturated_networks
from nas_relucode.ranking.trials import trials_frame as trials_frame
from nas_relucode.study.record import complete_trials, network_label
from nas_relucode.texts import with_spread

MOST_PRINTED = 5  # networks of a selection


@dataclass(frozen=True)
class Order:
    """Some networks in their order, the first choice first; arrays are (networks,)."""

    rows: np.ndarray  # int64: their rows in `Selection.networks`
    ranks: np.ndarray  # int64, from 1: their places, but shared by networks that only their trials' numbers order
    keys: np.ndarray  # float64: what ``how`` sorts by
    silent: dict[str, str]  # columns that cannot order them -> why


@dataclass(frozen=True, repr=False, eq=False)
class Selection:
    """The networks of a study: which are equally accurate with the best, and in which order; see `select`.

    Columns of ``networks``: network (its name), head, learning_rate, seeds, means over seeds of the numeric columns of
    `trials_frame`, trial (the number of its first), pruned (seeds), feasible, front, equal (booleans), place (1 for the
    first of the equal networks, NaN for the others), rank (like place, but shared by networks that only the numbers of
    their trials order) and mark (in figures and tables). Columns of ``comparison``: difference, low, high, p and paired
    (see `ranking.equality.Equality`), key (what ``how`` sorts by) and contribution (to the hypervolume), NaN where
    there is no value.
    """

    study: str  # its name
    objectives: dict[str, str]  # name -> "maximize" or "minimize", in the study's order
    by: dict[str, str]  # what orders equal networks -> its direction, the silent ones included
    networks: pd.DataFrame  # a row per network: the equal ones in their order, then the others by accuracy
    spread: pd.DataFrame  # the same rows: sample standard deviations over seeds; NaN for a single seed
    comparison: pd.DataFrame  # the same rows: the comparison with the best network
    saturated: pd.DataFrame  # the same rows, a column per index: whether it lies at an end of its range for every seed
    trainings: pd.DataFrame  # a row per network and seed: what the means are taken over
    trials: tuple[tuple[int, ...], ...]  # the complete trials of each network, in the order of the rows
    threshold: float  # the smallest accuracy that counts as equal; NaN if none is feasible or tests decide
    silent: dict[str, str]  # indices that cannot order the equal networks -> why
    hypervolume: float  # of the equal networks, see `ranking.order.hypervolume`
    arguments: dict[str, Any]  # tolerance, level, how, weights, scale, as `select` was called
    settings: dict[str, Any] | None  # of the study, if `run_study` made it
    resamples: int = 1000
    seed: int = 0

    @property
    def equal(self) -> pd.DataFrame:
        """The networks that are equally accurate with the best, the first choice first; empty if none is feasible."""
        return self.networks[self.networks["equal"]]

    @property
    def front(self) -> pd.DataFrame:
        """The networks on the Pareto front of all objectives."""
        return self.networks[self.networks["front"]]

    @property
    def best(self) -> dict[str, Any]:
        """The first choice and what trains it again: its head, learning rate, seeds, trials, the study's settings.

        Raises InputError if no network is feasible.
        """
        self.require_feasible()
        row = self.networks.iloc[0]
        seeds = self.trainings.loc[(self.trainings[NETWORK] == row[NETWORK]).all(axis=1), "seed"]
        return {
            "head": str(row["head"]),
            "learning_rate": float(row["learning_rate"]),
            "seeds": [int(seed) for seed in seeds],
            "trials": list(self.trials[0]),
            "settings": self.settings,
        }

    def require_feasible(self) -> None:
        """Raises InputError if no network can be chosen."""
        if self.equal.empty:
            raise InputError(
                f"no network of study {self.study!r} can be chosen. {self.infeasibility} "
                "Train other candidates, or lower accuracy_floor."
            )

    @property
    def compared(self) -> pd.Series:
        """Which networks were compared with the best, booleans: the feasible ones that have an accuracy."""
        return self.comparison["difference"].notna()

    @property
    def deciding(self) -> dict[str, str]:
        """``by`` without what is silent."""
        return {name: direction for name, direction in self.by.items() if name not in self.silent}

    @property
    def shown_objective(self) -> str:
        """What figures show against accuracy: the first other objective that has a value, else the parameters."""
        defined = (name for name in self.objectives if name != "accuracy" and self.networks[name].notna().any())
        return next(defined, "parameters")

    @property
    def chosen(self) -> list[str]:
        """The names of the equal networks, in their order, and then of the others on the front."""
        return [*self.equal["network"], *self.front.loc[~self.front["equal"], "network"]]

    @property
    def infeasibility(self) -> str:
        """Why no network can be chosen, in sentences; defined only if none can."""
        accuracy, pruned = self.networks["accuracy"], self.networks["pruned"] > 0
        below, undefined = accuracy[~pruned].dropna(), int(accuracy[~pruned].isna().sum())
        sentences = ["No network is feasible."]
        if len(below):
            sentences.append(f"Below the accuracy floor: {len(below)}, the best at {below.max():.4f}.")
        if pruned.any():
            sentences.append(f"Pruned with some seed (diverged, or an objective undefined): {pruned.sum()}.")
        if undefined:
            sentences.append(f"Without an accuracy: {undefined}.")
        return " ".join(sentences)

    @property
    def paired_test(self) -> str:
        """The name of the test that compares predictions sample by sample, see `ranking.equality.difference_p`."""
        one_seed_each = (self.networks.loc[self.compared, "seeds"] == 1).all()
        return "McNemar's test" if one_seed_each else "the test of crossed seeds and samples"

    @property
    def missing_predictions(self) -> list[str]:
        """One sentence if some networks could not be compared with the best sample by sample; otherwise empty."""
        unpaired, compared = int((~self.comparison["paired"] & self.compared).sum()), int(self.compared.sum())
        if not unpaired:
            return []
        return [
            f"{unpaired} of {compared} networks have no predictions of the best one's samples: "
            "they are compared by their accuracies, which has less power."
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits the comparison, in sentences."""
        notes = self.missing_predictions if self.arguments["tolerance"] in SAMPLE_BY_SAMPLE else []
        if (self.equal["seeds"] == 1).all():
            notes.append("Each network was trained once, so the effect of other seeds is unknown.")
        if not self.deciding:
            notes.append("No index orders the equally accurate networks: accuracy and size do.")
        return tuple(notes)

    @cached_property
    def ahead(self) -> np.ndarray:
        """How often each equal network stays ahead of each other when seeds are resampled, float64 (equal, equal).

        By place; see `ranking.order.stays_ahead`. Computed when it is first read.
        """
        trainings = {network: part.sort_values("seed") for network, part in self.trainings.groupby(NETWORK)}
        rows = [trainings[network] for network in self.equal[NETWORK].itertuples(index=False, name=None)]
        deciding, weights = self.deciding, self.arguments["weights"] or {}
        return stays_ahead(
            [np.column_stack([part["accuracy"], costs(part, deciding)]) for part in rows],
            self.equal["parameters"].to_numpy(float),
            how=self.arguments["how"],
            weights=[weights.get(name, 1.0) for name in deciding],
            scale=self.arguments["scale"],
            resamples=self.resamples,
            seed=self.seed,
        )

    def order_of(self, networks: pd.Series | np.ndarray, columns: Iterable[str] | None = None) -> Order:
        """The order of some networks, as if they were the equal ones.

        ``networks`` is a boolean per row of ``self.networks``. ``columns`` are looked through for what is silent; by
        default the indices and what orders the networks.
        """
        names = ("how", "weights", "scale")
        return _order(
            self.networks[networks],
            self.saturated[networks],
            self.by,
            columns=columns,
            **{name: self.arguments[name] for name in names},
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None. Raises InputError if no network is feasible."""
        best = self.best
        numeric = [name for name in self.spread.columns if name not in NETWORK and name in self.networks]
        rows = []
        for i, (at, row) in enumerate(self.equal.iterrows()):
            values = {
                "head": str(row["head"]),
                "learning_rate": float(row["learning_rate"]),
                "seeds": int(row["seeds"]),
                "trials": list(self.trials[i]),
                "place": int(row["place"]),
                "rank": int(row["rank"]),
                "on_front": bool(row["front"]),
                "ahead_of_next": _plain(self.ahead[i, i + 1] if i + 1 < len(self.ahead) else math.nan),
                "mean": {name: _plain(row[name]) for name in numeric},
                "spread": {name: _plain(self.spread.loc[at, name]) for name in numeric},
            }
            rows.append(values | {name: _plain(value) for name, value in self.comparison.loc[at].items()})
        return {
            "study": self.study,
            **self.arguments,
            "objectives": self.objectives,
            "by": self.by,
            "silent": self.silent,
            "threshold": _plain(self.threshold),
            "compared": int(self.compared.sum()),
            "hypervolume": _plain(self.hypervolume),
            "best": best,
            "equally_accurate": rows,
            "ahead": [[_plain(value) for value in row] for row in self.ahead],
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        heading, table, rest = self._printed()
        return "\n".join([heading, *([] if table.empty else [table.to_string(index=False)]), *rest])

    def _repr_html_(self) -> str:
        heading, table, rest = self._printed()
        paragraphs = [f"<p>{html.escape(line)}</p>" for line in (heading, *rest)]
        return paragraphs[0] + ("" if table.empty else table.to_html(index=False, border=0)) + "".join(paragraphs[1:])

    def _printed(self) -> tuple[str, pd.DataFrame, list[str]]:
        """A heading, the first of the equal networks, and how many more there are."""
        equal, tolerance = self.equal, self.arguments["tolerance"]
        if equal.empty:
            return f"Selection from study {self.study!r}. {self.infeasibility}", pd.DataFrame(), []
        heading = (
            f"Selection from study {self.study!r}: {len(equal)} of {int(self.compared.sum())} networks are equally "
            f"accurate (tolerance={tolerance!r}), ordered by "
            + (", ".join(f"{name} ({way})" for name, way in self.deciding.items()) or "accuracy and size")
        )
        columns = list(dict.fromkeys(["accuracy", *self.deciding]))
        shown = equal.head(MOST_PRINTED)
        table = pd.DataFrame({"place": shown["place"].astype(int), "network": shown["network"]})
        for name in columns:
            table[name] = list(map(with_spread, shown[name], self.spread.loc[shown.index, name]))
        return heading, table, [f"and {len(equal) - MOST_PRINTED} more"] if len(equal) > MOST_PRINTED else []


def select(
    study: optuna.Study,
    *,
    tolerance: Tolerance = "1se",
    by: Iterable[Criterion] | None = None,
    how: str = "pareto",
    weights: Mapping[str, float] | None = None,
    scale: str = "ranks",
    level: float = LEVEL,
    store: Any = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Selection:
    """The networks of any Optuna study whose trials carry our attribute: the equally accurate ones, and their order.

    A network is a head and a learning rate; its seeds are averaged first. A network is feasible if it reaches the
    study's accuracy floor and none of its seeds was pruned (because it diverged, or an objective is undefined for it).
    The best network is the feasible one of the highest mean accuracy (then of fewer parameters, then the first by its
    name). ``tolerance`` and ``level`` decide which networks are equally accurate with it, see
    `ranking.equality.compare`. By default it is the one-standard-error rule: a mean accuracy of at least that of the
    best network less one standard error, over other seeds and other validation samples. ``store`` is Optuna's artifact
    store with the trials' predictions, for comparisons sample by sample.

    Equal networks are ordered by the indices ``by`` (see `ranking.order.read_criteria`; by default the study's other
    objectives) in the way ``how``: by their Pareto rank, lexicographically, or ``"weighted"``, with ``weights`` (1
    unless given) of ranks or standardised values (``scale``). Then higher accuracy decides, then fewer parameters, then
    the number of the first trial. Indices that are constant, undefined, saturated or not measured among the equal
    networks are silent: they take no part. ``resamples`` and ``seed`` are those of `Selection.ahead`.

    Raises InputError for a study without such trials, and for arguments out of range. If no network is feasible,
    `Selection.equal` is empty and `Selection.best` raises InputError.
    """
    if resamples < 1:
        raise InputError(f"resamples {resamples!r} is out of range. Give a whole number of at least 1.")
    check_tolerance(tolerance, level)
    objectives = objectives_of(study)
    criteria = read_criteria([name for name in objectives if name != "accuracy"] if by is None else by, objectives)
    check_order(how, weights, criteria, scale)
    every_trial = trials_frame(study, also=criteria)  # checks each of them
    check_layers(study, criteria if by is not None else ())
    trainings, networks, spread = _averaged(every_trial, study.study_name)
    networks["front"] = _on_front(networks, objectives)
    names = list(networks[NETWORK].itertuples(index=False, name=None))
    ends = saturated_networks(study)
    saturated = pd.DataFrame({index: [name in ends[index] for name in names] for index in ends}, index=networks.index)

    feasible = networks[networks["feasible"] & networks["accuracy"].notna()]
    equality = None
    if len(feasible):
        best = int(np.lexsort((feasible["parameters"], -feasible["accuracy"]))[0])
        sample_by_sample = store if tolerance in SAMPLE_BY_SAMPLE else None
        tested = accuracies(study, trainings, [names[row] for row in feasible.index], sample_by_sample)
        equality = compare(tested, best, tolerance=tolerance, level=level, chosen=True)
    comparison = _comparison(networks, feasible.index, equality)
    networks["equal"] = networks.index.isin(feasible.index[equality.equal]) if equality else False

    equal = networks[networks["equal"]]
    order = _order(equal, saturated.loc[equal.index], criteria, how=how, weights=weights, scale=scale)
    deciding = {name: direction for name, direction in criteria.items() if name not in order.silent}
    volume, contributions = hypervolume(costs(equal.loc[order.rows], deciding))
    for frame, name, values in (
        (networks, "place", np.arange(1, len(equal) + 1)),
        (networks, "rank", order.ranks),
        (comparison, "key", order.keys),
        (comparison, "contribution", contributions),
    ):
        frame[name] = pd.Series(values, index=order.rows, dtype=float)
    rows = networks.sort_values(["place", "accuracy"], ascending=[True, False], kind="stable").index
    numbers: dict[tuple[str, float], list[int]] = {}
    for trial in complete_trials(study):
        numbers.setdefault(network_of(trial), []).append(trial.number)
    networks, spread, comparison, saturated = (
        part.loc[rows].reset_index(drop=True) for part in (networks, spread, comparison, saturated)
    )
    networks["mark"] = pd.Series(_marks(networks), dtype=object)
    weights = dict(weights or {}) or None
    return Selection(
        study=study.study_name,
        objectives=objectives,
        by=criteria,
        networks=networks,
        spread=spread,
        comparison=comparison,
        saturated=saturated,
        trainings=trainings,
        trials=tuple(tuple(numbers[names[row]]) for row in rows),
        threshold=equality.threshold if equality else math.nan,
        silent=order.silent,
        hypervolume=volume,
        arguments={"tolerance": tolerance, "level": level, "how": how, "weights": weights, "scale": scale},
        settings=study.user_attrs.get("settings"),
        resamples=resamples,
        seed=seed,
    )


def _order(
    networks: pd.DataFrame,
    saturated: pd.DataFrame,
    by: Mapping[str, str],
    *,
    how: str,
    weights: Mapping[str, float] | None,
    scale: str,
    columns: Iterable[str] | None = None,
) -> Order:
    """The order of these networks."""
    if columns is None:
        columns = [name for name in networks.columns if name.rpartition(":")[2] in INDICES or name in by]
    silent = silent_reasons(networks[list(columns)], saturated.columns[saturated.all(axis=0)])
    deciding = {name: direction for name, direction in by.items() if name not in silent}
    shares = [(weights or {}).get(name, 1.0) for name in deciding]
    key = sort_keys(costs(networks, deciding), how=how, weights=shares, scale=scale)
    place, rank = places(key, *(networks[name].to_numpy() for name in ("accuracy", "parameters", "trial")))
    first_first = np.argsort(place)
    rows = networks.index.to_numpy()
    return Order(rows[first_first], rank[first_first], key[first_first], silent)


def _averaged(every_trial: pd.DataFrame, study: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A row per network and seed; a row per network with the means over its seeds; the same with their deviations."""
    trials = every_trial[every_trial["ranked"]]
    if trials["accuracy"].isna().all():
        raise InputError(f"the networks of study {study!r} have no accuracy to rank by: they are autoencoders.")
    values = trials.drop(columns=["number", "state", "ranked", "retry_of", "reason"])
    trainings = values.groupby([*NETWORK, "seed"]).agg(_mean).reset_index()  # a training that was repeated counts once
    groups = trainings.drop(columns="seed").groupby(NETWORK)
    networks, spread = groups.agg(_mean).reset_index(), groups.agg(_deviation).reset_index()
    networks.insert(2, "seeds", groups.size().to_numpy())
    networks.insert(0, "network", pd.Series(map(network_label, networks[NETWORK].to_dict("records")), dtype=object))
    networks["trial"] = trials.groupby(NETWORK)["number"].min().to_numpy()
    pruned = every_trial[every_trial["pruned"]].groupby(NETWORK)["seed"].nunique()
    networks["pruned"] = pruned.reindex(pd.MultiIndex.from_frame(networks[NETWORK]), fill_value=0).to_numpy()
    networks["feasible"] = (networks.pop("infeasibility") <= 0) & (networks["pruned"] == 0)
    return trainings, networks, spread


def _mean(values: pd.Series) -> float:
    """The mean, NaN if a value is; summed exactly, so that networks with the same values tie whatever their order."""
    return math.fsum(values) / len(values)


def _deviation(values: pd.Series) -> float:
    """The sample standard deviation; NaN for a single value."""
    mean = _mean(values)
    return math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1)) if len(values) > 1 else math.nan


def _on_front(networks: pd.DataFrame, objectives: dict[str, str]) -> np.ndarray:
    """Feasible networks that no other dominates; equal points stay together, undefined ones are not on the front."""
    points = costs(networks, objectives)
    front = networks["feasible"].to_numpy() & np.isfinite(points).all(axis=1)
    if front.any():
        front[front] = moocore.is_nondominated(points[front], keep_weakly=True)
    return front


def _marks(networks: pd.DataFrame) -> list[str]:
    """How figures and tables mark each network: its place, or a letter if it is on the front and less accurate."""
    letters = itertools.chain("abcdefghijklmnopqrstuvwxyz", itertools.repeat(" "))
    rows = networks[["place", "equal", "front"]].itertuples(index=False)
    return [f"{row.place:.0f}" if row.equal else next(letters) if row.front else "" for row in rows]


def _comparison(networks: pd.DataFrame, compared: pd.Index, equality: Equality | None) -> pd.DataFrame:
    """A row per network: how it compares with the best, NaN for networks that were not compared."""
    comparison = pd.DataFrame(index=networks.index)
    for name in ("difference", "low", "high", "p"):
        values = getattr(equality, name) if equality else math.nan
        comparison[name] = pd.Series(values, index=compared, dtype=float)
    comparison["paired"] = networks.index.isin(compared[equality.paired]) if equality else False
    return comparison


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return None if pd.isna(value) else float(value)
