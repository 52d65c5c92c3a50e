"""How accurate networks are, and how far that varies by seeds and by samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.ranking.choices import LEVEL


@dataclass(frozen=True)
class Accuracies:
    """How accurate one network is, a value a seed, and what is known of each validation sample."""

    values: np.ndarray  # float64, (seeds,)
    samples: float  # validation samples behind each value
    correct: np.ndarray | None = None  # float64, (seeds, samples): 1 right, 0 wrong, between for repeated trainings
    labels: str | None = None  # which samples they are, see Predictions

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def seed_variance(self) -> float:
        """Of the mean: the variance over the seeds / seeds; 0 for a single seed, which does not tell."""
        seeds = len(self.values)
        return math.fsum((self.values - self.mean) ** 2) / (seeds - 1) / seeds if seeds > 1 else 0.0

    @property
    def sample_variance(self) -> float:
        """Of the mean by another validation sample of this size: q (1 - q) / samples.

        q is the accuracy with two more samples right and two wrong, so that a perfect validation is not taken for
        certainty. Source: Agresti and Coull, The American Statistician 52, 1998.
        """
        q = (self.mean * self.samples + 2) / (self.samples + 4)
        return q * (1 - q) / self.samples

    @property
    def standard_error(self) -> float:
        """Of the mean: by other seeds and by another validation sample."""
        return math.sqrt(self.seed_variance + self.sample_variance)

    def paired(self, other: Accuracies) -> bool:
        """Whether both have predictions of the same samples."""
        return self.correct is not None and other.correct is not None and self.labels == other.labels


@dataclass(frozen=True)
class SeedVariance:
    """How far the mean accuracies of some networks vary by their seeds; everything (networks,)."""

    variance: np.ndarray  # float64
    both: np.ndarray  # float64: what of it is by seed and sample together, which the samples show as well
    freedom: np.ndarray  # float64: degrees of freedom of the estimate; 0 where every network has one seed: unknown
    pooled: np.ndarray  # bool: whether it is the estimate that networks share

    def scaled(self, factors: np.ndarray, *, paired: bool = True) -> np.ndarray:
        """The variance times each row of ``factors``, (draws, networks or 1); (draws, networks).

        Where networks are compared sample by sample, without what their samples show.
        """
        found = self.variance * factors
        return np.maximum(0.0, found - self.both) if paired else found

    def drawn(self, draws: int, generator: np.random.Generator) -> np.ndarray:
        """How many times the estimate the variance may be, (draws, networks): degrees of freedom / chi square."""
        if not self.freedom.any():
            return np.ones((draws, 1))
        factors = self.freedom / generator.chisquare(self.freedom, (draws, len(self.freedom)))
        factors[:, self.pooled] = factors[:, [self.pooled.argmax()]]
        return factors

    def of(self, networks: Sequence[int]) -> SeedVariance:
        """Of these networks alone, by the same estimates."""
        at = list(networks)
        return SeedVariance(self.variance[at], self.both[at], self.freedom[at], self.pooled[at])


def seed_variance(networks: Sequence[Accuracies]) -> SeedVariance:
    """How far the networks vary by their seeds, taken together: two or three seeds of one tell too little of it.

    The variance of one training is that of all networks, pooled as in the comparisons of Tukey and Dunnett, or that of
    the network's own seeds where this is larger. By their own alone, networks whose seeds happen to lie close together
    would be told apart too often; by the pooled one alone, those that do vary more. A network with one seed is taken
    to vary as the others do.

    A network that varies far more than the others, as one that trains or gets stuck as its seed wants, hides what they
    differ by, and says less of itself than all of them together. So it is left out, with an estimate and degrees of
    freedom of its own, if Cochran's test finds its share of the sum of squares too large (Annals of Eugenics 11, 1941;
    so does ISO 5725-2 with laboratories), again and again. If there are two seeds each, it finds little: equal
    networks that vary by seeds in very different ways are then told apart up to twice as often as the level says.
    """
    seeds = np.array([len(network.values) for network in networks])
    own, both = np.array([_of_one_training(network) for network in networks]).T
    freedom = np.where(np.isfinite(own), seeds - 1, 0)
    known = freedom > 0
    if not known.any():
        nothing = np.zeros(len(seeds))
        return SeedVariance(nothing, nothing, nothing, ~known)
    alike = _alike(np.maximum(own, both), freedom)  # two seeds with as many right by luck are no outlier
    usual, usual_both = (np.average(values[alike], weights=freedom[alike]) for values in (own, both))
    variance = np.where(known, np.maximum(own, usual), usual)
    pooled = alike | ~known
    return SeedVariance(
        variance / seeds,
        np.where(known, both, usual_both) / seeds,
        np.where(pooled, freedom[alike].sum(), freedom).astype(float),
        pooled,
    )


def _alike(variances: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Which variances, (networks,) bool, are pooled; those without degrees of freedom are not."""
    alike = freedom > 0
    while alike.sum() > 1:
        squares, total = np.where(alike, variances * freedom, 0.0), freedom[alike].sum()
        if not squares.sum():
            break
        p = np.ones(len(alike))
        p[alike] = stats.beta.sf(squares[alike] / squares.sum(), freedom[alike] / 2, (total - freedom[alike]) / 2)
        if p.min() * alike.sum() >= LEVEL:
            break
        alike[p.argmin()] = False
    return alike


def _of_one_training(network: Accuracies) -> tuple[float, float]:
    """Variance of the accuracy by the seed, and what of it is by seed and sample together; 0 for a single seed."""
    seeds, variance = len(network.values), network.seed_variance * len(network.values)
    table = network.correct
    if table is None or seeds == 1 or table.shape[1] < 2:
        return variance, 0.0
    rests = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    return variance, float((rests**2).sum()) / (table.shape[1] - 1) / (seeds - 1) / table.shape[1]
