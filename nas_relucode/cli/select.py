"""The command `select`: the verdict on a study and its finalists, the first choice first, as a table or JSON."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from nas_relucode.cli.arguments import MOST_AHEAD
from nas_relucode.cli.stored_studies import stored_study
from nas_relucode.errors import InputError
from nas_relucode.ranking.criteria import Criterion
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.selection import SPREAD, Selection
from nas_relucode.report.tables import text_table
from nas_relucode.texts import as_json, with_interval, with_spread

WIDTH = 100  # of the verdict's lines


def run(options: argparse.Namespace) -> int:
    """Prints the verdict on a stored study and its finalists; the exit code."""
    with stored_study(options) as (study, _):
        selection = select(study, **ranking_options(options))
    selection.require_feasible()
    if options.format == "json":
        print(json_text(selection))
    else:
        print("\n".join(lines(selection)))
    return 0


def ranking_options(options: argparse.Namespace) -> dict[str, Any]:
    """How networks are compared and ordered, as keyword arguments."""
    margin = {} if options.margin is None else {"margin": options.margin}
    return margin | {
        "rule": options.rule,
        "by": None if options.by is None else [read_name(name) for name in options.by],
        "purpose": options.purpose,
        "how": options.how,
        "weights": read_weights(options.order_weights),
        "scale": options.scale,
        "level": options.level,
    }


def json_text(selection: Selection) -> str:
    """The selection as JSON, one line per item of its lists; ``ahead`` has the first MOST_AHEAD places."""
    values = selection.as_dict()
    values["ahead"] = [row[:MOST_AHEAD] for row in values["ahead"][:MOST_AHEAD]]

    def text(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict | list):
            return "[\n    " + ",\n    ".join(map(as_json, value)) + "\n  ]"
        return as_json(value)

    return "{\n" + ",\n".join(f"  {as_json(name)}: {text(value)}" for name, value in values.items()) + "\n}"


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
    weights_by_name: dict[str, float] = {}
    for text in texts:
        name, _, weight = text.rpartition("=")
        if name in weights_by_name:
            raise InputError(f"the weight of {name} is given twice. Give it once.")
        try:
            weights_by_name[name] = float(weight)
        except ValueError as error:
            raise InputError(f"weight {text!r} cannot be read. Write INDEX=WEIGHT, e.g. cell_count=2.") from error
    return weights_by_name or None


def lines(selection: Selection) -> list[str]:
    """The selection to be read on a terminal."""
    deciding = selection.deciding
    text = [*textwrap.wrap(selection.verdict.text, WIDTH)]
    for sentence in selection.limits:
        text += textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
    shown = [name for name in deciding if name not in ("accuracy", "parameters")]
    rows = []
    for i, (at, row) in enumerate(selection.shown.iterrows()):
        spread, comparison = selection.spread.loc[at], selection.comparison.loc[at]
        follows = selection.ahead[i, i + 1] if i + 1 < len(selection.ahead) else math.nan
        rows.append(
            [
                row["network"],
                "" if math.isnan(row["place"]) else f"{row['place']:.0f}",
                str(row["seeds"]),
                with_spread(row["accuracy"], spread["accuracy"]),
                with_spread(row["test_accuracy"], spread["test_accuracy"]),
                comparison["answer"],
                with_interval(comparison["difference"], comparison["low"], comparison["high"]),
                *(with_spread(row[name], spread[name]) for name in shown),
                f"{row['parameters']:,.0f}",
                "-" if math.isnan(follows) else f"{follows:.0%}",
            ]
        )
    headings = ["network", "place", "seeds", "accuracy", "test accuracy", "against the best", "difference", *shown]
    text += ["", text_table(([*headings, "parameters", "ahead of next"], rows))]
    return [*text, *([selection.not_shown] if selection.not_shown else []), SPREAD]
