"""Choosing among accurate networks: how each compares with the best, which are finalists, and in which order."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any, Unpack

import moocore
import numpy as np
import optuna
import pandas as pd

from nas_relucode.ranking.averaging import averaged
from nas_relucode.ranking.criteria import check_weights, read_criteria
from nas_relucode.ranking.equality import Judgement, judge
from nas_relucode.ranking.options import Ranking, RankingOptions
from nas_relucode.ranking.order import Order, costs, hypervolume, order_networks
from nas_relucode.ranking.purposes import order_for
from nas_relucode.ranking.selection import Selection, near_best
from nas_relucode.ranking.trials import StudyTrials, accuracies, check_layers, check_recorded, frame_of, read_trials
from nas_relucode.ranking.trials import saturated as saturated_networks
from nas_relucode.study.storage import own_settings

COST = ("parameters", "flops")  # what orders the networks of a study without objectives beside accuracy
COMPARISON = ("difference", "low", "high", "smallest_difference", "seeds_needed", "samples_needed")


def select(
    study: optuna.Study,
    **options: Unpack[RankingOptions],
) -> Selection:
    """Which networks of any Optuna study are equal to the best, worse, or cannot be told from it, and which to choose.

    The trials carry our record (of `Recorder` or `Objective`). A network is the parameters of a trial less the seed;
    its seeds are averaged first. It is feasible if it reaches the accuracy floor that the study names, if it names one,
    and none of its seeds was pruned or violates a constraint of the user's. Every feasible network
    is compared with the best one, that of the highest mean accuracy (then of fewer parameters, then the first by its
    name). The Pareto front leaves out networks that samplers avoid: without a named floor, those whose mean accuracy
    lies more than 10 times the study's margin below the best mean.

    The options say how networks are compared with the best one, and what orders the finalists: ``margin``, ``rule``,
    ``by``, ``purpose``, ``how``, ``weights``, ``scale``, ``level``, ``resamples``, ``seed``; see `Ranking`.

    Raises InputError for a study without such trials, and for options out of range. If no network is feasible,
    `Selection.finalists` is empty and `Selection.best` raises InputError.
    """
    trials = read_trials(study)
    settings = own_settings(study) or None
    ranking = Ranking(**_with_own_margin(options, settings, trials))
    criteria = _criteria(trials, ranking)
    if list(trials.objectives) == ["accuracy"] and ranking.by is None and ranking.how == "pareto":
        ranking = replace(ranking, how="lexicographic")  # costs: parameters, then FLOPs
    trainings, networks, spread = averaged(frame_of(trials, criteria), trials)
    networks["front"] = _on_front(networks, trials)
    comparison, one_error_below = _compared(networks, trials, ranking)
    saturated = _saturated(networks, trials)
    order, volume = _placed(networks, comparison, saturated, criteria, ranking)
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
        ranking=ranking,
        settings=settings,
        source=trials,
    )


def _with_own_margin(options: RankingOptions, settings: dict[str, Any] | None, trials: StudyTrials) -> Any:
    """The options; where they name no margin, with that of the study's settings, else of its records."""
    if options.get("margin") is not None:
        return options
    own = (settings or {}).get("margin")
    return {**options, "margin": trials.margin if own is None else own}


def _criteria(trials: StudyTrials, ranking: Ranking) -> dict[str, str]:
    """What orders the finalists, with its direction; by default the study's other objectives."""
    measured = {name for record in trials.records for part in ("joint", "qualities") for name in record[part]}
    if ranking.purpose is not None:
        return order_for(ranking.purpose, measured).by
    others = [name for name in trials.objectives if name != "accuracy"] or [name for name in COST if name in measured]
    directions = trials.own_directions | trials.objectives
    criteria = read_criteria(others if ranking.by is None else ranking.by, directions, measured)
    check_weights(ranking.weights, criteria)
    if ranking.by is not None:
        check_layers(trials, criteria)
        check_recorded(trials, criteria)
    return criteria


def _compared(networks: pd.DataFrame, trials: StudyTrials, ranking: Ranking) -> tuple[pd.DataFrame, float]:
    """How each network compares with the best, and the accuracy one standard error below it; says who is a finalist."""
    feasible = networks[networks["feasible"] & networks["accuracy"].notna()]
    feasible = feasible.sort_values("parameters", kind="stable")  # the best of equal ones is the smallest
    if feasible.empty:
        networks["finalist"] = False
        return _comparison(networks, feasible.index, None), math.nan
    measured = accuracies(trials, list(feasible["network"]))
    judgement = judge(measured, margin=ranking.margin, rule=ranking.rule, level=ranking.level)
    networks["finalist"] = networks.index.isin(feasible.index[judgement.finalist])
    return _comparison(networks, feasible.index, judgement), judgement.one_error_below


def _placed(
    networks: pd.DataFrame,
    comparison: pd.DataFrame,
    saturated: pd.DataFrame,
    criteria: dict[str, str],
    ranking: Ranking,
) -> tuple[Order, float]:
    """Adds the places of the finalists to the tables; their order, and the hypervolume of what orders them."""
    finalists = networks[networks["finalist"]]
    at_an_end = saturated.columns[saturated.loc[finalists.index].all(axis=0)]
    order = order_networks(finalists, at_an_end, criteria, ranking)
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


def _on_front(networks: pd.DataFrame, trials: StudyTrials) -> np.ndarray:
    """Networks near the best that no other dominates; equal points stay together, undefined ones are not on it."""
    points = costs(networks, trials.objectives)
    front = near_best(networks, trials) & np.isfinite(points).all(axis=1)
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
    comparison = networks[["network"]].assign(answer="")
    if judgement:
        comparison.loc[compared, "answer"] = judgement.answer
    for name in COMPARISON:
        values = getattr(judgement, name) if judgement else math.nan
        comparison[name] = pd.Series(values, index=compared, dtype=float)
    comparison["paired"] = networks.index.isin(compared[judgement.paired]) if judgement else False
    return comparison
