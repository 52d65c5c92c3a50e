"""The exception for input that cannot be used, checks of arguments that raise it, and the words of its messages.

The command line answers it with exit code 2.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any

LARGEST_SEED = 2**62  # torch's generators take 64 bits
MOST_NAMED = 12  # names that an error lists
LISTS = {  # what a name stands for -> the command that lists all of them
    "built-in study": "nas-relucode list studies",
    "search space": "nas-relucode list spaces",
    "study or search space": "nas-relucode list",
    "index": "nas-relucode list indices",
    "objective": "nas-relucode list indices",
    "quality": "nas-relucode list qualities",
}


class InputError(ValueError):
    """Something that was given cannot be used. The message says what was given, what is needed, what to do."""


class NonFiniteError(InputError):
    """Activations, outputs, loss or weights of a network are NaN or infinite."""


class SolverError(RuntimeError):
    """A linear programme or a convex hull ended in a status that says nothing about the question asked."""


def real_number(value: object, what: str) -> float:
    """A number of a user's own code as a float: of Python, of NumPy or a tensor of one number.

    >>> real_number(True, "index 'mine'")
    1.0

    Raises InputError, which names ``what`` returned it, for anything else, texts and None among them.
    """
    with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
        if not isinstance(value, str | bytes | bytearray | complex):
            return float(value)  # type: ignore[arg-type]
    given = f"{value!r:.80}"
    raise InputError(f"{what} returns {given} ({type(value).__name__}). Return one number; NaN if it is undefined.")


def whole_number(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """A whole number, of Python or NumPy, that is given for the argument ``name``. InputError for anything else.

    >>> whole_number("bins", 15, least=1)
    15
    """
    problem = "is not a whole number"
    with contextlib.suppress(TypeError):
        number = operator.index(value)  # type: ignore[arg-type]
        if not isinstance(value, bool):
            if least <= number and (most is None or number <= most):
                return number
            problem = "is out of range"
    ends = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise InputError(f"{name} {value!r:.80} {problem}. Give a whole number {ends}.")


def finite_number(
    name: str,
    value: object,
    *,
    least: float = 0.0,
    most: float = math.inf,
    above: bool = False,
    below: bool = False,
) -> float:
    """A number from ``least`` to ``most`` that is given for the argument ``name``. InputError for anything else.

    With ``above`` it must be larger than ``least``, with ``below`` smaller than ``most``. NaN and infinity are refused.

    >>> finite_number("margin", 0.005, most=1)
    0.005
    """
    real = isinstance(value, int | float) or (hasattr(value, "__float__") and not isinstance(value, str))
    problem = "is not a number"
    with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
        plain = float(value) if real and not isinstance(value, bool) else math.nan  # type: ignore[arg-type]
        problem = problem if math.isnan(plain) else "is out of range"
        inside = (plain > least or not above) and (plain < most or not below)
        if math.isfinite(plain) and least <= plain <= most and inside:
            return plain
    low = f"above {least:g}" if above else f"of at least {least:g}"
    high = f"below {most:g}" if below else f"at most {most:g}"
    ends = low if most == math.inf else f"{low}, {high}" if above or below else f"from {least:g} to {most:g}"
    raise InputError(f"{name} {value!r:.80} {problem}. Give a number {ends}.")


def seed_number(seed: object) -> int:
    """The argument ``seed``: a whole number that torch's generators take. InputError for anything else.

    >>> seed_number(2)
    2
    """
    return whole_number("seed", seed, most=LARGEST_SEED - 1)


def thread_count(threads: object) -> int | None:
    """The argument ``threads``: a whole number of at least 1, or None. InputError for anything else.

    >>> thread_count(2)
    2
    """
    return None if threads is None else whole_number("threads", threads, least=1)


def listed_items(name: str, items: object, *types: type) -> list[Any]:
    """The list, of texts or of ``types``, that is given for the argument ``name``; a single item is a list of one.

    >>> listed_items("qualities", "parameters")
    ['parameters']
    """
    single = isinstance(items, (str, *types)) and not isinstance(items, tuple | list)
    several: list[Any] = [items] if single else list(items) if isinstance(items, Iterable) else [items]
    for item in several:
        if not isinstance(item, (str, *types)):
            words = "".join(f", or {one.__name__} objects" for one in types)
            raise InputError(f"{name} holds {item!r:.80}. Give a list of names{words}.")
    return several


def first_line(error: BaseException) -> str:
    """The type of an error and the first line of its message.

    >>> first_line(KeyError("a\\nb"))
    "KeyError: 'a\\\\nb'"
    """
    return f"{type(error).__name__}: {error}".splitlines()[0]


def a_type(value: object) -> str:
    """The type of a value with its article.

    >>> a_type(3), a_type("x")
    ('an int', 'a str')
    """
    name = type(value).__name__
    return f"{'an' if name == 'ndarray' or name[0] in 'aeioAEIO' else 'a'} {name}"


def unknown(what: str, name: str, names: Iterable[str], option: str = "") -> InputError:
    """The error for a name that is not among ``names``: it lists them where they are few, and suggests the closest.

    ``option`` is what the name was given for, where ``what`` does not say it.

    >>> print(unknown("backbone", "vgg", ["none", "vgg16"]))
    unknown backbone 'vgg'. Known: none, vgg16. Did you mean 'vgg16'?
    """
    known = list(names)
    if len(known) <= MOST_NAMED:
        listed = f"Known: {', '.join(known)}."
    else:
        how = f"`{LISTS[what]}` shows all" if what in LISTS else f"{len(known)} in all"
        listed = f"Known: {', '.join(known[:3])}, ... ({how})."
    of = f" for {option}" if option else ""
    return InputError(f"unknown {what} {name!r}{of}. {listed}{suggestion(name, known)}")


def suggestion(name: str, names: Iterable[str]) -> str:
    """A question with the closest of ``names``, after a space; empty if none is close.

    >>> suggestion("cel_count", ["cell_count", "edge_count"]), suggestion("walk", ["run", "plan"])
    (" Did you mean 'cell_count'?", '')
    """
    close = difflib.get_close_matches(str(name), list(names), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
