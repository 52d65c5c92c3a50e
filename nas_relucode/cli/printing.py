"""How commands print: messages on standard error, and counts as aligned lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping

INTERRUPTED = "interrupted. The same command resumes where this one stopped."


def print_message(text: str, severity: str = "error") -> None:
    """Prints an error, a warning or a note on standard error."""
    print(f"nas-relucode: {severity}: {text}", file=sys.stderr)


def print_counts(counts: Mapping[str, int | float | str]) -> None:
    """Prints a line for each count: its name, and the number with separated thousands; text as it is."""
    width = max(map(len, counts))
    for name, value in counts.items():
        print(f"{name.replace('_', ' '):{width}}  {value if isinstance(value, str) else f'{value:,}'}")
