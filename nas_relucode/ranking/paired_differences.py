"""Differences between two settings that were tried with the same seeds: t intervals, Holm's correction, equivalence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import LEVEL

ROUNDING = 1e-12  # a spread this small beside the values is none


@dataclass(frozen=True)
class Difference:
    """What a second setting has more than a first, paired by seed, with its 95 % t interval.

    Where the difference is the same for every seed, nothing tells how far it would be for others: there is no test
    then, ``low``, ``high`` and ``p`` are NaN, and nothing is significant or equivalent.
    """

    first: float  # mean over the seeds
    second: float
    mean: float  # second - first
    error: float  # standard error of the mean; 0 where the seeds do not vary
    low: float
    high: float
    p: float  # two-sided paired t test
    seeds: int

    @property
    def varies(self) -> bool:
        """Whether the seeds differ in it, so that it can be tested."""
        return self.error > 0

    @property
    def significant(self) -> bool:
        return self.p < LEVEL

    def equivalence_p(self, margin: float) -> float:
        """The p of "the difference is ``margin`` or more, either way"; small if both are equal for all that matters.

        Source: two one-sided tests, Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987.
        """
        room = margin - abs(self.mean)
        return float(stats.t.sf(room / self.error, self.seeds - 1)) if self.varies else math.nan


def paired(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> Difference:
    """The difference of two settings that were tried with the same seeds, two or more: a value a seed each.

    >>> found = paired([1, 2, 3], [2, 4, 6])
    >>> found.mean, round(found.low, 2), round(found.high, 2), round(found.p, 3)
    (2.0, -0.48, 4.48, 0.074)
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InputError(f"values of {a.shape} and {b.shape} are no pairs. Give one a seed, for at least two seeds.")
    mean, error = float((b - a).mean()), float((b - a).std(ddof=1) / math.sqrt(len(a)))
    if error <= ROUNDING * max(np.abs(a).max(), np.abs(b).max()):
        return Difference(float(a.mean()), float(b.mean()), mean, 0.0, math.nan, math.nan, math.nan, len(a))
    reach = error * float(stats.t.ppf(1 - LEVEL / 2, len(a) - 1))
    p = 2 * float(stats.t.sf(abs(mean) / error, len(a) - 1))
    return Difference(float(a.mean()), float(b.mean()), mean, error, mean - reach, mean + reach, p, len(a))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values of a family, adjusted so that none is falsely small more often than it says (Holm 1979).

    NaN, where there was no test, stays NaN and counts in the size of the family.

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, float)
    values = np.where(np.isnan(given), 1, given)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.where(np.isnan(given), np.nan, np.minimum(adjusted, 1))
