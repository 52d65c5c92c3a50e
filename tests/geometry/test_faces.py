"""Faces of complexes in space: closed forms of arrangements, Euler, and the corners of the reference in integers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from perceptrons import degenerate, oracle, perceptron
from rational_complex import rational_complex
from torch import nn

from nas_relucode import InputError, complex_of


@pytest.mark.parametrize(("n", "d"), [(1, 1), (6, 1), (1, 3), (2, 3), (4, 3), (7, 3), (5, 4)])
def test_an_arrangement_in_general_position_has_the_faces_of_its_closed_form(n, d):
    rng = np.random.default_rng(n * 10 + d)
    weights = [(rng.standard_normal((n, d)), rng.standard_normal(n)), (np.ones((1, n)), np.zeros(1))]
    faces = [math.comb(n, d - k) * sum(math.comb(n - d + k, j) for j in range(k + 1)) if n >= d - k else 0
             for k in range(d + 1)]  # fmt: skip
    assert complex_of(perceptron(weights), d).f_vector == tuple(faces)


@given(degenerate(features=3, most=3, layers=(1, 2)), st.sampled_from([None, (-1.0, 1.0), (-0.5, 2.0)]))
def test_degenerate_complexes_in_space_have_the_corners_of_the_reference_and_obey_euler(weights, box):
    expected = rational_complex(weights, box)
    found = complex_of(perceptron(weights), 3, box=box)
    corners, edges, sides, cells = found.f_vector
    assert corners == len(expected.corners)
    assert sides == len(expected.neighbours) + expected.walls
    assert corners - edges + sides - cells == (-1 if box is None else 1)


def test_what_is_not_known_is_not_counted():
    weights, _ = oracle("A")
    with pytest.raises(InputError, match="not all cells"):
        complex_of(perceptron(weights), 2, max_cells=20).f_vector  # noqa: B018
    torch.manual_seed(0)
    pooled = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Unflatten(1, (1, 2, 2)), nn.MaxPool2d(2))
    with pytest.raises(InputError, match="pooling"):
        complex_of(pooled, 3).f_vector  # noqa: B018
