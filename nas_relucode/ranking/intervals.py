"""Simultaneous intervals of the differences between the best network's accuracy and each network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.ranking.accuracies import Accuracies, SeedVariance, pooled_seed_variance

DRAWS = 4000  # of the errors
UNSEEN = 2.0  # samples a network on which two networks may yet differ, see `sample_covariance`
POWER = 0.8  # with which a smallest difference is shown
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Errors:
    """How far the mean accuracies of some networks may lie from the true ones."""

    samples: np.ndarray  # float64, (networks, networks): their covariance over other validation samples
    seeds: SeedVariance  # over other seeds
    interaction: np.ndarray  # float64, (networks,): the part of the variance over seeds that ``samples`` holds as well

    @property
    def variance(self) -> np.ndarray:
        """The variance of each mean beyond the samples, (networks,)."""
        return np.maximum(0.0, self.seeds.variance - self.interaction)

    @property
    def standard(self) -> np.ndarray:
        """Standard errors of the differences between two networks, (networks, networks)."""
        return np.sqrt(_of_pairs(self.samples) + np.add.outer(self.variance, self.variance))

    def drawn(self, draws: int, generator: np.random.Generator, *, known: bool = False) -> np.ndarray:
        """Random errors, (networks, draws); ``known``: as if the variance over seeds were known, not estimated."""
        chance = generator.normal(size=(2, len(self.samples), draws))
        factors = np.ones((draws, 1)) if known else self.seeds.drawn(draws, generator)
        variance = np.maximum(0.0, self.seeds.variance * factors - self.interaction)
        values, vectors = np.linalg.eigh(self.samples)
        shared = (vectors * np.sqrt(np.maximum(values, 0.0))) @ chance[0]
        return np.asarray(shared + np.sqrt(variance).T * chance[1])


def errors(networks: Sequence[Accuracies]) -> Errors:
    """The errors of networks of which at least one has several seeds."""
    seeds = pooled_seed_variance(networks)
    has_predictions = np.array([network.correct is not None for network in networks])
    return Errors(sample_covariance(networks), seeds, np.where(has_predictions, seeds.interaction, 0.0))


def sample_covariance(networks: Sequence[Accuracies]) -> np.ndarray:
    """The covariance of the mean accuracies over other validation samples, float64 (networks, networks).

    It is that of the shares of seeds that are right on each sample, for networks with predictions of the same samples;
    networks with predictions of other samples, or without, count as validated on samples of their own. To the squared
    differences of each two networks come those of 4 samples on which one is right and the other wrong: networks that
    differ on no sample of a few would differ on some sample of many (Agresti and Min, Biometrics 61, 2005, add 2).
    """
    covariance = np.diag([network.sample_variance for network in networks])
    tables: dict[tuple[str | None, int], dict[int, np.ndarray]] = {}
    for row, network in enumerate(networks):
        if network.correct is not None and network.correct.shape[1] > 1:
            tables.setdefault((network.labels, network.correct.shape[1]), {})[row] = network.correct.mean(axis=0)
    for (_, samples), shares in tables.items():
        rows = list(shares)
        common = np.atleast_2d(np.cov(list(shares.values()))) / samples
        covariance[np.ix_(rows, rows)] = common + np.eye(len(rows)) * UNSEEN / samples**2
    return covariance


@dataclass(frozen=True)
class Multiples:
    """How many standard errors the ends of all intervals lie from the differences."""

    low: float
    high: float


def multiples(errors: Errors, best: int, level: float, seed: int, *, known: bool = False) -> Multiples:
    """The multiples with which the lower ends, and the upper ends, hold for all networks with 1 - ``level``.

    The best network is the luckiest of its equals. A lower end fails if its luck is larger than the multiple allows;
    any network may be the lucky one, so ``low`` is from the differences of all pairs (Tukey). An upper end fails if the
    best network was unlucky beside another; that it was chosen for its accuracy makes this less likely. So ``high`` is
    from the differences from this one network, in one direction (Dunnett; Hsu, Annals of Statistics 9, 1981).
    """
    drawn = errors.drawn(DRAWS, np.random.default_rng(seed), known=known)
    standard = errors.standard
    drawn, standard = drawn / standard.max(), standard / standard.max()
    largest, unlucky = np.zeros(DRAWS), np.zeros(DRAWS)
    for one in range(len(drawn)):
        away = (drawn - drawn[one]) / np.where(np.arange(len(drawn)) == one, 1.0, standard[one])[:, None]
        if one == best:
            unlucky = away.max(axis=0)
        np.maximum(largest, np.abs(away[one:]).max(axis=0), out=largest)
    return Multiples(float(np.quantile(largest, 1 - level)), float(np.quantile(unlucky, 1 - level)))


def smallest_difference(errors: Errors, best: int, multiple: float) -> np.ndarray:
    """The true differences from the best network that would be shown with a probability of 80 %, (networks,)."""
    return np.asarray((multiple + stats.norm.ppf(POWER)) * errors.standard[best])


def seeds_needed(
    networks: Sequence[Accuracies], errors: Errors, best: int, margin: float, multiple: float
) -> np.ndarray:
    """How many seeds of every network would make its smallest difference ``margin``, (networks,); NaN if none would.

    ``multiple`` is the one with known variances. With few seeds it is larger, by as much as a quantile of Student's t
    distribution, with the degrees of freedom of all networks, is larger than that of a normal one.
    """
    seeds = np.array([len(network.values) for network in networks])
    of_one = errors.seeds.variance * seeds
    shared, one = limits(errors, best), of_one + of_one[best]
    numbers = np.unique(np.geomspace(2, MOST_SEEDS, 400).round())
    quantiles = stats.t.isf(stats.norm.sf(multiple), len(networks) * (numbers - 1)) + stats.norm.ppf(POWER)
    enough = quantiles**2 * (shared[:, None] + one[:, None] / numbers) <= margin**2
    enough[best] = False
    return np.where(enough.any(axis=1), numbers[enough.argmax(axis=1)], np.nan)


def samples_needed(
    networks: Sequence[Accuracies], errors: Errors, best: int, margin: float, multiple: float
) -> np.ndarray:
    """How many validation samples would leave half of what ``margin`` allows to the seeds, (networks,)."""
    samples = np.array([network.samples for network in networks])
    allowed = (margin / (multiple + stats.norm.ppf(POWER))) ** 2 / 2
    needed = np.ceil(np.minimum(samples, samples[best]) * limits(errors, best) / allowed)
    needed[best] = np.nan
    return np.asarray(needed)


def limits(errors: Errors, best: int) -> np.ndarray:
    """The variance of the differences from the best network with infinitely many seeds, (networks,)."""
    without = errors.samples - np.diag(errors.interaction)
    return np.asarray(np.maximum(0.0, _of_pairs(without)[best]))


def _of_pairs(covariance: np.ndarray) -> np.ndarray:
    """The variances of the differences between two variables."""
    alone = np.diag(covariance)
    return np.asarray(np.maximum(0.0, np.add.outer(alone, alone) - 2 * covariance))
