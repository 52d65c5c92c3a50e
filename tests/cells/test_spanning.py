"""The spanning tree against scipy's, and that threads and duplicates change nothing."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree

from nas_relucode.cells import distance_matrix, spanning, spanning_tree
from nas_relucode.cells.graph import components
from nas_relucode.codes import pack

BITS = arrays.arrays(bool, st.tuples(st.integers(0, 40), st.sampled_from([1, 3, 63, 64, 65, 200, 1000])))


def scipys(codes):
    """Distances of scipy's minimum spanning tree; 1 is added, as scipy takes a distance of 0 for no edge."""
    return np.sort(minimum_spanning_tree(distance_matrix(codes) + 1.0).data).astype(int) - 1


def check(tree, codes):
    assert np.array_equal(tree.distance, scipys(codes))
    assert (tree.first < tree.second).all()
    matrix = distance_matrix(codes)
    assert np.array_equal(matrix[tree.first, tree.second], tree.distance)
    assert (components(codes.samples, tree.first, tree.second) == 0).all()  # it spans


@given(BITS)
def test_the_tree_has_the_distances_of_scipys(bits):
    check(spanning_tree(pack(bits)), pack(bits))


def clustered(seed, samples, width):
    """Codes near a few centres, some of them twice, some far from all: what groups and bounds are made for."""
    rng = np.random.default_rng(seed)
    centres = rng.random((rng.integers(1, 9), width)) < rng.uniform(0.1, 0.5)
    bits = centres[rng.integers(0, len(centres), samples)]
    bits ^= rng.random(bits.shape) < rng.uniform(0, 0.2)
    bits[: samples // 10] = bits[rng.integers(0, samples, samples // 10)]
    return bits


@given(st.integers(0, 10_000), st.sampled_from([7, 64, 150, 520]), st.sampled_from([1, 2]))
def test_groups_and_bounds_lose_no_edge(seed, width, threads):
    codes = pack(clustered(seed, 500, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spanning, "FEW", 100)
        patch.setattr(spanning, "GROUP", 16)
        check(spanning_tree(codes, threads=threads), codes)


def test_a_full_round_of_candidates_goes_on_where_it_stopped(monkeypatch):
    """With room for few candidates a group is compared in several goes."""
    codes = pack(clustered(3, 1500, 130))
    monkeypatch.setattr(spanning, "FEW", 100)
    compare = spanning._compare
    monkeypatch.setattr(spanning, "_compare", lambda *arguments: compare(*arguments[:-1], 5))
    check(spanning_tree(codes, threads=1), codes)


def test_the_tree_does_not_depend_on_the_number_of_threads():
    codes = pack(np.random.default_rng(0).random((10_000, 90)) < 0.3)
    one, two = spanning_tree(codes, threads=1), spanning_tree(codes, threads=2)
    for name in ("first", "second", "distance"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


def test_a_path_of_codes_is_its_own_tree():
    """000.., 100.., 110.., ...: each code is one bit from the next, whatever the order they come in."""
    order = np.random.default_rng(1).permutation(9001)
    bits = np.tri(9001, 9000, k=-1, dtype=bool)[order]
    tree = spanning_tree(pack(bits))
    assert (tree.distance == 1).all()
    assert np.array_equal(np.abs(order[tree.first] - order[tree.second]), np.ones(9000))
