"""Indices against each other over the networks of a study: rank correlations, and which say nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from nas_relucode.ranking.order import silent_reasons


@dataclass(frozen=True)
class Correlations:
    """Spearman's rank correlations of some columns over the networks."""

    names: list[str]  # the columns, those that vary first
    matrix: np.ndarray  # float64, (names, names); NaN where one is constant or fewer than 3 networks have both
    networks: np.ndarray  # int64, (names, names): how many networks have both
    silent: dict[str, str]  # what tells these networks nothing apart -> why


def spearman(networks: pd.DataFrame, names: Iterable[str], saturated: Iterable[str] = ()) -> Correlations:
    """The correlations of the columns ``names``, a row a network, each pair over the networks that have both.

    Equal values share their mean rank. ``saturated`` are the columns that lie at an end of their range for all. An
    index that is undefined for some networks is correlated over the others.

    >>> table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [3.0, 2.0, 1.0], "c": [1.0, 1.0, 1.0]})
    >>> found = spearman(table, "abc")
    >>> found.matrix.round(2).tolist()[0], found.silent
    ([1.0, -1.0, nan], {'c': 'constant, 1'})
    """
    names = list(names)
    reasons = silent_reasons(networks[names], saturated)
    reasons = {name: why for name, why in reasons.items() if why != "undefined for some"}
    for name in names:
        defined = networks[name].dropna()
        if name not in reasons and 0 < len(defined) < len(networks) and (defined == defined.iloc[0]).all():
            reasons[name] = f"constant, {defined.iloc[0]:.4g}, where it is defined"
    names = [name for name in names if name not in reasons] + [name for name in names if name in reasons]
    table = networks[names].to_numpy(float)
    known = np.isfinite(table)
    both = known.T.astype(np.int64) @ known
    matrix = np.full((len(names), len(names)), np.nan)
    alive = [i for i, name in enumerate(names) if name not in reasons]
    whole = [i for i in alive if known[:, i].all()]
    if len(table) > 2 and whole:
        matrix[np.ix_(whole, whole)] = _ranked(table[:, whole])
    for i in alive:
        for j in alive[: alive.index(i) + 1]:
            rows = known[:, i] & known[:, j]
            if not (i in whole and j in whole) and rows.sum() > 2:
                matrix[i, j] = matrix[j, i] = _ranked(table[rows][:, [i, j]])[0, 1]
    return Correlations(names, matrix, both, reasons)


def _ranked(table: np.ndarray) -> np.ndarray:
    """Pearson's correlations of the ranks; NaN for a constant column."""
    ranks = stats.rankdata(table, axis=0)
    ranks -= ranks.mean(axis=0)
    size = np.sqrt((ranks**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(ranks.T @ ranks / np.outer(size, size), -1, 1)
