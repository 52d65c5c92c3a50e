"""The nearest codes against all distances, sorted."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from nas_relucode import InputError
from nas_relucode.cells.embedding import nearest
from nas_relucode.codes import pack


def by_hand(bits, k):
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    rows = []
    for i, row in enumerate(distances):
        rows.append([j for j in np.argsort(row, kind="stable") if j != i][:k])
    return np.array(rows), np.take_along_axis(distances, np.array(rows), axis=1)


@given(arrays.arrays(bool, st.tuples(st.integers(2, 40), st.sampled_from([1, 3, 8, 65, 300]))), st.data())
def test_neighbours_are_the_first_other_rows_of_the_sorted_distances(bits, data):
    k = data.draw(st.integers(1, len(bits) - 1))
    found = nearest(pack(bits), k)
    rows, distances = by_hand(bits, k)
    assert np.array_equal(found.rows, rows)
    assert np.array_equal(found.distances, distances)


def test_they_are_exact_over_many_blocks_of_columns_and_for_any_number_of_threads():
    bits = np.random.default_rng(0).random((1_300, 70)) < 0.2
    rows, distances = by_hand(bits, 15)
    for threads in (1, 2, 3):
        found = nearest(pack(bits), 15, threads=threads)
        assert np.array_equal(found.rows, rows)
        assert np.array_equal(found.distances, distances)


def test_the_distances_are_sklearns():
    bits = np.random.default_rng(1).random((600, 200)) < np.linspace(0, 1, 200)
    peers, _ = NearestNeighbors(n_neighbors=8, metric="hamming", algorithm="brute").fit(bits).kneighbors()
    assert np.array_equal(nearest(pack(bits), 8).distances, np.rint(peers * 200))


def test_equal_rows_are_neighbours_at_distance_0_and_no_row_is_its_own():
    found = nearest(pack(np.zeros((5, 3))), 4)
    assert not found.distances.any()
    assert [sorted([i, *row]) for i, row in enumerate(found.rows.tolist())] == [[0, 1, 2, 3, 4]] * 5


@pytest.mark.parametrize("k", [0, 3, -1, 1.5, True])
def test_there_must_be_more_codes_than_neighbours(k):
    with pytest.raises(InputError, match=f"k {k} neighbours were asked for among 3 codes"):
        nearest(pack(np.eye(3)), k)
