"""Coordinates of half-spaces against the properties that define them."""

import numpy as np
import pytest

from nas_relucode.geometry.half_spaces import nonzero, row_space, whitened


@pytest.mark.parametrize(("rows", "features", "rank"), [(3, 10, 3), (10, 10, 4), (20, 5, 5), (20, 5, 2), (0, 3, 0)])
def test_the_row_space_holds_the_rows_and_no_more(rows, features, rank):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, features))
    weight *= 10.0 ** rng.integers(-6, 7, rows)[:, None]
    basis = row_space(weight)
    assert basis.shape == (features, rank)
    assert np.allclose(basis.T @ basis, np.eye(rank))
    assert np.allclose(weight @ basis @ basis.T, weight, rtol=1e-9, atol=0)


def test_a_row_that_rounding_made_is_a_row_of_zeros():
    assert nonzero(np.array([[1e-20, 0], [1.0, 1.0], [0, 0], [1e-6, 0]])).tolist() == [1, 3]
    assert nonzero(np.zeros((2, 3))).tolist() == []


@pytest.mark.parametrize("spread", [0, 4, 9])
def test_whitened_rows_have_squares_that_add_up_to_the_identity_and_each_is_exact_to_its_own_length(spread):
    rng = np.random.default_rng(0)
    lengths = 10.0 ** rng.uniform(-spread, spread, 30)
    rows = lengths[:, None] * rng.standard_normal((30, 6))
    white, back = whitened(rows)
    assert np.allclose(white.T @ white, np.eye(6))
    again = white @ np.linalg.inv(back)
    assert (np.linalg.norm(again - rows, axis=1) <= 1e-8 * np.linalg.norm(rows, axis=1)).all()
