"""Bits packed into words and unpacked again, one layer and several side by side."""

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode import Codes, InputError
from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.graph import connectivity
from nas_relucode.cells.hamming import distance_histogram, distance_matrix
from nas_relucode.cells.neighbours import nearest, pairs_within
from nas_relucode.cells.occupied import find_cells
from nas_relucode.cells.spanning import spanning_tree
from nas_relucode.codes import pack
from nas_relucode.codes.bits import Layer

WIDTHS = [1, 63, 64, 65, 1000]


def side_by_side(first, second):
    """The codes of two layers, built from those of each."""
    start = pack(first).layers[0].stop
    words = np.hstack([pack(first).words, pack(second).words])
    return Codes(words, (Layer("first", (first.shape[1],), 0), Layer("second", (second.shape[1],), start)))


@given(arrays.arrays(bool, st.tuples(st.integers(0, 9), st.sampled_from(WIDTHS))))
def test_packing_and_unpacking_is_the_identity(bits):
    codes = pack(bits)
    assert np.array_equal(codes.bits(), bits)
    assert codes.words.dtype == np.uint64
    assert codes.words.shape == (len(bits), -(-bits.shape[1] // 64))


@given(arrays.arrays(bool, st.tuples(st.integers(1, 5), st.sampled_from(WIDTHS))))
def test_a_bit_is_where_it_can_be_shifted_to(bits):
    """Bit k of a layer is bit k % 64 of its word k // 64."""
    words = pack(bits).words
    for k in range(bits.shape[1]):
        assert np.array_equal((words[:, k // 64] >> np.uint64(k % 64)) & np.uint64(1), bits[:, k])


@pytest.mark.parametrize("first", WIDTHS)
@pytest.mark.parametrize("second", WIDTHS)
def test_layers_stand_side_by_side_and_apart(first, second):
    rng = np.random.default_rng(first * second)
    a, b = rng.random((6, first)) < 0.5, rng.random((6, second)) < 0.5
    codes = side_by_side(a, b)
    assert np.array_equal(codes.bits(), np.hstack([a, b]))
    assert np.array_equal(codes.layer("first").bits(), a)
    assert np.array_equal(codes.layer("second").bits(), b)
    assert codes.layer("second").layers[0].start == 0
    assert codes.neurons == first + second


def test_rows_are_chosen_by_slice_mask_and_number():
    bits = np.eye(5, dtype=bool)
    codes = pack(bits)
    for rows in (slice(1, 4), np.array([True, False, True, False, False]), np.array([4, 0, 0])):
        assert np.array_equal(codes[rows].bits(), bits[rows])


def test_what_cannot_be_packed_or_found_is_an_error():
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        pack([1, 0, 1])
    with pytest.raises(InputError, match=r"unknown layer 'third'. Known: first, second"):
        side_by_side(np.ones((1, 2), bool), np.ones((1, 2), bool)).layer("third")


def test_a_single_row_is_one_sample():
    codes = pack([[0, 1, 1], [1, 0, 1]])
    assert codes[1].samples == codes[np.int64(-1)].samples == 1
    assert codes[1].bits().tolist() == codes[-1].bits().tolist() == [[True, False, True]]


def test_bits_may_be_a_tensor_of_any_kind():
    bits = torch.tensor([[0.0, 1.0], [1.0, 1.0]], requires_grad=True)
    assert pack(bits).bits().tolist() == [[False, True], [True, True]]
    with pytest.raises(InputError, match="bits are a list, and no matrix"):
        pack([[0, 1], [1]])


CODES_TAKERS = {
    "find_cells": find_cells,
    "connectivity": connectivity,
    "spanning_tree": spanning_tree,
    "pairs_within": lambda codes: pairs_within(codes, 1),
    "nearest": lambda codes: nearest(codes, 1),
    "distance_matrix": distance_matrix,
    "distance_histogram": distance_histogram,
}


@pytest.mark.parametrize("call", CODES_TAKERS.values(), ids=CODES_TAKERS)
def test_what_is_no_codes_is_refused(call):
    codes = pack([[0, 1, 1], [1, 0, 1], [1, 1, 1]])
    call(codes)
    for other in (CodeSpace.of(codes), find_cells(codes), codes.bits(), codes.words, None):
        with pytest.raises(InputError, match=r"the codes are .*Give Codes"):
            call(other)


def test_arguments_of_a_code_space_are_checked():
    space = CodeSpace.of(pack([[0, 1, 1], [1, 0, 1], [1, 1, 1]]))
    profile = connectivity(space.codes)
    for call in (profile.component_count, profile.clusters):
        for theta in ("a", math.nan, -1, None):
            with pytest.raises(InputError, match="theta"):
                call(theta)
    assert profile.component_count(math.inf) == 1
    with pytest.raises(InputError, match="samples -1"):
        space.sample_codes(-1)
    with pytest.raises(InputError, match="correct"):
        CodeSpace.of(space.codes, correct=["no"] * 3)
