"""What a report shows: the selection, its rankings at other tolerances, correlations, curves, profiles, commands."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from nas_relucode.cells.graph import connectivity
from nas_relucode.errors import InputError
from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.equality import ROUNDING
from nas_relucode.ranking.order import QUANTITIES, silent_reasons
from nas_relucode.ranking.selection import Order, Selection, select
from nas_relucode.ranking.trials import NETWORK
from nas_relucode.report.tables import index_columns
from nas_relucode.report.training_again import study_argument, train_command
from nas_relucode.study.curves import kept_spaces, network_curves
from nas_relucode.study.predictions import FOLDER, file_store
from nas_relucode.study.record import complete_trials, record_of
from nas_relucode.study.search_space import Candidate

MOST_POINTS = 60_000  # of the curves in the page
MOST_PROFILES = 5  # connectivity is computed for this many of the kept code spaces
MOST_THETAS = 60  # of a profile
MOST_RESAMPLED = 60  # networks whose order is resampled
MOST_PLACES = 300_000  # of all rankings together: those of large tolerances are thinned out
ALIKE = 0.95  # rank correlation beyond which a second parallel coordinate shows nothing new
ACCURACIES = ("accuracy", "test_accuracy", "train_accuracy", "validation_loss")


@dataclass(frozen=True)
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
    ahead: dict[int, float]  # row of an equal network -> how often it stays ahead of the next when seeds are resampled
    tested: Selection | None  # by the test on predictions, where they were kept
    correlations: Correlations
    commands: dict[int, list[str]]  # row -> how to train the network again, a command per seed
    notes: list[str]  # what limits the comparison


def gather(study: optuna.Study, folder: Path, storage: str, artifacts: Any = None) -> Report:
    """The selection of a study and what its report shows of it; raises InputError if there is nothing to rank.

    Predictions are read from ``artifacts``, by default from the folder of this name in ``folder``.
    """
    selection, ahead, notes = select(study), {}, []
    equal = selection.equal
    if 1 < len(equal) <= MOST_RESAMPLED and (equal["seeds"] > 1).any():
        shares = np.diagonal(selection.ahead, offset=1)
        ahead = {int(row): float(share) for row, share in zip(equal.index, shares, strict=False)}
    tested = None
    if artifacts is None and (folder / FOLDER).is_dir():
        artifacts = file_store(folder)
    if len(equal) and artifacts is not None:
        try:
            tested = select(study, tolerance="mcnemar", store=artifacts)
        except InputError as error:  # a lost or damaged file
            notes.append(f"McNemar's test was not possible: {error}")
    if tested and tested.comparison["paired"].sum() < 2:
        if any(record_of(trial).get("predictions") for trial in complete_trials(study)):
            notes.append("Too few networks have predictions of the same samples, so mean accuracies are compared.")
        tested = None
    if tested:
        notes += tested.missing_predictions
    saturated = selection.saturated.columns[selection.saturated.all(axis=0)]
    correlations = spearman(selection.networks, shown_columns(selection), saturated)
    commands = _commands(study, folder, selection)
    return Report(study, folder, storage, selection, ahead, tested, correlations, commands, notes)


def shown_columns(selection: Selection) -> list[str]:
    """The columns that can be compared with each other: accuracies, objectives, indices, parameters, seconds."""
    columns = [*ACCURACIES, *selection.objectives, *index_columns(selection.networks), "parameters", "seconds"]
    return [name for name in dict.fromkeys(columns) if name in selection.networks and name in selection.spread]


def page_data(report: Report) -> dict[str, Any]:
    """Everything the page's script shows, as JSON values; lists have an item per network, in the selection's order."""
    selection, networks = report.selection, report.selection.networks
    columns = shown_columns(selection)
    difference = selection.comparison["difference"]
    best = networks.loc[difference.eq(0), "accuracy"]
    return {
        "label": networks["network"].tolist(),
        **{name: networks[name].tolist() for name in ("head", "learning_rate", "seeds", "front")},
        "mean": {name: _plain(networks[name]) for name in columns},
        "spread": {name: _plain(selection.spread[name]) for name in columns},
        "difference": _plain(difference),
        "best": None if best.empty else float(best.max()),
        "compared": int(selection.compared.sum()),
        "objectives": selection.objectives,
        "by": selection.by,
        "directions": {name: _direction(name, selection) for name in columns},
        "x": selection.shown_objective,
        **_rankings(report, columns),
        "ahead": [_finite(report.ahead.get(row, math.nan)) for row in networks.index],
        "correlations": {
            "names": report.correlations.names,
            "matrix": [_plain(line.round(3)) for line in report.correlations.matrix],
            "silent": report.correlations.silent,
        },
        "parallel": _parallel(report),
        "curves": _curves(report),
        "profiles": _profiles(report),
        "commands": [report.commands.get(row, []) for row in networks.index],
    }


def _rankings(report: Report, columns: list[str]) -> dict[str, Any]:
    """The rankings among which the page chooses.

    ``rankings``: one per difference of accuracy at which the set of equal networks changes, by growing difference,
    then that of the test. ``from`` is the tolerance from which it holds, ``order`` the rows of the equal networks,
    ``tied`` the positions in it that share the rank of the one before, ``silent`` a position in ``silents``: a table
    column -> why it cannot order these networks. ``thinned``: whether rankings were left out. ``rules``: the presets,
    each with the ranking that it chooses.
    """
    selection = report.selection
    difference = selection.comparison["difference"].to_numpy()
    compared = difference[~np.isnan(difference)]
    gaps = np.unique(compared)
    sizes = np.searchsorted(np.sort(compared), gaps, side="right")
    kept = _thinned(sizes)
    silents: list[dict[str, str]] = []

    def shown(order: Order, start: float | None) -> dict[str, Any]:
        if order.silent not in silents:
            silents.append(order.silent)
        tied = np.flatnonzero(order.ranks[1:] == order.ranks[:-1]) + 1
        return {
            "from": start,
            "order": order.rows.tolist(),
            "tied": tied.tolist(),
            "silent": silents.index(order.silent),
        }

    rankings = [
        shown(selection.order_of(difference <= gap, columns), max(0.0, float(gap) - ROUNDING)) for gap in gaps[kept]
    ]
    rules: list[dict[str, Any]] = []
    if not math.isnan(selection.threshold):
        best = float(selection.networks.loc[difference == 0, "accuracy"].max())
        own = shown(selection.order_of(selection.networks["equal"].to_numpy(), columns), None)
        rules.append({"key": "1se", "name": "the one-standard-error rule", "tolerance": best - selection.threshold})
        rules[0]["ranking"] = len(rankings)
        rankings.append(own)
    if report.tested:
        tested = report.tested.networks[[*NETWORK, "equal"]].assign(p=report.tested.comparison["p"])
        tested = selection.networks[NETWORK].merge(tested, on=NETWORK, how="left")  # in the order of the rows here
        equal, name = tested["equal"].to_numpy(bool), selection.paired_test
        largest = float(difference[equal].max())
        rules.append({"key": "mcnemar", "name": name, "tolerance": largest, "p": _plain(tested["p"])})
        rules[-1]["column"] = "p (McNemar)" if name.startswith("McNemar") else "p (seeds, samples)"
        rules[-1]["ranking"] = len(rankings)
        rankings.append(shown(selection.order_of(equal, columns), None))
    return {"rankings": rankings, "silents": silents, "rules": rules, "thinned": len(kept) < len(gaps)}


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


def _curves(report: Report) -> dict[str, Any]:
    """Row -> layer -> epochs, cells and cells with a correct sample, seeds averaged; the chosen networks first."""
    networks = report.selection.networks
    chosen = report.selection.chosen
    rows = {name: int(row) for row, name in networks["network"].items()}
    points = network_curves(report.study, [*chosen, *(name for name in rows if name not in chosen)])
    if points.empty:
        return {}
    for name in ("cell_count", "correct_cell_count"):
        points[name] = points[name].astype(float) if name in points else math.nan
    means = points.groupby(["network", "layer", "epoch"], sort=False)[["cell_count", "correct_cell_count"]].mean()
    curves: dict[str, Any] = {}
    for network, part in means.iloc[: MOST_POINTS // 3].groupby("network", sort=False):
        layers = curves.setdefault(str(rows[str(network)]), {})
        for layer, line in part.groupby("layer", sort=False):
            line = line.sort_index(level="epoch")
            epochs = [int(epoch) for epoch in line.index.get_level_values("epoch")]
            cells, correct = (_plain(line[name].round(2)) for name in line)
            layers[str(layer)] = [epochs, cells, correct]
    return curves


def _profiles(report: Report) -> dict[str, Any]:
    """Row -> theta, components and the largest one's share of the cells, where the codes of the last epoch are kept."""
    try:
        spaces = kept_spaces(report.study, report.folder)
    except InputError:
        return {}
    profiles: dict[str, Any] = {}
    rows = {name: int(row) for row, name in report.selection.networks["network"].items()}
    for network in report.selection.chosen[:MOST_PROFILES]:
        own = [space for space in spaces if space.label == network]
        if not own:
            continue
        last = max(own, key=lambda space: (space.epoch, -space.seed))
        space = last.load()
        profile = connectivity(space.codes)
        count = len(profile.thetas)
        steps = np.unique(np.linspace(0, count - 1, min(count, MOST_THETAS)).round().astype(int))
        profiles[str(rows[network])] = {
            "epoch": last.epoch,
            "seed": last.seed,
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
    seeds = {network: sorted(part["seed"]) for network, part in selection.trainings.groupby(NETWORK)}
    devices = {record_of(trial).get("device") for trial in complete_trials(study)}
    device = devices.pop() if len(devices) == 1 else None
    commands = {}
    for row, (head, rate) in enumerate(selection.networks[NETWORK].itertuples(index=False, name=None)):
        candidates = [Candidate(str(head), float(rate), int(seed)) for seed in seeds[head, rate]]
        commands[row] = [train_command(argument, candidate, device) for candidate in candidates]
    return commands


def _direction(name: str, selection: Selection) -> str | None:
    directions = {"test_accuracy": "maximize", "train_accuracy": "maximize", **QUANTITIES, **selection.objectives}
    directions |= selection.by
    index = INDICES.get(name.rpartition(":")[2])
    return directions.get(name) or (index.direction if index else None)


def _plain(values: Iterable[float]) -> list[float | None]:
    return [_finite(float(value)) for value in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
