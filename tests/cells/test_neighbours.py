"""Pairs within theta against brute force on bits, for both ways to find them."""

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode import InputError
from nas_relucode.cells import neighbours, pairs_within
from nas_relucode.codes import pack

WIDTHS = st.sampled_from([1, 2, 5, 63, 64, 65, 200, 1000])
BITS = arrays.arrays(bool, st.tuples(st.integers(0, 12), WIDTHS))
THETAS = st.one_of(st.integers(0, 5), st.integers(60, 1100))


def brute_force(bits, theta):
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    first, second = np.nonzero(np.triu(distances <= theta, k=1))
    return first, second, distances[first, second]


def assert_equal(pairs, expected):
    for found, right in zip((pairs.first, pairs.second, pairs.distance), expected, strict=True):
        assert np.array_equal(found, right)


@given(BITS, THETAS)
def test_pairs_within_theta_are_all_and_only_those(bits, theta):
    assert_equal(pairs_within(pack(bits), theta), brute_force(bits, theta))


@st.composite
def near_codes(draw):
    """Copies of a few codes with up to three bits flipped: many pairs at each small distance."""
    width, seed = draw(WIDTHS), draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    bits = rng.random((2, width)) < 0.5
    bits = bits[rng.integers(0, 2, draw(st.integers(2, 60)))]
    for row in bits:
        row[rng.integers(0, width, rng.integers(0, 4))] ^= True
    return bits


@given(near_codes(), st.integers(0, 5))
def test_buckets_and_a_sweep_over_all_pairs_find_the_same(bits, theta):
    rows, most = pack(bits).words, min(theta, bits.shape[1])
    masks = neighbours._masks(rows.shape[1], most + 1)
    in_buckets = neighbours._in_buckets(rows, most, masks, len(bits) ** 2 * (most + 1))
    one_by_one = neighbours._one_by_one(rows, np.ascontiguousarray(rows.T), most)
    for found, pairs in (in_buckets, one_by_one):
        assert_equal(neighbours.Pairs(*neighbours._in_order(len(bits), pairs[:, :found])), brute_force(bits, most))


@pytest.mark.parametrize("theta", [1, 2, 3, 9])
def test_long_buckets_are_given_up_and_nothing_is_lost(theta):
    """All but eight bits are constant: whole words are equal everywhere."""
    bits = np.zeros((256, 300), bool)
    bits[:, 100:108] = (np.arange(256)[:, None] >> np.arange(8)) & 1
    assert_equal(pairs_within(pack(bits), theta), brute_force(bits, theta))
    assert len(pairs_within(pack(bits), 1)) == 256 * 8 // 2  # a cube


def test_more_pairs_than_first_expected_are_all_found():
    assert len(pairs_within(pack(np.zeros((100, 3))), 0)) == 100 * 99 // 2


def test_infinity_finds_all_pairs_and_other_thetas_are_whole_numbers():
    codes = pack(np.random.default_rng(0).random((9, 70)) < 0.5)
    assert len(pairs_within(codes, math.inf)) == 9 * 8 // 2
    for theta in (-1, 1.5, True):
        with pytest.raises(InputError, match=f"theta {theta}"):
            pairs_within(codes, theta)
