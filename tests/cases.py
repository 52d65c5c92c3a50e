"""Cases of parametrized tests that prove one sentence: which of them a push tries."""

from typing import Any

import pytest


def first_on_push(*cases: Any) -> list[Any]:
    """The first case, and the others marked `slow`, for `make check`."""
    return [cases[0], *(pytest.param(*as_tuple(case), marks=pytest.mark.slow) for case in cases[1:])]


def as_tuple(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)
