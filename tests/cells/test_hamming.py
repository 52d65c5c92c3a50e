"""Distances against brute force on bits, and the axioms of a metric (Definition 1)."""

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import nn

from nas_relucode import InputError, capture
from nas_relucode.cells import distance_blocks, distance_histogram, distance_matrix, find_cells
from nas_relucode.cells.hamming import class_distance_sums, ones_by_class
from nas_relucode.codes import pack

WIDTHS = st.sampled_from([1, 2, 5, 63, 64, 65, 200, 1000])
BITS = arrays.arrays(bool, st.tuples(st.integers(0, 12), WIDTHS))
THETAS = st.one_of(st.integers(0, 5), st.integers(60, 300))


def brute_force(bits, theta):
    return np.minimum((bits[:, None] != bits[None]).sum(axis=2), theta)


@given(BITS, THETAS)
def test_the_truncated_distance_counts_the_bits_that_differ(bits, theta):
    assert np.array_equal(distance_matrix(pack(bits), theta=theta), brute_force(bits, theta))


@given(BITS, THETAS)
def test_the_truncated_distance_is_a_metric(bits, theta):
    codes = find_cells(pack(bits)).codes
    d = distance_matrix(codes, theta=theta)
    assert np.array_equal(d, d.T)
    assert (np.diag(d) == 0).all()
    if theta > 0:
        assert (d[~np.eye(len(d), dtype=bool)] > 0).all()
    assert (d[:, :, None] <= d[:, None, :] + d.T[None]).all()


@given(BITS)
def test_the_adjacency_distance_is_zero_one_or_two(bits):
    """Definition 2: 0 for one cell, 1 for adjacent cells, 2 for all others."""
    d = distance_matrix(pack(bits), theta=2)
    equal = (bits[:, None] == bits[None]).all(axis=2)
    assert np.isin(d, [0, 1, 2]).all()
    assert np.array_equal(d == 0, equal)


def test_distances_agree_with_scipy_on_several_words():
    bits = np.random.default_rng(0).random((40, 700)) < 0.3
    other = np.random.default_rng(1).random((30, 700)) < 0.3
    expected = np.rint(cdist(bits, other, "hamming") * 700)
    assert np.array_equal(distance_matrix(pack(bits), pack(other)), expected)


@given(BITS.filter(len), st.integers(1, 3), st.integers(0, 5), st.randoms(use_true_random=False))
def test_class_distance_sums_are_those_over_all_pairs_of_samples(bits, classes, theta, random):
    labels = np.array([random.randrange(classes) for _ in bits])
    cells = find_cells(pack(bits))
    within, between = class_distance_sums(cells.codes, cells.class_counts(labels, classes), theta)
    distances, same = brute_force(bits, theta), labels[:, None] == labels[None]
    assert within == distances[same].sum() / 2
    assert between == distances[~same].sum() / 2


@given(BITS.filter(len), st.randoms(use_true_random=False))
def test_ones_are_counted_by_class_and_neuron(bits, random):
    labels = np.array([random.randrange(3) for _ in bits])
    cells = find_cells(pack(bits))
    counts = ones_by_class(cells.codes, cells.class_counts(labels, 3))
    assert np.array_equal(counts, [bits[labels == label].sum(axis=0) for label in range(3)])


@pytest.mark.parametrize("theta", [-1, 1.5, True])
def test_theta_must_be_a_whole_number(theta):
    with pytest.raises(InputError, match=f"theta {theta}"):
        distance_matrix(pack(np.eye(2)), theta=theta)


def test_codes_of_other_layers_have_no_distance():
    with pytest.raises(InputError, match="3 and 4 neurons"):
        distance_matrix(pack(np.eye(3)), pack(np.eye(4)))
    network = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    with pytest.raises(InputError, match="64 and 64 neurons in 2 and 1 layers"):
        distance_matrix(capture(network, torch.rand(3, 2)), pack(np.eye(64)))


def test_infinity_is_no_truncation():
    codes = pack(np.random.default_rng(0).random((9, 70)) < 0.5)
    assert np.array_equal(distance_matrix(codes, theta=math.inf), distance_matrix(codes))


@given(BITS, st.integers(1, 5))
def test_blocks_are_the_matrix_a_few_rows_at_a_time(bits, rows):
    codes = pack(bits)
    blocks = list(distance_blocks(codes, rows=rows))
    assert [start for start, _ in blocks] == list(range(0, len(bits), rows))
    assert np.array_equal(
        np.vstack([np.empty((0, len(bits))), *(block for _, block in blocks)]), distance_matrix(codes)
    )


@given(BITS, BITS)
def test_a_histogram_counts_the_distances_of_all_pairs(bits, more):
    d, width = brute_force(bits, bits.shape[1]), bits.shape[1]
    assert np.array_equal(
        distance_histogram(pack(bits)), np.bincount(d[np.triu_indices(len(bits), 1)], minlength=width + 1)
    )
    other = np.resize(more, (len(more), width))
    d = (bits[:, None] != other[None]).sum(axis=2)
    assert np.array_equal(distance_histogram(pack(bits), pack(other)), np.bincount(d.ravel(), minlength=width + 1))


def test_tiles_of_a_large_matrix_fit_together():
    bits = np.random.default_rng(0).random((700, 130)) < 0.5
    ones = bits.astype(np.float32)
    expected = np.rint(ones @ (1 - ones).T + (1 - ones) @ ones.T).astype(int)
    assert np.array_equal(distance_matrix(pack(bits)), expected)
    assert np.array_equal(distance_matrix(pack(bits), pack(bits[:600]), theta=60), np.minimum(expected[:, :600], 60))
    assert np.array_equal(distance_histogram(pack(bits)), np.bincount(expected[np.triu_indices(700, 1)], minlength=131))
