"""The tables of a report as rows of text: networks, indices, and trials without a result."""

from __future__ import annotations

import re

import pandas as pd

from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.selection import Selection
from nas_relucode.study.record import network_label
from nas_relucode.texts import plain, with_spread

Table = tuple[list[str], list[list[str]]]  # headings, rows
MOST_SENTENCES = 20  # about trials without a result
MARKUP = re.compile(  # what Markdown, or a dialect with HTML and formulas, would interpret
    r"[\\`*<~$|]|(?<!\S)#|&(?=#?\w+;)|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])"
)


def networks_table(selection: Selection, networks: pd.DataFrame, *, every_index: bool = False) -> Table:
    """A row per network: accuracy with its spread, the objectives or every index, parameters, training seconds.

    Indices that are constant or undefined over the networks are left out. The mark is that of the figures, or the
    reason why a network cannot be chosen.
    """
    indices = [name for name in index_columns(networks) if every_index or name in selection.objectives]
    indices = [name for name in indices if not is_constant(networks[name]) and networks[name].notna().any()]
    headings = ["network", "mark", "seeds", "accuracy", "test accuracy", *indices, "parameters", "seconds"]
    rows = []
    for i, row in networks.iterrows():
        spread = selection.spread.loc[i]
        rows.append(
            [
                row["network"],
                row["mark"] or ("" if row["feasible"] else "pruned" if row["pruned"] else "infeasible"),
                str(row["seeds"]),
                with_spread(row["accuracy"], spread["accuracy"]),
                with_spread(row["test_accuracy"], spread["test_accuracy"]),
                *(with_spread(row[name], spread[name]) for name in indices),
                "-" if pd.isna(row["parameters"]) else f"{row['parameters']:,.0f}",
                "-" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}",
            ]
        )
    return headings, rows


def longer_side_down(table: Table) -> Table:
    """The table, or its transpose if that has fewer columns."""
    headings, rows = table
    if len(rows) >= len(headings):
        return table
    columns = [list(column) for column in zip(headings, *rows, strict=True)]
    return columns[0], columns[1:]


def constant_on_front(selection: Selection) -> dict[str, float]:
    """The indices that have one value on the whole front."""
    front = selection.front
    return {name: float(front[name].iloc[0]) for name in index_columns(front) if is_constant(front[name])}


def markdown(text: str) -> str:
    """The text on one line, escaped so that Markdown shows it unchanged.

    >>> print(markdown("largest_share of <b> *a*|b"))
    largest_share of \\<b> \\*a\\*\\|b
    """
    return MARKUP.sub(r"\\\g<0>", plain(text))


def text_table(table: Table) -> str:
    """The table as text for a terminal."""
    return _aligned([[plain(cell).replace("|", "\\|") for cell in line] for line in [table[0], *table[1]]])


def markdown_table(table: Table) -> str:
    """The table as Markdown that shows every cell unchanged."""
    return _aligned([[markdown(cell) for cell in line] for line in [table[0], *table[1]]])


def _aligned(lines: list[list[str]]) -> str:
    headings, *rows = lines
    widths = [max(2, *(len(line[i]) for line in [headings, *rows])) for i in range(len(headings))]

    def line(cells: list[str]) -> str:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *rest])} |"

    rule = [":" + "-" * (w - 1) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(headings), line(rule), *map(line, rows)])


def retries(trials: pd.DataFrame) -> list[str]:
    """A sentence for each trial that failed, was interrupted or was pruned.

    Of more than twenty, the first twenty are named and the others counted.
    """
    retried = trials.dropna(subset="retry_of").groupby("retry_of")["number"].last()
    sentences = []
    ended_early = trials[trials["state"].isin(["FAIL", "PRUNED"])]
    for _, trial in ended_early.head(MOST_SENTENCES).iterrows():
        subject, reason = f"trial {trial['number']}", trial["reason"] if isinstance(trial["reason"], str) else ""
        if isinstance(trial["head"], str):
            subject += f" ({network_label(trial)}" + ("" if pd.isna(trial["seed"]) else f", seed {trial['seed']}") + ")"
        if trial["state"] == "PRUNED":
            sentences.append(f"{subject} was pruned: {reason}.")
        else:
            again = retried.get(trial["number"])
            outcome = f"failed ({reason})" if reason else "was interrupted"
            then = f"retried as trial {again}" if again else "not retried"
            sentences.append(f"{subject} {outcome} and was {then}.")
    if more := len(ended_early) - len(sentences):
        sentences.append(f"{more} more failed, were interrupted or pruned: trials.csv, beside a report, says why.")
    return sentences


def index_columns(networks: pd.DataFrame) -> list[str]:
    """The columns that hold indices, of the joint codes or of a layer."""
    return [name for name in networks.columns if name.rpartition(":")[2] in INDICES]


def is_constant(values: pd.Series) -> bool:
    """Whether there are several networks and all have the same value."""
    return len(values) > 1 and (values == values.iloc[0]).all()
