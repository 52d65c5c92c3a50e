"""Pairs within theta and nearest codes against all distances."""

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from nas_relucode import InputError
from nas_relucode.cells import neighbours, pairs_within
from nas_relucode.cells.neighbours import nearest
from nas_relucode.codes import pack

WIDTHS = st.sampled_from([1, 2, 5, 63, 64, 65, 200, 1000])
BITS = arrays.arrays(bool, st.tuples(st.integers(0, 12), WIDTHS))
THETAS = st.one_of(st.integers(0, 5), st.integers(60, 1100))


def pairs_by_hand(bits, theta):
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    first, second = np.nonzero(np.triu(distances <= theta, k=1))
    return first, second, distances[first, second]


def assert_equal(pairs, expected):
    for array, expected_array in zip((pairs.first, pairs.second, pairs.distance), expected, strict=True):
        assert np.array_equal(array, expected_array)


@given(BITS, THETAS)
def test_pairs_within_theta_are_all_and_only_those(bits, theta):
    assert_equal(pairs_within(pack(bits), theta), pairs_by_hand(bits, theta))


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
    rows, limit = pack(bits).words, min(theta, bits.shape[1])
    masks = neighbours._masks(rows.shape[1], limit + 1)
    in_buckets = neighbours._in_buckets(rows, limit, masks, len(bits) ** 2 * (limit + 1))
    one_by_one = neighbours._one_by_one(rows, np.ascontiguousarray(rows.T), limit)
    for count, pairs in (in_buckets, one_by_one):
        assert_equal(neighbours.Pairs(*neighbours._in_order(len(bits), pairs[:, :count])), pairs_by_hand(bits, limit))


@pytest.mark.parametrize("theta", [1, 2, 3, 9])
def test_where_buckets_are_too_long_all_pairs_are_compared(theta):
    """All but eight bits are constant: whole words are equal everywhere."""
    bits = np.zeros((256, 300), bool)
    bits[:, 100:108] = (np.arange(256)[:, None] >> np.arange(8)) & 1
    assert_equal(pairs_within(pack(bits), theta), pairs_by_hand(bits, theta))
    assert len(pairs_within(pack(bits), 1)) == 256 * 8 // 2  # a cube


def test_more_pairs_than_there_is_room_for_at_first_are_all_found():
    assert len(pairs_within(pack(np.zeros((100, 3))), 0)) == 100 * 99 // 2


def test_infinity_finds_all_pairs_and_other_thetas_are_whole_numbers():
    codes = pack(np.random.default_rng(0).random((9, 70)) < 0.5)
    assert len(pairs_within(codes, math.inf)) == 9 * 8 // 2
    for theta in (-1, 1.5, True):
        with pytest.raises(InputError, match=f"theta {theta}"):
            pairs_within(codes, theta)


def nearest_by_hand(bits, k):
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    rows = []
    for i, row in enumerate(distances):
        rows.append([j for j in np.argsort(row, kind="stable") if j != i][:k])
    return np.array(rows), np.take_along_axis(distances, np.array(rows), axis=1)


@given(arrays.arrays(bool, st.tuples(st.integers(2, 40), st.sampled_from([1, 3, 8, 65, 300]))), st.data())
def test_the_nearest_codes_are_the_first_other_rows_of_the_sorted_distances(bits, data):
    k = data.draw(st.integers(1, len(bits) - 1))
    result = nearest(pack(bits), k)
    rows, distances = nearest_by_hand(bits, k)
    assert np.array_equal(result.rows, rows)
    assert np.array_equal(result.distances, distances)


def test_the_nearest_codes_are_exact_over_many_blocks_and_for_any_number_of_threads():
    bits = np.random.default_rng(0).random((1_300, 70)) < 0.2
    rows, distances = nearest_by_hand(bits, 15)
    for threads in (1, 2, 3):
        result = nearest(pack(bits), 15, threads=threads)
        assert np.array_equal(result.rows, rows)
        assert np.array_equal(result.distances, distances)


def test_the_distances_to_the_nearest_codes_are_sklearns():
    bits = np.random.default_rng(1).random((600, 200)) < np.linspace(0, 1, 200)
    peers, _ = NearestNeighbors(n_neighbors=8, metric="hamming", algorithm="brute").fit(bits).kneighbors()
    assert np.array_equal(nearest(pack(bits), 8).distances, np.rint(peers * 200))


def test_equal_rows_are_neighbours_at_distance_0_and_no_row_is_its_own():
    result = nearest(pack(np.zeros((5, 3))), 4)
    assert not result.distances.any()
    assert [sorted([i, *row]) for i, row in enumerate(result.rows.tolist())] == [[0, 1, 2, 3, 4]] * 5


@pytest.mark.parametrize("k", [0, 3, -1, 1.5, True])
def test_there_must_be_more_codes_than_nearest_ones(k):
    with pytest.raises(InputError, match=f"k {k} "):
        nearest(pack(np.eye(3)), k)
