"""What a report shows: the selection, its rankings by other rules, correlations, curves, profiles, commands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from nas_relucode.indices.registry import INDICES
from nas_relucode.plots.pareto import ANSWERS, accuracy_range
from nas_relucode.ranking.choices import RULES
from nas_relucode.ranking.criteria import QUANTITIES
from nas_relucode.ranking.equality import ROUNDING
from nas_relucode.ranking.order import Order, silent_reasons
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.selection import Selection
from nas_relucode.ranking.verdict import way_in_words
from nas_relucode.report.tables import (
    ACCURACIES,
    answers_in_words,
    column_in_words,
    differences_in_words,
    measured_columns,
)
from nas_relucode.report.training_again import study_argument, train_command
from nas_relucode.texts import finite_or_none

MOST_POINTS = 60_000  # of the curves in the page
MOST_PROFILES = 5  # connectivity is computed for this many of the kept code spaces
MOST_THETAS = 60  # of a profile
MOST_RESAMPLED = 60  # finalists whose order is resampled
MOST_PLACES = 300_000  # of all rankings together: those of large gaps are thinned out
ALIKE = 0.95  # rank correlation beyond which a second parallel coordinate shows nothing new
RULE_NAMES = {"1se": "within one standard error", "margin": "shown to be equal"}


@dataclass(frozen=True, eq=False)
class Correlations:
    """Spearman's rank correlations of some columns over the networks."""

    names: list[str]  # the columns, those that vary first
    matrix: np.ndarray  # float64, (names, names); NaN where one is constant or fewer than 3 networks have both
    silent: dict[str, str]  # columns that do not distinguish these networks -> why


def spearman(networks: pd.DataFrame, names: Iterable[str], saturated: Iterable[str] = ()) -> Correlations:
    """The rank correlations of the columns ``names``, a row per network, each pair over the networks that have both.

    Equal values share their mean rank. ``saturated`` are the columns that lie at an end of their range for all.

    >>> table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [3.0, 2.0, 1.0], "c": [1.0, 1.0, 1.0]})
    >>> correlations = spearman(table, "abc")
    >>> correlations.matrix.round(2).tolist()[0], correlations.silent
    ([1.0, -1.0, nan], {'c': 'constant, 1'})
    """
    names = list(names)
    reasons = silent_reasons(networks[names], saturated)
    reasons = {name: why for name, why in reasons.items() if why != "undefined for some"}
    for name in names:
        defined = networks[name].dropna()
        if name not in reasons and 0 < len(defined) < len(networks) and (defined == defined.iloc[0]).all():
            reasons[name] = f"constant, {defined.iloc[0]:.4g}, where it is defined"
    names = [name for name in names if name not in reasons] + [name for name in names if name in reasons]
    matrix = networks[names].astype(float).corr(method="spearman", min_periods=3).clip(-1, 1).to_numpy(copy=True)
    silent = [name in reasons for name in names]
    matrix[silent], matrix[:, silent] = math.nan, math.nan
    return Correlations(names, matrix, reasons)


@dataclass(frozen=True)
class Report:
    """Everything that the parts of a report show."""

    study: optuna.Study
    folder: Path
    storage: str  # its URL without a password
    selection: Selection
    ahead: dict[int, float]  # row of a finalist -> how often it stays ahead of the next when seeds are resampled
    correlations: Correlations
    commands: dict[int, list[str]]  # row -> how to train the network again, a command per seed


def gather(study: optuna.Study, folder: Path, storage: str = "", selection: Selection | None = None) -> Report:
    """The selection of a study and what its report shows of it; raises InputError if there is nothing to rank."""
    selection, ahead = selection or select(study), {}
    finalists = selection.finalists
    if 1 < len(finalists) <= MOST_RESAMPLED and (finalists["seeds"] > 1).any():
        shares = np.diagonal(selection.ahead, offset=1)
        ahead = {int(row): float(share) for row, share in zip(finalists.index, shares, strict=False)}
    saturated = selection.saturated.columns[selection.saturated.all(axis=0)]
    correlations = spearman(selection.networks, shown_columns(selection), saturated)
    return Report(study, folder, storage, selection, ahead, correlations, _commands(study, folder, selection))


def shown_columns(selection: Selection) -> list[str]:
    """The columns that can be compared with each other: accuracies, objectives, indices, qualities."""
    return [*(name for name in ACCURACIES if name in selection.spread), *measured_columns(selection)]


def accuracy_intervals(selection: Selection) -> pd.DataFrame:
    """The interval of each network's accuracy, as it follows from that of its difference from the best one's.

    Columns low and high; NaN where there is no interval.
    """
    comparison = selection.comparison
    best = selection.networks.loc[comparison["answer"] == "best", "accuracy"].max()
    known = np.isfinite(comparison["low"]) & np.isfinite(comparison["high"])
    ends = {"low": best - comparison["high"], "high": best - comparison["low"]}
    return pd.DataFrame(ends).where(known).clip(0, 1)


def page_data(report: Report) -> dict[str, Any]:
    """Everything the page's script shows, as JSON values; lists have an item per network, in the selection's order."""
    selection, networks = report.selection, report.selection.networks
    columns, comparison = shown_columns(selection), report.selection.comparison
    intervals = accuracy_intervals(selection)
    best = networks.loc[comparison["answer"] == "best", "accuracy"]
    params = (selection.source.params[name] for name in networks["network"])
    return {
        "label": networks["network"].tolist(),
        "params": [{str(name): str(value) for name, value in values.items()} for values in params],
        "seeds": [selection.seeds_of(name) for name in networks["network"]],
        "front": networks["front"].tolist(),
        "answer": comparison["answer"].tolist(),
        "in_words": answers_in_words(selection, networks),
        "difference": differences_in_words(selection, networks),
        "low": _plain(intervals["low"]),
        "high": _plain(intervals["high"]),
        "mean": {name: _plain(networks[name]) for name in columns},
        "text": {name: column_in_words(selection, networks, name) for name in columns},
        "words": {name: selection.in_words(name) for name in columns},
        "answers": {answer: [style.symbol, answer.replace(" ", "-") or "none"] for answer, style in ANSWERS.items()},
        "best": None if best.empty else float(best.max()),
        "margin": selection.ranking.margin,
        "compared": int(selection.compared.sum()),
        "range": accuracy_range(networks.join(intervals)),
        "directions": {name: _direction(name, selection) for name in columns},
        "x": selection.shown_objective,
        **_rankings(selection),
        "parallel": _parallel(report),
        "curves": _curves(report),
        "profiles": _profiles(report),
        "commands": [report.commands.get(row, []) for row in networks.index],
    }


def _rankings(selection: Selection) -> dict[str, Any]:
    """The rankings among which the page chooses.

    ``rankings``: one per gap to the best accuracy at which the set of networks changes, by growing gap, then one per
    rule. ``from`` is the gap from which it holds, ``order`` the rows of the networks, ``tied`` the positions in it that
    share the rank of the one before, ``by`` a position in ``orders``: sentences that say what orders them. ``thinned``:
    whether rankings were left out. ``rules``: the presets, that of the selection first, each with the largest gap among
    its networks and the ranking that it chooses.
    """
    difference = selection.comparison["difference"].to_numpy()
    compared = difference[~np.isnan(difference)]
    gaps = np.unique(compared)
    sizes = np.searchsorted(np.sort(compared), gaps, side="right")
    kept = _thinned(sizes)
    orders: list[str] = []

    def shown(networks: np.ndarray, start: float | None) -> dict[str, Any]:
        order = selection.order_of(networks, selection.by)
        sentence = order_in_words(selection, order)
        if sentence not in orders:
            orders.append(sentence)
        tied = np.flatnonzero(order.ranks[1:] == order.ranks[:-1]) + 1
        return {"from": start, "order": order.rows.tolist(), "tied": tied.tolist(), "by": orders.index(sentence)}

    rankings = [shown(difference <= gap, max(0.0, float(gap) - ROUNDING)) for gap in gaps[kept]]
    rules: list[dict[str, Any]] = []
    for rule in sorted(RULES, key=lambda rule: rule != selection.ranking.rule):
        finalists = selection.finalists_by(rule)
        if finalists.any():
            gap = float(difference[finalists].max())
            rules.append({"key": rule, "name": RULE_NAMES[rule], "ranking": len(rankings), "gap": gap})
            rankings.append(shown(finalists, None))
    return {"rankings": rankings, "orders": orders, "rules": rules, "thinned": len(kept) < len(gaps)}


def order_in_words(selection: Selection, order: Order) -> str:
    """What orders these networks, and what cannot; empty for a single network."""
    if len(order.rows) < 2:
        return ""
    silent = [f"{selection.in_words(name)} ({order.silent[name]})" for name in selection.by if name in order.silent]
    way = ", then ".join(filter(None, [way_in_words(selection, order.silent), "accuracy"]))
    text = f"They are ordered by {way}, then fewer parameters, then the number of the trial."
    return text + (f" These take no part: {'; '.join(silent)}." if silent else "")


def _thinned(sizes: np.ndarray) -> list[int]:
    """The positions of the rankings that are kept: all, if they hold few enough places, else those that grow enough.

    >>> _thinned(np.arange(1, 6)), len(_thinned(np.arange(1, 1001)))
    ([0, 1, 2, 3, 4], 521)
    """
    growth = 0.0
    while True:
        kept: list[int] = []
        for position, size in enumerate(sizes):
            if not kept or size > sizes[kept[-1]] * (1 + growth) or position == len(sizes) - 1:
                kept.append(position)
        if sizes[kept].sum() <= MOST_PLACES:
            return kept
        growth = 2 * growth or 0.001


def _parallel(report: Report) -> list[str]:
    """The parallel coordinates: what varies; an index that orders the networks like an earlier one is left out."""
    selection, names = report.selection, report.correlations.names
    always = ["accuracy", *selection.by, *selection.objectives, "parameters", "test_accuracy"]
    indices = [name for name in names if ":" not in name and name not in ("seconds", "train_accuracy")]
    shown: list[str] = []
    for name in dict.fromkeys([*always, *indices]):
        if name not in names or selection.networks[name].nunique() < 2:
            continue
        correlations = report.correlations.matrix[names.index(name), [names.index(other) for other in shown]]
        if name in always or not (np.abs(correlations) > ALIKE).any():
            shown.append(name)
    return shown


def network_curves(selection: Selection, networks: Sequence[str]) -> pd.DataFrame:
    """The cells over the epochs of these networks, in their order; seeds and repeated trainings averaged.

    Index: network, layer ("joint" or a layer's own name), epoch. Columns: cell_count, correct_cell_count.
    """
    source, wanted = selection.source, set(networks)
    counts = ["cell_count", "correct_cell_count"]
    rows = [
        (network, layer, int(point["epoch"]), *map(values.get, counts))
        for network, record in zip(source.networks, source.records, strict=True)
        if network in wanted
        for point in record.get("curve", [])
        for layer, values in {"joint": point["joint"], **point["layers"]}.items()
    ]
    if not rows:
        return pd.DataFrame()
    points = pd.DataFrame(rows, columns=["network", "layer", "epoch", *counts]).astype(dict.fromkeys(counts, float))
    points["network"] = pd.Categorical(points["network"], list(networks), ordered=True)
    layers = list(dict.fromkeys(points["layer"]))
    points["layer"] = pd.Categorical(points["layer"], layers, ordered=True)
    return points.groupby(["network", "layer", "epoch"], observed=True)[counts].mean()


def _curves(report: Report) -> dict[str, Any]:
    """Row -> layer -> epochs, cells and cells with a correct sample, seeds averaged; the chosen networks first."""
    selection = report.selection
    names = dict.fromkeys([*selection.chosen, *selection.networks["network"]])
    points = dict.fromkeys(names, 0)  # at least so many a network
    for network, record in zip(selection.source.networks, selection.source.records, strict=True):
        points[network] = max(points[network], len(record.get("curve", [])))
    enough = int(np.searchsorted(np.cumsum(list(points.values())), MOST_POINTS // 3)) + 1
    means = network_curves(selection, list(names)[:enough]).iloc[: MOST_POINTS // 3].round(2)
    row_of = {name: str(row) for row, name in selection.networks["network"].items()}
    curves: dict[str, Any] = {}
    for (network, layer, epoch), cells, correct in means.itertuples(name=None):
        lists = curves.setdefault(row_of[network], {}).setdefault(layer, [[], [], []])
        for values, value in zip(lists, (int(epoch), finite_or_none(cells), finite_or_none(correct)), strict=True):
            values.append(value)
    return curves


def _profiles(report: Report) -> dict[str, Any]:
    """Row -> theta, components and the largest one's share of the cells, where the codes of the last epoch are kept."""
    source, folder = report.selection.source, report.folder / "codes"
    row_of = {name: int(row) for row, name in report.selection.networks["network"].items()}
    profiles: dict[str, Any] = {}
    for network in report.selection.chosen[:MOST_PROFILES]:
        kept = [
            (int(epoch), -candidate.seed, folder / name)
            for own, candidate, record in zip(source.networks, source.candidates, source.records, strict=True)
            if own == network
            for epoch, name in record.get("codes", {}).items()
            if (folder / name).is_file()
        ]
        if not kept:
            continue
        from nas_relucode.cells.code_spaces import load_code_space  # imports torch, which takes seconds
        from nas_relucode.cells.graph import connectivity

        epoch, seed, path = max(kept)
        space = load_code_space(path)
        profile = connectivity(space.codes)
        count = len(profile.thetas)
        steps = np.unique(np.linspace(0, count - 1, min(count, MOST_THETAS)).round().astype(int))
        profiles[str(row_of[network])] = {
            "epoch": epoch,
            "seed": -seed,
            "neurons": space.neurons,
            "theta": profile.thetas[steps].tolist(),
            "components": profile.component_counts[steps].tolist(),
            "share": (profile.largest_components[steps] / len(space.cells)).round(5).tolist(),
        }
    return profiles


def _commands(study: optuna.Study, folder: Path, selection: Selection) -> dict[int, list[str]]:
    """Row -> one command per seed that trains the network again."""
    argument = study_argument(study, folder)
    if argument is None:
        return {}
    source = selection.source
    devices = {record.get("device") for record in source.records}
    device = devices.pop() if len(devices) == 1 else None
    row_of = {name: int(row) for row, name in selection.networks["network"].items()}
    commands: dict[int, dict[int, str]] = {}
    for network, candidate in zip(source.networks, source.candidates, strict=True):
        commands.setdefault(row_of[network], {})[candidate.seed] = train_command(argument, candidate, device)
    return {row: [of_seed[seed] for seed in sorted(of_seed)] for row, of_seed in commands.items()}


def _direction(name: str, selection: Selection) -> str | None:
    directions = {"test_accuracy": "maximize", "train_accuracy": "maximize", **QUANTITIES, **selection.objectives}
    directions |= selection.by
    index = INDICES.get(name.rpartition(":")[2])
    return directions.get(name) or (index.direction if index else None)


def _plain(values: Iterable[float]) -> list[float | None]:
    return [finite_or_none(float(value)) for value in values]
