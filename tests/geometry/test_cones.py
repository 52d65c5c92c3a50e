"""The nearest point of a cone against scipy's non-negative least squares and the conditions that single it out."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from nas_relucode.geometry.cones import cone_residual


@given(
    st.tuples(st.integers(0, 9), st.integers(1, 5)).flatmap(
        lambda s: arrays.arrays(int, s, elements=st.integers(-2, 2))
    ),
    st.data(),
)
def test_what_is_missing_is_at_right_angles_with_the_nearest_sum_and_acute_with_no_vector(vectors, data):
    target = data.draw(arrays.arrays(int, vectors.shape[1], elements=st.integers(-3, 3)))
    residual, is_exact = cone_residual(vectors, target)
    assert is_exact
    assert (vectors @ residual).max(initial=0) <= 1e-9
    assert abs((target - residual) @ residual) <= 1e-9
    length = nnls(vectors.T.astype(float), target.astype(float))[1] if len(vectors) else np.linalg.norm(target)
    assert np.linalg.norm(residual) == pytest.approx(length, abs=1e-9)


def test_residuals_are_exact_in_200_dimensions_inside_and_outside_the_cone():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 200)) + 0.2
    target = (rng.random(300) * (rng.random(300) < 0.3)) @ vectors
    residual, is_exact = cone_residual(vectors, target)
    assert is_exact
    assert np.linalg.norm(residual) < 1e-9 * np.linalg.norm(target)
    target = rng.standard_normal(200)
    residual, is_exact = cone_residual(vectors, target)
    assert is_exact
    assert np.linalg.norm(residual) == pytest.approx(nnls(vectors.T, target)[1], rel=1e-9)
    assert (vectors @ residual).max() < 1e-9
