"""Intervals simultaneous with the best: their multiples, standard errors and needs against other calculations."""

import math
import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats
from simulated import drawn, family, network

from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.ranking.equality import judge
from nas_relucode.ranking.intervals import (
    errors,
    largest_of_one,
    largest_of_pairs,
    sample_errors,
    simultaneous_intervals,
)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def of_means(*means, spread=0.002, seeds=10, samples=1e12):
    """Networks whose seeds have the same standard deviation each, and whose samples do not matter."""
    chance = stats.norm.ppf((np.arange(seeds) + 0.5) / seeds)
    return [Accuracies(mean + spread * chance / chance.std(ddof=1), samples) for mean in means]


def dunnett(multiple, networks):
    """The probability that no network is ahead of one other by so many standard errors of the difference."""
    density = lambda z: stats.norm.pdf(z) * stats.norm.cdf(z + math.sqrt(2) * multiple) ** (networks - 1)  # noqa: E731
    return integrate.quad(density, -9, 9)[0]


def multiples(networks, *, known):
    """The multiples of all lower and of all upper ends beside the first network, none of which leaves."""
    uncertain = errors(networks)
    drawn = uncertain.drawn(np.random.default_rng(0))[known]
    lower = largest_of_pairs(drawn, uncertain.samples.squares, uncertain.of_seeds, 0.05)
    return lower, largest_of_one(drawn, uncertain.standard_with(0), 0, 0.05)


@pytest.mark.parametrize("number", [2, 5, 12])
def test_with_known_variances_the_multiples_are_those_of_tukey_and_of_dunnett(number):
    low, high = multiples(of_means(*[0.9] * number), known=True)
    assert stats.studentized_range.cdf(low * math.sqrt(2), number, math.inf) == pytest.approx(0.95, abs=0.01)
    assert dunnett(high, number) == pytest.approx(0.95, abs=0.01)


def test_estimated_variances_need_larger_multiples():
    networks = of_means(*[0.9] * 5, seeds=3)
    known, estimated = (multiples(networks, known=known) for known in (True, False))
    assert np.greater(estimated, np.multiply(known, 1.05)).all()


def test_the_errors_over_samples_are_those_of_the_paired_test_and_four_samples_more():
    generator = np.random.default_rng(1)
    tables = family(generator, 3, 400, [0.0, 0.2, 0.3])
    covariance = sample_errors([network(*table) for table in tables]).covariance
    one, other = (table.mean(axis=0) for table in tables[:2])
    expected = stats.ttest_rel(one, other)
    squared = (one - other).mean() ** 2 / expected.statistic**2 + 4 / 400**2
    assert covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1] == pytest.approx(squared, rel=1e-9)


def test_networks_validated_on_other_samples_or_without_predictions_err_independently():
    generator = np.random.default_rng(2)
    one, other, third = (network(*table) for table in family(generator, 3, 400, [0.0] * 3))
    networks = [one, Accuracies(other.values, 400), Accuracies(third.values, 400, third.correct, "other")]
    covariance = sample_errors(networks).covariance
    assert covariance[~np.eye(3, dtype=bool)].tolist() == [0] * 6
    assert covariance[1, 1] == networks[1].sample_variance


@pytest.mark.parametrize("samples", [20, 400])
def test_the_errors_are_drawn_with_their_covariance(samples):
    """... of more networks than samples, and of fewer."""
    generator = np.random.default_rng(4)
    networks = [network(*table) for table in family(generator, 3, samples, [0.0] * 30)]
    networks.append(Accuracies(networks[0].values, 400))
    uncertain = errors(networks)
    _, known = uncertain.drawn(np.random.default_rng(0))
    expected = uncertain.samples.covariance + np.diag(uncertain.of_seeds)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.cov(known, rowvar=False) / scale == pytest.approx(expected / scale, abs=0.12)  # 0.022 is a standard error
    assert uncertain.samples.variance == pytest.approx(np.diag(uncertain.samples.covariance))
    assert uncertain.samples.covariance_with(2) == pytest.approx(uncertain.samples.covariance[2])
    alone = np.diag(uncertain.samples.covariance)
    squares = np.add.outer(alone, alone) - 2 * uncertain.samples.covariance
    assert uncertain.samples.squares == pytest.approx(squares, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("uneven", [0.0, 1.0])
@pytest.mark.parametrize("level", [0.001, 0.05, 0.9])
def test_the_largest_of_all_pairs_is_that_of_comparing_each(uneven, level):
    generator = np.random.default_rng(5)
    drawn, of_seeds = generator.normal(size=(300, 25)), np.exp(uneven * generator.normal(size=25))
    places = generator.normal(size=(25, 3))
    squares = ((places[:, None] - places) ** 2).sum(axis=2) + 0.01
    standard = np.sqrt(np.add.outer(of_seeds, of_seeds) + squares)
    largest = (np.abs(drawn[:, :, None] - drawn[:, None]) / standard).max(axis=(1, 2))
    found = largest_of_pairs(drawn.astype(np.float32), squares.astype(np.float32), of_seeds, level)
    assert found == pytest.approx(np.quantile(largest, 1 - level), rel=1e-5)


def test_networks_that_are_far_behind_leave_the_others_their_short_intervals():
    close, far = of_means(0.9, 0.899, 0.898), of_means(*np.linspace(0.4, 0.5, 40))
    alone, together = (
        simultaneous_intervals(networks, 0, margin=0.005, level=0.05) for networks in (close, close + far)
    )
    width = [(ends.high - ends.low)[1:3] for ends in (alone, together)]
    assert width[1] == pytest.approx(width[0], rel=0.05)
    everyone = multiples(close + far, known=False)[0]
    assert (alone.smallest_difference[1:] < 0.8 * everyone * errors(close).standard_with(0)[1:]).all()


def test_networks_far_behind_take_no_part_in_the_seeds_that_are_needed():
    close = of_means(0.9, 0.899, 0.898, spread=0.01, seeds=2)
    far = of_means(*np.linspace(0.4, 0.5, 400), spread=0.01, seeds=2)
    alone, together = (
        simultaneous_intervals(networks, 0, margin=0.005, level=0.05).seeds_needed[1:3]
        for networks in (close, close + far)
    )
    assert together == pytest.approx(alone, rel=0.1)


def test_networks_that_never_vary_do_not_make_the_others_certain():
    varying, stuck = of_means(0.9, 0.895, seeds=3), [Accuracies(np.full(3, 0.1), 1e12)] * 20
    alone, together = (errors(networks).seeds.variance[:2] for networks in (varying, varying + stuck))
    assert together.tolist() == pytest.approx(alone.tolist())


@pytest.mark.parametrize("spread", [0.002, 0.01])
def test_with_the_seeds_needed_the_smallest_difference_is_the_margin(spread):
    needed = simultaneous_intervals(of_means(*[0.9] * 5, spread=spread), 0, margin=0.005, level=0.05).seeds_needed[1]
    networks = of_means(*[0.9] * 5, spread=spread, seeds=int(needed))
    smallest = simultaneous_intervals(networks, 0, margin=0.005, level=0.05).smallest_difference[1]
    assert smallest == pytest.approx(0.005, rel=0.12)


def test_where_samples_are_too_few_no_number_of_seeds_would_do_and_more_samples_would():
    generator = np.random.default_rng(3)
    few = [network(*table) for table in family(generator, 5, 300, [0.0] * 3, luck=0.01)]
    ends = simultaneous_intervals(few, 0, margin=0.005, level=0.05)
    assert np.isnan(ends.seeds_needed[1:]).all()
    samples = int(ends.samples_needed[1:].max())
    many = [network(*table) for table in family(generator, 5, samples, [0.0] * 3, luck=0.01)]
    assert np.isfinite(simultaneous_intervals(many, 0, margin=0.005, level=0.05).seeds_needed[1:]).all()


def test_a_network_of_one_seed_is_judged_by_how_the_others_vary():
    many, one = of_means(0.9, 0.88, 0.86, spread=0.001), Accuracies(np.array([0.87]), 1e12)
    judgement = judge([*many, one])
    assert judgement.answer.tolist() == ["best", "worse", "worse", "worse"]
    assert judgement.high[3] - judgement.low[3] > judgement.high[2] - judgement.low[2]
    assert judge([*of_means(0.9, 0.88, 0.86, spread=0.1), one]).answer[3] == "cannot be told"


@pytest.mark.slow
def test_a_difference_is_shown_about_as_often_as_promised():
    generator = np.random.default_rng(4)
    smallest = simultaneous_intervals(of_means(0.9, 0.9), 0, margin=0.001, level=0.05).smallest_difference[1]
    shown = 0
    for seed in range(200):
        values = np.array([0.9, 0.9 - smallest])[:, None] + 0.002 * generator.normal(size=(2, 10))
        networks = [Accuracies(row, 1e12) for row in values]
        shown += judge(networks, margin=1e-6, seed=seed).answer[1] == "worse"
    assert 0.7 < shown / 200 < 0.9


def test_perfect_networks_are_not_certain_of_samples_that_nobody_has_seen():
    networks = [network(*[np.ones(100)] * 3)] * 2
    assert judge(networks).answer.tolist() == ["best", "cannot be told"]
    assert judge([network(*[np.ones(20_000)] * 3)] * 2).answer.tolist() == ["best", "equal"]


def test_the_answers_do_not_depend_on_the_order_of_the_networks():
    generator = np.random.default_rng(5)
    row = drawn(0.95, 10_000, generator)
    networks = [network(*table) for table in family(generator, 4, 10_000, [0.0, 0.01, 0.3], luck=0.005)]
    networks.append(network(*[row] * 4, labels="other"))
    forward, backward = judge(networks).answer, judge(networks[::-1]).answer[::-1]
    assert forward.tolist() == backward.tolist()


@pytest.mark.slow
def test_in_few_families_is_any_answer_false(monkeypatch):
    """600 of those of the benchmark, which has 3,000; docs/equality.md has its table."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = runpy.run_path(str(BENCHMARKS / "equality.py"))
    generator = np.random.default_rng(6)
    false: Counter[str] = Counter()
    for _, _, drawn_family in benchmark["families"](600, generator):
        equal, worse = benchmark["false_answers"](drawn_family, judge(drawn_family.validated(generator)).answer)
        false.update({"equal": equal, "worse": worse})
    assert false["equal"] + false["worse"] <= 0.05 * 600
    for name in ("measure", "codes_to_measure"):
        sys.modules.pop(name, None)
