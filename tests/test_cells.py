"""Cells against Python's own sets and counters."""

from collections import Counter

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode import InputError, find_cells, pack

FEW_BITS = arrays.arrays(bool, st.tuples(st.integers(0, 30), st.sampled_from([0, 1, 3, 64, 65])), fill=st.just(False))


def rows(codes):
    return [row.tobytes() for row in codes.bits()]


@given(FEW_BITS)
def test_cells_are_the_distinct_codes_with_their_samples(bits):
    codes = pack(bits)
    cells = find_cells(codes)
    assert dict(zip(rows(cells.codes), cells.sizes, strict=True)) == Counter(rows(codes))
    assert [rows(cells.codes)[cell] for cell in cells.cell_of] == rows(codes)
    assert [rows(codes).index(row) for row in rows(cells.codes)] == cells.first.tolist()


@given(FEW_BITS, st.randoms(use_true_random=False))
def test_cells_do_not_depend_on_the_order_of_the_samples(bits, random):
    order = list(range(len(bits)))
    random.shuffle(order)
    cells, shuffled = find_cells(pack(bits)), find_cells(pack(bits[order]))
    assert np.array_equal(cells.codes.words, shuffled.codes.words)
    assert np.array_equal(cells.sizes, shuffled.sizes)
    assert np.array_equal(cells.cell_of[order], shuffled.cell_of)


@given(FEW_BITS.filter(len), st.randoms(use_true_random=False))
def test_class_counts_count_the_samples_of_each_class_in_each_cell(bits, random):
    labels = np.array([random.randrange(3) for _ in bits])
    cells = find_cells(pack(bits))
    counted = Counter(zip(cells.cell_of.tolist(), labels.tolist(), strict=True))
    expected = [[counted[cell, label] for label in range(3)] for cell in range(len(cells))]
    assert np.array_equal(cells.class_counts(labels, 3), expected)


def test_labels_that_do_not_fit_are_errors():
    cells = find_cells(pack([[0, 1], [1, 1]]))
    with pytest.raises(InputError, match="for 2 samples"):
        cells.class_counts(np.array([0, 1, 1]))
    with pytest.raises(InputError, match=r"lie in 0..3, but must lie in 0..2"):
        cells.class_counts(np.array([0, 3]), 3)
    with pytest.raises(InputError, match=r"lie in -1..1"):
        cells.class_counts(np.array([-1, 1]))
