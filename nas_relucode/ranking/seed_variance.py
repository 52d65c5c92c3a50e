"""How accurate networks are, and how far that varies by seeds and by samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STUCK = 100.0  # times the usual variance by seeds: of a network that trains or gets stuck, as its seed wants


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
    """How far the mean accuracies of some networks vary by their seeds, as one estimate tells."""

    variance: np.ndarray  # float64, (networks,)
    both: np.ndarray  # float64, (networks,): what of it is by seed and sample together, which the samples show as well
    freedom: float  # degrees of freedom of the estimate; 0 where every network has one seed, which does not tell

    def drawn(self, chi_squares: np.ndarray, *, paired: bool = True) -> np.ndarray:
        """What the variance may be, (draws, networks), if the estimate came with these chi squares, (draws,).

        Where networks are compared sample by sample, without what their samples show.
        """
        found = self.variance * (self.freedom / chi_squares[:, None])
        return np.maximum(0.0, found - self.both) if paired else found

    def of(self, networks: Sequence[int]) -> SeedVariance:
        """Of these networks alone, by the same estimate."""
        return SeedVariance(self.variance[networks], self.both[networks], self.freedom)


def seed_variance(networks: Sequence[Accuracies]) -> SeedVariance:
    """How far the networks vary by their seeds, taken together: two or three seeds of one tell too little of it.

    The variance of one training is that of all networks, pooled as in the comparisons of Tukey and Dunnett, or that of
    the network's own seeds where this is larger. By their own alone, networks whose seeds happen to lie close together
    would be told apart too often; by the pooled one alone, those that do vary more. A variance of more than ``STUCK``
    times the median is not pooled. A network with one seed is taken to vary as the others do.
    """
    seeds = np.array([len(network.values) for network in networks])
    own, both = np.array([_of_one_training(network) for network in networks]).T
    freedom = np.where(np.isfinite(own), seeds - 1, 0)
    known = freedom > 0
    if not known.any():
        return SeedVariance(np.zeros(len(seeds)), np.zeros(len(seeds)), 0.0)
    usual = float(np.median(own[known]))
    alike = known & (own <= STUCK * usual) if usual else known
    pooled, pooled_both = (np.average(values[alike], weights=freedom[alike]) for values in (own, both))
    variance = np.where(known, np.maximum(own, pooled), pooled)
    return SeedVariance(variance / seeds, np.where(known, both, pooled_both) / seeds, float(freedom[alike].sum()))


def _of_one_training(network: Accuracies) -> tuple[float, float]:
    """Variance of the accuracy by the seed, and what of it is by seed and sample together; 0 for a single seed."""
    seeds, variance = len(network.values), network.seed_variance * len(network.values)
    table = network.correct
    if table is None or seeds == 1 or table.shape[1] < 2:
        return variance, 0.0
    rests = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    return variance, float((rests**2).sum()) / (table.shape[1] - 1) / (seeds - 1) / table.shape[1]
