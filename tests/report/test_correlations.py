"""Rank correlations of indices, against scipy's own and by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas_relucode.report.contents import spearman

values = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=3, max_size=12)


@given(values)
def test_the_correlations_are_scipys_also_with_ties(rows: list[tuple[int, ...]]):
    table = pd.DataFrame(rows, columns=list("abc"), dtype=float)
    correlations = spearman(table, "abc")
    assert sorted(correlations.names) == list("abc")
    for i, one in enumerate(correlations.names):
        for j, other in enumerate(correlations.names):
            if one in correlations.silent or other in correlations.silent:
                assert np.isnan(correlations.matrix[i, j])
            else:
                assert correlations.matrix[i, j] == pytest.approx(stats.spearmanr(table[one], table[other]).statistic)


def test_an_index_that_is_missing_for_some_networks_is_correlated_over_the_others():
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, np.nan, 1.0, 0.0], "c": [1.0, 2.0, np.nan, np.nan]})
    correlations = spearman(table, "abc")
    assert correlations.matrix[0, 1] == pytest.approx(-1)
    assert np.isnan(correlations.matrix[0, 2])  # two networks have no correlation
    assert correlations.silent == {}


def test_columns_that_are_constant_undefined_or_saturated_come_last_with_the_reason():
    table = pd.DataFrame({"a": [1.0, 1.0, 1.0], "b": [np.nan] * 3, "c": [1.0, 2.0, 3.0], "d": [0.0, 0.5, 1.0]})
    correlations = spearman(table, "abcd", saturated=["d"])
    assert correlations.names == ["c", "a", "b", "d"]
    assert correlations.silent == {"a": "constant, 1", "b": "undefined or not measured", "d": "saturated for all"}
    assert np.isnan(correlations.matrix[1:]).all()


def test_a_single_network_has_no_correlations():
    assert np.isnan(spearman(pd.DataFrame({"a": [1.0], "b": [2.0]}), "ab").matrix).all()


def test_an_index_that_is_constant_where_it_is_defined_is_not_informative():
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [2.0, math.nan, 2.0], "c": [math.nan, 1.0, 2.0]})
    assert spearman(table, "abc").silent == {"b": "constant, 2, where it is defined"}
