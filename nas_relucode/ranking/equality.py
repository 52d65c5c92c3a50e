"""Which networks are as accurate as the best one, as far as seeds and validation samples can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.ranking.paired_differences import LEVEL, holm

RULES = ("1se", "mcnemar", "bootstrap")
SAMPLE_BY_SAMPLE = ("mcnemar", "bootstrap")  # where there are predictions
Tolerance = str | float  # one of RULES, or how much lower an accuracy may be
RESAMPLES = 2000
AT_ONCE = 2**22  # sample numbers drawn at a time
ROUNDING = 1e-12  # of differences between accuracies: 0.9 - 0.005 is less than 0.895


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


@dataclass(frozen=True)
class Equality:
    """Who is equally accurate with the best, and why; everything (networks,). NaN is what a rule does not compute."""

    equal: np.ndarray  # bool
    threshold: float  # the accuracy that is enough, where the rule has one
    difference: np.ndarray  # the best one's mean accuracy less each one's
    low: np.ndarray  # "bootstrap": the interval of the difference
    high: np.ndarray
    p: np.ndarray  # "mcnemar": of equal accuracies, corrected for the number of networks
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
    networks: Sequence[Accuracies], best: int, *, tolerance: Tolerance = "1se", level: float = LEVEL, seed: int = 0
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
    less easily, so more of them stay equal.

    >>> one, other = Accuracies(np.array([0.9]), 100), Accuracies(np.array([0.88]), 100)
    >>> compare([one, other], 0).equal, compare([one, other], 0, tolerance=0.01).equal
    (array([ True,  True]), array([ True, False]))
    """
    check_tolerance(tolerance, level)
    reference = networks[best]
    difference = np.array([reference.mean - network.mean for network in networks])
    nothing = np.full(len(networks), math.nan)
    low, high, p, threshold = nothing, nothing, nothing, math.nan
    paired = np.array([_same_samples(reference, network) for network in networks])
    if tolerance == "mcnemar":
        others = [i for i in range(len(networks)) if i != best]
        p = np.ones(len(networks))
        if others:
            p[others] = holm([difference_p(reference, networks[i]) for i in others])
        equal = p >= level
    elif tolerance == "bootstrap":
        low, high = difference_intervals(networks, best, level=level, seed=seed)
        equal = (low <= ROUNDING) & (high >= -ROUNDING)
    else:
        room = reference.standard_error if tolerance == "1se" else float(tolerance)
        threshold = reference.mean - room
        equal = difference <= room + ROUNDING
        paired = np.zeros(len(networks), bool)
    equal = equal & np.isfinite(difference)
    return Equality(equal, threshold, difference, low, high, p, paired)


def difference_p(first: Accuracies, second: Accuracies) -> float:
    """The p of equal accuracies, two-sided.

    With one training each and predictions of the same samples it is McNemar's exact test: of the samples that one of
    the two has right and the other has wrong, each has half of them but for chance. The test asks whether these two
    trained networks differ, not whether other seeds would come out alike (Dietterich, Neural Computation 10, 1998).

    With several seeds it asks that. A value a seed and sample, right or wrong, has three sources of chance: the
    seed, the sample, and both together. Pooling the samples of all seeds would take each sample for several, and
    comparing the means over seeds alone would forget that all were validated on one sample. So the variance of the
    difference of the means is put together: that of the samples (of the difference of the shares of right seeds, which
    is paired) and that of the seeds, less what is in both. The t distribution has Satterthwaite's degrees of
    freedom. These are crossed random effects, in the way of studies with several readers and cases (Hillis,
    Statistics in Medicine 26, 2007; Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007). A network
    with one seed is taken to vary as the other one does.

    Without predictions the variances of both networks are added, and those of their seeds and samples.
    """
    if not _same_samples(first, second):
        gap = first.mean - second.mean
        parts = [(a.seed_variance, len(a.values) - 1) for a in (first, second)]
        return _t_p(gap, sum(a.standard_error**2 for a in (first, second)), [part for part in parts if part[1]])
    assert first.correct is not None
    assert second.correct is not None
    whole = all(np.isin(correct, (0, 1)).all() for correct in (first.correct, second.correct))
    if len(first.correct) == len(second.correct) == 1 and whole:
        gains = first.correct[0] - second.correct[0]
        return exact_mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
    return crossed_p(first.correct, second.correct)


def exact_mcnemar(first_only: int, second_only: int) -> float:
    """The p of McNemar's exact test, given how many samples only the first, and only the second, has right.

    >>> exact_mcnemar(1, 0), exact_mcnemar(8, 1)
    (1.0, 0.0390625)
    """
    told_apart = first_only + second_only
    return float(stats.binomtest(first_only, told_apart).pvalue) if told_apart else 1.0


def crossed_p(first: np.ndarray, second: np.ndarray) -> float:
    """`difference_p` of two tables (seeds, samples) of right (1) and wrong (0), whose seeds are independent."""
    samples = first.shape[1]
    if samples < 2:
        return 1.0
    by_sample = first.mean(axis=0) - second.mean(axis=0)
    sampling = float(by_sample.var(ddof=1)) / samples
    parts, in_both = [], 0.0
    for own, other in ((first, second), (second, first)):
        told = own if len(own) > 1 else other
        if len(told) > 1:  # variances of one training, hence of the mean over len(own)
            rests = told - told.mean(axis=0) - told.mean(axis=1, keepdims=True) + told.mean()
            both = float((rests**2).sum()) / (samples - 1) / (len(told) - 1)
            parts.append((float(told.mean(axis=1).var(ddof=1)) / len(own), len(told) - 1))
            in_both += both / samples / len(own)
    if min(len(first), len(second)) == 1 and parts:  # one estimate was taken twice
        parts = [(sum(part for part, _ in parts), parts[0][1])]
    variance = sampling + max(0.0, sum(part for part, _ in parts) - in_both)
    return _t_p(float(by_sample.mean()), variance, [*parts, (sampling, samples - 1)])


def difference_intervals(
    networks: Sequence[Accuracies], best: int, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of the best one's accuracy less each network's: lower and upper ends, (networks,).

    Samples are drawn again, the same for all networks, and seeds, for each network its own. Each interval is the
    difference -+ a multiple of its standard deviation over the draws. The multiple is one for all: with it, in
    1 - ``level`` of the draws, all differences lie within their intervals at once (single-step max T, Westfall and
    Young 1993). The draws of seeds and samples together count what is in both more than once (Owen 2007, see
    `difference_p`), and few seeds vary less in the draws than they should, by (seeds - 1) / seeds.
    """
    generator = np.random.default_rng(seed)
    reference = networks[best]
    difference = np.array([reference.mean - network.mean for network in networks])
    paired = np.array([_same_samples(reference, network) for network in networks])
    loose, tight = np.zeros((2, resamples, len(networks)))
    weights = []
    for i, network in enumerate(networks):
        trained = len(network.values)
        weights.append(generator.multinomial(trained, np.full(trained, 1 / trained), size=resamples) / trained)
        noise = generator.normal(0, math.sqrt(network.sample_variance), resamples)
        loose[:, i] = weights[i] @ network.values + noise
    if paired.any():
        assert reference.correct is not None
        table = np.concatenate([network.correct for network, pair in zip(networks, paired, strict=True) if pair])
        seeds = [w.shape[1] for w, pair in zip(weights, paired, strict=True) if pair]
        rows = np.split(np.arange(len(table)), np.cumsum(seeds)[:-1])
        for start, counts in _drawn(reference.correct.shape[1], resamples, generator):
            means = counts @ table.T / table.shape[1]
            part = slice(start, start + len(counts))
            for number, own in zip(np.flatnonzero(paired), rows, strict=True):
                tight[part, number] = (weights[number][part] * means[:, own]).sum(axis=1)
    drawn = np.where(paired, tight[:, [best]] - tight, loose[:, [best]] - loose)
    drawn[:, best] = 0.0
    spread = drawn.std(axis=0, ddof=1)
    spread[spread < ROUNDING] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        furthest = np.nan_to_num(np.abs(drawn - drawn.mean(axis=0)) / spread, nan=0.0, posinf=0.0).max(axis=1)
    reach = float(np.quantile(furthest, 1 - level)) * spread
    return difference - reach, difference + reach


def _drawn(samples: int, resamples: int, generator: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """How often each sample was drawn, (draws, samples), some draws at a time, each with the number of its first."""
    step = max(1, AT_ONCE // samples)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        numbers = generator.integers(samples, size=(draws, samples)) + np.arange(draws)[:, None] * samples
        yield start, np.bincount(numbers.ravel(), minlength=draws * samples).reshape(draws, samples).astype(float)


def _same_samples(one: Accuracies, other: Accuracies) -> bool:
    return one.correct is not None and other.correct is not None and one.labels == other.labels


def _t_p(gap: float, variance: float, parts: Sequence[tuple[float, int]]) -> float:
    """Two-sided p of no difference; ``parts`` of the variance were estimated with so many degrees of freedom each."""
    if variance <= 0 or abs(gap) < ROUNDING:
        return float(abs(gap) < ROUNDING)
    doubt = math.fsum(part**2 / freedom for part, freedom in parts)
    freedom = variance**2 / doubt if doubt else math.inf
    return float(2 * stats.t.sf(abs(gap) / math.sqrt(variance), freedom))
