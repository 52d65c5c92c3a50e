"""The one exception for input that cannot be used; the command line answers it with exit code 2."""

from collections.abc import Iterable


class InputError(ValueError):
    """Something that was given cannot be used. The message says what was given, what is needed, what to do."""


class NonFiniteError(InputError):
    """Activations, outputs, loss or weights of a network are NaN or infinite."""


class SolverError(RuntimeError):
    """A linear programme or a convex hull ended in a status that says nothing about the question asked."""


def unknown(kind: str, name: str, names: Iterable[str]) -> InputError:
    """The error for a name that is not among the known ones.

    >>> print(unknown("backbone", "vgg", ["none", "vgg16"]))
    unknown backbone 'vgg'. Known: none, vgg16.
    """
    return InputError(f"unknown {kind} {name!r}. Known: {', '.join(names)}.")
