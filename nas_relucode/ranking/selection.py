"""What a ranking says of the networks of a study: the verdict, the finalists in their order, and every comparison."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
import pandas as pd

from nas_relucode.errors import InputError
from nas_relucode.ranking.equality import finalists_by
from nas_relucode.ranking.limits import notes_on
from nas_relucode.ranking.options import Ranking
from nas_relucode.ranking.order import Order, costs, order_networks, stays_ahead
from nas_relucode.ranking.trials import StudyTrials, frame_of
from nas_relucode.ranking.verdict import Verdict, verdict_of
from nas_relucode.ranking.words import in_words
from nas_relucode.study.storage import study_in_memory
from nas_relucode.texts import listed, with_interval, with_spread

MOST_PRINTED = 20  # networks of a selection
SPREAD = "± is the standard deviation over seeds."


@dataclass(frozen=True, repr=False, eq=False)
class Selection:
    """The networks of a study: how each compares with the best, which are finalists, in which order; see `select`.

    Columns of ``networks``: network (its name), its parameters (``params_NAME``), seeds, means over seeds of the
    numeric columns of `trials_frame`, trial (the number of its first), pruned (seeds), violated (the constraints of the
    user's that a seed violates), feasible, front, finalist (booleans), place (1 for the first of the finalists, NaN for
    the others), rank (like place, but shared by networks that only the numbers of their trials order) and mark (in
    figures and tables). Columns of ``comparison``: network, answer ("best", "equal", "worse", "cannot be told"; empty
    for networks that were not compared), difference, low, high, smallest_difference, seeds_needed, samples_needed and
    paired (see `ranking.equality.Judgement`), key (what ``how`` sorts by) and contribution (to the hypervolume), NaN
    where there is no value.
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
    ranking: Ranking  # how they were compared and ordered
    settings: dict[str, Any] | None  # of the study, if `run_study` made it
    source: StudyTrials  # what it was read from

    @property
    def finalists(self) -> pd.DataFrame:
        """The networks among which the indices choose, the first choice first; empty if none is feasible."""
        return self.networks[self.networks["finalist"]]

    @property
    def threshold(self) -> float:
        """The smallest accuracy of a finalist by the rule "1se"; NaN by the other."""
        return self.one_error_below if self.ranking.rule == "1se" else math.nan

    def finalists_by(self, rule: str) -> np.ndarray:
        """The networks that are finalists by a rule, bool (networks,)."""
        return finalists_by(
            rule,
            self.comparison["answer"].to_numpy(),
            self.networks["accuracy"].where(self.compared).to_numpy(),
            self.one_error_below,
        )

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

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row per trial of the study as it was read, see `trials_frame`."""
        return frame_of(self.source)

    def seeds_of(self, network: str) -> list[int]:
        """The seeds with which a network was trained, in order."""
        return self._seeds[network]

    @cached_property
    def _seeds(self) -> dict[str, list[int]]:
        seeds: dict[str, list[int]] = {}
        for network, seed in zip(self.trainings["network"], self.trainings["seed"], strict=True):
            seeds.setdefault(str(network), []).append(int(seed))
        return {network: sorted(of_it) for network, of_it in seeds.items()}

    def trials_of(self, network: str) -> list[int]:
        """The numbers of a network's complete trials."""
        pairs = zip(self.source.ranked, self.source.networks, strict=True)
        return [trial.number for trial, name in pairs if name == network]

    def as_study(self) -> optuna.Study:
        """A study in memory with the trials that were read."""
        directions: list[Any] = list(self.objectives.values())
        study = study_in_memory(study_name=self.study, directions=directions)
        study.add_trials(self.source.trials)
        if self.settings is not None:
            study.set_user_attr("settings", self.settings)
        return study

    def require_feasible(self) -> None:
        """Raises InputError if no network can be chosen."""
        if self.finalists.empty:
            raise InputError(
                f"no network of study {self.study!r} can be chosen. {self.infeasibility} "
                "Train other candidates, or "
                f"{'relax the constraints' if self._violates.any() else 'lower accuracy_floor'}."
            )

    @property
    def compared(self) -> pd.Series:
        """Which networks were compared with the best, booleans: the feasible ones that have an accuracy."""
        return self.comparison["difference"].notna()

    @property
    def near_best(self) -> np.ndarray:
        """The compared networks that samplers do not avoid as far below the best, bool (networks,)."""
        return near_best(self.networks, self.source) & self.compared.to_numpy()

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
    def _violates(self) -> pd.Series:
        return self.networks["violated"] != ""

    @property
    def infeasibility(self) -> str:
        """Why no network can be chosen, in sentences; defined only if none can."""
        accuracy, pruned = self.networks["accuracy"], self.networks["pruned"] > 0
        violated = self._violates & ~pruned
        others = accuracy[~pruned & ~violated]
        below, undefined = others.dropna(), int(others.isna().sum())
        sentences = ["No network is feasible."]
        if len(below):
            sentences.append(f"Below the accuracy floor: {len(below)}, the best at {below.max():.4f}.")
        if violated.any():
            names = listed(list(dict.fromkeys(self.networks["violated"][violated])))
            sentences.append(f"With some seed against a constraint ({names}): {violated.sum()}.")
        if pruned.any():
            sentences.append(f"Pruned with some seed: {pruned.sum()}.")
        if undefined:
            sentences.append(f"Without an accuracy: {undefined}.")
        return " ".join(sentences)

    def in_words(self, name: str) -> str:
        """What a column is called in sentences, in headings and on axes."""
        return in_words(name, self.source.split)

    @cached_property
    def verdict(self) -> Verdict:
        """What the comparison says, in sentences that one can act on, with what limits it."""
        return verdict_of(self)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out or limits the comparison, in sentences."""
        return notes_on(self)

    @cached_property
    def ahead(self) -> np.ndarray:
        """How often each finalist stays ahead of each other when seeds are resampled, float64 (finalists, finalists).

        By place; see `ranking.order.stays_ahead`. Computed when it is first read.
        """
        names = self.finalists["network"]
        table = self.trainings[self.trainings["network"].isin(names)]
        trainings = {network: part.sort_values("seed") for network, part in table.groupby("network")}
        rows = [trainings[network] for network in names]
        deciding, ranking = self.deciding, self.ranking
        return stays_ahead(
            [np.column_stack([part["accuracy"], costs(part, deciding)]) for part in rows],
            self.finalists["parameters"].to_numpy(float),
            how=ranking.how,
            weights=[(ranking.weights or {}).get(name, 1.0) for name in deciding],
            scale=ranking.scale,
            resamples=ranking.resamples,
            seed=ranking.seed,
        )

    def order_of(self, networks: pd.Series | np.ndarray, columns: Iterable[str] | None = None) -> Order:
        """The order of some networks, as if they were the finalists.

        ``networks`` is a boolean per row of ``self.networks``. ``columns`` are looked through for what is silent; by
        default the indices and what orders the networks.
        """
        names = self.networks.columns if columns is None else [*columns, *self.by, "accuracy", "parameters", "trial"]
        table = self.networks.loc[networks, list(dict.fromkeys(names))]
        saturated = self.saturated.columns[self.saturated.to_numpy(bool)[np.asarray(networks)].all(axis=0)]
        return order_networks(table, saturated, self.by, self.ranking, columns)

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
            **{name: getattr(self.ranking, name) for name in ("margin", "rule", "level", "how", "weights", "scale")},
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

    @property
    def shown(self) -> pd.DataFrame:
        """The networks that are printed: of those that were compared, the finalists first, MOST_PRINTED at most."""
        return self.networks[self.compared].head(MOST_PRINTED)

    @property
    def not_shown(self) -> str:
        """How many more were compared; empty if none were."""
        more = int(self.compared.sum()) - MOST_PRINTED
        return f"and {more:,} more" if more > 0 else ""

    @property
    def limits(self) -> tuple[str, ...]:
        """Everything that limits the comparison, in sentences: the warnings, then the notes."""
        return (*(warning.text for warning in self.verdict.warnings), *self.notes)

    def __repr__(self) -> str:
        verdict, table, rest = self._printed()
        return "\n".join([*verdict, *([] if table.empty else ["", table.to_string(index=False)]), *rest])

    def _repr_html_(self) -> str:
        verdict, table, rest = self._printed()
        before, after = ("".join(f"<p>{html.escape(line)}</p>" for line in lines) for lines in (verdict, rest))
        return before + ("" if table.empty else table.to_html(index=False, border=0)) + after

    def _printed(self) -> tuple[list[str], pd.DataFrame, list[str]]:
        """The verdict with what limits it, how the networks compare, and what is said below the table."""
        limits = [f"- {sentence}" for sentence in self.limits]
        if self.finalists.empty:
            return [f"Selection from study {self.study!r}. {self.infeasibility}", *limits], pd.DataFrame(), []
        shown = self.shown
        comparison, spread = self.comparison.loc[shown.index], self.spread.loc[shown.index]
        table = pd.DataFrame({"place": ["" if math.isnan(place) else f"{place:.0f}" for place in shown["place"]]})
        table["network"] = shown["network"].to_numpy()
        table["against the best"] = comparison["answer"].to_numpy()
        ends = (comparison[name] for name in ("difference", "low", "high"))
        table["below the best"] = list(map(with_interval, *ends))
        table["seeds"] = shown["seeds"].to_numpy()
        for name in dict.fromkeys(["accuracy", *self.deciding]):
            table[name] = list(map(with_spread, shown[name], spread[name].where(spread[name] > 0)))
        rest = [self.not_shown] if self.not_shown else []
        if (shown["seeds"] > 1).any():
            rest.append(SPREAD)
        return [self.verdict.text, *limits], table, rest


def near_best(networks: pd.DataFrame, trials: StudyTrials) -> np.ndarray:
    """The feasible networks that samplers do not avoid (`study.objectives.accuracy_constraint`), bool (networks,)."""
    near = networks["feasible"]
    if trials.floor_below_best is not None:
        near = near & ~(networks["accuracy"] < networks.loc[near, "accuracy"].max() - trials.floor_below_best)
    return near.to_numpy(bool)


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return value
    return None if pd.isna(value) or math.isinf(value) else float(value)
