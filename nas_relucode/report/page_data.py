"""What the report's page computes with: the networks of a study, their indices, curves and profiles, as JSON."""

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
from nas_relucode.ranking.ranking import Ranking, rank
from nas_relucode.ranking.selection import select, without_predictions
from nas_relucode.ranking.trials import NETWORK, saturated
from nas_relucode.report.correlations import Correlations, spearman
from nas_relucode.report.tables import index_columns, paired_test
from nas_relucode.report.training_again import study_argument, train_command
from nas_relucode.study.curves import kept_spaces, network_curves
from nas_relucode.study.predictions import FOLDER, file_store
from nas_relucode.study.record import complete_trials, record_of
from nas_relucode.study.search_space import Candidate

MOST_POINTS = 60_000  # of the curves in the page
MOST_PROFILES = 5  # connectivity is computed for so many of the kept code spaces
MOST_THETAS = 60  # of a profile
MOST_RESAMPLED = 60  # networks whose order is drawn again
ACCURACIES = ("accuracy", "test_accuracy", "train_accuracy", "validation_loss")


@dataclass(frozen=True)
class Report:
    """What the parts of a report are made of."""

    study: optuna.Study
    folder: Path
    storage: str  # its URL without a password
    ranking: Ranking
    ahead: dict[int, float]  # row of an equally accurate network -> how often it stays ahead of the next
    tested: Ranking | None  # by McNemar's test, where predictions were kept
    correlations: Correlations
    commands: dict[int, list[str]]  # row -> how to train it again, a command a seed
    notes: list[str]  # what limits all this


def read(study: optuna.Study, folder: Path, storage: str, artifacts: Any = None) -> Report:
    """Ranks the networks and gathers the rest; raises InputError where there is nothing to rank.

    Predictions are looked for in ``artifacts``, by default in the folder of this name in ``folder``.
    """
    ranking, ahead, notes = rank(study), {}, []
    equal = ranking.equal
    if 1 < len(equal) <= MOST_RESAMPLED and (equal["seeds"] > 1).any():
        shares = np.diagonal(select(study).ahead, offset=1)
        ahead = {int(row): float(share) for row, share in zip(equal.index, shares, strict=False)}
    tested = None
    if artifacts is None and (folder / FOLDER).is_dir():
        artifacts = file_store(folder)
    if len(equal) and artifacts is not None:
        try:
            tested = rank(study, tolerance="mcnemar", store=artifacts)
        except InputError as error:  # a lost or damaged file
            notes.append(f"There is no McNemar's test: {error}")
    if tested and tested.comparison["paired"].sum() < 2:
        if any(record_of(trial).get("predictions") for trial in complete_trials(study)):
            notes.append("Too few predictions are of the best one's samples, so mean accuracies are compared.")
        tested = None
    if tested:
        notes += without_predictions(tested)
    return Report(
        study,
        folder,
        storage,
        ranking,
        ahead,
        tested,
        spearman(ranking.networks, shown_columns(ranking), _saturated(study, ranking)),
        _commands(study, folder, ranking),
        notes,
    )


def shown_columns(ranking: Ranking) -> list[str]:
    """What can be compared with what: accuracies, objectives, indices, parameters."""
    columns = [*ACCURACIES, *ranking.objectives, *index_columns(ranking.networks), "parameters", "seconds"]
    return [name for name in dict.fromkeys(columns) if name in ranking.networks and name in ranking.spread]


def page_data(report: Report) -> dict[str, Any]:
    """Everything the page's script reads, as JSON values; lists have an item a network, in the order of `rank`."""
    ranking, networks = report.ranking, report.ranking.networks
    columns = shown_columns(ranking)
    ends = saturated(report.study)
    names = list(zip(*(networks[name] for name in NETWORK), strict=True))
    return {
        "label": networks["network"].tolist(),
        **{name: networks[name].tolist() for name in ("head", "learning_rate", "seeds", "trial", "front")},
        "mean": {name: _plain(networks[name]) for name in columns},
        "spread": {name: _plain(ranking.spread[name]) for name in columns},
        "saturated": {name: [name_ in ends[name] for name_ in names] for name in columns if ends.get(name)},
        "difference": _plain(ranking.comparison["difference"]),
        "objectives": ranking.objectives,
        "by": ranking.by,
        "directions": {name: _direction(name, ranking) for name in columns},
        "x": ranking.shown_objective,
        "rules": _rules(report),
        "ahead": [_finite(report.ahead.get(row, math.nan)) for row in networks.index],
        "correlations": {
            "names": report.correlations.names,
            "matrix": [
                [None if math.isnan(v) else round(float(v), 3) for v in line] for line in report.correlations.matrix
            ],
            "silent": report.correlations.silent,
        },
        "curves": _curves(report),
        "profiles": _profiles(report),
        "commands": [report.commands.get(row, []) for row in networks.index],
    }


def _rules(report: Report) -> list[dict[str, Any]]:
    """The presets of the slider: each with the tolerance to which it comes and the rows that it finds equal."""
    ranking, found = report.ranking, []
    if not math.isnan(ranking.threshold):
        best = float(ranking.networks.loc[ranking.comparison["difference"].eq(0), "accuracy"].max())
        rows = [int(row) for row in ranking.equal.index]
        name = "the one-standard-error rule"
        found.append({"key": "1se", "name": name, "tolerance": best - ranking.threshold, "equal": rows})
    if report.tested:
        by_network = {name: row for row, name in enumerate(zip(*(ranking.networks[n] for n in NETWORK), strict=True))}
        tested = report.tested
        rows = [by_network[name] for name in zip(*(tested.networks[n] for n in NETWORK), strict=True)]
        p = pd.Series(tested.comparison["p"].to_numpy(), index=rows).sort_index()
        equal = [rows[place] for place in tested.equal.index]
        far = float(ranking.comparison.loc[equal, "difference"].max())
        found.append({"key": "mcnemar", "name": paired_test(ranking), "tolerance": far, "equal": equal, "p": _plain(p)})
    return found


def _curves(report: Report) -> dict[str, Any]:
    """Row -> layer -> epochs, cells and cells with a correct sample, seeds averaged; the chosen networks first."""
    networks = report.ranking.networks
    chosen = report.ranking.chosen
    labels = {name: int(row) for row, name in networks["network"].items()}
    points = network_curves(report.study, [*chosen, *(label for label in labels if label not in chosen)])
    if points.empty:
        return {}
    for name in ("cell_count", "correct_cell_count"):
        points[name] = points[name].astype(float) if name in points else math.nan
    means = points.groupby(["network", "layer", "epoch"], sort=False)[["cell_count", "correct_cell_count"]].mean()
    found: dict[str, Any] = {}
    for label, part in means.iloc[: MOST_POINTS // 3].groupby("network", sort=False):
        layers = found.setdefault(str(labels[str(label)]), {})
        for layer, line in part.groupby("layer", sort=False):
            line = line.sort_index(level="epoch")
            epochs = [int(epoch) for epoch in line.index.get_level_values("epoch")]
            cells, correct = (_plain(line[name].round(2)) for name in line)
            layers[str(layer)] = [epochs, cells, correct]
    return found


def _profiles(report: Report) -> dict[str, Any]:
    """Row -> theta, components and the largest one's share of the cells, where the codes of the last epoch are kept."""
    try:
        kept = kept_spaces(report.study, report.folder)
    except InputError:
        return {}
    found: dict[str, Any] = {}
    networks = report.ranking.networks
    labels = {name: int(row) for row, name in networks["network"].items()}
    for label in report.ranking.chosen[:MOST_PROFILES]:
        own = [space for space in kept if space.label == label]
        if not own:
            continue
        last = max(own, key=lambda space: (space.epoch, -space.seed))
        space = last.load()
        profile = connectivity(space.codes)
        count = len(profile.thetas)
        steps = np.unique(np.linspace(0, count - 1, min(count, MOST_THETAS)).round().astype(int))
        found[str(labels[label])] = {
            "epoch": last.epoch,
            "seed": last.seed,
            "neurons": space.neurons,
            "theta": profile.thetas[steps].tolist(),
            "components": profile.component_counts[steps].tolist(),
            "share": (profile.largest_components[steps] / len(space.cells)).round(5).tolist(),
        }
    return found


def _commands(study: optuna.Study, folder: Path, ranking: Ranking) -> dict[int, list[str]]:
    """A command a seed for each network."""
    argument = study_argument(study, folder)
    if argument is None:
        return {}
    seeds = {name: sorted(part["seed"]) for name, part in ranking.trainings.groupby(NETWORK)}
    devices = {record_of(trial).get("device") for trial in complete_trials(study)}
    device = devices.pop() if len(devices) == 1 else None
    found = {}
    for row, name in enumerate(zip(*(ranking.networks[n] for n in NETWORK), strict=True)):
        head, rate = str(name[0]), float(name[1])
        found[row] = [train_command(argument, Candidate(head, rate, int(seed)), device) for seed in seeds[name]]
    return found


def _saturated(study: optuna.Study, ranking: Ranking) -> list[str]:
    everyone = set(zip(*(ranking.networks[name] for name in NETWORK), strict=True))
    return [name for name, where in saturated(study).items() if everyone <= where]


def _direction(name: str, ranking: Ranking) -> str | None:
    known = {**ranking.objectives, **ranking.by}
    if name in known:
        return known[name]
    if name in ("parameters", "seconds", "validation_loss"):
        return "minimize"
    if name in ACCURACIES:
        return "maximize"
    index = INDICES.get(name.rpartition(":")[2])
    return index.direction if index else None


def _plain(values: Iterable[float]) -> list[float | None]:
    return [_finite(float(value)) for value in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
