"""Equality: McNemar and Holm as statsmodels has them, the mixed view against simulations, and what all rules share."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.ranking.equality import (
    RULES,
    Accuracies,
    check_tolerance,
    compare,
    crossed_p,
    difference_intervals,
    difference_p,
    exact_mcnemar,
)

TESTS = ("mcnemar", "bootstrap")


def network(*seeds, labels="same"):
    """From tables of right and wrong samples, one a seed."""
    correct = np.array(seeds, float)
    return Accuracies(correct.mean(axis=1), correct.shape[1], correct, labels)


def without_predictions(of):
    return Accuracies(of.values, of.samples)


def drawn(accuracy, samples, generator):
    return (generator.random(samples) < accuracy).astype(float)


tables = st.lists(st.lists(st.booleans(), min_size=30, max_size=30), min_size=2, max_size=6)


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_that_of_statsmodels(first_only, second_only):
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    expected = contingency.mcnemar([[50, first_only], [second_only, 9]], exact=True).pvalue
    assert exact_mcnemar(first_only, second_only) == pytest.approx(expected, abs=1e-12)


@given(tables, st.integers(0, 5))
@settings(max_examples=30, deadline=None)
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
    found = compare([network(row) for row in rows], best, tolerance="mcnemar")
    assert found.p[others] == pytest.approx(corrected, abs=1e-12)
    assert found.equal[others].tolist() == (~reject).tolist()
    assert found.p[best] == 1
    assert found.equal[best]
    assert found.paired.all()


@pytest.mark.parametrize("rule", RULES)
def test_identical_networks_tie(rule):
    row = drawn(0.9, 200, np.random.default_rng(0))
    for seeds in ([row], [row, 1 - row, row]):
        found = compare([network(*seeds)] * 3, 0, tolerance=rule)
        assert found.equal.all()
        assert found.difference.tolist() == [0, 0, 0]


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
    found = compare(both, 0, tolerance=rule)
    assert found.equal.tolist() == [True, False]
    assert found.paired[1] == (paired and rule != "1se")


def test_all_right_against_all_wrong_is_certain():
    found = compare([network(np.ones(50)), network(np.zeros(50))], 0, tolerance="bootstrap")
    assert found.equal.tolist() == [True, False]
    assert (found.low[1], found.high[1]) == pytest.approx((1, 1))


def test_pairs_tell_apart_what_accuracies_do_not():
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
    found = compare([network(row), network(row, labels="other")], 0, tolerance="mcnemar")
    assert found.paired.tolist() == [True, False]


def test_accuracies_alone_are_compared_by_both_standard_errors():
    one, other = Accuracies(np.array([0.95]), 400), Accuracies(np.array([0.9]), 200)
    error = math.hypot(one.standard_error, other.standard_error)
    assert difference_p(one, other) == pytest.approx(2 * stats.norm.sf(0.05 / error), rel=1e-9)


def test_with_samples_that_do_not_vary_the_mixed_view_is_welchs_test_of_the_seeds():
    first, second = np.array([0.5, 0.6, 0.7]), np.array([0.4, 0.45, 0.35, 0.4])
    tables = [np.repeat(values[:, None], 1000, axis=1) for values in (first, second)]
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert crossed_p(*tables) == pytest.approx(expected, rel=1e-9)


def test_with_equal_seeds_the_mixed_view_is_the_paired_test_of_the_samples():
    generator = np.random.default_rng(4)
    one, other = drawn(0.9, 400, generator), drawn(0.8, 400, generator)
    expected = stats.ttest_rel(one, other).pvalue
    assert crossed_p(np.array([one] * 3), np.array([other] * 3)) == pytest.approx(expected, rel=1e-9)
    assert crossed_p(np.array([one]), np.array([other])) == pytest.approx(expected, rel=1e-9)
    assert crossed_p(np.array([one]), np.array([other] * 3)) == pytest.approx(expected, rel=1e-9)


def simulated(generator, seeds, samples, gap=0.0):
    """Two networks that err where samples are hard, where a seed is unlucky and where both come together."""
    hard = generator.normal(0, 1.0, samples)

    def train(ease):
        luck = generator.normal(ease, 0.1, (seeds, 1))
        return (luck - hard + generator.normal(0, 0.7, (seeds, samples)) > 0).astype(float)

    return train(1.5), train(1.5 - gap)


def share_rejected(rule, seeds, gap=0.0, tries=300):
    generator = np.random.default_rng(5)
    rejected = 0
    for _ in range(tries):
        both = [network(*table) for table in simulated(generator, seeds, 300, gap)]
        if rule == "mcnemar":
            rejected += difference_p(*both) < 0.05
        else:
            low, high = difference_intervals(both, 0, resamples=200)
            rejected += not low[1] <= 0 <= high[1]
    return rejected / tries


@pytest.mark.parametrize(("rule", "seeds"), [("mcnemar", 3), ("mcnemar", 5), ("bootstrap", 5)])
def test_equal_networks_are_told_apart_hardly_more_often_than_the_level_says(rule, seeds):
    assert share_rejected(rule, seeds, tries=300 if rule == "mcnemar" else 100) <= 0.08


def test_pooling_the_samples_of_all_seeds_would_tell_equal_networks_apart():
    generator = np.random.default_rng(5)
    rejected = 0
    for _ in range(300):
        gains = np.subtract(*simulated(generator, 3, 300)).ravel()
        rejected += exact_mcnemar(int((gains > 0).sum()), int((gains < 0).sum())) < 0.05
    assert rejected / 300 > 0.12


def test_more_seeds_tell_more_apart():
    few, many = (share_rejected("mcnemar", seeds, gap=0.4, tries=60) for seeds in (2, 8))
    assert many > few + 0.1


@given(tables, st.integers(0, 5), st.sampled_from(TESTS))
@settings(max_examples=25, deadline=None)
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


def test_a_number_is_a_difference_of_accuracies_whatever_the_rounding():
    networks = [Accuracies(np.array([a]), 1000) for a in (0.9, 0.895, 0.8949)]
    found = compare(networks, 0, tolerance=0.005)
    assert found.equal.tolist() == [True, True, False]
    assert found.threshold == pytest.approx(0.895)


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
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(InputError, match=r"tolerance .*1se, mcnemar, bootstrap, or a number from 0 to 1"):
        check_tolerance(tolerance)


@pytest.mark.parametrize("level", [0, 1, -0.1, math.nan])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(InputError, match="level"):
        check_tolerance("mcnemar", level)
