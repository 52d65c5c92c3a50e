"""Cells against Python's own sets and counters."""

from collections import Counter

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas_relucode.cells.occupied as cells_module
from nas_relucode import InputError
from nas_relucode.cells import find_cells
from nas_relucode.cells.occupied import CellTable
from nas_relucode.codes import pack

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
def test_the_order_of_the_samples_decides_the_order_of_the_cells_and_nothing_else(bits, random):
    order = list(range(len(bits)))
    random.shuffle(order)
    cells, shuffled = find_cells(pack(bits)), find_cells(pack(bits[order]))
    sizes = dict(zip(rows(cells.codes), cells.sizes, strict=True))
    assert dict(zip(rows(shuffled.codes), shuffled.sizes, strict=True)) == sizes
    assert (np.diff(cells.first) > 0).all()


@given(FEW_BITS, st.integers(1, 9))
def test_a_batch_at_a_time_gives_the_same_cells(bits, batch):
    codes, whole = pack(bits), find_cells(pack(bits))
    table = CellTable(codes.layers)
    parts = [table.add(codes.words[start : start + batch]) for start in range(0, len(bits), batch)]
    cells = table.cells(np.concatenate([np.empty(0, np.int64), *parts]))
    for name in ("sizes", "first", "cell_of"):
        assert np.array_equal(getattr(cells, name), getattr(whole, name))
    assert np.array_equal(cells.codes.words, whole.codes.words)


def test_a_table_that_grows_many_times_loses_no_cell():
    numbers = np.random.default_rng(0).integers(0, 30_000, 100_000).astype(np.uint64)
    table = CellTable(pack(np.zeros((1, 64))).layers)
    parts = [table.add(part[:, None]) for part in np.array_split(numbers, 300)]
    cells = table.cells(np.concatenate(parts))
    distinct, counts = np.unique(numbers, return_counts=True)
    assert dict(zip(cells.codes.words[:, 0].tolist(), cells.sizes.tolist(), strict=True)) == dict(
        zip(distinct.tolist(), counts.tolist(), strict=True)
    )
    assert np.array_equal(cells.codes.words[cells.cell_of, 0], numbers)


def test_codes_with_equal_hashes_are_different_cells(monkeypatch):
    """Every row gets the same hash, by the compiled function run as Python: only the codes tell cells apart."""
    bits = np.random.default_rng(0).random((50, 70)) < 0.02
    codes = pack(bits)
    monkeypatch.setattr(cells_module, "row_hash", lambda *_: np.uint64(12345 << 32))
    sizes, first, cell_of = (np.zeros(50, np.int64) for _ in range(3))
    slots = cells_module._slots(50)
    count = cells_module._insert.py_func(codes.words, slots, codes.words, first, sizes, 0, 0, False, cell_of)
    assert np.array_equal(cell_of, find_cells(codes).cell_of)
    assert count == len(np.unique(bits, axis=0))


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
    with pytest.raises(InputError, match="labels are float64"):
        cells.class_counts(np.array([0.0, 1.0]))
    with pytest.raises(InputError, match="labels go up to 8589934592"):
        cells.class_counts(np.array([0, 2**33]))
    assert cells.class_counts(np.array([0, 1], np.uint8)).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(InputError, match=r"lie in 0..3, but must lie in 0..2"):
        cells.class_counts(np.array([0, 3]), 3)
    with pytest.raises(InputError, match=r"lie in -1..1"):
        cells.class_counts(np.array([-1, 1]))
