"""What may order networks, by name and direction: indices, qualities, objectives; and the ways to order by several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nas_relucode.errors import InputError, finite_number, listed_items, unknown
from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.choices import HOW, SCALES

QUANTITIES = {  # what may order networks besides the indices
    "accuracy": "maximize",
    "validation_loss": "minimize",
    "seconds": "minimize",
    **{name: quality.direction for name, quality in QUALITIES.items()},
}
MOST_WEIGHT = 1e100  # so that sums of weights are numbers
Criterion = str | tuple[str, str]  # a name, or a name with its direction


def read_criteria(
    by: Iterable[Criterion], objectives: Mapping[str, str], measured: Iterable[str] = ()
) -> dict[str, str]:
    """The criteria that order networks, the first one first: name -> "minimize" or "maximize".

    A single name is a list of one. A name is an index, ``layer:index``, one of QUANTITIES, an objective, or one of
    ``measured`` (indices of the user's own that the trials hold). Its direction is the sign before it
    (``"-edge_count"`` minimises, ``"+edge_count"`` maximises) or the second item of a pair (``("edge_count",
    "minimize")``); without either, it is that of the study's objective of this name, else the index's own. Raises
    InputError for an unknown name, a name without a direction, or one that occurs twice.

    >>> read_criteria(["cell_count", "-edge_count"], {"cell_count": "maximize"})
    {'cell_count': 'maximize', 'edge_count': 'minimize'}
    """
    criteria: dict[str, str] = {}
    others = {*QUANTITIES, *objectives, *measured}
    for item in listed_items("by", by, tuple, list):
        pair = (item, None) if isinstance(item, str) else tuple(item)
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise InputError(f"by holds {item!r}. Give names, or pairs such as ('edge_count', 'minimize').")
        name, direction = pair
        if direction is None and name[:1] in ("-", "+"):
            name, direction = name[1:], "minimize" if name[0] == "-" else "maximize"
        layer, colon, index = name.rpartition(":")
        of_a_layer = bool(layer) and index in INDICES and not INDICES[index].joint
        if name not in others and (index not in INDICES or (colon and not of_a_layer)):
            raise unknown("index", name, [*INDICES, *QUANTITIES, "LAYER:INDEX"])
        if direction is None:
            own = QUANTITIES.get(name) or (INDICES[index].direction if index in INDICES else None)
            direction = objectives.get(name, own)
        if direction is None:
            raise InputError(
                f"{name} has no direction of its own. Write '-{name}' if less is better, else "
                f"'+{name}'; on the command line {name}:minimize or {name}:maximize."
            )
        if direction not in ("minimize", "maximize"):
            raise unknown("direction", direction, ["minimize", "maximize"])
        if name in criteria:
            raise InputError(f"{name} is given twice in by. Give it once.")
        criteria[name] = direction
    return criteria


def check_way(how: str, weights: Mapping[str, float] | None, scale: str) -> None:
    """Raises InputError unless networks can be ordered in this way."""
    if how not in HOW:
        raise unknown("value", how, HOW, "how")
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if weights is not None and how != "weighted":
        raise InputError(f"weights have no meaning for how={how!r}. Leave them out, or give how='weighted'.")


def check_weights(weights: Mapping[str, float] | None, by: Iterable[str]) -> None:
    """Raises InputError unless there are weights of some of the criteria, or none at all."""
    by = list(by)
    for name, weight in (weights or {}).items():
        if name not in by:
            raise unknown("weight", name, by)
        finite_number(f"the weight of {name}", weight, most=MOST_WEIGHT)
    if weights and not any(weights.get(name, 1.0) for name in by):
        raise InputError("all weights are 0, so nothing orders the networks. Give at least one above 0.")
