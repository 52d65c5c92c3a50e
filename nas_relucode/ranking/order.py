"""The order of equally accurate networks by what their code spaces tell, and how firm it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import moocore
import numpy as np
import pandas as pd
from scipy import stats

from nas_relucode.errors import InputError, unknown
from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.choices import HOW, SCALES

QUANTITIES = {  # what may decide beside indices
    "accuracy": "maximize",
    "validation_loss": "minimize",
    "parameters": "minimize",
    "seconds": "minimize",
}
MOST_INDICES = 6  # of a hypervolume: its time grows exponentially with them
REFERENCE = 1.1  # of the hypervolume, where the worst value of each index is 1 and the best 0
Named = str | tuple[str, str]


def criteria(by: Iterable[Named], objectives: Mapping[str, str]) -> dict[str, str]:
    """What decides, in the order given: name -> "minimize" or "maximize".

    A name is an index, ``layer:index``, or one of QUANTITIES. Its direction is written before it (``"-edge_count"``
    minimises, ``"+edge_count"`` maximises) or beside it (``("edge_count", "minimize")``), else it is that of the
    study's objective, else the index' own. Raises InputError for an unknown name, one without a direction, or one that
    is there twice.

    >>> criteria(["cell_count", "-edge_count"], {"cell_count": "maximize"})
    {'cell_count': 'maximize', 'edge_count': 'minimize'}
    """
    if isinstance(by, str):
        raise InputError(f"by is {by!r}. Give a list of names, also of one.")
    found: dict[str, str] = {}
    for item in by:
        name, direction = (item, None) if isinstance(item, str) else item
        if direction is None and name[:1] in ("-", "+"):
            name, direction = name[1:], "minimize" if name[0] == "-" else "maximize"
        layer, colon, index = name.rpartition(":")
        of_a_layer = bool(layer) and index in INDICES and not INDICES[index].joint
        if name not in QUANTITIES and (index not in INDICES or (colon and not of_a_layer)):
            raise unknown("index", name, [*INDICES, *QUANTITIES, "LAYER:INDEX"])
        if direction is None:
            own = QUANTITIES.get(name) or INDICES[index].direction
            direction = objectives.get(name, own)
        if direction is None:
            raise InputError(
                f"{name} has no direction of its own. Write '-{name}' if less is better, else "
                f"'+{name}'; on the command line {name}:minimize or {name}:maximize."
            )
        if direction not in ("minimize", "maximize"):
            raise unknown("direction", direction, ["minimize", "maximize"])
        if name in found:
            raise InputError(f"by names {name} twice. Name it once.")
        found[name] = direction
    return found


def check_order(how: str, weights: Mapping[str, float] | None, by: Iterable[str], scale: str) -> None:
    """Raises InputError unless networks can be ordered in this way."""
    if how not in HOW:
        raise unknown("how", how, HOW)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if weights is not None and how != "weighted":
        raise InputError(f"weights have no meaning for how={how!r}. Leave them out, or say how='weighted'.")
    by = list(by)
    for name, weight in (weights or {}).items():
        if name not in by:
            raise unknown("weight", name, by)
        if not 0 <= weight < math.inf:
            raise InputError(f"the weight {weight!r} of {name} is out of range. Give numbers from 0 on.")
    if weights and not any(weights.get(name, 1.0) for name in by):
        raise InputError("all weights are 0, so nothing decides. Give one more than 0.")


def silent_reasons(values: pd.DataFrame, saturated: Iterable[str] = ()) -> dict[str, str]:
    """The columns that can't order these networks, a row each, with the reason.

    An index that is undefined for some of them takes no part, so it lets nobody win. ``saturated`` are those that lie
    at an end of their range for all.
    """
    reasons, saturated = {}, set(saturated)
    for name in values.columns:
        column = values[name].to_numpy(float)
        if not len(column):
            continue
        if np.isnan(column).all():
            reasons[name] = "undefined or not measured"
        elif not np.isfinite(column).all():
            reasons[name] = "undefined for some"
        elif len(column) > 1 and (column == column[0]).all():
            reasons[name] = f"constant, {column[0]:.4g}"
        elif len(column) > 1 and name in saturated:
            reasons[name] = "saturated for all"
    return reasons


def costs(values: pd.DataFrame, directions: Mapping[str, str]) -> np.ndarray:
    """The columns that ``directions`` names as numbers to minimise, (networks, indices).

    moocore reads ``maximise=[False]``, of one column, as true.
    """
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions.values()]
    return values[list(directions)].to_numpy(float) * signs + 0.0  # -0 is 0


def keys(
    costs: np.ndarray, *, how: str = "pareto", weights: Sequence[float] | None = None, scale: str = "ranks"
) -> np.ndarray:
    """A number a network, float64 (networks,): the smaller, the further ahead; equal if nothing tells them apart.

    ``costs`` are finite, (networks, indices). ``"pareto"``: the Pareto rank from 0, which networks share that do not
    dominate each other. ``"lexicographic"``: by the first index, equal ones by the next, and so on. ``"weighted"``: the
    weighted mean of each index' ranks from 0 (best) to 1 (equal values share their mean rank), or of its
    ``"standardised"`` values (less the mean, by the standard deviation, over these networks).

    >>> table = np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])
    >>> keys(table).tolist(), keys(table, how="lexicographic").tolist()
    ([0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 2.0, 0.0])
    >>> keys(table, how="weighted", weights=[1, 3]).round(3).tolist()
    [0.542, 0.208, 0.708, 0.542]
    """
    networks, indices = costs.shape
    if not indices or networks < 2:
        return np.zeros(networks)
    if how == "pareto":
        return moocore.pareto_rank(costs).astype(float)
    if how == "lexicographic":
        return np.unique(costs, axis=0, return_inverse=True)[1].reshape(-1).astype(float)
    most = 1.0
    if scale == "ranks":
        parts, most = stats.rankdata(costs, axis=0) - 1, networks - 1.0  # halves: equal sums are equal numbers
    else:  # sums that don't depend on the order of the networks
        means = np.array([math.fsum(column) / networks for column in costs.T])
        spread = np.array([math.sqrt(math.fsum(column) / networks) for column in ((costs - means) ** 2).T])
        parts = (costs - means) / np.where(spread > 0, spread, 1.0)
    share = np.ones(indices) if weights is None else np.asarray(weights, float)
    total = math.fsum(share)
    return np.array([math.fsum(row) / (total * most) if total else 0.0 for row in parts * share])


def places(
    key: np.ndarray, accuracy: np.ndarray, parameters: np.ndarray, trial: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places and ranks from 1, int64 (networks,) each: by key, then accuracy, then fewer parameters.

    Networks that all three leave equal share a rank; their places follow their first trials' numbers.

    >>> places(np.array([0, 0, 0]), np.array([0.9, 0.8, 0.9]), np.array([7, 7, 7]), np.array([5, 1, 2]))
    (array([2, 3, 1]), array([1, 3, 1]))
    """
    order = np.lexsort((trial, parameters, -accuracy, key))
    table = np.column_stack([key, -accuracy, parameters])[order]
    place, rank = np.empty((2, len(order)), np.int64)
    place[order] = np.arange(1, len(order) + 1)
    new = np.ones(len(order), bool)
    new[1:] = ((table[1:] != table[:-1]) & ~(np.isnan(table[1:]) & np.isnan(table[:-1]))).any(axis=1)
    rank[order] = np.maximum.accumulate(np.where(new, np.arange(1, len(order) + 1), 0))
    return place, rank


def hypervolume(costs: np.ndarray) -> tuple[float, np.ndarray]:
    """How much of the space the networks dominate, and how much of that would be lost without each, (networks,).

    Each index is scaled to 0 for its best value here and 1 for its worst, and the space ends at 1.1, so that the ends
    of the front count too. The volume is a fraction of that space. A network that another dominates or equals adds
    nothing: without it the volume is the same. NaN without indices, and for more than 6.

    >>> volume, lost = hypervolume(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    >>> round(volume * 1.21, 3), (lost * 1.21).round(3).tolist()
    (0.21, [0.1, 0.1, 0.0])
    """
    networks, indices = costs.shape
    if not networks or not 0 < indices <= MOST_INDICES:
        return math.nan, np.full(networks, math.nan)
    low, high = costs.min(axis=0), costs.max(axis=0)
    scaled = (costs - low) / np.where(high > low, high - low, 1.0)
    points, where, copies = np.unique(scaled, axis=0, return_inverse=True, return_counts=True)
    reference, space = [REFERENCE] * indices, REFERENCE**indices
    volume = float(moocore.hypervolume(points, ref=reference))
    front = np.flatnonzero(moocore.is_nondominated(points))
    covers = (points[front, None] <= points).all(axis=2)  # (front, points): a point of the front covers itself too
    loose = covers & (covers.sum(axis=0) == 1)  # covered by nobody else
    loose[:, front] = False
    lost = np.zeros(len(points))
    for one, place in enumerate(front):
        if copies[place] == 1:
            left = points[[*np.delete(front, one), *np.flatnonzero(loose[one])]]
            lost[place] = volume - (float(moocore.hypervolume(left, ref=reference)) if len(left) else 0.0)
    return volume / space, lost.clip(min=0.0)[where.reshape(-1)] / space


def stays_ahead(
    trainings: Sequence[np.ndarray],
    parameters: np.ndarray,
    *,
    how: str = "pareto",
    weights: Sequence[float] | None = None,
    scale: str = "ranks",
    resamples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """How often each network (row) is ahead of each other (column) when seeds are drawn again, (networks, networks).

    ``trainings`` holds for each network an array (seeds, 1 + indices): the accuracy and what is to be minimised. In
    each draw every network gets as many of its seeds as it has, with repeats, and all are ordered anew; who is equal
    then is ahead half the time. NaN on the diagonal, and where neither network has several seeds: that tells nothing.
    """
    generator = np.random.default_rng(seed)
    means = np.empty((len(trainings), resamples, trainings[0].shape[1] if trainings else 1))
    for i, values in enumerate(trainings):
        drawn = values[generator.integers(len(values), size=(resamples, len(values)))]
        means[i] = values[0] + (drawn - values[0]).mean(axis=1)  # of equal values exactly their value
    ahead = np.zeros((len(trainings), len(trainings)))
    for draw in range(resamples):
        key = keys(means[:, draw, 1:], how=how, weights=weights, scale=scale)
        _, rank = places(key, means[:, draw, 0], parameters, np.zeros(len(key)))
        ahead += (rank[:, None] < rank) + 0.5 * (rank[:, None] == rank)
    single = np.array([len(values) == 1 for values in trainings], bool)
    ahead[single[:, None] & single] = math.nan
    np.fill_diagonal(ahead, math.nan)
    return ahead / max(resamples, 1)
