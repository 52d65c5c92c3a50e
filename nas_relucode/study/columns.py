"""The columns of the tables of trials and networks, whose names no quality and no index of the user's own may have."""

from __future__ import annotations

from nas_relucode.errors import InputError
from nas_relucode.study.record import ACCURACIES, ATTRIBUTE

PARAMS = "params_"  # before a parameter's name in a column, as in Optuna's own trials_dataframe
FIXED = ("number", "state", "network", "seed", *ACCURACIES, "validation_loss")
AT_THE_END = ("validation_samples", "infeasibility", "violated", "ranked", "pruned", "retry_of", "reason")
# of the table of networks
RANKED = (
    "seeds",
    "trial",
    "feasible",
    "finalist",
    "front",
    "place",
    "rank",
    "mark",
    "size",
    "answer",
    "low",
    "high",
)
ATTRIBUTES = (ATTRIBUTE, "reseed", "same_as")  # of trials, beside which the values of objectives stand


def is_column(name: str) -> bool:
    """Whether a column has this name already."""
    return name in (*FIXED, *AT_THE_END, *RANKED, *ATTRIBUTES) or name.startswith(PARAMS)


def check_own_name(what: str, name: str, others: dict[str, str]) -> None:
    """Raises InputError if the name of the user's own quality or index (``what``) is taken, or cannot be used in `by`.

    ``others`` maps further names that are taken to what has them.

    >>> check_own_name("quality", "largest", {"cell_count": "an index"})
    """
    taken = others.get(name) or ("a column of every comparison" if is_column(name) else "")
    if taken or not name or ":" in name or name[0] in "+-":
        why = (
            f"the name of {taken}"
            if taken
            else "which cannot be used in by: it is empty, has a colon or begins with a sign"
        )
        raise InputError(f"a {what} of your own is called {name!r}, {why}. Give it another name, such as own_{what}.")
