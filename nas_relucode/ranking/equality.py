"""Which networks are as accurate as the best one, judged by their seeds and validation samples."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.ranking.accuracies import Accuracies, SeedVariance, pooled_seed_variance
from nas_relucode.ranking.choices import LEVEL, MARGIN, RULES, TOLERANCES
from nas_relucode.ranking.intervals import simultaneous_intervals
from nas_relucode.ranking.paired_differences import holm

SAMPLE_BY_SAMPLE = ("mcnemar", "bootstrap")  # the rules that compare predictions, where there are any
Tolerance = str | float  # one of TOLERANCES, or the largest difference of mean accuracies that counts as equal
RESAMPLES = 2000  # of the bootstrap
DRAWN_AT_ONCE = 2**22  # sample numbers, to bound the memory
TAIL, NODES = 1e-13, 200  # of the chi square distribution, where p values are averaged over it
ROUNDING = 1e-12  # of differences between accuracies: 0.9 - 0.005 is less than 0.895


@dataclass(frozen=True)
class Equality:
    """How each network compares with the best; arrays are (networks,), NaN for what the rule does not compute."""

    equal: np.ndarray  # bool: whether the network counts as equally accurate
    threshold: float  # the smallest accuracy that counts as equal, where the rule has one
    difference: np.ndarray  # mean accuracy of the best network less that of each network
    low: np.ndarray  # "bootstrap": ends of the interval of the difference
    high: np.ndarray
    p: np.ndarray  # "mcnemar": p of equal accuracies, corrected for the number of networks and the choice of the best
    paired: np.ndarray  # bool: whether the network was compared with the best one sample by sample


@dataclass(frozen=True)
class Judgement:
    """How each network compares with the best, the one of the highest mean accuracy; arrays are (networks,).

    Numbers are NaN for the best itself, for a network without accuracy, and where no network has several seeds.
    """

    answer: np.ndarray  # object: "best", "equal", "worse", "cannot be told"
    difference: np.ndarray  # float64: mean accuracy of the best network less that of each network; 0 for the best
    low: np.ndarray  # float64: ends of the interval of the true difference
    high: np.ndarray
    paired: np.ndarray  # bool: whether there are predictions of the same samples for the best network and this one
    smallest_difference: np.ndarray  # float64: the true difference that is shown with a probability of 80 %
    seeds_needed: np.ndarray  # float64: seeds of every network that make it the margin; NaN if none would
    samples_needed: np.ndarray  # float64: validation samples with which some number of seeds does
    finalist: np.ndarray  # bool, by the rule
    threshold: float  # the smallest accuracy of a finalist by "1se"; NaN by "margin"


def check_rule(rule: str, margin: float = MARGIN, level: float = LEVEL) -> None:
    """Raises InputError unless the rule is one of RULES, and margin and level lie between 0 and 1."""
    if rule not in RULES:
        raise InputError(f"unknown rule {rule!r}. Give one of {', '.join(RULES)}.")
    for name, value, example in (("margin", margin, MARGIN), ("level", level, LEVEL)):
        if isinstance(value, bool | str) or not 0 < value < 1:
            raise InputError(f"{name} {value!r} is out of range. Give a number between 0 and 1, e.g. {example}.")


def judge(
    networks: Sequence[Accuracies], *, margin: float = MARGIN, rule: str = "1se", level: float = LEVEL, seed: int = 0
) -> Judgement:
    """Which networks are as accurate as the best one, which are worse, and which cannot be told from it.

    What is judged is the true accuracy of a network: the mean over all seeds that it might be trained with and all
    samples that it might be validated on. The best network is the one of the highest mean accuracy (the first of
    several). A network is

    - ``"equal"`` if its true accuracy is shown to lie less than ``margin`` below that of the best network;
    - ``"worse"`` if it is shown to lie below that of the best network, and not equal;
    - ``"cannot be told"`` otherwise.

    Shown means: by the interval of the difference, whose upper end lies below ``margin``, or whose lower end lies above
    0. The lower ends, and the upper ends, hold for all networks at once with a probability of 1 - ``level``, although
    the best network was chosen for its accuracy, see `ranking.intervals.simultaneous_intervals`. Networks with
    predictions of the same samples are compared sample by sample; the others, with less power, as if they had been
    validated on different samples.

    With one seed a network, nothing is known about other seeds, so nothing can be told about accuracies over all seeds:
    every network but the best is ``"cannot be told"``. A network with one seed among others with several is judged by
    their variance over seeds.

    ``rule`` says who is a finalist: by ``"margin"`` the best network and those that are equal; by ``"1se"`` those whose
    mean accuracy lies within one standard error of the best mean, over other seeds and samples.

    Raises InputError for a rule, margin or level out of range, and if no network has an accuracy.

    >>> spread = np.linspace(-1e-4, 1e-4, 10)
    >>> networks = [Accuracies(mean + spread, 1e6) for mean in (0.9, 0.8995, 0.88, 0.8955)]
    >>> judge(networks).answer.tolist()
    ['best', 'equal', 'worse', 'worse']
    """
    check_rule(rule, margin, level)
    means = np.array([network.mean for network in networks])
    compared = [number for number, mean in enumerate(means) if math.isfinite(mean)]
    if not compared:
        raise InputError("no network has an accuracy. Give at least one whose accuracies are numbers.")
    best = max(compared, key=lambda number: means[number])
    reference = networks[best]
    difference = reference.mean - means
    numbers = np.full((5, len(networks)), math.nan)
    others = [number for number in compared if number != best]
    if others and any(len(networks[number].values) > 1 for number in compared):
        found = [networks[number] for number in compared]
        ends = simultaneous_intervals(found, compared.index(best), margin=margin, level=level, seed=seed)
        numbers[:, compared] = dataclasses.astuple(ends)
    numbers[:, best] = math.nan
    low, high, smallest, seeds, samples = numbers
    answer = np.full(len(networks), "cannot be told", object)
    answer[low > ROUNDING] = "worse"
    answer[high < margin - ROUNDING] = "equal"
    answer[best] = "best"
    threshold = reference.mean - reference.standard_error if rule == "1se" else math.nan
    close = means >= threshold - ROUNDING if rule == "1se" else answer == "equal"
    return Judgement(
        answer=answer,
        difference=difference,
        low=low,
        high=high,
        paired=np.array([reference.paired(network) for network in networks]),
        smallest_difference=smallest,
        seeds_needed=seeds,
        samples_needed=samples,
        finalist=close | (answer == "best"),
        threshold=threshold,
    )


def check_tolerance(tolerance: Tolerance, level: float = LEVEL) -> None:
    """Raises InputError unless the tolerance is one of TOLERANCES or a number from 0 to 1, and the level too."""
    known = f"Give one of {', '.join(TOLERANCES)}, or a number from 0 to 1."
    if isinstance(tolerance, str):
        if tolerance not in TOLERANCES:
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

    A network is equally accurate by the rule ``tolerance``:

    - a number: its mean accuracy is lower by at most this number;
    - ``"1se"``: its mean accuracy is lower by at most one standard error of the best one's mean (over other seeds and
      other validation samples);
    - ``"mcnemar"``: a test on the samples that only one of the two networks classifies correctly does not reject equal
      accuracies at ``level``, see `difference_p`; p values are corrected by Holm's method for the number of networks;
    - ``"bootstrap"``: the interval of the difference contains 0, see `difference_intervals`.

    The last two rules compare sample by sample. Where predictions of the same samples are missing for a network, they
    compare accuracies as if both networks had been validated on different samples, which has less power, so that more
    networks stay equal. The variance over seeds is pooled over all networks, see `pooled_seed_variance`.

    If the best network was named beforehand, both rules reject any of the networks that are truly equal with a
    probability of at most ``level``. If it was ``chosen`` for its accuracy, it is the luckiest of its equals: intervals
    are then wider, and p values are corrected for all pairs, see `corrected_for_all_pairs`.

    >>> one, other = Accuracies(np.array([0.9]), 100), Accuracies(np.array([0.88]), 100)
    >>> compare([one, other], 0).equal, compare([one, other], 0, tolerance=0.01).equal
    (array([ True,  True]), array([ True, False]))
    """
    check_tolerance(tolerance, level)
    reference = networks[best]
    difference = np.array([reference.mean - network.mean for network in networks])
    unknown = np.full(len(networks), math.nan)
    low, high, p, threshold = unknown, unknown, unknown, math.nan
    paired = np.array([reference.paired(network) for network in networks])
    if tolerance == "mcnemar":
        seeds = pooled_seed_variance(networks)
        others = [i for i in range(len(networks)) if i != best]
        p = np.ones(len(networks))
        if others:
            corrected = corrected_for_all_pairs if chosen else holm
            p[others] = corrected([difference_p(reference, networks[i], seeds.subset([best, i])) for i in others])
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


def corrected_for_all_pairs(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values of comparisons with the best network of a family, corrected for its choice by accuracy.

    While g networks are left, any of their g (g - 1) / 2 pairs may be the best network and the one that is tested: the
    smallest p is multiplied by this number, then its network leaves. So all networks that are as accurate as the most
    accurate one stay with a probability of 1 - level (the model confidence set of Hansen, Lunde and Nason, Econometrica
    79, 2011, with Bonferroni's inequality in place of their bootstrap). NaN stays NaN and counts as a network.

    >>> corrected_for_all_pairs([0.01, 0.04, 0.03]).round(6).tolist()
    [0.06, 0.09, 0.09]
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    left = np.arange(len(values) + 1, 1, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(values[order] * left * (left - 1) / 2)
    return np.minimum(adjusted, 1)


def difference_p(first: Accuracies, second: Accuracies, seeds: SeedVariance) -> float:
    """The two-sided p of equal accuracies; ``seeds`` are the variances of these two networks over other seeds.

    With one seed each and predictions of the same samples this is McNemar's exact test: of the samples that only one
    of the two networks classifies correctly, each network has half, except for chance. It asks whether these two
    trained networks differ, not whether other seeds would (Dietterich, Neural Computation 10, 1998).

    With several seeds it asks the latter. Whether a seed's network is right on a sample depends on three random
    effects: the seed, the sample, and their interaction. Pooling the samples of all seeds would count each sample
    several times; comparing the means of the seeds would ignore that all were validated on the same sample. So the
    variance of the difference of the means is the sum of the variance over samples (of the paired differences of the
    shares of seeds that are right) and the variance over seeds, less the interaction, which both contain. These are
    crossed random effects, as in studies with several readers and cases (Hillis, Statistics in Medicine 26, 2007; Owen,
    The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007).

    The variance of few seeds may be small by luck, and the same luck raises Satterthwaite's degrees of freedom
    (Biometrics Bulletin 2, 1946), so that his t test rejects too often. Instead, p is averaged over the distribution of
    the true variance given its estimate: the estimate times its degrees of freedom / chi square (generalised p values,
    Tsui and Weerahandi, Journal of the American Statistical Association 84, 1989), with the smaller degrees of freedom
    of the two networks. If samples do not vary, this is the t test of the seeds; if seeds do not, the paired t test of
    the samples.

    Without predictions of the same samples, the variances of both networks over seeds and over samples are added.
    """
    gap = first.mean - second.mean
    if not first.paired(second):
        return _mixed_p(gap, first.sample_variance + second.sample_variance, math.inf, seeds, paired=False)
    assert first.correct is not None
    assert second.correct is not None
    binary = all(np.isin(correct, (0, 1)).all() for correct in (first.correct, second.correct))
    if len(first.correct) == len(second.correct) == 1 and binary and not seeds.freedom.any():
        gains = first.correct[0] - second.correct[0]
        return exact_mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
    by_sample = first.correct.mean(axis=0) - second.correct.mean(axis=0)
    samples = len(by_sample)
    if samples < 2:
        return 1.0
    return _mixed_p(gap, float(by_sample.var(ddof=1)) / samples, samples - 1, seeds)


def exact_mcnemar(first_only: int, second_only: int) -> float:
    """The p of McNemar's exact test from the numbers of samples that only the first, or only the second, has right.

    >>> exact_mcnemar(1, 0), exact_mcnemar(8, 1)
    (1.0, 0.0390625)
    """
    discordant = first_only + second_only
    return float(stats.binomtest(first_only, discordant).pvalue) if discordant else 1.0


def difference_intervals(
    networks: Sequence[Accuracies],
    best: int,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    chosen: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Simultaneous intervals of the best one's accuracy less each network's: lower and upper ends, (networks,).

    Samples are resampled, the same for all networks. Seeds are not: two or three, resampled, vary less than new ones
    would. Each mean gets a normal error instead, whose variance is drawn as in `difference_p` (a parametric bootstrap;
    Krishnamoorthy, Lu and Mathew, Computational Statistics & Data Analysis 51, 2007), without the interaction of seeds
    and samples: the resampled samples contain it already (Owen 2007, see `difference_p`).

    Each interval is the difference plus or minus a multiple of its standard error. The multiple is the same for all: in
    1 - ``level`` of the draws, all differences lie within their intervals at once (single-step max T, Westfall and
    Young 1993). These are the differences from ``networks[best]``, or those of all pairs, as in Tukey's comparisons, if
    it was ``chosen`` for its accuracy.
    """
    generator = np.random.default_rng(seed)
    reference = networks[best]
    difference = np.array([reference.mean - network.mean for network in networks])
    paired = np.array([reference.paired(network) for network in networks])
    seeds = pooled_seed_variance(networks)
    sampling = np.array([network.sample_variance for network in networks])
    chance = generator.normal(size=(2, len(networks), resamples))
    factors = seeds.drawn(resamples, generator)
    unpaired_errors = (
        np.sqrt(sampling)[:, None] * chance[0] + np.sqrt(seeds.scaled(factors, paired=False)).T * chance[1]
    )
    variance = np.add.outer(sampling + seeds.variance, sampling + seeds.variance)
    paired_errors = np.zeros_like(unpaired_errors)
    if paired.any():
        tables = [network.correct for network, pair in zip(networks, paired, strict=True) if pair]
        by_sample = np.array([table.mean(axis=0) for table in tables if table is not None])
        samples = by_sample.shape[1]
        for start, counts in _resampled(samples, resamples, generator):
            paired_errors[paired, start : start + len(counts)] = by_sample @ (counts - 1).T / samples
        paired_errors += np.sqrt(seeds.scaled(factors)).T * chance[1]
        common = np.atleast_2d(np.cov(by_sample, ddof=min(1, samples - 1))) / samples
        alone = np.diag(common) + np.maximum(0, seeds.variance - seeds.interaction)[paired]
        variance[np.ix_(paired, paired)] = np.add.outer(alone, alone) - 2 * common
    scale = np.sqrt(np.maximum(variance, 0))
    scale[scale < ROUNDING] = 0.0
    largest = np.zeros(resamples)
    for one in range(len(networks)) if chosen else [best]:
        for errors, compared in ((paired_errors, paired & paired[one]), (unpaired_errors, ~(paired & paired[one]))):
            others = np.flatnonzero(compared & (scale[one] > 0))
            others = others[others > one] if chosen else others
            if len(others):
                away = np.abs(errors[others] - errors[one])
                away /= scale[one, others, None]
                np.fmax(largest, away.max(axis=0), out=largest)
    reach = float(np.quantile(largest, 1 - level)) * scale[best]
    reach[best] = 0.0
    return difference - reach, difference + reach


def _resampled(samples: int, resamples: int, generator: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """How often each draw contains each sample, (draws, samples), in blocks of draws with the number of their first."""
    step = max(1, DRAWN_AT_ONCE // samples)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        numbers = generator.integers(samples, size=(draws, samples)) + np.arange(draws)[:, None] * samples
        yield start, np.bincount(numbers.ravel(), minlength=draws * samples).reshape(draws, samples).astype(float)


def _mixed_p(gap: float, sampling: float, freedom: float, seeds: SeedVariance, *, paired: bool = True) -> float:
    """Two-sided p of no difference; ``sampling`` is the variance over samples, with ``freedom``. See `difference_p`."""
    if abs(gap) < ROUNDING:
        return 1.0
    smaller = float(seeds.freedom.min())
    chi_squares, weights = _chi_squares(smaller)
    factors = (smaller or 1.0) / chi_squares[:, None]
    variance = sampling + seeds.scaled(factors, paired=paired).sum(axis=1)
    if not variance.any():
        return 0.0
    with np.errstate(divide="ignore"):
        t = abs(gap) / np.sqrt(variance)
        freedoms = freedom * (variance / sampling) ** 2 if sampling else np.full(len(t), math.inf)
    return min(1.0, float(weights @ (2 * stats.t.sf(t, freedoms))))


@functools.cache
def _chi_squares(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of chi square and their weights in a mean (trapezoidal rule in the logarithm); 1 without freedom."""
    if not freedom:
        return np.ones(1), np.ones(1)
    distribution = stats.chi2(freedom)
    values = np.geomspace(distribution.ppf(TAIL), distribution.isf(TAIL), NODES)
    weights = distribution.pdf(values) * values
    return values, weights / weights.sum()
