"""Numbers compared 64 at a time against numpy's comparison and packbits."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode.codes.packing import pack_above

WIDTHS = [0, 1, 63, 64, 65, 127, 128, 200, 1000]


def with_width(dtype):
    numbers = st.floats(width=8 * np.dtype(dtype).itemsize, allow_nan=True, allow_infinity=True)
    shapes = st.tuples(st.integers(0, 5), st.sampled_from(WIDTHS))
    return arrays.arrays(dtype, shapes, elements=numbers, fill=st.sampled_from([0.0, -0.0, 1.0, -1.0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.data())
def test_words_hold_the_bits_of_numpys_comparison(dtype, data):
    values = data.draw(with_width(dtype))
    level = dtype(data.draw(st.sampled_from([0.0, -0.0, 1.0, -2.5])))
    room = np.full((len(values), -(-values.shape[1] // 64) + 2), 7, np.uint64)
    finite = pack_above(values, level, room[:, 1:-1])
    assert finite == np.isfinite(values).all()
    rows = np.packbits(values > level, axis=1, bitorder="little")
    expected = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)
    assert np.array_equal(room[:, 1:-1], expected)
    assert (room[:, [0, -1]] == 7).all()  # what stands beside them is left alone


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(0, 140, 7))
def test_one_number_that_is_not_finite_is_detected_in_every_place(dtype, bad, place):
    values = np.ones((2, 70), dtype)
    assert pack_above(values, dtype(0), np.zeros((2, 2), np.uint64))
    values.flat[place] = bad
    assert not pack_above(values, dtype(0), np.zeros((2, 2), np.uint64))
