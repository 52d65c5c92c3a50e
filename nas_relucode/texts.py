"""Text as a terminal, a table or a figure can show it: foreign names, and numbers with their spread."""

import math


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
