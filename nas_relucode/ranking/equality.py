"""Which networks are as accurate as the best one, as far as seeds and validation samples can tell."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import LEVEL, RULES
from nas_relucode.ranking.paired_differences import holm
from nas_relucode.ranking.seed_variance import Accuracies, SeedVariance, seed_variance

SAMPLE_BY_SAMPLE = ("mcnemar", "bootstrap")  # where there are predictions
Tolerance = str | float  # one of RULES, or how much lower an accuracy may be
RESAMPLES = 2000
AT_ONCE = 2**22  # sample numbers drawn at a time
TAIL, NODES = 1e-13, 200  # of chi square, for means over it
ROUNDING = 1e-12  # of differences between accuracies: 0.9 - 0.005 is less than 0.895


@dataclass(frozen=True)
class Equality:
    """Who is equally accurate with the best, and why; everything (networks,). NaN is what a rule does not compute."""

    equal: np.ndarray  # bool
    threshold: float  # the accuracy that is enough, where the rule has one
    difference: np.ndarray  # the best one's mean accuracy less each one's
    low: np.ndarray  # "bootstrap": the interval of the difference
    high: np.ndarray
    p: np.ndarray  # "mcnemar": of equal accuracies, corrected for the number of networks and the choice of the best
    paired: np.ndarray  # bool: compared with the best one sample by sample


def check_tolerance(tolerance: Tolerance, level: float = LEVEL) -> None:
    """Raises InputError unless the tolerance is one of RULES or a number from 0 to 1, and the level between them."""
    known = f"Give one of {', '.join(RULES)}, or a number from 0 to 1."
    if isinstance(tolerance, str):
        if tolerance not in RULES:
            raise InputError(f"unknown tolerance {tolerance!r}. {known}")
    elif isinstance(tolerance, bool) or not 0 <= tolerance <= 1:
        raise InputError(f"tolerance {tolerance!r} is out of range. {known}")
    if not 0 < level < 1:
        raise InputError(f"level {level!r} is out of range. Give a probability between 0 and 1, e.g. {LEVEL}.")


def compare(
    networks: Sequence[Accuracies],
    best: int,
    *,
    tolerance: Tolerance = "1se",
    level: float = LEVEL,
    seed: int = 0,
    chosen: bool = False,
) -> Equality:
    """Compares each network with the best one, ``networks[best]``.

    ``tolerance`` says how:

    - a number: the mean accuracy is at most so much lower;
    - ``"1se"``: at most one standard error of the best one's mean lower, by other seeds and another validation sample;
    - ``"mcnemar"``: a test on the samples that only one of the two classifies correctly does not tell them apart at
      ``level``, see `difference_p`; its p values are corrected by Holm's method for the number of networks;
    - ``"bootstrap"``: the interval of the difference holds 0, see `difference_intervals`.

    The last two compare sample by sample, and where there are no predictions of the same samples for both networks,
    by their accuracies as if each had samples of its own. Networks that err on the same samples are then told apart
    less easily, so more of them stay equal. How far seeds vary is estimated from all networks, see `seed_variance`.

    With both, equal networks are told apart from the best with a probability of at most ``level``, for all of them
    together, if the best was named beforehand. If it was ``chosen`` for its accuracy, it is the luckiest of its equals.
    Intervals are then wider, and p values are corrected for the number of all pairs, see `of_all_pairs`.

    >>> one, other = Accuracies(np.array([0.9]), 100), Accuracies(np.array([0.88]), 100)
    >>> compare([one, other], 0).equal, compare([one, other], 0, tolerance=0.01).equal
    (array([ True,  True]), array([ True, False]))
    """
    check_tolerance(tolerance, level)
    reference = networks[best]
    difference = np.array([reference.mean - network.mean for network in networks])
    nothing = np.full(len(networks), math.nan)
    low, high, p, threshold = nothing, nothing, nothing, math.nan
    paired = np.array([reference.paired(network) for network in networks])
    if tolerance == "mcnemar":
        seeds = seed_variance(networks)
        others = [i for i in range(len(networks)) if i != best]
        p = np.ones(len(networks))
        if others:
            corrected = of_all_pairs if chosen else holm
            p[others] = corrected([difference_p(reference, networks[i], seeds.of([best, i])) for i in others])
        equal = p >= level
    elif tolerance == "bootstrap":
        low, high = difference_intervals(networks, best, level=level, seed=seed, chosen=chosen)
        equal = (low <= ROUNDING) & (high >= -ROUNDING)
    else:
        room = reference.standard_error if tolerance == "1se" else float(tolerance)
        threshold = reference.mean - room
        equal = difference <= room + ROUNDING
        paired = np.zeros(len(networks), bool)
    equal = equal & np.isfinite(difference)
    return Equality(equal, threshold, difference, low, high, p, paired)


def of_all_pairs(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values of comparisons with the best of a family, adjusted for its having been chosen for its accuracy.

    While g networks are left, any of their g (g - 1) / 2 pairs may be the best and the one that is tested: the least p
    is multiplied by that, then its network leaves. So all that are equally accurate with the most accurate one stay
    with a probability of 1 - level (the model confidence set, Hansen, Lunde and Nason, Econometrica 79, 2011, with
    Bonferroni's inequality in place of their bootstrap). NaN stays NaN and counts in the size of the family.

    >>> of_all_pairs([0.01, 0.04, 0.03]).round(6).tolist()
    [0.06, 0.09, 0.09]
    """
    given = np.asarray(p, float)
    order = np.argsort(given, kind="stable")
    left = np.arange(len(given) + 1, 1, -1)
    adjusted = np.empty(len(given))
    adjusted[order] = np.maximum.accumulate(given[order] * left * (left - 1) / 2)
    return np.minimum(adjusted, 1)


def difference_p(first: Accuracies, second: Accuracies, seeds: SeedVariance) -> float:
    """The p of equal accuracies, two-sided; ``seeds`` is of these two, in this order, see `seed_variance`.

    Where nothing is known of seeds and there are predictions of the same samples it is McNemar's exact test: of the
    samples that one of the two has right and the other has wrong, each has half of them but for chance. The test asks
    whether these two trained networks differ, not whether other seeds would come out alike (Dietterich, Neural
    Computation 10, 1998).

    With several seeds it asks that. A value a seed and sample, right or wrong, has three sources of chance: the
    seed, the sample, and both together. Pooling the samples of all seeds would take each sample for several, and
    comparing the means over seeds alone would forget that all were validated on one sample. So the variance of the
    difference of the means is put together: that of the samples (of the difference of the shares of right seeds, which
    is paired) and that of the seeds, less what is in both. These are crossed random effects, in the way of studies
    with several readers and cases (Hillis, Statistics in Medicine 26, 2007; Owen, The pigeonhole bootstrap, Annals of
    Applied Statistics 1, 2007).

    The variance of few seeds may be small by luck, and the same luck raises Satterthwaite's degrees of freedom
    (Biometrics Bulletin 2, 1946), so that his t test finds too much. Instead, p is a mean over what the variance may
    be, given its estimate: that times its degrees of freedom / chi square (generalised p values, Tsui and Weerahandi,
    Journal of the American Statistical Association 84, 1989), the fewer of the two networks. If samples do not vary,
    this is the t test of the seeds; if seeds do not, the paired t test of the samples.

    Without predictions the variances of both networks are added, and those of their seeds and samples.
    """
    gap = first.mean - second.mean
    if not first.paired(second):
        return _mixed_p(gap, first.sample_variance + second.sample_variance, math.inf, seeds, paired=False)
    assert first.correct is not None
    assert second.correct is not None
    whole = all(np.isin(correct, (0, 1)).all() for correct in (first.correct, second.correct))
    if len(first.correct) == len(second.correct) == 1 and whole and not seeds.freedom.any():
        gains = first.correct[0] - second.correct[0]
        return exact_mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
    by_sample = first.correct.mean(axis=0) - second.correct.mean(axis=0)
    samples = len(by_sample)
    if samples < 2:
        return 1.0
    return _mixed_p(gap, float(by_sample.var(ddof=1)) / samples, samples - 1, seeds)


def exact_mcnemar(first_only: int, second_only: int) -> float:
    """The p of McNemar's exact test, given how many samples only the first, and only the second, has right.

    >>> exact_mcnemar(1, 0), exact_mcnemar(8, 1)
    (1.0, 0.0390625)
    """
    told_apart = first_only + second_only
    return float(stats.binomtest(first_only, told_apart).pvalue) if told_apart else 1.0


def difference_intervals(
    networks: Sequence[Accuracies],
    best: int,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    chosen: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of the best one's accuracy less each network's: lower and upper ends, (networks,).

    Samples are drawn again, the same for all networks. Seeds are not: two or three, drawn again, vary less than new
    ones would. Each mean gets a normal error instead, whose variance is drawn as in `difference_p` (a parametric
    bootstrap; Krishnamoorthy, Lu and Mathew, Computational Statistics & Data Analysis 51, 2007), less what is by seed
    and sample together: it is in the draws of the samples, and would count twice (Owen 2007, see `difference_p`).

    Each interval is the difference -+ a multiple of its standard error. The multiple is one for all: with it, in
    1 - ``level`` of the draws, all differences lie within their intervals at once (single-step max T, Westfall and
    Young 1993). These are the differences from ``networks[best]``, and of all pairs, as in Tukey's comparisons, where
    it was ``chosen`` for its accuracy.
    """
    generator = np.random.default_rng(seed)
    reference = networks[best]
    difference = np.array([reference.mean - network.mean for network in networks])
    paired = np.array([reference.paired(network) for network in networks])
    seeds = seed_variance(networks)
    sampling = np.array([network.sample_variance for network in networks])
    chance = generator.normal(size=(2, len(networks), resamples))
    factors = seeds.drawn(resamples, generator)
    loose = np.sqrt(sampling)[:, None] * chance[0] + np.sqrt(seeds.scaled(factors, paired=False)).T * chance[1]
    variance = np.add.outer(sampling + seeds.variance, sampling + seeds.variance)
    tight = np.zeros_like(loose)
    if paired.any():
        tables = [network.correct for network, pair in zip(networks, paired, strict=True) if pair]
        by_sample = np.array([table.mean(axis=0) for table in tables if table is not None])
        samples = by_sample.shape[1]
        for start, counts in _drawn(samples, resamples, generator):
            tight[paired, start : start + len(counts)] = by_sample @ (counts - 1).T / samples
        tight += np.sqrt(seeds.scaled(factors)).T * chance[1]
        common = np.atleast_2d(np.cov(by_sample, ddof=min(1, samples - 1))) / samples
        alone = np.diag(common) + np.maximum(0, seeds.variance - seeds.both)[paired]
        variance[np.ix_(paired, paired)] = np.add.outer(alone, alone) - 2 * common
    scale = np.sqrt(np.maximum(variance, 0))
    scale[scale < ROUNDING] = 0.0
    furthest = np.zeros(resamples)
    for one in range(len(networks)) if chosen else [best]:
        for drawn, compared in ((tight, paired & paired[one]), (loose, ~(paired & paired[one]))):
            others = np.flatnonzero(compared & (scale[one] > 0))
            others = others[others > one] if chosen else others
            if len(others):
                away = np.abs(drawn[others] - drawn[one])
                away /= scale[one, others, None]
                np.fmax(furthest, away.max(axis=0), out=furthest)
    reach = float(np.quantile(furthest, 1 - level)) * scale[best]
    reach[best] = 0.0
    return difference - reach, difference + reach


def _drawn(samples: int, resamples: int, generator: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """How often each sample was drawn, (draws, samples), some draws at a time, each with the number of its first."""
    step = max(1, AT_ONCE // samples)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        numbers = generator.integers(samples, size=(draws, samples)) + np.arange(draws)[:, None] * samples
        yield start, np.bincount(numbers.ravel(), minlength=draws * samples).reshape(draws, samples).astype(float)


def _mixed_p(gap: float, sampling: float, freedom: float, seeds: SeedVariance, *, paired: bool = True) -> float:
    """Two-sided p of no difference, whose variance by samples has so many degrees of freedom; see `difference_p`."""
    if abs(gap) < ROUNDING:
        return 1.0
    least = float(seeds.freedom.min())
    chi_squares, weights = _chi_squares(least)
    factors = (least or 1.0) / chi_squares[:, None]
    variance = sampling + seeds.scaled(factors, paired=paired).sum(axis=1)
    if not variance.any():
        return 0.0
    with np.errstate(divide="ignore"):
        t = abs(gap) / np.sqrt(variance)
        freedoms = freedom * (variance / sampling) ** 2 if sampling else np.full(len(t), math.inf)
    return min(1.0, float(weights @ (2 * stats.t.sf(t, freedoms))))


@functools.cache
def _chi_squares(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of chi square and their weights in a mean (trapezia in the logarithm); a single 1 without freedom."""
    if not freedom:
        return np.ones(1), np.ones(1)
    spread = stats.chi2(freedom)
    values = np.geomspace(spread.ppf(TAIL), spread.isf(TAIL), NODES)
    weights = spread.pdf(values) * values
    return values, weights / weights.sum()
