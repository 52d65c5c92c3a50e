"""The sections of a report, each with a heading, a text and a table: the content of both report.md and the page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optuna

from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.order import QUANTITIES
from nas_relucode.ranking.trials import trials_frame
from nas_relucode.report.contents import Report, shown_columns
from nas_relucode.report.tables import (
    Table,
    constant_on_front,
    index_columns,
    longer_side_down,
    networks_table,
    retries,
)
from nas_relucode.study.curves import network_curves
from nas_relucode.study.record import record_of
from nas_relucode.texts import with_spread

MEANINGS = {
    "accuracy": "The fraction of the validation samples that is classified correctly.",
    "test_accuracy": "The same fraction of the test samples; shown in reports only, nothing is chosen by it.",
    "train_accuracy": "The same fraction of the training samples.",
    "validation_loss": "The loss on the validation samples.",
    "parameters": "Weights and biases of the whole network.",
    "seconds": "The time of the training, without evaluation and indices.",
}


@dataclass(frozen=True)
class Section:
    """One section of a report."""

    heading: str
    text: str
    table: Table | None = None
    caption: str = ""
    lines: tuple[str, ...] = ()  # commands


def sections(report: Report) -> list[Section]:
    """The sections in their order."""
    return [
        _equal(report),
        *_commands(report),
        _front(report),
        _networks(report),
        *_last_epoch(report),
        _indices(report),
        _trials(report),
        _settings(report),
    ]


def _equal(report: Report) -> Section:
    selection, heading = report.selection, "Equally accurate networks"
    if math.isnan(selection.threshold):
        return Section(heading, selection.infeasibility)
    equal, compared = len(selection.equal), int(selection.compared.sum())
    threshold = f"an accuracy of {selection.threshold:.4f}"
    reached = f"{threshold}, the best accuracy less one standard error (over seeds and validation samples)"
    if compared == 1:
        text = f"{selection.equal['network'].iloc[0]} is the only feasible network: there is nothing to choose."
    elif equal == 1:
        text = (
            f"By the one-standard-error rule only {selection.equal['network'].iloc[0]}, of {compared} feasible "
            f"networks, reaches {reached}: there is nothing to order."
        )
    else:
        order = [f"{name} ({way})" for name, way in selection.deciding.items() if name != "accuracy"]
        text = (
            f"By the one-standard-error rule {equal} of {compared} feasible networks reach {reached}: they "
            f"are equally accurate. {_order(order)}"
        )
    if selection.silent and equal > 1:
        text += " These cannot order them: " + "; ".join(f"{k} ({v})" for k, v in selection.silent.items()) + "."
    text = " ".join([text, *remarks(report)])
    table = longer_side_down(networks_table(selection, selection.equal, every_index=True))
    return Section(heading, text, table, "The equally accurate networks in their order")


def _order(names: list[str]) -> str:
    if not names:
        return "No index orders them: their places follow accuracy, then size."
    return f"Their places follow their Pareto rank over {', '.join(names)}, then accuracy, then size."


def remarks(report: Report) -> list[str]:
    """How stable the choice by the one-standard-error rule is, and what limits it."""
    sentences = []
    shares = list(report.ahead.values())
    if any(math.isnan(share) for share in shares):
        sentences.append("Some of them were trained once, so the stability of their order is unknown.")
    elif shares:
        first, *later = shares
        sentences.append(
            "In the order by the one-standard-error rule, the first network stays ahead of the second in "
            f"{100 * first:.0f} % of the draws when seeds are resampled"
            + (f", and each stays ahead of the next in at least {100 * min(first, *later):.0f} %." if later else ".")
        )
    if report.tested:
        test, count = report.selection.paired_test, len(report.tested.equal)
        sentences.append(f"{test[0].upper()}{test[1:]}, corrected for all pairs, leaves {count} equally accurate.")
    elif not report.notes and report.selection.compared.sum() > 1:
        sentences.append(
            "No predictions were kept, so mean accuracies are compared, without McNemar's test sample by sample."
        )
    if (report.selection.equal["seeds"] == 1).all():
        who = "It" if len(report.selection.equal) == 1 else "Each of them"
        sentences.append(f"{who} was trained once, so the effect of other seeds is unknown.")
    return [*sentences, *report.notes]


def _commands(report: Report) -> list[Section]:
    selection = report.selection
    if selection.equal.empty:
        return []
    if not report.commands:
        text = (
            "There is no command: this study was not made by nas-relucode run, or a file of its name beside the report "
            "has other settings. Use the Objective that it was run with: "
            "objective.trained(Candidate(head, learning_rate, seed))."
        )
        return [Section("Train them again", text)]
    text = (
        "These commands repeat the trainings with the same data, recipe and seeds: one command per seed, the first "
        "choice first. Add --data-root DIR if the data are not in ./data."
    )
    lines = [line for row in selection.equal.index for line in report.commands.get(int(row), [])]
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
        "Mark: the place among the equally accurate networks, or a letter for the less accurate ones."
    )
    constant = constant_on_front(selection)
    if constant:
        text += " Constant on the front: " + ", ".join(f"{k} = {v:.4g}" for k, v in constant.items()) + "."
    undefined = [name for name in index_columns(selection.front) if selection.front[name].isna().all()]
    if undefined:
        text += f" Undefined on the front: {', '.join(undefined)}."
    table = longer_side_down(networks_table(selection, selection.front, every_index=True))
    return Section("Pareto front", text, table, "The networks on the Pareto front")


def _networks(report: Report) -> Section:
    infeasible = (
        "Infeasible networks are below the accuracy floor; pruned ones diverged with some seed, or an objective is "
        "undefined for them."
    )
    text = "" if report.selection.networks["feasible"].all() else infeasible
    by_accuracy = report.selection.networks.sort_values("accuracy", ascending=False, kind="stable")
    return Section("All networks", text, networks_table(report.selection, by_accuracy), "All networks by accuracy")


def _last_epoch(report: Report) -> list[Section]:
    points = network_curves(report.study, report.selection.chosen)
    if points.empty:
        return []
    layers = list(dict.fromkeys(points["layer"]))
    last = points[points["epoch"] == points.groupby(["network", "seed"])["epoch"].transform("max")]
    means = last.pivot_table(values="cell_count", index="network", columns="layer", sort=False)[layers]
    rows = [
        [str(name), *(with_spread(value) for value in row)]
        for name, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    text = "Means over seeds. The table shows the last epoch of the networks that are equally accurate or on the front."
    table = (["network", *layers], rows)
    return [Section("Occupied cells by layer", text, table, "Occupied cells after the last epoch")]


def _indices(report: Report) -> Section:
    """What each index means, its correlation with accuracy, and which ones do not distinguish these networks."""
    correlations = report.correlations
    position = {name: i for i, name in enumerate(correlations.names)}
    rows = []
    for name in (name for name in shown_columns(report.selection) if ":" not in name):
        index = INDICES.get(name)
        way = index.direction if index else QUANTITIES.get(name)
        rank = correlations.matrix[position[name], position["accuracy"]]
        values = report.selection.networks[name].dropna()
        ends = f"{_end(values.min())} to {_end(values.max())}" if len(values) else "-"
        meaning = index.meaning if index else MEANINGS.get(name, "")
        rank_text = "-" if math.isnan(rank) or name == "accuracy" else f"{rank:.3f}"
        rows.append([name, meaning, way or "", ends, rank_text, correlations.silent.get(name, "")])
    headings = ["index", "meaning", "usually", "over all networks", "rank correlation with accuracy", "not informative"]
    text = (
        "Spearman's rank correlations are computed over all networks that have both indices. "
        "An index that is constant, undefined or saturated for all networks is not informative."
    )
    return Section("Indices", text, (headings, rows), "What the indices mean and how they correlate with accuracy")


def _end(value: float) -> str:
    """An end of a range: large numbers without decimals, others with four digits.

    >>> _end(112394.0), _end(0.00026667)
    ('112,394', '0.0002667')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _trials(report: Report) -> Section:
    trials = trials_frame(report.study)
    words = {"FAIL": "failed"}
    counts = trials["state"].value_counts().items()
    states = ", ".join(f"{count} {words.get(str(state), str(state).lower())}" for state, count in counts)
    sentences = [sentence[0].upper() + sentence[1:] for sentence in retries(trials)]
    return Section("Trials", " ".join([f"{states}.", *sentences]))


def _settings(report: Report) -> Section:
    study = report.study
    text = f"Study {study.study_name!r}" + (f" in {report.storage}" if report.storage else "") + "."
    devices = _devices(study)
    text += f" Device: {', '.join(devices)}." if devices else ""
    text += "".join(f" {name} {version}." for name, version in _table_of(study, "versions").items())
    rows = [[key, json.dumps(value)] for key, value in _flat(_table_of(study, "settings")) if key != "description"]
    return Section("Settings", text, (["setting", "value"], rows) if rows else None, "The settings of the study")


def _devices(study: optuna.Study) -> list[str]:
    records = [record_of(trial) for trial in study.get_trials(deepcopy=False)]
    return sorted({record["device"] for record in records if "device" in record})


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
    table = study.user_attrs.get(attribute)
    return table if isinstance(table, dict) else {}
