"""Differences between two settings tried with the same seeds: paired t test, equivalence, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import LEVEL

ROUNDING = 1e-12  # a standard error this small, relative to the values, is rounding


@dataclass(frozen=True)
class Difference:
    """The mean difference of a second setting from a first, paired by seed, with its 95 % t interval.

    If the difference is the same for every seed, its variance is unknown: there is no test, ``low``, ``high`` and ``p``
    are NaN, and the difference is neither significant nor equivalent to 0.
    """

    first: float  # mean over the seeds
    second: float
    mean: float  # second - first
    error: float  # standard error of the mean difference; 0 if it is the same for every seed
    low: float
    high: float
    p: float  # two-sided paired t test
    seeds: int

    @property
    def varies(self) -> bool:
        """Whether the difference varies over seeds, so that it can be tested."""
        return self.error > 0

    @property
    def significant(self) -> bool:
        return self.p < LEVEL

    def equivalence_p(self, margin: float) -> float:
        """The p of a true difference of ``margin`` or more, in either direction; small if the settings are equivalent.

        Source: two one-sided tests, Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987.
        """
        room = margin - abs(self.mean)
        return float(stats.t.sf(room / self.error, self.seeds - 1)) if self.varies else math.nan


def paired(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> Difference:
    """The difference of two settings from their values, one per seed, for the same two or more seeds.

    >>> difference = paired([1, 2, 3], [2, 4, 6])
    >>> difference.mean, round(difference.low, 2), round(difference.high, 2), round(difference.p, 3)
    (2.0, -0.48, 4.48, 0.074)
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InputError(
            f"values of shape {a.shape} and {b.shape} are not paired. "
            "Give both settings one value per seed, for at least two seeds."
        )
    mean, error = float((b - a).mean()), float((b - a).std(ddof=1) / math.sqrt(len(a)))
    if error <= ROUNDING * max(np.abs(a).max(), np.abs(b).max()):
        return Difference(float(a.mean()), float(b.mean()), mean, 0.0, math.nan, math.nan, math.nan, len(a))
    test = stats.ttest_rel(b, a)
    low, high = test.confidence_interval(1 - LEVEL)
    return Difference(
        float(a.mean()), float(b.mean()), mean, error, float(low), float(high), float(test.pvalue), len(a)
    )


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """The p values of several tests, corrected for their number by Holm's method (1979).

    NaN, where there was no test, stays NaN and counts as a test.

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    values = np.where(np.isnan(p), 1, p)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.where(np.isnan(p), np.nan, np.minimum(adjusted, 1))
