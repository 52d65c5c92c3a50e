"""Sides and corners of cells in the plane against scipy's intersection of half-planes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import HalfspaceIntersection

from nas_relucode.geometry.polygons import find_sides


def one_cell(gradients, slacks, used=None):
    used = np.ones(len(slacks), bool) if used is None else used
    return find_sides(np.array([gradients], float), np.array([slacks], float), used[None], 1e-9)


@given(st.integers(3, 30), st.integers(0, 10**6))
def test_sides_and_corners_are_scipys(rows, seed):
    rng = np.random.default_rng(seed)
    gradients, slacks = rng.standard_normal((rows, 2)), rng.uniform(0.1, 2, rows)
    boxed = np.concatenate([gradients, np.eye(2), -np.eye(2)])  # as scipy needs a bounded cell
    slacks = np.concatenate([slacks, np.full(4, 5.0)])
    cell = one_cell(boxed, slacks)
    peer = HalfspaceIntersection(np.column_stack([-boxed, -slacks]), np.zeros(2))
    assert cell.bounded[0]
    assert set(cell.row) == set(peer.dual_vertices)
    corners = {tuple(np.round(corner, 8) + 0.0) for corner in cell.corner}
    assert corners == {tuple(np.round(corner, 8) + 0.0) for corner in peer.intersections}
    for row, point in zip(cell.row, cell.point, strict=True):
        left = boxed @ point + slacks
        assert abs(left[row]) < 1e-9
        assert (np.delete(left, row) > 0).all()
    x, y = cell.corner.T
    assert x @ np.roll(y, -1) - y @ np.roll(x, -1) > 0  # counterclockwise


def test_a_strip_a_wedge_and_a_half_plane_are_unbounded():
    strip, wedge, half = (
        one_cell([[1, 0], [-1, 0]], [1, 1]),
        one_cell([[1, 0], [0, 1]], [1, 1]),
        one_cell([[1, 2]], [1]),
    )
    assert [len(cell.row) for cell in (strip, wedge, half)] == [2, 2, 1]
    assert not any(cell.bounded[0] for cell in (strip, wedge, half))
    assert sorted(strip.point.tolist()) == [[-1, 0], [1, 0]]
    assert np.isnan(strip.corner).all()
    assert (~np.isnan(wedge.corner)).all(axis=1).sum() == 1


def test_no_rows_make_no_sides():
    cell = one_cell([[1, 0], [0, 1]], [1, 1], np.zeros(2, bool))
    assert len(cell.row) == 0
    assert not cell.bounded[0]


def test_equal_rows_make_one_side_and_a_row_that_touches_a_corner_none():
    square = [[1, 0], [2, 0], [-1, 0], [0, 1], [0, -1], [1, 1]]
    cell = one_cell(square, [1, 2, 1, 1, 1, 2])  # the first two are equal; the last touches the corner (-1, -1)
    assert sorted(cell.row) == [0, 2, 3, 4]
    assert sorted(map(tuple, np.round(cell.corner, 12))) == [(-1, -1), (-1, 1), (1, -1), (1, 1)]


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_does_not_matter(scale):
    rng = np.random.default_rng(0)
    gradients, slacks = rng.standard_normal((20, 2)), rng.uniform(0.1, 2, 20)
    assert np.array_equal(one_cell(gradients, slacks).row, one_cell(gradients / scale, slacks).row)
    assert one_cell(gradients / scale, slacks).corner == pytest.approx(one_cell(gradients, slacks).corner * scale)
