"""Choosing among equally accurate networks: `select` says which they are, their order, and how firm it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd

from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import LEVEL
from nas_relucode.ranking.equality import SAMPLE_BY_SAMPLE, Tolerance
from nas_relucode.ranking.order import Named, costs, stays_ahead
from nas_relucode.ranking.ranking import Ranking, rank
from nas_relucode.ranking.trials import NETWORK, network_of
from nas_relucode.study.record import complete_trials


@dataclass(frozen=True)
class Selection:
    """The equally accurate networks of a study in their order, and what was asked for."""

    study: str
    ranking: Ranking
    ahead: np.ndarray  # float64, (equal, equal) by place: how often the row's network stays ahead of the column's
    asked: dict[str, Any]  # tolerance, level, how, weights, scale
    trials: tuple[tuple[int, ...], ...]  # of each equally accurate network, by place: its complete trials
    settings: dict[str, Any] | None  # of the study, where it was made by `run_study`
    notes: tuple[str, ...]  # what limits the comparison

    @property
    def networks(self) -> pd.DataFrame:
        """The equally accurate networks, the chosen one first; columns as in `rank`."""
        return self.ranking.equal

    @property
    def best(self) -> dict[str, Any]:
        """The chosen network and what is needed to train it again: its candidates, its trials, the study's settings."""
        row = self.networks.iloc[0]
        rows = self.ranking.trainings
        seeds = rows.loc[(rows[NETWORK] == row[NETWORK]).all(axis=1), "seed"]
        network = {"head": str(row["head"]), "learning_rate": float(row["learning_rate"])}
        found = network | {"seeds": [int(seed) for seed in seeds], "trials": list(self.trials[0])}
        return found | {"settings": self.settings}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        numeric = [name for name in self.ranking.spread.columns if name not in NETWORK and name in self.networks]
        rows = []
        for i, (at, row) in enumerate(self.networks.iterrows()):
            follows = self.ahead[i, i + 1] if i + 1 < len(self.ahead) else math.nan
            found = {
                "head": str(row["head"]),
                "learning_rate": float(row["learning_rate"]),
                "seeds": int(row["seeds"]),
                "trials": list(self.trials[i]),
                "place": int(row["place"]),
                "rank": int(row["rank"]),
                "on_front": bool(row["front"]),
                "ahead_of_next": _plain(follows),
                "mean": {name: _plain(row[name]) for name in numeric},
                "spread": {name: _plain(self.ranking.spread.loc[at, name]) for name in numeric},
            }
            rows.append(found | {name: _plain(value) for name, value in self.ranking.comparison.loc[at].items()})
        return {
            "study": self.study,
            **self.asked,
            "objectives": self.ranking.objectives,
            "by": self.ranking.by,
            "silent": self.ranking.silent,
            "threshold": _plain(self.ranking.threshold),
            "compared": int(self.ranking.compared.sum()),
            "hypervolume": _plain(self.ranking.hypervolume),
            "best": self.best,
            "equally_accurate": rows,
            "ahead": [[_plain(value) for value in row] for row in self.ahead],
            "notes": list(self.notes),
        }


def select(
    study: optuna.Study,
    *,
    tolerance: Tolerance = "1se",
    by: Iterable[Named] | None = None,
    how: str = "pareto",
    weights: Mapping[str, float] | None = None,
    scale: str = "ranks",
    level: float = LEVEL,
    store: Any = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Selection:
    """The equally accurate networks of any Optuna study whose trials carry our attribute, the first choice first.

    All but the last two arguments are those of `rank`. ``resamples`` draws of the seeds tell how often each network
    stays ahead of each other, see `ordering.stays_ahead`; ``seed`` is that of the draws.

    Raises InputError for a study without such trials, one in which no network is feasible, or arguments that say
    nothing: an unknown index, a negative tolerance.
    """
    if resamples < 1:
        raise InputError(f"resamples {resamples!r} is out of range. Give a whole number of at least 1.")
    by = by if by is None or isinstance(by, str) else list(by)
    asked = {"tolerance": tolerance, "level": level, "how": how, "weights": dict(weights or {}) or None, "scale": scale}
    ranking = rank(study, tolerance=tolerance, by=by, how=how, weights=weights, scale=scale, level=level, store=store)
    if ranking.equal.empty:
        networks = ranking.networks
        pruned, undefined = int((networks["pruned"] > 0).sum()), int(networks["accuracy"].isna().sum())
        raise InputError(
            f"none of the {len(networks)} networks of study {study.study_name!r} can be chosen: "
            f"{pruned} were pruned with some seed, {undefined} have no accuracy, the others miss the accuracy floor. "
            "Train other candidates, or lower accuracy_floor."
        )
    names = list(zip(*(ranking.equal[name] for name in NETWORK), strict=True))
    rows = {network: part.sort_values("seed") for network, part in ranking.trainings.groupby(NETWORK)}
    deciding = ranking.deciding
    ahead = stays_ahead(
        [np.column_stack([rows[name]["accuracy"], costs(rows[name], deciding)]) for name in names],
        ranking.equal["parameters"].to_numpy(float),
        how=how,
        weights=[(weights or {}).get(name, 1.0) for name in deciding],
        scale=scale,
        resamples=resamples,
        seed=seed,
    )
    trials: dict[Any, list[int]] = {name: [] for name in names}
    for trial in complete_trials(study):
        trials.get(network_of(trial), []).append(trial.number)
    numbers = tuple(tuple(trials[name]) for name in names)
    settings = study.user_attrs.get("settings")
    return Selection(study.study_name, ranking, ahead, asked, numbers, settings, tuple(_notes(ranking, tolerance)))


def without_predictions(ranking: Ranking) -> list[str]:
    """A sentence if a comparison sample by sample was one of accuracies for some networks; else none."""
    loose = int((~ranking.comparison["paired"] & ranking.compared).sum())
    if not loose:
        return []
    return [
        f"{loose} of {int(ranking.compared.sum())} networks have no predictions of the best one's samples: "
        "they are compared by their accuracies, which tells less apart."
    ]


def _notes(ranking: Ranking, tolerance: Tolerance) -> list[str]:
    """What limits the comparison, in sentences."""
    notes = without_predictions(ranking) if tolerance in SAMPLE_BY_SAMPLE else []
    if (ranking.equal["seeds"] == 1).all():
        notes.append("Each network was trained once, so nothing is known of what other seeds would change.")
    if not ranking.deciding:
        notes.append("No index tells the equally accurate networks apart: accuracy and size order them.")
    return notes


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return None if pd.isna(value) else float(value)
