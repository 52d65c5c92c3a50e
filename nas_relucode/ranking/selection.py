"""Choosing among accurate networks: how each compares with the best, which are finalists, and in which order."""

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
from nas_relucode.ranking.equality import Judgement, check_rule, judge
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
from nas_relucode.ranking.trials import (
    FIXED,
    PARAMS,
    StudyTrials,
    accuracies,
    check_layers,
    frame_of,
    read_trials,
)
from nas_relucode.ranking.trials import saturated as saturated_networks
from nas_relucode.ranking.verdict import Verdict, verdict_of
from nas_relucode.study.defaults import MARGIN
from nas_relucode.texts import listed, with_spread

MOST_PRINTED = 5  # networks of a selection
COMPARISON = ("difference", "low", "high", "smallest_difference", "seeds_needed", "samples_needed")


@dataclass(frozen=True)
class Order:
    """Some networks in their order, the first choice first; arrays are (networks,)."""

    rows: np.ndarray  # int64: their rows in `Selection.networks`
    ranks: np.ndarray  # int64, from 1: their places, but shared by networks that only their trials' numbers order
    keys: np.ndarray  # float64: what ``how`` sorts by
    silent: dict[str, str]  # columns that cannot order them -> why


@dataclass(frozen=True, repr=False, eq=False)
class Selection:
    """The networks of a study: how each compares with the best, which are finalists, in which order; see `select`.

    Columns of ``networks``: network (its name), its parameters (``params_NAME``), seeds, means over seeds of the
    numeric columns of `trials_frame`, trial (the number of its first), pruned (seeds), feasible, front, finalist
    (booleans), place (1 for the first of the finalists, NaN for the others), rank (like place, but shared by networks
    that only the numbers of their trials order) and mark (in figures and tables). Columns of ``comparison``: answer
    ("best", "equal", "worse", "cannot be told"; empty for networks that were not compared), difference, low, high,
    smallest_difference, seeds_needed, samples_needed and paired (see `ranking.equality.Judgement`), key (what ``how``
    sorts by) and contribution (to the hypervolume), NaN where there is no value.
    """

    study: str  # its name
    objectives: dict[str, str]  # name -> "maximize" or "minimize", in the study's order
    by: dict[str, str]  # what orders the finalists -> its direction, the silent ones included
    networks: pd.DataFrame  # a row per network: the finalists in their order, then the others by accuracy
    spread: pd.DataFrame  # the same rows: sample standard deviations over seeds; NaN for a single seed
    comparison: pd.DataFrame  # the same rows: the comparison with the best network
    saturated: pd.DataFrame  # the same rows, a column per index: whether it lies at an end of its range for every seed
    trainings: pd.DataFrame  # a row per network and seed: what the means are taken over
    one_error_below: float  # the best accuracy less one standard error (over seeds and samples); NaN without a best
    silent: dict[str, str]  # indices that cannot order the finalists -> why
    hypervolume: float  # of the finalists, see `ranking.order.hypervolume`
    arguments: dict[str, Any]  # margin, rule, level, how, weights, scale, as `select` was called
    settings: dict[str, Any] | None  # of the study, if `run_study` made it
    source: StudyTrials  # what it was read from
    resamples: int = 1000
    seed: int = 0

    @property
    def finalists(self) -> pd.DataFrame:
        """The networks among which the indices choose, the first choice first; empty if none is feasible."""
        return self.networks[self.networks["finalist"]]

    @property
    def threshold(self) -> float:
        """The smallest accuracy of a finalist by the rule "1se"; NaN by the other."""
        return self.one_error_below if self.arguments["rule"] == "1se" else math.nan

    @property
    def front(self) -> pd.DataFrame:
        """The networks on the Pareto front of all objectives."""
        return self.networks[self.networks["front"]]

    @property
    def best(self) -> dict[str, Any]:
        """The first choice and what trains it again: its name, parameters, seeds, trials, the study's settings.

        Raises InputError if no network is feasible.
        """
        self.require_feasible()
        name = str(self.networks["network"].iloc[0])
        return {
            "network": name,
            "params": dict(self.source.params[name]),
            "seeds": self.seeds_of(name),
            "trials": self.trials_of(name),
            "settings": self.settings,
        }

    @property
    def most_accurate(self) -> pd.Series:
        """The row of the network with which the others are compared. Raises InputError if none is feasible."""
        self.require_feasible()
        return self.networks[self.comparison["answer"] == "best"].iloc[0]

    def seeds_of(self, network: str) -> list[int]:
        """The seeds with which a network was trained, in order."""
        return sorted(int(seed) for seed in self.trainings.loc[self.trainings["network"] == network, "seed"])

    def trials_of(self, network: str) -> list[int]:
        """The numbers of a network's complete trials."""
        pairs = zip(self.source.ranked, self.source.networks, strict=True)
        return [trial.number for trial, name in pairs if name == network]

    def as_study(self) -> optuna.Study:
        """A study in memory with the trials that were read."""
        directions: list[Any] = list(self.objectives.values())
        study = optuna.create_study(study_name=self.study, directions=directions)
        study.add_trials(self.source.trials)
        if self.settings is not None:
            study.set_user_attr("settings", self.settings)
        return study

    def require_feasible(self) -> None:
        """Raises InputError if no network can be chosen."""
        if self.finalists.empty:
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
        """The names of the finalists, in their order, and then of the others on the front."""
        return [*self.finalists["network"], *self.front.loc[~self.front["finalist"], "network"]]

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

    @cached_property
    def verdict(self) -> Verdict:
        """What the comparison says, in sentences that one can act on, with what limits it."""
        return verdict_of(self)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out or limits the comparison, in sentences."""
        notes = []
        if skipped := self.source.without_record:
            notes.append(f"Trials without our record, which are left out: {listed(skipped)}.")
        for (network, seed), numbers in itertools.islice(self.source.repeated_seeds.items(), 3):
            notes.append(
                f"{network} was trained {len(numbers)} times with seed {seed} (trials {listed(numbers)}): "
                "they count as one training."
            )
        if other := self.source.other_samples:
            notes.append(
                f"The validation samples of trials {listed(other)} are not those of the other trials: their networks "
                "are not compared sample by sample."
            )
        unpaired, compared = int((~self.comparison["paired"] & self.compared).sum()), int(self.compared.sum())
        if unpaired and compared > 1:
            notes.append(
                f"{unpaired} of {compared} networks have no predictions of the best one's samples: "
                "they are compared by their accuracies, which has less power."
            )
        if not self.deciding and len(self.finalists) > 1:
            notes.append("No index orders the finalists: accuracy and size do.")
        return tuple(notes)

    @cached_property
    def ahead(self) -> np.ndarray:
        """How often each finalist stays ahead of each other when seeds are resampled, float64 (finalists, finalists).

        By place; see `ranking.order.stays_ahead`. Computed when it is first read.
        """
        trainings = {network: part.sort_values("seed") for network, part in self.trainings.groupby("network")}
        rows = [trainings[network] for network in self.finalists["network"]]
        deciding, weights = self.deciding, self.arguments["weights"] or {}
        return stays_ahead(
            [np.column_stack([part["accuracy"], costs(part, deciding)]) for part in rows],
            self.finalists["parameters"].to_numpy(float),
            how=self.arguments["how"],
            weights=[weights.get(name, 1.0) for name in deciding],
            scale=self.arguments["scale"],
            resamples=self.resamples,
            seed=self.seed,
        )

    def order_of(self, networks: pd.Series | np.ndarray, columns: Iterable[str] | None = None) -> Order:
        """The order of some networks, as if they were the finalists.

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
        numeric = list(self.spread.columns)
        rows = []
        for i, (at, row) in enumerate(self.finalists.iterrows()):
            values = {
                "network": row["network"],
                "params": dict(self.source.params[row["network"]]),
                "seeds": int(row["seeds"]),
                "trials": self.trials_of(row["network"]),
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
            "answers": dict(zip(self.networks["network"], self.comparison["answer"], strict=True)),
            "hypervolume": _plain(self.hypervolume),
            "best": best,
            "finalists": rows,
            "ahead": [[_plain(value) for value in row] for row in self.ahead],
            "verdict": self.verdict.text,
            "warnings": {warning.name: warning.text for warning in self.verdict.warnings},
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        verdict, table, rest = self._printed()
        return "\n".join([verdict, *([] if table.empty else ["", table.to_string(index=False)]), *rest])

    def _repr_html_(self) -> str:
        verdict, table, rest = self._printed()
        paragraphs = [f"<p>{html.escape(line)}</p>" for line in (*verdict.split("\n"), *rest)]
        return "".join(paragraphs) + ("" if table.empty else table.to_html(index=False, border=0))

    def _printed(self) -> tuple[str, pd.DataFrame, list[str]]:
        """The verdict, the first of the finalists, and how many more there are."""
        finalists = self.finalists
        if finalists.empty:
            return f"Selection from study {self.study!r}. {self.infeasibility}", pd.DataFrame(), []
        columns = list(dict.fromkeys(["accuracy", *self.deciding]))
        shown = finalists.head(MOST_PRINTED)
        table = pd.DataFrame({"place": shown["place"].astype(int), "network": shown["network"]})
        table["against the best"] = self.comparison.loc[shown.index, "answer"]
        for name in columns:
            table[name] = list(map(with_spread, shown[name], self.spread.loc[shown.index, name]))
        more = len(finalists) - MOST_PRINTED
        return str(self.verdict), table, [f"and {more} more"] if more > 0 else []


def select(
    study: optuna.Study,
    *,
    margin: float = MARGIN,
    rule: str = "1se",
    by: Iterable[Criterion] | None = None,
    how: str = "pareto",
    weights: Mapping[str, float] | None = None,
    scale: str = "ranks",
    level: float = LEVEL,
    resamples: int = 1000,
    seed: int = 0,
) -> Selection:
    """Which networks of any Optuna study are equal to the best, worse, or cannot be told from it, and which to choose.

    The trials carry our record (of `Recorder` or `Objective`). A network is the parameters of a trial less the seed;
    its seeds are averaged first. It is feasible if it reaches the study's accuracy floor (where none is named, 10 times
    the study's margin below the best mean) and none of its seeds was pruned (because it diverged, or an objective is
    undefined for it). The best network is the feasible one of the highest mean accuracy (then of fewer parameters, then
    the first by its name).

    Each feasible network is compared with the best one, over seeds and validation samples: ``"equal"`` if the
    difference of their accuracies is shown to be less than ``margin``, ``"worse"`` if it is shown to be lower,
    otherwise ``"cannot be told"``; see `ranking.equality.judge`, also for ``level``. ``rule`` decides who is a
    finalist: ``"1se"``, all whose mean accuracy is at least that of the best network less one standard error (a rule of
    thumb: they are not shown to be equal); ``"margin"``, the best network and those that are shown to be equal to it.

    Finalists are ordered by the indices ``by`` (see `ranking.order.read_criteria`; by default the study's other
    objectives) in the way ``how``: by their Pareto rank, lexicographically, or ``"weighted"``, with ``weights`` (1
    unless given) of ranks or standardised values (``scale``). Then higher accuracy decides, then fewer parameters, then
    the number of the first trial. Indices that are constant, undefined, saturated or not measured among the finalists
    are silent: they take no part. ``resamples`` and ``seed`` are those of `Selection.ahead`.

    Raises InputError for a study without such trials, and for arguments out of range. If no network is feasible,
    `Selection.finalists` is empty and `Selection.best` raises InputError.
    """
    if resamples < 1:
        raise InputError(f"resamples {resamples!r} is out of range. Give a whole number of at least 1.")
    check_rule(rule, margin, level)
    trials = read_trials(study)
    wanted = [name for name in trials.objectives if name != "accuracy"] if by is None else by
    criteria = read_criteria(wanted, trials.objectives, trials.records[0]["joint"])
    check_order(how, weights, criteria, scale)
    check_layers(trials, criteria if by is not None else ())
    trainings, networks, spread = averaged(frame_of(trials, criteria), trials)
    if trials.floor_below_best is not None:
        best = networks.loc[networks["feasible"], "accuracy"].max()
        networks["feasible"] &= ~(networks["accuracy"] < best - trials.floor_below_best)
    networks["front"] = _on_front(networks, trials.objectives)
    comparison, one_error_below = _compared(networks, trials, margin=margin, rule=rule, level=level)
    saturated = _saturated(networks, trials)
    ways: dict[str, Any] = {"how": how, "weights": dict(weights or {}) or None, "scale": scale}
    order, volume = _placed(networks, comparison, saturated, criteria, ways)
    rows = networks.sort_values(["place", "accuracy"], ascending=[True, False], kind="stable").index
    networks, spread, comparison, saturated = (
        part.loc[rows].reset_index(drop=True) for part in (networks, spread, comparison, saturated)
    )
    networks["mark"] = pd.Series(_marks(networks), dtype=object)
    return Selection(
        study=study.study_name,
        objectives=trials.objectives,
        by=criteria,
        networks=networks,
        spread=spread,
        comparison=comparison,
        saturated=saturated,
        trainings=trainings,
        one_error_below=one_error_below,
        silent=order.silent,
        hypervolume=volume,
        arguments={"margin": margin, "rule": rule, "level": level, **ways},
        settings=study.user_attrs.get("settings"),
        source=trials,
        resamples=resamples,
        seed=seed,
    )


def _compared(
    networks: pd.DataFrame, trials: StudyTrials, *, margin: float, rule: str, level: float
) -> tuple[pd.DataFrame, float]:
    """How each network compares with the best, and the accuracy one standard error below it; says who is a finalist."""
    feasible = networks[networks["feasible"] & networks["accuracy"].notna()]
    feasible = feasible.sort_values("parameters", kind="stable")  # the best of equal ones is the smallest
    if feasible.empty:
        networks["finalist"] = False
        return _comparison(networks, feasible.index, None), math.nan
    measured = accuracies(trials, list(feasible["network"]))
    judgement = judge(measured, margin=margin, rule=rule, level=level)
    networks["finalist"] = networks.index.isin(feasible.index[judgement.finalist])
    best = measured[int(np.flatnonzero(judgement.answer == "best")[0])]
    return _comparison(networks, feasible.index, judgement), best.mean - best.standard_error


def _placed(
    networks: pd.DataFrame,
    comparison: pd.DataFrame,
    saturated: pd.DataFrame,
    criteria: dict[str, str],
    ways: Mapping[str, Any],
) -> tuple[Order, float]:
    """Adds the places of the finalists to the tables; their order, and the hypervolume of what orders them."""
    finalists = networks[networks["finalist"]]
    order = _order(finalists, saturated.loc[finalists.index], criteria, **ways)
    deciding = {name: direction for name, direction in criteria.items() if name not in order.silent}
    volume, contributions = hypervolume(costs(finalists.loc[order.rows], deciding))
    for frame, name, values in (
        (networks, "place", np.arange(1, len(finalists) + 1)),
        (networks, "rank", order.ranks),
        (comparison, "key", order.keys),
        (comparison, "contribution", contributions),
    ):
        frame[name] = pd.Series(values, index=order.rows, dtype=float)
    return order, volume


def _saturated(networks: pd.DataFrame, trials: StudyTrials) -> pd.DataFrame:
    """A column per index: whether it lies at an end of its range for every seed of each network."""
    ends = saturated_networks(trials)
    return pd.DataFrame({index: networks["network"].isin(ends[index]) for index in ends}, index=networks.index)


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


def averaged(every_trial: pd.DataFrame, trials: StudyTrials) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A row per network and seed; a row per network with the means over its seeds; the same with their deviations."""
    ranked = every_trial[every_trial["ranked"]]
    if ranked["accuracy"].isna().all():
        raise InputError(f"the networks of study {trials.study!r} have no accuracy to rank by: they are autoencoders.")
    params = [name for name in ranked.columns if name.startswith(PARAMS)]
    left_out = {*FIXED[:4], *params, "ranked", "pruned", "retry_of", "reason"}
    numeric = [name for name in ranked.columns if name not in left_out]
    keys, means, _ = _grouped(ranked, ["network", "seed"], numeric)  # a training that was repeated counts once
    trainings = pd.concat([keys.drop(columns="size"), means], axis=1)
    keys, means, spread = _grouped(trainings, ["network"], numeric)
    networks = pd.concat([keys.rename(columns={"size": "seeds"}), means], axis=1)
    firsts = ranked.drop_duplicates("network").set_index("network").loc[networks["network"]]
    for position, name in enumerate(params, start=1):
        networks.insert(position, name, firsts[name].to_numpy())
    networks["parameters"] = networks.get("parameters", math.nan)
    networks["trial"] = firsts["number"].to_numpy()  # trials are in the order of their numbers
    pruned = every_trial[every_trial["pruned"]].groupby("network")["seed"].nunique()
    networks["pruned"] = pruned.reindex(networks["network"], fill_value=0).to_numpy()
    networks["feasible"] = (networks.pop("infeasibility") <= 0) & (networks["pruned"] == 0)
    return trainings, networks, spread.drop(columns="infeasibility")


def _grouped(frame: pd.DataFrame, by: list[str], numeric: list[str]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The groups with their sizes, the means of the numeric columns, and their sample standard deviations.

    A mean is NaN if a value is. It does not depend on the order of the rows, and that of equal values is exactly their
    value, so that networks with the same values tie.
    """
    groups, keys = frame.groupby(by).ngroup().to_numpy(), frame.groupby(by).size().rename("size").reset_index()
    sizes, values = keys["size"].to_numpy(), frame[numeric].to_numpy(float)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    means, squares = np.empty((2, len(sizes), len(numeric)))
    for column in range(len(numeric)):
        in_order = values[np.lexsort((values[:, column], groups)), column]
        first = in_order[starts]
        means[:, column] = first + np.add.reduceat(in_order - np.repeat(first, sizes), starts) / sizes
        squares[:, column] = np.add.reduceat((in_order - np.repeat(means[:, column], sizes)) ** 2, starts)
    freedom = np.where(sizes > 1, sizes - 1.0, math.nan)[:, None]
    return keys, pd.DataFrame(means, columns=numeric), pd.DataFrame(np.sqrt(squares / freedom), columns=numeric)


def _on_front(networks: pd.DataFrame, objectives: dict[str, str]) -> np.ndarray:
    """Feasible networks that no other dominates; equal points stay together, undefined ones are not on the front."""
    points = costs(networks, objectives)
    front = networks["feasible"].to_numpy() & np.isfinite(points).all(axis=1)
    if front.any():
        front[front] = moocore.is_nondominated(points[front], keep_weakly=True)
    return front


def _marks(networks: pd.DataFrame) -> list[str]:
    """How figures and tables mark each network: its place, or a letter if it is on the front and no finalist."""
    letters = itertools.chain("abcdefghijklmnopqrstuvwxyz", itertools.repeat(" "))
    rows = networks[["place", "finalist", "front"]].itertuples(index=False)
    return [f"{row.place:.0f}" if row.finalist else next(letters) if row.front else "" for row in rows]


def _comparison(networks: pd.DataFrame, compared: pd.Index, judgement: Judgement | None) -> pd.DataFrame:
    """A row per network: how it compares with the best, NaN (and no answer) for networks that were not compared."""
    comparison = pd.DataFrame(index=networks.index)
    comparison["answer"] = ""
    if judgement:
        comparison.loc[compared, "answer"] = judgement.answer
    for name in COMPARISON:
        values = getattr(judgement, name) if judgement else math.nan
        comparison[name] = pd.Series(values, index=compared, dtype=float)
    comparison["paired"] = networks.index.isin(compared[judgement.paired]) if judgement else False
    return comparison


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return value
    return None if pd.isna(value) or math.isinf(value) else float(value)
