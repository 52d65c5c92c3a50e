"""Simultaneous intervals of the differences between the best network's accuracy and each network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.codes.words import compiled
from nas_relucode.ranking.accuracies import Accuracies, SeedVariance, pooled_seed_variance

DRAWS = 4000  # of the errors
UNSEEN = 2.0  # samples a network on which two networks may yet differ, see `sample_covariance`
SIMILAR = 2  # networks whose variances over seeds count as much as a network's own, see `Errors.drawn`
SCREEN = 0.1  # share of the level at which networks leave that are far behind
POWER = 0.8  # with which a smallest difference is shown
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Errors:
    """How far the mean accuracies of some networks may lie from the true ones."""

    samples: np.ndarray  # float64, (networks, networks): their covariance over other validation samples
    seeds: SeedVariance  # over other seeds
    interaction: np.ndarray  # float64, (networks,): the part of the variance over seeds that ``samples`` holds as well
    freedom: np.ndarray  # float64, (networks,): degrees of freedom of the variances over seeds, see `errors`

    @property
    def standard(self) -> np.ndarray:
        """Standard errors of the differences between two networks, (networks, networks)."""
        variance = np.maximum(0.0, self.seeds.variance - self.interaction)
        return np.sqrt(_of_pairs(self.samples) + np.add.outer(variance, variance))

    @property
    def limits(self) -> np.ndarray:
        """The variances of the differences with infinitely many seeds, (networks, networks)."""
        return _of_pairs(self.samples - np.diag(self.interaction))

    def drawn(self, generator: np.random.Generator, *, known: bool = False) -> np.ndarray:
        """Random errors, (networks, DRAWS); ``known``: as if the variances over seeds were known, not estimated.

        Each is a normal error over samples and one over seeds, the variance of the latter its estimate times the
        degrees of freedom / chi square (Krishnamoorthy, Lu and Mathew, Computational Statistics & Data Analysis 51,
        2007), less the interaction of seeds and samples, which the former contains already (Owen, The pigeonhole
        bootstrap, Annals of Applied Statistics 1, 2007).
        """
        chance = generator.normal(size=(2, len(self.samples), DRAWS))
        freedom = self.freedom[:, None]
        factors = 1.0 if known else freedom / generator.chisquare(freedom, chance[1].shape)
        variance = np.maximum(0.0, self.seeds.variance[:, None] * factors - self.interaction[:, None])
        values, vectors = np.linalg.eigh(self.samples)
        shared = (vectors * np.sqrt(np.maximum(values, 0.0))) @ chance[0]
        return np.asarray(shared + np.sqrt(variance) * chance[1])

    def subset(self, rows: np.ndarray) -> Errors:
        """The same errors, of these networks."""
        return Errors(
            self.samples[np.ix_(rows, rows)], self.seeds.subset(list(rows)), self.interaction[rows], self.freedom[rows]
        )


def errors(networks: Sequence[Accuracies]) -> Errors:
    """The errors of networks; where each has one seed, those of these trained networks over other samples alone.

    The variance over seeds is pooled (`accuracies.pooled_seed_variance`), but variances of networks are never the same:
    however many are pooled, those of others count for at most SIMILAR times the seeds of one. So the degrees of freedom
    are at most three times a network's own. In simulations (docs/equality.md), two or three seeds of networks whose
    variances differ by much gave too narrow intervals without this limit.
    """
    seeds = pooled_seed_variance(networks)
    own = np.array([len(network.values) - 1 for network in networks])
    has_predictions = np.array([network.correct is not None for network in networks])
    return Errors(
        sample_covariance(networks),
        seeds,
        np.where(has_predictions, seeds.interaction, 0.0),
        np.minimum(seeds.freedom, own + SIMILAR * own[own > 0].mean() if own.any() else 0.0),
    )


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
class Intervals:
    """Intervals of the best network's true accuracy less each network's, and what they would take; (networks,)."""

    low: np.ndarray
    high: np.ndarray
    smallest_difference: np.ndarray  # the true difference whose lower end lies above 0 with a probability of POWER
    seeds_needed: np.ndarray  # of every network, for a smallest difference of ``margin``; NaN if none would do
    samples_needed: np.ndarray  # validation samples with which some number of seeds does


def simultaneous_intervals(
    networks: Sequence[Accuracies], best: int, *, margin: float, level: float, seed: int = 0
) -> Intervals:
    """The intervals of all networks; the lower ends hold at once with 1 - ``level``, and the upper ends do.

    Each end lies a multiple of the standard error from the difference, the same multiple for all, see `multiples`. Of
    many networks most may be far behind, where nothing is in question. They leave first: those whose lower ends lie
    above ``margin`` at a tenth of the level. The others share the rest of it, which makes their intervals shorter (the
    two steps are those of Romano, Shaikh and Wolf, Econometrica 82, 2014, for moment inequalities).

    At least one of the networks has several seeds; ``networks[best]`` has the highest mean accuracy.
    """
    uncertain = errors(networks)
    standard = uncertain.standard[best]
    difference = networks[best].mean - np.array([network.mean for network in networks])
    low_multiple, high_multiple = multiples(uncertain, best, SCREEN * level, seed)
    close = np.flatnonzero(difference - low_multiple * standard <= margin)
    among, at = uncertain.subset(close), int(np.searchsorted(close, best))
    lows, highs = np.full((2, len(networks)), [[low_multiple], [high_multiple]])
    lows[close], highs[close] = multiples(among, at, (1 - SCREEN) * level, seed)
    known, _ = multiples(among, at, (1 - SCREEN) * level, seed, known=True)
    return Intervals(
        difference - lows * standard,
        difference + highs * standard,
        (lows + stats.norm.ppf(POWER)) * standard,
        _seeds_needed(networks, uncertain, best, margin, known),
        _samples_needed(networks, uncertain, best, margin, known),
    )


def multiples(errors: Errors, best: int, level: float, seed: int, *, known: bool = False) -> tuple[float, float]:
    """The multiples of the standard errors with which the lower ends, and the upper ends, hold for all networks.

    The best network is the luckiest of its equals. A lower end fails if its luck is larger than the multiple allows;
    any network may be the lucky one, so the first multiple is from the differences of all pairs (Tukey). An upper end
    fails if the best network was unlucky beside another; that it was chosen for its accuracy makes this less likely. So
    the second is from the differences from this one network, in one direction (Dunnett; Hsu, Annals of Statistics 9,
    1981).
    """
    drawn, standard = errors.drawn(np.random.default_rng(seed), known=known), errors.standard.copy()
    np.fill_diagonal(standard, 1.0)
    unlucky = ((drawn - drawn[best]) / standard[best, :, None]).max(axis=0)
    largest = _largest_of_pairs(drawn, standard)
    return float(np.quantile(largest, 1 - level)), float(np.quantile(unlucky, 1 - level))


@compiled
def _largest_of_pairs(drawn, standard):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The largest difference of two networks in standard errors, in each draw, float64 (draws,).

    The luckiest networks are compared with the unluckiest first, until no difference that is left can be the largest.
    """
    networks, draws = drawn.shape
    least = np.full(networks, np.inf)  # standard error of a difference from each network
    for one in range(networks):
        for other in range(networks):
            if other != one:
                least[one] = min(least[one], standard[one, other])
    largest = np.zeros(draws)
    for draw in range(draws):
        errors = drawn[:, draw].copy()
        order = np.argsort(errors)
        for place in range(networks - 1, 0, -1):
            one = order[place]
            for other in order[:place]:
                away = errors[one] - errors[other]
                if away <= largest[draw] * least[one]:
                    break
                largest[draw] = max(largest[draw], away / standard[one, other])
    return largest


def _seeds_needed(
    networks: Sequence[Accuracies], errors: Errors, best: int, margin: float, multiple: float
) -> np.ndarray:
    """How many seeds of every network would make its smallest difference ``margin``, (networks,); NaN if none would.

    ``multiple`` is the one with known variances. With few seeds it is larger, by as much as a quantile of Student's t
    distribution is larger than that of a normal one.
    """
    seeds = np.array([len(network.values) for network in networks])
    of_one = errors.seeds.variance * seeds
    numbers = np.unique(np.geomspace(2, MOST_SEEDS, 400).round())
    freedom = min(len(networks), 1 + SIMILAR) * (numbers - 1)
    quantiles = stats.t.isf(stats.norm.sf(multiple), freedom) + stats.norm.ppf(POWER)
    variance = errors.limits[best][:, None] + (of_one + of_one[best])[:, None] / numbers
    enough = quantiles**2 * variance <= margin**2
    return np.where(enough.any(axis=1), numbers[enough.argmax(axis=1)], np.nan)


def _samples_needed(
    networks: Sequence[Accuracies], errors: Errors, best: int, margin: float, multiple: float
) -> np.ndarray:
    """How many validation samples would leave half of the variance that ``margin`` allows to the seeds, (networks,)."""
    samples = np.array([network.samples for network in networks])
    allowed = (margin / (multiple + stats.norm.ppf(POWER))) ** 2
    return np.asarray(np.ceil(np.minimum(samples, samples[best]) * errors.limits[best] / (allowed / 2)))


def _of_pairs(covariance: np.ndarray) -> np.ndarray:
    """The variances of the differences between two variables."""
    alone = np.diag(covariance)
    return np.asarray(np.maximum(0.0, np.add.outer(alone, alone) - 2 * covariance))
