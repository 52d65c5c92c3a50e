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
from nas_relucode.ranking.order import Criterion
from nas_relucode.ranking.selection import Selection, select
from nas_relucode.report.tables import text_table
from nas_relucode.texts import with_spread


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
    selection.require_feasible()
    if options.format == "json":
        print(json_text(selection))
    else:
        print("\n".join(lines(selection)))
    return 0


def json_text(selection: Selection) -> str:
    """The selection as JSON, one line per item of its lists; ``ahead`` has the first MOST_AHEAD places."""
    values = selection.as_dict()
    values["ahead"] = [row[:MOST_AHEAD] for row in values["ahead"][:MOST_AHEAD]]

    def text(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict | list):
            return "[\n    " + ",\n    ".join(map(json.dumps, value)) + "\n  ]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {text(value)}" for name, value in values.items()) + "\n}"


def read_tolerance(text: str) -> Tolerance:
    """
    >>> read_tolerance("0.005"), read_tolerance("1se")
    (0.005, '1se')
    """
    try:
        return float(text)
    except ValueError:
        return text


def read_name(text: str) -> Criterion:
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
    weights_by_name = {}
    for text in texts:
        name, _, weight = text.rpartition("=")
        try:
            weights_by_name[name] = float(weight)
        except ValueError as error:
            raise InputError(f"weight {text!r} cannot be read. Write INDEX=WEIGHT, e.g. cell_count=2.") from error
    return weights_by_name or None


def lines(selection: Selection) -> list[str]:
    """The selection to be read on a terminal."""
    arguments, deciding = selection.arguments, selection.deciding
    compared = int(selection.compared.sum())
    equal = f"{len(selection.equal)} of {compared} networks of {selection.study}"
    text = [f"Equally accurate with the best, by {_rule(arguments, selection.paired_test)}: {equal}."]
    ways = ", ".join(f"{name} ({way})" for name, way in deciding.items()) or "no index"
    text += [f"Their order, {arguments['how']}: {ways}; then accuracy, then fewer parameters.", ""]
    tested = [name for name in ("difference", "p", "low", "high") if selection.comparison[name].notna().any()]
    shown = [name for name in deciding if name not in ("accuracy", "parameters")]
    rows = []
    for i, (at, row) in enumerate(selection.equal.iterrows()):
        spread, comparison = selection.spread.loc[at], selection.comparison.loc[at]
        follows = selection.ahead[i, i + 1] if i + 1 < len(selection.ahead) else math.nan
        rows.append(
            [
                row["network"],
                f"{row['place']:.0f}",
                str(row["seeds"]),
                with_spread(row["accuracy"], spread["accuracy"]),
                *(f"{comparison[name]:.4f}" for name in tested),
                *(with_spread(row[name], spread[name]) for name in shown),
                f"{row['parameters']:,.0f}",
                "-" if math.isnan(follows) else f"{follows:.0%}",
            ]
        )
    headings = ["network", "place", "seeds", "accuracy", *tested, *shown, "parameters", "ahead of next"]
    text.append(text_table((headings, rows)))
    silent = [f"{name} ({why})" for name, why in selection.silent.items() if name in selection.by]
    if silent:
        text += ["", f"These take no part: {'; '.join(silent)}."]
    return [*text, *(["", *selection.notes] if selection.notes else [])]


def _rule(arguments: dict[str, Any], test: str) -> str:
    tolerance, level = arguments["tolerance"], arguments["level"]
    if tolerance == "mcnemar":
        return f"{test} at the level {level:g}, corrected for all pairs"
    if tolerance == "bootstrap":
        return f"bootstrapped intervals at the level {level:g}"
    return "the one-standard-error rule" if tolerance == "1se" else f"a tolerance of {tolerance:g}"
