"""How accurate networks are, and how much of their mean accuracies is chance: seeds and validation samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from nas_relucode.ranking.choices import LEVEL


@dataclass(frozen=True, eq=False)
class Accuracies:
    """The validation accuracies of one network, one per seed, and its predictions where they were kept."""

    values: np.ndarray  # float64, (seeds,)
    samples: float  # validation samples behind each value
    correct: np.ndarray | None = None  # float64, (seeds, samples): 1 right, 0 wrong, between for repeated trainings
    labels: str | None = None  # identifies the samples, see Predictions

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def seed_variance(self) -> float:
        """Variance of the mean over seeds; 0 for a single seed, where it is unknown."""
        seeds = len(self.values)
        return math.fsum((self.values - self.mean) ** 2) / (seeds - 1) / seeds if seeds > 1 else 0.0

    @property
    def sample_variance(self) -> float:
        """Variance of the mean over other validation samples of this size: q (1 - q) / samples.

        q is the accuracy with two more samples right and two more wrong, so that a perfect score does not count as
        certain. Source: Agresti and Coull, The American Statistician 52, 1998.
        """
        q = (self.mean * self.samples + 2) / (self.samples + 4)
        return q * (1 - q) / self.samples

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over other seeds and other validation samples."""
        return math.sqrt(self.seed_variance + self.sample_variance)

    def paired(self, other: Accuracies) -> bool:
        """Whether there are predictions of the same samples for both networks."""
        return self.correct is not None and other.correct is not None and self.labels == other.labels


@dataclass(frozen=True, eq=False)
class SeedVariance:
    """The variance of the mean accuracies of some networks over other seeds; every array is (networks,)."""

    variance: np.ndarray  # float64
    interaction: np.ndarray  # float64: its part by seed and sample together, also part of the variance over samples
    freedom: np.ndarray  # float64: degrees of freedom of the estimate; 0 where every network has one seed
    pooled: np.ndarray  # bool: whether the estimate is the one pooled over networks

    def subset(self, networks: Sequence[int]) -> SeedVariance:
        """The same estimates for a subset of the networks."""
        rows = list(networks)
        return SeedVariance(self.variance[rows], self.interaction[rows], self.freedom[rows], self.pooled[rows])


def pooled_seed_variance(networks: Sequence[Accuracies]) -> SeedVariance:
    """The variance of the mean accuracies over other seeds, pooled over all networks.

    Two or three seeds of one network estimate its variance badly. So the variance of one training is the one pooled
    over all networks, as in the comparisons of Tukey and Dunnett, or that of the network's own seeds where this is
    larger. With only its own estimate, a network whose seeds happen to lie close together would be called different too
    often; with only the pooled one, a network whose seeds vary more. A network with one seed gets the pooled one.

    A network that varies far more than the others, for example because some of its seeds fail to train, would hide the
    differences between them. It is left out of the pool, with its own estimate and degrees of freedom, if Cochran's
    test finds its share of the sum of squares too large (Annals of Eugenics 11, 1941; ISO 5725-2 treats laboratories in
    this way); the test is then repeated. With two seeds each it has little power: equal networks whose seeds vary very
    differently are then called different up to twice as often as the level allows.

    Networks that do not vary at all, as those that predict one class with every seed, say nothing about the others:
    where some vary, they are left out of the pool as well, and get its variance.
    """
    seeds = np.array([len(network.values) for network in networks])
    own, interaction = np.array([_variance_of_one_training(network) for network in networks]).T
    varies = np.maximum(own, interaction) > 0
    freedom = np.where(np.isfinite(own) & (varies | ~varies.any()), seeds - 1, 0)
    has_freedom = freedom > 0
    if not has_freedom.any():
        zeros = np.zeros(len(seeds))
        return SeedVariance(zeros, zeros, zeros, ~has_freedom)
    # The larger of both, so that two seeds that agree by luck do not make the other networks outliers.
    poolable = _poolable(np.maximum(own, interaction), freedom)
    common, common_interaction = (
        np.average(values[poolable], weights=freedom[poolable]) for values in (own, interaction)
    )
    pooled = poolable | ~has_freedom
    return SeedVariance(
        np.where(has_freedom, np.maximum(own, common), common) / seeds,
        np.where(has_freedom, interaction, common_interaction) / seeds,
        np.where(pooled, freedom[poolable].sum(), freedom).astype(float),
        pooled,
    )


def _poolable(variances: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Which variances are pooled by Cochran's test, (networks,) bool; never those without degrees of freedom."""
    poolable = freedom > 0
    while poolable.sum() > 1:
        squares, total = np.where(poolable, variances * freedom, 0.0), freedom[poolable].sum()
        if not squares.sum():
            break
        p = np.ones(len(poolable))
        shares, own = squares[poolable] / squares.sum(), freedom[poolable]
        p[poolable] = special.betaincc(own / 2, (total - own) / 2, shares)
        if p.min() * poolable.sum() >= LEVEL:
            break
        poolable[p.argmin()] = False
    return poolable


def _variance_of_one_training(network: Accuracies) -> tuple[float, float]:
    """The variance of the accuracy over seeds, and its part by seed and sample together; 0 for a single seed."""
    seeds, variance = len(network.values), network.seed_variance * len(network.values)
    correct = network.correct
    if correct is None or seeds == 1 or correct.shape[1] < 2:
        return variance, 0.0
    residuals = correct - correct.mean(axis=0) - correct.mean(axis=1, keepdims=True) + correct.mean()
    return variance, float((residuals**2).sum()) / (correct.shape[1] - 1) / (seeds - 1) / correct.shape[1]
