"""The command `select`: the equally accurate networks of a study, the first choice first, as a table or JSON."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any

from nas_relucode.cli.arguments import MOST_AHEAD
from nas_relucode.cli.stored_studies import predictions_store, stored_study
from nas_relucode.errors import InputError
from nas_relucode.ranking.equality import Tolerance
from nas_relucode.ranking.order import Named
from nas_relucode.ranking.selection import Selection, select
from nas_relucode.report.tables import number, paired_test, text_table


def run(options: argparse.Namespace) -> int:
    """Prints the equally accurate networks of a stored study, the first choice first; the exit code."""
    with stored_study(options) as (study, _):
        selection = select(
            study,
            tolerance=read_tolerance(options.tolerance),
            by=None if options.by is None else [read_name(name) for name in options.by],
            how=options.how,
            weights=read_weights(options.weights),
            scale=options.scale,
            level=options.level,
            store=predictions_store(study, options),
        )
    if options.format == "json":
        print(json_text(selection))
    else:
        print("\n".join(lines(selection)))
    return 0


def json_text(selection: Selection) -> str:
    """The selection as JSON, an item of its lists a line; ``ahead`` goes as far as the place MOST_AHEAD."""
    found = selection.as_dict()
    found["ahead"] = [row[:MOST_AHEAD] for row in found["ahead"][:MOST_AHEAD]]

    def text(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict | list):
            return "[\n    " + ",\n    ".join(map(json.dumps, value)) + "\n  ]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {text(value)}" for name, value in found.items()) + "\n}"


def read_tolerance(text: str) -> Tolerance:
    """
    >>> read_tolerance("0.005"), read_tolerance("1se")
    (0.005, '1se')
    """
    try:
        return float(text)
    except ValueError:
        return text


def read_name(text: str) -> Named:
    """
    >>> read_name("head.1:edge_count:minimize"), read_name("cell_count")
    (('head.1:edge_count', 'minimize'), 'cell_count')
    """
    name, _, direction = text.rpartition(":")
    return (name, direction) if name and direction in ("minimize", "maximize") else text


def read_weights(texts: Sequence[str]) -> dict[str, float] | None:
    """
    >>> read_weights(["cell_count=2"]), read_weights([])
    ({'cell_count': 2.0}, None)
    """
    found = {}
    for text in texts:
        name, _, weight = text.rpartition("=")
        try:
            found[name] = float(weight)
        except ValueError as error:
            raise InputError(f"weight {text!r} cannot be read. Write INDEX=WEIGHT, e.g. cell_count=2.") from error
    return found or None


def lines(selection: Selection) -> list[str]:
    """The selection to be read on a terminal."""
    ranking, asked = selection.ranking, selection.asked
    compared = int(ranking.compared.sum())
    equal = f"{len(selection.networks)} of {compared} networks of {selection.study}"
    found = [f"Equally accurate with the best, by {_rule(asked, paired_test(ranking))}: {equal}."]
    ways = ", ".join(f"{name} ({way})" for name, way in ranking.deciding.items()) or "no index"
    found += [f"Their order, {asked['how']}: {ways}; then accuracy, then fewer parameters.", ""]
    tested = [name for name in ("difference", "p", "low", "high") if ranking.comparison[name].notna().any()]
    shown = [name for name in ranking.deciding if name not in ("accuracy", "parameters")]
    rows = []
    for i, (at, row) in enumerate(selection.networks.iterrows()):
        spread, comparison = ranking.spread.loc[at], ranking.comparison.loc[at]
        follows = selection.ahead[i, i + 1] if i + 1 < len(selection.ahead) else math.nan
        rows.append(
            [
                row["network"],
                f"{row['place']:.0f}",
                str(row["seeds"]),
                number(row["accuracy"], spread["accuracy"]),
                *(f"{comparison[name]:.4f}" for name in tested),
                *(number(row[name], spread[name]) for name in shown),
                f"{row['parameters']:,.0f}",
                "-" if math.isnan(follows) else f"{follows:.0%}",
            ]
        )
    headings = ["network", "place", "seeds", "accuracy", *tested, *shown, "parameters", "ahead of next"]
    found.append(text_table((headings, rows)))
    silent = [f"{name} ({why})" for name, why in ranking.silent.items() if name in ranking.by]
    if silent:
        found += ["", f"These take no part: {'; '.join(silent)}."]
    return [*found, *(["", *selection.notes] if selection.notes else [])]


def _rule(asked: dict[str, Any], test: str) -> str:
    tolerance, level = asked["tolerance"], asked["level"]
    if tolerance == "mcnemar":
        return f"{test} at the level {level:g}, corrected for all pairs"
    if tolerance == "bootstrap":
        return f"bootstrapped intervals at the level {level:g}"
    return "the one-standard-error rule" if tolerance == "1se" else f"a tolerance of {tolerance:g}"
