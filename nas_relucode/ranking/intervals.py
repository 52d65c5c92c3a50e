"""Simultaneous intervals of the differences between the best network's accuracy and each network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special  # of which stats makes the same numbers, and takes a second to import

from nas_relucode.codes.words import compiled
from nas_relucode.ranking.accuracies import Accuracies, SeedVariance, pooled_seed_variance

DRAWS, BLOCK = 4000, 250  # of the errors; those that are drawn at once
UNSEEN = 2.0  # samples a network on which two networks may yet differ, see `sample_covariance`
SIMILAR = 2  # networks whose variances over seeds count as much as a network's own, see `Errors.drawn`
SCREEN = 0.1  # share of the level at which networks leave that are far behind
POWER = 0.8  # with which a smallest difference is shown
MOST_SEEDS = 10_000


@dataclass(frozen=True, eq=False)
class SampleErrors:
    """How far the mean accuracies of some networks may lie from those over all samples; see `sample_errors`.

    The errors of a group of networks are ``factor @ z`` with independent standard normal z, and to each network's comes
    an independent one of its own.
    """

    groups: tuple[tuple[np.ndarray, np.ndarray], ...]  # rows; factor, float64, (rows, z)
    own: np.ndarray  # float64, (networks,): variances of the independent parts
    unseen: np.ndarray  # float64, (networks,): the part of all variances that stands for samples not seen

    @property
    def covariance(self) -> np.ndarray:
        """The covariance of the errors, float64 (networks, networks)."""
        covariance = np.zeros((len(self.own), len(self.own)))
        for rows, factor in self.groups:
            covariance[np.ix_(rows, rows)] = factor @ factor.T
        covariance[np.diag_indices_from(covariance)] += self.own
        return covariance

    @property
    def squares(self) -> np.ndarray:
        """The variances of the differences between the errors of two networks, float32 (networks, networks)."""
        squares = np.zeros((len(self.own), len(self.own)), np.float32)  # changed in place: 3,000 networks take 34 MiB
        for rows, factor in self.groups:
            short = factor.astype(np.float32)
            squares[np.ix_(rows, rows)] = short @ short.T
        squares[np.diag_indices_from(squares)] += self.own.astype(np.float32)
        alone = np.diag(squares).copy()
        squares *= -2
        squares += alone
        squares += alone[:, None]
        return np.maximum(squares, 0.0, out=squares)

    def covariance_with(self, one: int) -> np.ndarray:
        """The covariance of the errors with that of one network, float64 (networks,)."""
        covariance = np.zeros(len(self.own))
        covariance[one] = self.own[one]
        for rows, factor in self.groups:
            if len(at := np.flatnonzero(rows == one)):
                covariance[rows] += factor @ factor[at[0]]
        return covariance

    @property
    def variance(self) -> np.ndarray:
        """The variances of the errors, float64 (networks,)."""
        variance = self.own.copy()
        for rows, factor in self.groups:
            variance[rows] += np.einsum("ij,ij->i", factor, factor)
        return variance


@dataclass(frozen=True, eq=False)
class Errors:
    """How far the mean accuracies of some networks may lie from the true ones."""

    samples: SampleErrors  # over other validation samples
    seeds: SeedVariance  # over other seeds
    interaction: np.ndarray  # float64, (networks,): the part of the variance over seeds that ``samples`` holds as well
    freedom: np.ndarray  # float64, (networks,): degrees of freedom of the variances over seeds, see `errors`

    @property
    def of_seeds(self) -> np.ndarray:
        """The variances over seeds that ``samples`` does not hold, (networks,)."""
        return np.maximum(0.0, self.seeds.variance - self.interaction)

    def standard_with(self, one: int) -> np.ndarray:
        """Standard errors of the differences from one network, (networks,)."""
        alone, of_seeds = self.samples.variance, self.of_seeds
        squares = np.maximum(0.0, alone + alone[one] - 2 * self.samples.covariance_with(one))
        return np.sqrt(squares + of_seeds + of_seeds[one])

    def limits(self, one: int) -> np.ndarray:
        """The variances of the differences from one network with infinitely many seeds, (networks,).

        However equal the networks are, they may differ on samples that were not seen, see `sample_errors`.
        """
        alone, covariance = self.samples.variance - self.interaction, self.samples.covariance_with(one)
        covariance[one] -= self.interaction[one]
        return np.asarray(
            np.maximum(self.samples.unseen + self.samples.unseen[one], alone + alone[one] - 2 * covariance)
        )

    @property
    def averaged_out(self) -> np.ndarray:
        """The variances that more seeds make smaller, (networks,); with `limits` those of `standard_with`."""
        return np.maximum(self.seeds.variance, self.interaction)

    def drawn(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Random errors, and the same as if the variances over seeds were known; float32 (DRAWS, networks) each.

        Each is a normal error over samples and one over seeds, the variance of the latter its estimate times the
        degrees of freedom / chi square (Krishnamoorthy, Lu and Mathew, Computational Statistics & Data Analysis 51,
        2007), less the interaction of seeds and samples, which the former contains already (Owen, The pigeonhole
        bootstrap, Annals of Applied Statistics 1, 2007). Known variances are not multiplied. The second is the first
        where there are no degrees of freedom: each network has one seed, so these variances are 0.
        """
        groups = [(rows, factor.T.astype(np.float32)) for rows, factor in self.samples.groups]
        half = np.maximum(self.freedom, 1.0) / 2
        estimated, known = np.zeros((2, DRAWS, len(half)), np.float32)
        for block in range(0, DRAWS, BLOCK):
            drawn = slice(block, block + BLOCK)
            for rows, factor in groups:
                known[drawn, rows] = generator.standard_normal((BLOCK, len(factor)), np.float32) @ factor
            chance = generator.standard_normal((BLOCK, len(half)), np.float32)
            variance = self.seeds.variance * half / generator.standard_gamma(half, chance.shape) - self.interaction
            estimated[drawn] = known[drawn] + np.sqrt(np.maximum(variance, 0.0) + self.samples.own) * chance
            known[drawn] += np.sqrt(self.of_seeds + self.samples.own) * chance
        return estimated, known


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
        sample_errors(networks),
        seeds,
        np.where(has_predictions, seeds.interaction, 0.0),
        np.minimum(seeds.freedom, own + SIMILAR * own[own > 0].mean() if own.any() else 0.0),
    )


def sample_errors(networks: Sequence[Accuracies]) -> SampleErrors:
    """The errors of the mean accuracies over other validation samples.

    Their covariance is that of the shares of seeds that are right on each sample, for networks with predictions of the
    same samples; networks with predictions of other samples, or without, count as validated on samples of their own. To
    the squared differences of each two networks come those of 4 samples on which one is right and the other wrong:
    networks that differ on no sample of a few would differ on some sample of many (Agresti and Min, Biometrics 61,
    2005, add 2).
    """
    own = np.array([network.sample_variance for network in networks])
    unseen = UNSEEN / np.array([network.samples for network in networks]) ** 2
    tables: dict[tuple[str | None, int], list[int]] = {}
    for row, network in enumerate(networks):
        if network.correct is not None and network.correct.shape[1] > 1:
            tables.setdefault((network.labels, network.correct.shape[1]), []).append(row)
    groups = []
    for (_, samples), members in tables.items():
        rows = np.array(members)
        factor: np.ndarray = np.empty((len(rows), samples))
        for place, row in enumerate(rows):
            factor[place] = networks[row].correct.mean(axis=0)
        factor -= factor.mean(axis=1, keepdims=True)
        factor /= np.sqrt(samples * (samples - 1.0))
        if samples > len(rows):  # a square factor is smaller
            factor = np.linalg.cholesky(factor @ factor.T + UNSEEN / samples**2 * np.eye(len(rows)))
        own[rows] = 0.0 if samples > len(rows) else UNSEEN / samples**2
        groups.append((rows, factor))
    return SampleErrors(tuple(groups), own, unseen)


@dataclass(frozen=True, eq=False)
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

    Each end lies a multiple of the standard error from the difference, the same multiple for all. The best network is
    the luckiest of its equals. A lower end fails if its luck is larger than the multiple allows; any network may be the
    lucky one, so the multiple of the lower ends is from the differences of all pairs (Tukey). An upper end fails if the
    best network was unlucky beside another; that it was chosen for its accuracy makes this less likely. So the multiple
    of the upper ends is from the differences from this one network, in one direction (Dunnett; Hsu, Annals of
    Statistics 9, 1981).

    Of many networks most may be far behind, where nothing is in question. They leave first: those whose lower ends lie
    above ``margin`` at a tenth of the level. The others share the rest of it, which makes their intervals shorter (the
    two steps are those of Romano, Shaikh and Wolf, Econometrica 82, 2014, for moment inequalities). Both steps use the
    same draws. With many seeds more would leave, so the numbers of seeds and samples that are needed are those of
    networks that are not far behind by the standard errors as they are.

    At least one of the networks has several seeds; ``networks[best]`` has the highest mean accuracy.
    """
    uncertain = errors(networks)
    squares, of_seeds = uncertain.samples.squares, uncertain.of_seeds
    estimated, known = uncertain.drawn(np.random.default_rng(seed))
    standard = uncertain.standard_with(best)
    difference = networks[best].mean - np.array([network.mean for network in networks])
    low_multiple = largest_of_pairs(estimated, squares, of_seeds, SCREEN * level)
    high_multiple = largest_of_one(estimated, standard, best, SCREEN * level)
    close = np.flatnonzero(difference - low_multiple * standard <= margin)
    in_question = np.flatnonzero(difference - normal_multiple(len(networks), SCREEN * level) * standard <= margin)
    lows, highs = np.full((2, len(networks)), [[low_multiple], [high_multiple]])
    share = (1 - SCREEN) * level
    lows[close] = largest_of_pairs(*_part(close, estimated, squares, of_seeds), share)
    highs[close] = largest_of_one(estimated[:, close], standard[close], int(np.searchsorted(close, best)), share)
    with_known = largest_of_pairs(*_part(in_question, known, squares, of_seeds), share)
    return Intervals(
        np.maximum(difference - lows * standard, -1.0),  # as accuracies may differ at most
        np.minimum(difference + highs * standard, 1.0),
        (lows + special.ndtri(POWER)) * standard,
        _seeds_needed(networks, uncertain, best, margin, with_known),
        _samples_needed(networks, uncertain, best, margin, with_known),
    )


def normal_multiple(networks: int, level: float) -> float:
    """The multiple of known standard errors that some pair's difference exceeds with at most probability ``level``.

    By Bonferroni's inequality over the pairs of so many networks, in both directions.

    >>> round(normal_multiple(2, 0.05), 3)  # one pair, either of which may be the lucky one
    1.96
    """
    return -float(special.ndtri(level / max(2, networks * (networks - 1))))


def _part(
    rows: np.ndarray, drawn: np.ndarray, squares: np.ndarray, of_seeds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `largest_of_pairs` takes, of the networks ``rows`` alone."""
    if len(rows) == len(of_seeds):
        return drawn, squares, of_seeds
    return drawn[:, rows], squares[np.ix_(rows, rows)], of_seeds[rows]


def largest_of_one(drawn: np.ndarray, standard: np.ndarray, best: int, level: float) -> float:
    """The multiple of the standard errors that the differences from one network exceed with probability ``level``.

    ``drawn``: (draws, networks); ``standard``: (networks,), of the differences from the network ``best``.
    """
    away = drawn - drawn[:, [best]]
    away /= np.where(np.arange(len(standard)) == best, np.inf, standard).astype(np.float32)
    return float(np.quantile(away.max(axis=1), 1 - level))


def largest_of_pairs(drawn: np.ndarray, squares: np.ndarray, of_seeds: np.ndarray, level: float) -> float:
    """The multiple of the standard errors that the difference of some pair exceeds with probability ``level``.

    ``drawn``: (draws, networks). The square of the standard error of a difference is that in ``squares``, (networks,
    networks), and that in ``of_seeds``, (networks,), of each of both.

    The quantile depends only on the largest draws. In each draw the best pair by a lower bound of the standard errors
    is found first, which bounds the largest multiple on both sides; then the draws that may be among the largest are
    searched.
    """
    if len(of_seeds) < 2:
        return float(np.quantile(np.zeros(len(drawn)), 1 - level))
    reach = _reaches(squares, of_seeds)
    at_least, at_most = _bounds_of_pairs(drawn, squares, of_seeds, reach)
    counted = min(len(drawn), len(drawn) - int((1 - level) * (len(drawn) - 1)) + 1)
    enough = np.partition(at_least, -counted)[-counted]
    _search_pairs(drawn, squares, of_seeds, reach, at_least, np.flatnonzero(at_most > enough), enough)
    return float(np.quantile(at_least, 1 - level))


@compiled
def _reaches(squares, of_seeds):  # type: ignore[no-untyped-def]  # pragma: no cover
    """A number of each network such that the standard error of a difference is at least the sum of two, (networks,).

    sqrt(a + b) >= (sqrt(a) + sqrt(b)) / sqrt(2), where a and b have half of the square of the nearest network.
    """
    networks = len(of_seeds)
    reach = np.empty(networks)
    for one in range(networks):
        nearest = np.inf
        for other in range(networks):
            if other != one:
                nearest = min(nearest, squares[one, other])
        reach[one] = np.sqrt((of_seeds[one] + nearest / 2) / 2) * (1 - 1e-9)  # rounded down
    return reach


@compiled
def _bounds_of_pairs(drawn, squares, of_seeds, reach):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bounds of the largest difference of two networks in standard errors, in each draw, float64 (draws,) each.

    The upper one is the largest ratio of a difference to the sum of two reaches (Dinkelbach, Management Science 13,
    1967, finds it in a few rounds); the lower one is the largest of the pairs that are met on the way.
    """
    draws, networks = drawn.shape
    at_least, at_most = np.zeros(draws), np.zeros(draws)
    for draw in range(draws):
        errors, ratio = drawn[draw], 0.0
        while True:
            one, other, top, bottom = 0, 0, -np.inf, np.inf
            for network in range(networks):
                high, low = errors[network] - ratio * reach[network], errors[network] + ratio * reach[network]
                if high > top:
                    one, top = network, high
                if low < bottom:
                    other, bottom = network, low
            away = np.float64(errors[one]) - np.float64(errors[other])
            if one == other or away <= ratio * (reach[one] + reach[other]) * (1 + 1e-12):
                break
            ratio = away / (reach[one] + reach[other])
            standard = np.sqrt(squares[one, other] + of_seeds[one] + of_seeds[other])
            at_least[draw] = max(at_least[draw], away / standard)
        at_most[draw] = ratio * (1 + 1e-9)
    return at_least, at_most


@compiled
def _search_pairs(drawn, squares, of_seeds, reach, largest, rows, enough):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Raises ``largest`` of the draws ``rows`` to the largest difference in standard errors, if above ``enough``."""
    networks = drawn.shape[1]
    lucky, unlucky = np.empty(networks, np.int64), np.empty(networks, np.int64)
    for draw in rows:
        errors, most = drawn[draw], max(largest[draw], enough)
        top, bottom = -np.inf, np.inf
        for network in range(networks):
            top = max(top, errors[network] - most * reach[network])
            bottom = min(bottom, errors[network] + most * reach[network])
        highs, lows = 0, 0
        for network in range(networks):
            if errors[network] - most * reach[network] > bottom:
                lucky[highs] = network
                highs += 1
            if errors[network] + most * reach[network] < top:
                unlucky[lows] = network
                lows += 1
        for one in lucky[:highs]:
            for other in unlucky[:lows]:
                away = np.float64(errors[one]) - np.float64(errors[other])
                standard = np.sqrt(squares[one, other] + of_seeds[one] + of_seeds[other])
                if one != other and away > most * standard:
                    largest[draw] = most = away / standard


def _seeds_needed(
    networks: Sequence[Accuracies], errors: Errors, best: int, margin: float, multiple: float
) -> np.ndarray:
    """How many seeds of every network would make its smallest difference ``margin``, (networks,); NaN if none would.

    ``multiple`` is the one with known variances. With few seeds it is larger, by as much as a quantile of Student's t
    distribution is larger than that of a normal one.
    """
    seeds = np.array([len(network.values) for network in networks])
    of_one = errors.averaged_out * seeds
    numbers = np.unique(np.geomspace(2, MOST_SEEDS, 400).round())
    freedom = min(len(networks), 1 + SIMILAR) * (numbers - 1)
    quantiles = special.ndtri(POWER) - special.stdtrit(freedom, special.ndtr(-multiple))
    variance = errors.limits(best)[:, None] + (of_one + of_one[best])[:, None] / numbers
    enough = quantiles**2 * variance <= margin**2
    return np.where(enough.any(axis=1), numbers[enough.argmax(axis=1)], np.nan)


def _samples_needed(
    networks: Sequence[Accuracies], errors: Errors, best: int, margin: float, multiple: float
) -> np.ndarray:
    """How many validation samples would leave half of the variance that ``margin`` allows to the seeds, (networks,)."""
    samples = np.array([network.samples for network in networks])
    allowed = (margin / (multiple + special.ndtri(POWER))) ** 2
    return np.asarray(np.ceil(np.minimum(samples, samples[best]) * errors.limits(best) / (allowed / 2)))
