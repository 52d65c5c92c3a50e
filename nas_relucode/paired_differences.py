"""Differences between two settings that were tried with the same seeds: t intervals, Holm's correction, equivalence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.errors import InputError

LEVEL = 0.05  # of every test; intervals are of 1 - LEVEL


@dataclass(frozen=True)
class Difference:
    """What a second setting has more than a first, paired by seed, with its 95 % t interval."""

    first: float  # mean over the seeds
    second: float
    mean: float  # second - first
    error: float  # standard error of the mean
    low: float
    high: float
    p: float  # two-sided paired t test
    seeds: int

    @property
    def significant(self) -> bool:
        return self.p < LEVEL

    def equivalence_p(self, margin: float) -> float:
        """The p of "the difference is ``margin`` or more, either way"; small if both are equal for all that matters.

        Source: two one-sided tests, Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987.
        """
        room = margin - abs(self.mean)
        return float(stats.t.sf(room / self.error, self.seeds - 1)) if self.error else float(room <= 0)


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
    reach = error * float(stats.t.ppf(1 - LEVEL / 2, len(a) - 1))
    p = 2 * float(stats.t.sf(abs(mean) / error, len(a) - 1)) if error else float(mean == 0)
    return Difference(float(a.mean()), float(b.mean()), mean, error, mean - reach, mean + reach, p, len(a))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values of a family, adjusted so that none is falsely small more often than it says (Holm 1979).

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(adjusted, 1)
