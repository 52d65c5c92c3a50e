"""Equality: McNemar and Holm as statsmodels has them, the mixed view against simulations, and what all rules share."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from simulated import drawn, family, network

from nas_relucode.errors import InputError
from nas_relucode.ranking.accuracies import Accuracies, pooled_seed_variance
from nas_relucode.ranking.equality import (
    TOLERANCES as RULES,
)
from nas_relucode.ranking.equality import (
    check_tolerance,
    compare,
    corrected_for_all_pairs,
    difference_intervals,
    difference_p,
    exact_mcnemar,
)

TESTS = ("mcnemar", "bootstrap")


def without_predictions(of):
    return Accuracies(of.values, of.samples)


def p_of_two(first, second):
    return difference_p(first, second, pooled_seed_variance([first, second]))


def bits(number):
    return [number >> i & 1 for i in range(30)]


tables = st.lists(st.integers(0, 2**30 - 1).map(bits), min_size=2, max_size=6)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_twice_the_tail_of_a_fair_coin(first_only, second_only):
    assert exact_mcnemar(first_only, second_only) == pytest.approx(coin(first_only, second_only), abs=1e-12)


def coin(heads, tails):
    """Twice the probability of at most so few heads or tails among all throws, 1 at most; by exact whole numbers."""
    throws = heads + tails
    return min(1.0, 2 * sum(math.comb(throws, few) for few in range(min(heads, tails) + 1)) / 2**throws)


@given(tables, st.integers(0, 5))
def test_the_p_values_of_all_networks_are_those_of_a_closed_test(rows, best):
    """Holm's correction is the closed test of Bonferroni's: the largest p of all sets that hold the hypothesis."""
    best %= len(rows)
    others = [i for i in range(len(rows)) if i != best]
    differing = [[a - b for a, b in zip(rows[best], rows[i], strict=True)] for i in others]
    raw = [coin(signs.count(1), signs.count(-1)) for signs in differing]
    sets = [s for size in range(1, len(raw) + 1) for s in itertools.combinations(range(len(raw)), size)]
    bonferroni = {s: min(1.0, len(s) * min(raw[j] for j in s)) for s in sets}
    closed = [max(p for s, p in bonferroni.items() if j in s) for j in range(len(raw))]
    comparison = compare([network(row) for row in rows], best, tolerance="mcnemar")
    assert comparison.p[others] == pytest.approx(closed, abs=1e-12)
    assert comparison.equal[others].tolist() == [p > 0.05 for p in closed]


@pytest.mark.slow  # the import of statsmodels takes seconds
@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_that_of_statsmodels(first_only, second_only):
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    expected = contingency.mcnemar([[50, first_only], [second_only, 9]], exact=True).pvalue
    assert exact_mcnemar(first_only, second_only) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@given(tables, st.integers(0, 5))
@example([bits(2**30 - 1), bits(2**21 - 1), bits(2**24 - 1), bits(2**29 - 1)], 0)  # 9, 6 and 1 to 0
def test_the_p_values_of_all_networks_are_those_of_statsmodels(rows, best):
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    best %= len(rows)
    raw, others = [], [i for i in range(len(rows)) if i != best]
    for i in others:
        pairs = np.array([rows[best], rows[i]])
        table = [[((pairs[0] == a) & (pairs[1] == b)).sum() for b in (True, False)] for a in (True, False)]
        raw.append(contingency.mcnemar(table, exact=True).pvalue)
    reject, corrected, *_ = multitest.multipletests(raw, alpha=0.05, method="holm")
    comparison = compare([network(row) for row in rows], best, tolerance="mcnemar")
    assert comparison.p[others] == pytest.approx(corrected, abs=1e-12)
    assert comparison.equal[others].tolist() == (~reject).tolist()
    assert comparison.p[best] == 1
    assert comparison.equal[best]
    assert comparison.paired.all()


@pytest.mark.parametrize("rule", RULES)
def test_identical_networks_tie(rule):
    row = drawn(0.9, 200, np.random.default_rng(0))
    for seeds in ([row], [row, 1 - row, row]):
        comparison = compare([network(*seeds)] * 3, 0, tolerance=rule)
        assert comparison.equal.all()
        assert comparison.difference.tolist() == [0, 0, 0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seeds", [1, 3])
def test_one_changed_prediction_does_not_break_a_tie(rule, seeds):
    generator = np.random.default_rng(1)
    rows = [drawn(0.95, 300, generator) for _ in range(seeds)]
    changed = [row.copy() for row in rows]
    changed[0][int(rows[0].argmax())] = 0
    assert compare([network(*rows), network(*changed)], 0, tolerance=rule).equal.all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("paired", [True, False])
def test_a_network_that_is_far_worse_is_not_equal(rule, seeds, paired):
    generator = np.random.default_rng(2)
    good, bad = (network(*(drawn(a, 500, generator) for _ in range(seeds))) for a in (0.95, 0.5))
    both = [good, bad] if paired else [without_predictions(good), without_predictions(bad)]
    comparison = compare(both, 0, tolerance=rule)
    assert comparison.equal.tolist() == [True, False]
    assert comparison.paired[1] == (paired and rule != "1se")


def test_all_right_against_all_wrong_is_certain():
    comparison = compare([network(np.ones(50)), network(np.zeros(50))], 0, tolerance="bootstrap")
    assert comparison.equal.tolist() == [True, False]
    assert (comparison.low[1], comparison.high[1]) == pytest.approx((1, 1))


def test_paired_predictions_distinguish_what_accuracies_do_not():
    row = drawn(0.9, 1000, np.random.default_rng(3))
    worse = row.copy()
    worse[np.flatnonzero(row)[:12]] = 0  # right nowhere that the best one is wrong
    both = [network(row), network(worse)]
    loose = [without_predictions(one) for one in both]
    for rule in TESTS:
        assert compare(both, 0, tolerance=rule).equal.tolist() == [True, False]
        assert compare(loose, 0, tolerance=rule).equal.tolist() == [True, True]


def test_predictions_of_other_samples_are_not_paired():
    row = drawn(0.9, 1000, np.random.default_rng(3))
    comparison = compare([network(row), network(row, labels="other")], 0, tolerance="mcnemar")
    assert comparison.paired.tolist() == [True, False]


def test_without_predictions_both_standard_errors_count():
    one, other = Accuracies(np.array([0.95]), 400), Accuracies(np.array([0.9]), 200)
    error = math.hypot(one.standard_error, other.standard_error)
    assert p_of_two(one, other) == pytest.approx(2 * stats.norm.sf(0.05 / error), rel=1e-9)


def test_with_equal_seeds_the_mixed_view_is_the_paired_test_of_the_samples():
    generator = np.random.default_rng(4)
    one, other = drawn(0.9, 400, generator), drawn(0.8, 400, generator)
    expected = stats.ttest_rel(one, other).pvalue
    assert p_of_two(network(one, one, one), network(other, other, other)) == pytest.approx(expected, rel=1e-9)
    assert p_of_two(network(one), network(other, other, other)) == pytest.approx(expected, rel=1e-9)


def alike(*means, spread=0.02):
    """Networks whose seeds differ by as much each, and whose samples do not."""
    return [network(*(np.full(1000, mean + spread * seed) for seed in (-1, 0, 1))) for mean in means]


def test_with_samples_that_do_not_vary_the_intervals_are_those_of_dunnett_and_tukey():
    networks = alike(0.9, 0.87, 0.88, 0.9)
    values = [one.values for one in networks]
    low, high = difference_intervals(networks, 0, resamples=20_000)
    dunnett = stats.dunnett(*values[1:], control=values[0], rng=np.random.default_rng(9)).confidence_interval(0.95)
    assert (-high[1:], -low[1:]) == (pytest.approx(dunnett.low, abs=1e-3), pytest.approx(dunnett.high, abs=1e-3))
    low, high = difference_intervals(networks, 0, resamples=20_000, chosen=True)
    tukey = stats.tukey_hsd(*values).confidence_interval(0.95)
    assert (low[1:], high[1:]) == (
        pytest.approx(tukey.low[0, 1:], abs=1e-3),
        pytest.approx(tukey.high[0, 1:], abs=1e-3),
    )


def test_with_samples_that_do_not_vary_p_is_that_of_a_contrast_in_the_analysis_of_variance():
    networks = alike(0.9, 0.85, 0.88, 0.7)
    seeds = pooled_seed_variance(networks)
    values = np.array([one.values for one in networks])
    residual = stats.f_oneway(*values).statistic  # between / within, so that within follows from between
    within = 3 * values.mean(axis=1).var(ddof=1) / residual
    assert seeds.freedom.tolist() == [8, 8, 8, 8]
    assert seeds.variance == pytest.approx(np.full(4, within / 3))
    p = compare(networks[:2], 0, tolerance="mcnemar").p[1]
    assert p == pytest.approx(stats.ttest_ind(*values[:2]).pvalue, rel=1e-9)
    expected = 3 * 2 * stats.t.sf((0.9 - 0.88) / math.sqrt(within * 2 / 3), 8)  # the larger of Holm's last two
    assert compare(networks, 0, tolerance="mcnemar").p[[1, 2]].max() == pytest.approx(min(1, expected / 3), rel=1e-9)


def test_between_the_limits_p_is_the_share_of_draws_at_least_as_far_apart():
    generator = np.random.default_rng(10)
    networks = [network(*table) for table in family(generator, 2, 300, [0.0, 0.3])]
    seeds, gap = pooled_seed_variance(networks), abs(networks[0].mean - networks[1].mean)
    by_sample = networks[0].correct.mean(axis=0) - networks[1].correct.mean(axis=0)
    may_be = seeds.variance[:, None] * 2 / generator.chisquare(2, 400_000) - seeds.interaction[:, None]
    variance = by_sample.var(ddof=1) / 300 + np.maximum(0, may_be).sum(axis=0)
    share = (np.abs(generator.normal(0, np.sqrt(variance))) >= gap).mean()
    assert compare(networks, 0, tolerance="mcnemar").p[1] == pytest.approx(share, abs=0.005)


def test_seed_variance_is_learned_from_all_networks():
    row = drawn(0.9, 1000, np.random.default_rng(3))
    worse = row.copy()
    worse[np.flatnonzero(row)[:12]] = 0
    single = [network(row), network(worse)]
    varied = alike(0.8, 0.75, 0.7)
    for rule in TESTS:
        assert compare(single, 0, tolerance=rule).equal.tolist() == [True, False]
        assert compare([*single, *varied], 0, tolerance=rule).equal[1]
    seeds = pooled_seed_variance([*single, *varied])
    assert seeds.variance == pytest.approx(0.02**2 / np.array([1, 1, 3, 3, 3]))
    assert not pooled_seed_variance(single).freedom.any()


def test_a_network_that_gets_stuck_with_one_seed_does_not_hide_differences_of_the_others():
    networks = alike(0.9, 0.8, 0.899, 0.898, spread=0.005)
    stuck = network(*(np.full(1000, value) for value in (0.9, 0.9, 0.1)))
    for rule in TESTS:
        assert compare(networks, 0, tolerance=rule).equal.tolist() == [True, False, True, True]
        assert compare([*networks, stuck], 0, tolerance=rule).equal.tolist() == [True, False, True, True, True]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.999))
def test_corrected_for_all_pairs_leaves_those_that_bonferroni_leaves_one_after_the_other(p, level):
    left = set(range(len(p)))
    while left:
        least = min(left, key=lambda i: p[i])
        if p[least] * math.comb(len(left) + 1, 2) >= level:
            break
        left.remove(least)
    assert set(np.flatnonzero(corrected_for_all_pairs(p) >= level)) == left


@given(tables, st.integers(0, 5), st.integers(1, 3))
def test_a_best_one_that_was_chosen_leaves_more_equal(rows, best, seeds):
    networks = [network(*rows[i : i + seeds]) for i in range(len(rows))]
    best %= len(rows)
    for rule in TESTS:
        given, chosen = (compare(networks, best, tolerance=rule, chosen=chosen) for chosen in (False, True))
        assert (given.equal <= chosen.equal).all()
        if rule == "mcnemar":
            assert (given.p <= chosen.p).all()
        else:
            assert (chosen.low <= given.low).all()
            assert (chosen.high >= given.high).all()
            assert (chosen.equal == ((chosen.low <= 1e-12) & (chosen.high >= -1e-12))).all()


@given(tables, st.integers(0, 5), st.sampled_from(TESTS))
def test_the_equal_networks_grow_as_the_level_falls(rows, best, rule):
    networks = [network(row) for row in rows]
    before = np.zeros(len(rows), bool)
    for level in (0.9, 0.5, 0.2, 0.05, 0.001):
        now = compare(networks, best % len(rows), tolerance=rule, level=level).equal
        assert now[best % len(rows)]
        assert (before <= now).all()
        before = now


@given(tables, st.floats(0, 1), st.floats(0, 1))
def test_the_equal_networks_grow_with_the_tolerance(rows, one, other):
    networks = [network(row) for row in rows]
    best = int(np.argmax([each.mean for each in networks]))
    small, large = (compare(networks, best, tolerance=t).equal for t in sorted((one, other)))
    assert small[best]
    assert (small <= large).all()


def test_a_number_is_a_difference_of_accuracies_despite_rounding():
    networks = [Accuracies(np.array([a]), 1000) for a in (0.9, 0.895, 0.8949)]
    comparison = compare(networks, 0, tolerance=0.005)
    assert comparison.equal.tolist() == [True, True, False]
    assert comparison.threshold == pytest.approx(0.895)


def test_the_intervals_are_those_of_a_plain_bootstrap_with_one_network():
    generator = np.random.default_rng(6)
    one, other = drawn(0.9, 300, generator), drawn(0.85, 300, generator)
    (_, low), (_, high) = difference_intervals([network(one), network(other)], 0, resamples=8000)
    gaps = (one - other)[generator.integers(300, size=(8000, 300))].mean(axis=1)
    assert (low, high) == pytest.approx(tuple(np.quantile(gaps, [0.025, 0.975])), abs=0.005)


def test_the_intervals_are_wider_for_many_networks():
    generator = np.random.default_rng(7)
    rows = [drawn(0.9, 300, generator) for _ in range(12)]
    few = difference_intervals([network(row) for row in rows[:2]], 0)
    many = difference_intervals([network(row) for row in rows], 0)
    assert many[1][1] - many[0][1] > 1.2 * (few[1][1] - few[0][1])


def test_a_network_without_accuracy_is_never_equal():
    networks = [Accuracies(np.array([a]), 100) for a in (0.9, math.nan)]
    for tolerance in (*RULES, 1.0):
        assert compare(networks, 0, tolerance=tolerance).equal.tolist() == [True, False]


@pytest.mark.parametrize("tolerance", [-0.1, 1.1, math.nan, True, "2se", "0.005"])
def test_an_invalid_tolerance_is_refused(tolerance):
    with pytest.raises(InputError, match=r"tolerance .*1se, mcnemar, bootstrap, or a number from 0 to 1"):
        check_tolerance(tolerance)


@pytest.mark.parametrize("level", [0, 1, -0.1, math.nan])
def test_an_invalid_level_is_refused(level):
    with pytest.raises(InputError, match="level"):
        check_tolerance("mcnemar", level)
