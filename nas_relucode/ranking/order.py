"""The order of the finalists of a study by indices of their code spaces, and how stable it is over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import pandas as pd

from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.options import Ranking

MOST_INDICES = 6  # of a hypervolume: its time grows exponentially with them
REFERENCE = 1.1  # of the hypervolume, where the worst value of each index is 1 and the best 0


@dataclass(frozen=True, eq=False)
class Order:
    """Some networks in their order, the first choice first; arrays are (networks,)."""

    rows: np.ndarray  # int64: their rows in `Selection.networks`
    ranks: np.ndarray  # int64, from 1: their places, but shared by networks that only their trials' numbers order
    keys: np.ndarray  # float64: what ``how`` sorts by
    silent: dict[str, str]  # columns that cannot order them -> why


def order_networks(
    networks: pd.DataFrame,
    saturated: Iterable[str],
    by: Mapping[str, str],
    ranking: Ranking,
    columns: Iterable[str] | None = None,
) -> Order:
    """The order of these networks, by what is not silent among ``columns``, see `Selection.order_of`.

    ``saturated`` names the columns that lie at an end of their range for all of them.
    """
    if columns is None:
        columns = [name for name in networks.columns if name.rpartition(":")[2] in INDICES or name in by]
    silent = silent_reasons(networks[list(columns)], saturated)
    deciding = {name: direction for name, direction in by.items() if name not in silent}
    shares = [(ranking.weights or {}).get(name, 1.0) for name in deciding]
    key = sort_keys(costs(networks, deciding), how=ranking.how, weights=shares, scale=ranking.scale)
    place, rank = places(key, *(networks[name].to_numpy() for name in ("accuracy", "parameters", "trial")))
    first_first = np.argsort(place)
    rows = networks.index.to_numpy()
    return Order(rows[first_first], rank[first_first], key[first_first], silent)


def silent_reasons(values: pd.DataFrame, saturated: Iterable[str] = ()) -> dict[str, str]:
    """The columns that cannot order these networks (the rows), each with the reason.

    A column that is undefined for some of them takes no part, so that no network gains by it. ``saturated`` names the
    columns that lie at an end of their range for all networks.
    """
    table = values.to_numpy(float)
    if not len(table):
        return {}
    finite, missing = np.isfinite(table), np.isnan(table)
    constant = (table == table[0]).all(axis=0)
    several, at_an_end = len(table) > 1, set(saturated)
    reasons = {}
    for i, name in enumerate(values.columns):
        if missing[:, i].all():
            reasons[name] = "undefined or not measured"
        elif not finite[:, i].all():
            reasons[name] = "undefined for some"
        elif several and constant[i]:
            reasons[name] = f"constant, {table[0, i]:.4g}"
        elif several and name in at_an_end:
            reasons[name] = "saturated for all"
    return reasons


def costs(values: pd.DataFrame, directions: Mapping[str, str]) -> np.ndarray:
    """The columns that ``directions`` names, with signs so that less is better, (networks, indices).

    The signs are not left to moocore: it reads ``maximise=[False]``, of one column, as true.
    """
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions.values()]
    return values[list(directions)].to_numpy(float) * signs + 0.0  # -0 becomes 0


def sort_keys(
    costs: np.ndarray, *, how: str = "pareto", weights: Sequence[float] | None = None, scale: str = "ranks"
) -> np.ndarray:
    """One number per network, float64 (networks,), the smallest first; equal if the costs do not order two networks.

    ``costs`` are finite, (networks, indices). ``"pareto"``: the Pareto rank from 0, which networks share that do not
    dominate each other. ``"lexicographic"``: by the first index, equal ones by the next, and so on. ``"weighted"``: the
    weighted mean of each index's ranks from 0 (best) to 1 (equal values share their mean rank), or of its
    ``"standardised"`` values (less the mean, divided by the standard deviation, over these networks).

    >>> table = np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])
    >>> sort_keys(table).tolist(), sort_keys(table, how="lexicographic").tolist()
    ([0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 2.0, 0.0])
    >>> sort_keys(table, how="weighted", weights=[1, 3]).round(3).tolist()
    [0.542, 0.208, 0.708, 0.542]
    """
    networks, indices = costs.shape
    if not indices or networks < 2:
        return np.zeros(networks)
    if how == "pareto":
        return moocore.pareto_rank(costs).astype(float)
    if how == "lexicographic":
        return np.unique(costs, axis=0, return_inverse=True)[1].reshape(-1).astype(float)
    largest = 1.0
    if scale == "ranks":
        from scipy import stats  # takes a second to import

        parts, largest = stats.rankdata(costs, axis=0) - 1, networks - 1.0  # halves, so that equal sums are equal
    else:  # exact sums, which do not depend on the order of the networks
        means = np.array([math.fsum(column) / networks for column in costs.T])
        deviations = np.array([math.sqrt(math.fsum(column) / networks) for column in ((costs - means) ** 2).T])
        parts = (costs - means) / np.where(deviations > 0, deviations, 1.0)
    shares = np.ones(indices) if weights is None else np.asarray(weights, float)
    total = math.fsum(shares)
    return np.array([math.fsum(row) / (total * largest) if total else 0.0 for row in parts * shares])


def places(
    key: np.ndarray, accuracy: np.ndarray, parameters: np.ndarray, trial: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places and ranks from 1, int64 (networks,) each: by key, then higher accuracy, then fewer parameters.

    Networks that are equal in all three share a rank; their places follow the numbers of their first trials.

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
    """The share of the space that the networks dominate, and the share that would be lost without each, (networks,).

    Each index is scaled to 0 for its best value here and 1 for its worst, and the space ends at 1.1, so that the ends
    of the front count too. A network that another one dominates or equals contributes nothing. NaN without indices,
    and for more than 6.

    >>> volume, contributions = hypervolume(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    >>> round(volume * 1.21, 3), (contributions * 1.21).round(3).tolist()
    (0.21, [0.1, 0.1, 0.0])
    """
    networks, indices = costs.shape
    if not networks or not 0 < indices <= MOST_INDICES:
        return math.nan, np.full(networks, math.nan)
    low, high = costs.min(axis=0), costs.max(axis=0)
    scaled = (costs - low) / np.where(high > low, high - low, 1.0)
    points, point_of_network, copies = np.unique(scaled, axis=0, return_inverse=True, return_counts=True)
    reference, space = [REFERENCE] * indices, REFERENCE**indices
    volume = float(moocore.hypervolume(points, ref=reference))
    front = np.flatnonzero(moocore.is_nondominated(points))
    covers = (points[front, None] <= points).all(axis=2)  # (front, points): a point of the front covers itself too
    covered_once = covers & (covers.sum(axis=0) == 1)
    covered_once[:, front] = False
    contributions = np.zeros(len(points))
    for row, point in enumerate(front):
        if copies[point] == 1:
            left = points[[*np.delete(front, row), *np.flatnonzero(covered_once[row])]]
            contributions[point] = volume - (float(moocore.hypervolume(left, ref=reference)) if len(left) else 0.0)
    return volume / space, contributions.clip(min=0.0)[point_of_network.reshape(-1)] / space


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
    """How often each network (row) is ahead of each other (column) when seeds are resampled, (networks, networks).

    ``trainings`` holds an array (seeds, 1 + indices) per network: the accuracy and the costs. In each resample, every
    network gets as many of its seeds as it has, with replacement, and all are ordered again; networks that share a rank
    count half for each. NaN on the diagonal, and where both networks have a single seed, which says nothing.
    """
    generator = np.random.default_rng(seed)
    means = np.empty((len(trainings), resamples, trainings[0].shape[1] if trainings else 1))
    for i, values in enumerate(trainings):
        drawn = values[generator.integers(len(values), size=(resamples, len(values)))]
        means[i] = values[0] + (drawn - values[0]).mean(axis=1)  # of equal values exactly their value
    ahead = np.zeros((len(trainings), len(trainings)))
    for draw in range(resamples):
        key = sort_keys(means[:, draw, 1:], how=how, weights=weights, scale=scale)
        _, rank = places(key, means[:, draw, 0], parameters, np.zeros(len(key)))
        ahead += (rank[:, None] < rank) + 0.5 * (rank[:, None] == rank)
    single = np.array([len(values) == 1 for values in trainings], bool)
    ahead[single[:, None] & single] = math.nan
    np.fill_diagonal(ahead, math.nan)
    return ahead / max(resamples, 1)
