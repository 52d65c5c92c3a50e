"""The objectives of a study by name: in which direction each is better, and which networks are accurate enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.trial import BaseTrial

from nas_relucode.errors import InputError, finite_number, listed_items, unknown
from nas_relucode.indices.index import Index
from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.quality import Quality
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.defaults import MARGIN
from nas_relucode.study.record import (
    FLOOR,
    FLOOR_BELOW_BEST,
    MEASURED,
    RELATIVE_FLOOR,
    VERSION,
    accuracy_of,
    complete_trials,
)
from nas_relucode.texts import counted

DIRECTIONS = ("maximize", "minimize")
FLOOR_MARGINS = 10  # a network is infeasible that lies more than so many margins below the best so far

Objectives = Iterable[str | tuple[str, str]]


def read_objectives(
    objectives: Objectives, *, indices: Mapping[str, Index] = INDICES, qualities: Mapping[str, Quality] = QUALITIES
) -> dict[str, str]:
    """The objectives' names, in their order, with their directions: that given, ``(name, direction)``, or its own.

    A name is ``accuracy``, ``validation_loss``, an index, ``layer:index``, or a quality. Raises InputError for any
    other, for one that is given twice, and for one without a direction.

    >>> read_objectives(["accuracy", ("edge_count", "minimize"), "head.1:cell_count"])
    {'accuracy': 'maximize', 'edge_count': 'minimize', 'head.1:cell_count': 'minimize'}
    """
    items = listed_items("objectives", objectives, tuple, list)
    pairs = [(item, None) if isinstance(item, str) else tuple(item) for item in items]
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise InputError(f"objectives holds {pair!r}. Give names, or pairs such as ('edge_count', 'minimize').")
    if not pairs:
        raise InputError("objectives is empty. Name at least one, e.g. accuracy.")
    directions: dict[str, str] = {}
    for name, given in pairs:
        own = _own_direction(name, indices, qualities)
        if name in directions:
            raise InputError(f"objective {name!r} is given twice. Name each once.")
        direction = own if given is None else given
        if direction is None:
            raise InputError(
                f"objective {name!r} has no direction of its own. Give ({name!r}, 'minimize') or 'maximize'."
            )
        if direction not in DIRECTIONS:
            raise unknown(f"direction of {name}", direction, DIRECTIONS)
        directions[name] = direction
    return directions


def _own_direction(name: str, indices: Mapping[str, Index], qualities: Mapping[str, Quality]) -> str | None:
    if name in MEASURED:
        return MEASURED[name]
    if name in qualities:
        return qualities[name].direction
    layer, colon, index = name.rpartition(":")
    if index not in indices or (colon and (not layer or indices[index].joint)):
        raise unknown("objective", name, [*MEASURED, *indices, *qualities, "LAYER:INDEX"])
    return indices[index].direction


def accuracy_constraint(
    accuracy: float | None, best: float | None, *, margin: float, floor: float | None = None
) -> dict[str, float]:
    """The constraint of a trial, feasible up to 0: its accuracy reaches the ``floor``.

    Without a ``floor`` it lies 10 times ``margin`` below the best accuracy so far, that of the trial included, so that
    no sampler spends its trials on networks that collapsed. This one, ``relative_accuracy_floor``, is for samplers
    alone: `select` compares such networks, too, since one seed may be a bad one.

    >>> round(accuracy_constraint(0.80, 0.90, margin=0.005)["relative_accuracy_floor"], 6)
    0.05
    """
    if accuracy is None:
        return {}
    if floor is not None:
        return {FLOOR: floor - accuracy}
    relative = max(accuracy, accuracy if best is None else best) - FLOOR_MARGINS * margin
    return {RELATIVE_FLOOR: relative - accuracy}


def check_floor(margin: float, floor: float | None) -> None:
    """Raises InputError unless both are accuracies, or differences of them."""
    if floor is not None:
        finite_number("accuracy_floor", floor, most=1)
    if not 0 < finite_number("margin", margin) < 1:
        raise InputError(f"margin {margin!r} is out of range. Give a difference of accuracies, e.g. {MARGIN}.")


def check_directions(trial: BaseTrial, objectives: Mapping[str, str | None], remedy: str = "") -> None:
    """Raises InputError if the trial is that of a study with other directions than ``objectives``.

    None stands for either direction. ``remedy`` is what creates a right study, if it can be given without a list.
    """
    study, names = getattr(trial, "study", None), list(objectives)
    if study is None:
        return
    given = [direction.name.lower() for direction in study.directions]
    if len(given) != len(names):
        values = f"{counted(len(names), 'value')} ({', '.join(names)})"
        raise InputError(
            f"the study has {counted(len(given), 'direction')}, but its objective returns {values}. "
            f"Create the study with {remedy or 'a direction for each'}."
        )
    right = [wanted or way for wanted, way in zip(objectives.values(), given, strict=True)]
    for name, direction, wanted in zip(names, given, right, strict=True):
        if wanted != direction:
            raise InputError(
                f"the study is to {direction} {name}, but its objective is to {wanted} it (Optuna minimizes where no "
                f"direction is given). Create the study with {remedy or f'directions={right}'}."
            )


def new_record(candidate: Candidate, objectives: Iterable[str], margin: float, floor: float | None) -> dict[str, Any]:
    """A record with what is known before anything is measured.

    `select` compares networks by the ``margin``; of those below the relative floor, which the record holds if no
    ``floor`` is named, none is on its Pareto front.
    """
    return {
        "version": VERSION,
        "params": dict(candidate.params),
        "seed": candidate.seed,
        "objectives": list(objectives),
        "margin": margin,
        **({FLOOR_BELOW_BEST: FLOOR_MARGINS * margin} if floor is None else {}),
    }


def best_accuracy(study: optuna.Study) -> float | None:
    """The highest accuracy among the study's complete trials; None if there is none."""
    values = map(accuracy_of, complete_trials(study))
    return max((value for value in values if value is not None), default=None)
