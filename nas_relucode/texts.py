"""Text as a terminal, a table or a figure can show it: foreign names, numbers with their spread, tables, times."""

import html
import json
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any


def plain(text: str) -> str:
    """The text on one line: characters that control a terminal or are illegal in XML become spaces.

    >>> plain("a\\nb\\x1b[31m")
    'a b [31m'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def with_spread(mean: float, spread: float = math.nan) -> str:
    """A mean with its standard deviation over the seeds, if there is one.

    >>> with_spread(0.9537, 0.0041), with_spread(1024.0, 30.2), with_spread(7.0)
    ('0.9537 ± 0.0041', '1024 ± 30', '7')
    """
    if math.isnan(mean):
        return "-"
    digits = 0 if abs(mean) >= 100 or (float(mean).is_integer() and math.isnan(spread)) else 2 if abs(mean) >= 10 else 4
    return f"{mean:.{digits}f}" + ("" if math.isnan(spread) else f" ± {spread:.{digits}f}")


def with_interval(value: float, low: float, high: float) -> str:
    """A value with the ends of its interval, if it is known.

    >>> with_interval(0.0102, -0.00001, 0.0525), with_interval(0.0102, math.nan, math.nan)
    ('0.0102 (0.0000 to 0.0525)', '0.0102')
    """
    return digits(value) + (f" ({digits(low)} to {digits(high)})" if math.isfinite(low) and math.isfinite(high) else "")


def digits(value: float) -> str:
    """A number with four digits, without the sign of a zero."""
    return f"{round(value, 4) + 0.0:.4f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines with straight columns, the first aligned to the left and the others to the right.

    >>> print(aligned([["index", "joint"], ["cell_count", "12"]]))
    index       joint
    cell_count     12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))] for row in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """The same as an HTML table, for notebooks; the first row is the head.

    >>> html_table([["index"], ["a<b"]])
    '<table><tr><th>index</th></tr><tr><td>a&lt;b</td></tr></table>'
    """
    head, *body = [[html.escape(cell) for cell in row] for row in rows]
    lines = [
        f"<tr><th>{'</th><th>'.join(head)}</th></tr>",
        *(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in body),
    ]
    return f"<table>{''.join(lines)}</table>"


def listed(items: Sequence[object], most: int = 10) -> str:
    """The items separated by commas; of many, the first ones and how many more there are.

    >>> listed([1, 2, 3]), listed(range(20), most=3)
    ('1, 2, 3', '0, 1, 2 and 17 more')
    """
    shown = ", ".join(map(str, items[:most]))
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def counted(number: int, noun: str) -> str:
    """A number with its noun, which has an s unless there is one of it.

    >>> counted(1, "seed"), counted(2000, "seed")
    ('1 seed', '2,000 seeds')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time in seconds, as people write it.

    >>> duration(93784.2), duration(3.21)
    ('1 day, 2:03:04', '3.2 s')
    """
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=int(seconds)))


def as_json(value: Any, **layout: Any) -> str:
    """Plain values as JSON, which has no NaN and no infinity: they become null.

    >>> as_json({"a": [float("nan"), 1.5]})
    '{"a": [null, 1.5]}'
    """
    try:
        return json.dumps(value, allow_nan=False, **layout)
    except ValueError:  # rarely: to look at each number first takes ten times as long
        return json.dumps(_finite(value), allow_nan=False, **layout)


def finite_or_none(value: float) -> float | None:
    """The number; None in the place of NaN and infinities, which JSON does not have."""
    return value if math.isfinite(value) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return finite_or_none(value) if isinstance(value, float) else value
