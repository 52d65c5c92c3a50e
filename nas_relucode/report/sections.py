"""The sections of a report, each with a heading, a text and a table: the content of both report.md and the page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optuna

from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.criteria import QUANTITIES
from nas_relucode.ranking.purposes import effects_of
from nas_relucode.ranking.words import meaning
from nas_relucode.report.contents import Report, network_curves, shown_columns
from nas_relucode.report.tables import (
    Table,
    constant_on_front,
    longer_side_down,
    measured_columns,
    networks_table,
    retries,
)
from nas_relucode.study.record import record_of
from nas_relucode.study.storage import own_settings
from nas_relucode.texts import with_spread


@dataclass(frozen=True)
class Section:
    """One section of a report."""

    heading: str
    text: str
    table: Table | None = None
    caption: str = ""
    lines: tuple[str, ...] = ()  # commands
    points: tuple[str, ...] = ()  # a list of sentences


def sections(report: Report) -> list[Section]:
    """The sections in their order."""
    return [
        _verdict(report),
        *_finalists(report),
        *_commands(report),
        _front(report),
        _networks(report),
        *_last_epoch(report),
        _indices(report),
        _trials(report),
        _settings(report),
    ]


def _verdict(report: Report) -> Section:
    """What the comparison says, and everything that limits it."""
    selection = report.selection
    return Section("Verdict", selection.verdict.text, points=selection.limits)


def _finalists(report: Report) -> list[Section]:
    selection = report.selection
    if selection.finalists.empty:
        return []
    table = longer_side_down(networks_table(selection, selection.finalists))
    text = (
        "Against the best: equal (the difference is shown to be less than the margin, "
        f"{selection.ranking.margin:g}), worse (it is shown to be above 0), or cannot be told; with the interval "
        "of the difference."
    )
    return [Section("Finalists", text, table, "The finalists in their order")]


def _commands(report: Report) -> list[Section]:
    """How to train the finalists again, where the study's settings are known."""
    if report.selection.finalists.empty or not report.commands:
        return []
    text = (
        "These commands repeat the trainings with the same data, recipe and seeds: one command per seed, the first "
        "choice first. Add --data-root DIR if the data are not in ./data."
    )
    lines = [line for row in report.selection.finalists.index for line in report.commands.get(int(row), [])]
    return [Section("Train them again", text, lines=tuple(lines))]


def _front(report: Report) -> Section:
    selection = report.selection
    objectives = ", ".join(f"{name} ({direction})" for name, direction in selection.objectives.items())
    text = f"Objectives: {objectives}. "
    if selection.front.empty:
        condition = "has all of them" if selection.networks["feasible"].any() else "is feasible"
        return Section("Pareto front", f"{text}No network is on the front, because none {condition}.")
    text += (
        "Means over seeds ± standard deviation; codes of the training samples. "
        "Mark: the place among the finalists, or a letter for the other networks on the front."
    )
    constant = constant_on_front(selection)
    if constant:
        text += " Constant on the front: " + ", ".join(f"{k} = {v:.4g}" for k, v in constant.items()) + "."
    undefined = [name for name in measured_columns(selection) if selection.front[name].isna().all()]
    if undefined:
        text += f" Undefined on the front: {', '.join(undefined)}."
    table = longer_side_down(networks_table(selection, selection.front, every_index=True))
    return Section("Pareto front", text, table, "The networks on the Pareto front")


def _networks(report: Report) -> Section:
    infeasible = (
        "Networks that are not feasible are below the accuracy floor, violate a constraint, or were pruned with some "
        "seed: they diverged, an objective is undefined for them, or the search pruned them."
    )
    text = "" if report.selection.networks["feasible"].all() else infeasible
    by_accuracy = report.selection.networks.sort_values("accuracy", ascending=False, kind="stable")
    return Section("All networks", text, networks_table(report.selection, by_accuracy), "All networks by accuracy")


def _last_epoch(report: Report) -> list[Section]:
    means = network_curves(report.selection, report.selection.chosen)
    if means.empty:
        return []
    last = means.groupby(["network", "layer"], observed=True)["cell_count"].last().unstack("layer")
    rows = [
        [str(name), *(with_spread(value) for value in row)]
        for name, row in zip(last.index, last.to_numpy(), strict=True)
    ]
    text = "Means over seeds. The table shows the last epoch of the finalists and of the networks on the front."
    table = (["network", *map(str, last.columns)], rows)
    return [Section("Occupied cells by layer", text, table, "Occupied cells after the last epoch")]


def _indices(report: Report) -> Section:
    """What each index means, its correlation with accuracy, and which ones do not distinguish these networks."""
    correlations = report.correlations
    position = {name: i for i, name in enumerate(correlations.names)}
    rows = []
    for name in (name for name in shown_columns(report.selection) if ":" not in name):
        way = INDICES[name].direction if name in INDICES else QUANTITIES.get(name)
        rank = correlations.matrix[position[name], position["accuracy"]]
        values = report.selection.networks[name].dropna()
        ends = f"{_end(values.min())} to {_end(values.max())}" if len(values) else "-"
        rank_text = "-" if math.isnan(rank) or name == "accuracy" else f"{rank:.3f}"
        direction = {**report.selection.objectives, **report.selection.by}.get(name, way or "minimize")
        silent, known = correlations.silent.get(name, ""), effects_of(name, direction)
        rows.append([name, meaning(name), way or "", ends, rank_text, silent, known])
    headings = [
        "index",
        "meaning",
        "usually",
        "over all networks",
        "rank correlation with accuracy",
        "not informative",
        "choosing equally accurate networks by it, on other data (fully connected layers)",
    ]
    text = (
        "Spearman's rank correlations are computed over all networks that have both indices. "
        "An index that is constant, undefined or saturated for all networks is not informative. The last column says "
        "what choosing by the index was worth on the networks it was measured on, compared with a random choice."
    )
    return Section("Indices", text, (headings, rows), "What the indices mean and how they correlate with accuracy")


def _end(value: float) -> str:
    """An end of a range: large numbers without decimals, others with four digits.

    >>> _end(112394.0), _end(0.00026667)
    ('112,394', '0.0002667')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _trials(report: Report) -> Section:
    trials = report.selection.trials
    words = {"FAIL": "failed"}
    counts = trials["state"].value_counts().items()
    states = ", ".join(f"{count} {words.get(str(state), str(state).lower())}" for state, count in counts)
    sentences = [sentence[0].upper() + sentence[1:] for sentence in retries(trials)]
    return Section("Trials", " ".join([f"{states}.", *sentences]))


def _settings(report: Report) -> Section:
    study = report.study
    text = f"Study {study.study_name!r}" + (f" in {report.storage}" if report.storage else "") + "."
    devices = _devices(report)
    text += f" Device: {', '.join(devices)}." if devices else ""
    text += "".join(f" {name} {version}." for name, version in _table_of(study, "versions").items())
    rows = [[key, json.dumps(value)] for key, value in _flat(_table_of(study, "settings")) if key != "description"]
    return Section("Settings", text, (["setting", "value"], rows) if rows else None, "The settings of the study")


def _devices(report: Report) -> list[str]:
    source = report.selection.source
    ranked = {trial.number for trial in source.ranked}
    others = [record_of(trial) for trial in source.trials if trial.number not in ranked]
    return sorted({record["device"] for record in [*source.records, *others] if record.get("device") is not None})


def _flat(table: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def described(report: Report) -> str:
    """The description in the study's settings; empty if there is none."""
    return str(_table_of(report.study, "settings").get("description", ""))


def _table_of(study: optuna.Study, attribute: str) -> dict[str, Any]:
    """A table that `run_study` stores with the study; empty if the study has none."""
    if not own_settings(study):
        return {}
    table = study.user_attrs.get(attribute)
    return table if isinstance(table, dict) else {}
