"""The tables of a report as rows of text: networks, and trials without a result."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd

from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.selection import Selection
from nas_relucode.study.columns import PARAMS
from nas_relucode.texts import plain, with_interval, with_spread

Table = tuple[list[str], list[list[str]]]  # headings, rows
MOST_SENTENCES = 20  # about trials without a result
MARKUP = re.compile(  # what Markdown, or a dialect with HTML and formulas, would interpret
    r"[\\`*<~$|]|(?<!\S)#|&(?=#?\w+;)|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])"
)
ACCURACIES = ("accuracy", "test_accuracy", "train_accuracy", "validation_loss")


def networks_table(selection: Selection, networks: pd.DataFrame, *, every_index: bool = False) -> Table:
    """A row per network: how it compares with the best, accuracies with their spread, objectives or every index, size.

    Columns that are constant or undefined over the networks are left out. The mark is that of the figures, or the
    reason why a network cannot be chosen.
    """
    columns = measured_columns(selection) if every_index else [*selection.objectives, *selection.by]
    columns = [name for name in dict.fromkeys(columns) if name not in ("accuracy", "parameters", "seconds")]
    columns = [name for name in columns if not is_constant(networks[name]) and networks[name].notna().any()]
    ends = [name for name in ("parameters", "seconds") if name in networks]
    headings = ["network", "mark", "against the best", "below the best", "seeds", "accuracy", "test accuracy"]
    table = [networks[name] for name in ("network", "mark")]
    table += [answers_in_words(selection, networks), differences_in_words(selection, networks)]
    table += [map(str, networks["seeds"])]
    table += [column_in_words(selection, networks, name) for name in ("accuracy", "test_accuracy", *columns, *ends)]
    return [*headings, *columns, *ends], list(map(list, zip(*table, strict=True)))


def column_in_words(selection: Selection, networks: pd.DataFrame, name: str) -> list[str]:
    """The means of a column of these networks, with the standard deviations over the seeds where they differ."""
    spreads = selection.spread.get(name, pd.Series(math.nan, selection.networks.index))  # NaN if nothing measured it

    def text(mean: float, spread: float) -> str:
        whole = not spread > 0 and abs(mean) >= 1000
        return f"{mean:,.0f}" if whole else with_spread(mean, spread if spread > 0 else math.nan)

    return list(map(text, networks[name].tolist(), spreads[networks.index].tolist()))


def answers_in_words(selection: Selection, networks: pd.DataFrame) -> list[str]:
    """How each of these networks compares with the best, or why it was not compared."""
    reasons = np.select([networks["pruned"] > 0, ~networks["feasible"]], ["pruned", "not feasible"], "no accuracy")
    answers = selection.comparison.loc[networks.index, "answer"]
    return [answer or str(why) for answer, why in zip(answers, reasons, strict=True)]


def differences_in_words(selection: Selection, networks: pd.DataFrame) -> list[str]:
    """How far each of these lies below the best accuracy, with the interval of the difference if there is one."""
    comparison = selection.comparison.loc[networks.index, ["difference", "low", "high"]]
    rows = comparison.itertuples(index=False, name=None)
    return ["-" if math.isnan(difference) else with_interval(difference, low, high) for difference, low, high in rows]


def longer_side_down(table: Table) -> Table:
    """The table, or its transpose if that has fewer columns."""
    headings, rows = table
    if len(rows) >= len(headings):
        return table
    columns = [list(column) for column in zip(headings, *rows, strict=True)]
    return columns[0], columns[1:]


def constant_on_front(selection: Selection) -> dict[str, float]:
    """The indices that have one value on the whole front."""
    front, names = selection.front, [n for n in measured_columns(selection) if n.rpartition(":")[2] in INDICES]
    return {name: float(front[name].iloc[0]) for name in names if is_constant(front[name])}


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
    sentences, params = [], [name for name in trials.columns if name.startswith(PARAMS)]
    ended_early = trials[trials["state"].isin(["FAIL", "PRUNED"])]
    for _, trial in ended_early.head(MOST_SENTENCES).iterrows():
        subject, reason = f"trial {trial['number']}", trial["reason"] if isinstance(trial["reason"], str) else ""
        if trial[params].notna().any():
            subject += f" ({trial['network']}" + ("" if pd.isna(trial["seed"]) else f", seed {trial['seed']}") + ")"
        if trial["state"] == "PRUNED":
            sentences.append(f"{subject} was pruned{': ' * bool(reason)}{reason}.")
        else:
            again = retried.get(trial["number"])
            outcome = f"failed ({reason})" if reason else "failed or was interrupted"
            then = f"retried as trial {again}" if again else "not retried"
            sentences.append(f"{subject} {outcome} and was {then}.")
    if more := len(ended_early) - len(sentences):
        sentences.append(f"{more} more failed, were interrupted or pruned: trials.csv, beside a report, says why.")
    return sentences


def measured_columns(selection: Selection) -> list[str]:
    """The columns of numbers that can be compared: objectives, indices, qualities; without the accuracies."""
    numbers = [name for name in selection.spread.columns if name not in (*ACCURACIES, "validation_samples")]
    indices = [name for name in numbers if name.rpartition(":")[2] in INDICES]
    others = [name for name in selection.objectives if name not in ACCURACIES]
    return list(dict.fromkeys([*others, *indices, *numbers]))


def is_constant(values: pd.Series) -> bool:
    """Whether there are several networks and all have the same value."""
    return len(values) > 1 and (values == values.iloc[0]).all()
