"""Paired differences against scipy's tests, Holm's correction against the closed test that it abbreviates."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas_relucode import InputError
from nas_relucode.ranking.paired_differences import holm, paired

VALUES = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=8)


@given(VALUES.filter(lambda pairs: len({b - a for a, b in pairs}) > 1))
def test_a_paired_difference_is_scipys_t_test_with_its_interval(pairs):
    first, second = np.array(pairs, float).T
    difference, expected = paired(first, second), stats.ttest_rel(second, first)
    interval = expected.confidence_interval(0.95)
    assert difference.p == pytest.approx(expected.pvalue)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert (difference.first, difference.second) == pytest.approx((first.mean(), second.mean()))
    assert difference.significant == (expected.pvalue < 0.05)


@given(VALUES.filter(lambda pairs: len({b - a for a, b in pairs}) > 1), st.floats(0.1, 100))
def test_equivalence_is_the_worse_of_two_one_sided_tests(pairs, margin):
    first, second = np.array(pairs, float).T
    above = stats.ttest_1samp(second - first, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(second - first, margin, alternative="less").pvalue
    assert paired(first, second).equivalence_p(margin) == pytest.approx(max(above, below))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferronis(p):
    """A hypothesis falls if every family that it is in falls."""
    families = [family for size in range(1, len(p) + 1) for family in combinations(range(len(p)), size)]
    smallest = {family: min(1, len(family) * min(p[i] for i in family)) for family in families}
    expected = [max(value for family, value in smallest.items() if i in family) for i in range(len(p))]
    assert holm(p) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("more", [0, 1, 0.1])
def test_there_is_no_test_if_the_difference_does_not_vary(more):
    """As at epoch 0, where both learning rates still have the same weights; 0.1 varies by rounding alone."""
    first = np.array([0.3, 0.7, 0.9])
    difference = paired(first, first + more)
    assert not difference.varies
    assert difference.mean == pytest.approx(more)
    assert np.isnan([difference.p, difference.low, difference.high, difference.equivalence_p(0.5)]).all()
    assert not difference.significant
    assert paired([1, 2], [2, 4]).varies


def test_nan_stays_nan_in_holms_correction_and_counts_as_a_test():
    assert holm([np.nan, 0.01, 0.04]) == pytest.approx(np.array([np.nan, 0.03, 0.08]), nan_ok=True)


@pytest.mark.parametrize(("first", "second"), [([1], [2]), ([1, 2], [1, 2, 3]), ([[1, 2]], [[1, 2]])])
def test_values_that_are_not_pairs_are_refused(first, second):
    with pytest.raises(InputError, match=r"not paired.*one value per seed"):
        paired(first, second)
