"""Facets against exact rational arithmetic, scipy's half-space intersection, and bodies whose facets are known."""

import os
import subprocess
import sys

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from rational_half_spaces import facets as exact_facets
from scipy.spatial import HalfspaceIntersection
from scipy.stats import ortho_group

from nas_relucode import InputError
from nas_relucode.errors import SolverError
from nas_relucode.geometry import facets as facets_module
from nas_relucode.geometry.facets import find_facets


@st.composite
def small_half_spaces(draw):
    """Small whole numbers, so that rows coincide, are opposite, parallel, zero, or meet in one point."""
    features = draw(st.integers(1, 3))
    count = draw(st.integers(1, 9))
    weight = draw(arrays.arrays(np.int64, (count, features), elements=st.integers(-2, 2)))
    inside = draw(arrays.arrays(np.int64, features, elements=st.integers(-3, 3)))
    if draw(st.booleans()):  # a cone: all borders go through 0
        weight[weight @ inside < 0] *= -1
        weight[weight @ inside == 0] = 0
        return weight, np.zeros(count, np.int64), inside
    slack = draw(arrays.arrays(np.int64, count, elements=st.integers(1, 3)))
    return weight, slack - weight @ inside, inside


def check_points(weight, bias, facets, least=0.0):
    """A facet's point lies on the rows of the facet, and clearly inside all others."""
    for facet, (row, point) in enumerate(zip(facets.rows, facets.points, strict=True)):
        assert facets.facet_of[row] == facet
        values = weight @ point + bias
        size = 1e-9 * (1 + np.abs(weight).max() * np.abs(point).max())
        on = facets.facet_of == facet
        assert np.abs(values[on]).max() <= size
        zero = ~weight.any(axis=1)
        assert (values[~on & ~zero] > least).all()


def groups(facets):
    return [np.flatnonzero(facets.facet_of == facet).tolist() for facet in range(len(facets))]


@given(small_half_spaces())
@example((np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 1, 0]]), np.zeros(4, int), np.array([1, 1, 0])))
@example((np.array([[1, 0], [-1, 0]]), np.array([1, 1]), np.array([0, 0])))
@example((np.array([[0, 0]]), np.array([1]), np.array([0, 0])))
@example((np.array([[-2, 2, 0], [2, 2, 2], [2, 2, 2], [2, 2, 2]]), np.array([1, 3, 2, 2]), np.array([0, 0, 0])))
def test_facets_are_those_of_exact_arithmetic(drawn):
    weight, bias, inside = drawn
    facets = find_facets(weight, bias, inside)
    rows = [(*map(int, w), int(b)) for w, b in zip(weight, bias, strict=True)]
    assert groups(facets) == exact_facets(rows)
    assert facets.rows.tolist() == [group[0] for group in groups(facets)]
    check_points(weight, bias, facets)


@given(small_half_spaces(), st.integers(0, 2**32 - 1))
def test_facets_depend_neither_on_coordinates_nor_on_the_length_of_rows(drawn, seed):
    weight, bias, inside = drawn
    expected = find_facets(weight, bias, inside)
    rng = np.random.default_rng(seed)
    features = weight.shape[1]
    change = rng.standard_normal((features, features)) + 3 * np.eye(features)
    assume(abs(np.linalg.det(change)) > 0.1)
    origin, lengths = rng.standard_normal(features), 10.0 ** rng.integers(-4, 5, len(weight))
    moved = (lengths[:, None] * weight) @ change  # x = change @ y + origin
    facets = find_facets(moved, lengths * (bias + weight @ origin), np.linalg.solve(change, inside - origin))
    assert groups(facets) == groups(expected)


@pytest.mark.parametrize(("features", "count"), [(2, 10), (2, 60), (3, 40), (4, 40), (5, 40), (6, 30)])
def test_facets_in_general_position_are_those_of_scipys_half_space_intersection(features, count):
    rng = np.random.default_rng(features)
    weight, slack, inside = rng.standard_normal((count, features)), rng.random(count) + 0.05, rng.random(features)
    bias = slack - weight @ inside
    facets = find_facets(weight, bias, inside)
    peer = HalfspaceIntersection(np.column_stack([-weight, -bias]), inside)
    assert facets.rows.tolist() == sorted(peer.dual_vertices)
    check_points(weight, bias, facets, least=1e-6)


def cube(features, rng):
    turned = ortho_group.rvs(features, random_state=rng)
    return np.vstack([turned, -turned]), np.ones(2 * features)


@pytest.mark.parametrize("features", [8, 40, 256])
def test_the_facets_of_a_turned_cube_are_its_sides_despite_redundant_rows(features):
    rng = np.random.default_rng(0)
    weight, bias = cube(features, rng)
    # Combinations of all sides and of a few, by a positive distance and by none.
    few = rng.random((20, len(bias))) * (rng.random((20, len(bias))) < 3 / len(bias))
    mixed = np.vstack([rng.random((20, len(bias))), few])
    slack = np.where(np.arange(40) % 2, 0.5, 0.0)
    order = rng.permutation(len(bias) + 40)
    weight, bias = np.vstack([weight, mixed @ weight])[order], np.concatenate([bias, mixed @ bias + slack])[order]
    expected = np.sort(np.flatnonzero(order < 2 * features))
    inside = rng.uniform(-0.9, 0.9, features) / np.sqrt(features)
    copies = [row for row in np.flatnonzero(order >= 2 * features) if (mixed[order[row] - 2 * features] > 0).sum() < 2]
    facets = find_facets(weight, bias, inside)
    assert set(facets.rows) - set(copies) <= set(expected.tolist())
    assert len(facets) == 2 * features
    assert (facets.facet_of[expected] >= 0).all()
    check_points(weight, bias, facets)


def test_a_row_that_touches_a_corner_is_redundant():
    for features in (2, 3, 7, 30, 100):
        weight = np.vstack([np.eye(features), -np.eye(features), -np.ones((1, features)), -np.ones((1, features))])
        bias = np.concatenate([np.ones(2 * features), [features, features - 0.01]])
        facets = find_facets(weight, bias, np.zeros(features))
        assert facets.rows.tolist() == [*range(2 * features), 2 * features + 1]
        without = find_facets(weight[:-1], bias[:-1], np.zeros(features))
        assert without.rows.tolist() == list(range(2 * features))


def test_a_simplex_and_a_cross_polytope_have_all_their_facets():
    rng = np.random.default_rng(0)
    corners = rng.standard_normal((101, 100))
    gradients = np.linalg.inv(np.column_stack([corners, np.ones(101)])).T  # barycentric coordinates, one a corner
    facets = find_facets(gradients[:, :-1], gradients[:, -1], corners.mean(axis=0))
    assert facets.rows.tolist() == list(range(101))
    signs = np.array(np.meshgrid(*[[1, -1]] * 9)).reshape(9, -1).T
    facets = find_facets(np.vstack([signs, np.eye(9)]), np.ones(521), np.full(9, 0.03))  # the rows of eye touch corners
    assert facets.rows.tolist() == list(range(512))


@pytest.mark.parametrize("features", [3, 6, 50])
def test_a_cone_has_the_facets_of_its_section(features):
    """Zero biases: all rows meet at 0, the redundant ones too."""
    rng = np.random.default_rng(0)
    weight, bias = cube(features - 1, rng)
    cone = np.column_stack([weight, bias])
    mixed = rng.random((10, len(cone))) @ cone
    lengths = 10.0 ** rng.integers(-3, 4, len(cone) + 10)
    cone = lengths[:, None] * np.vstack([mixed, cone])
    facets = find_facets(cone, np.zeros(len(cone)), np.eye(features)[-1] * 7)
    assert facets.rows.tolist() == list(range(10, len(cone)))
    check_points(cone, np.zeros(len(cone)), facets)


def test_rows_that_span_a_part_of_the_space_have_their_facets_there():
    rng = np.random.default_rng(0)
    weight, bias = cube(30, rng)
    weight = weight @ rng.standard_normal((30, 300))
    inside = rng.standard_normal(300)
    bias = bias - weight @ inside
    facets = find_facets(weight, bias, inside)
    assert facets.rows.tolist() == list(range(60))
    check_points(weight, bias, facets, least=1e-4)


@pytest.mark.parametrize("near", [1e-3, 1e-6, 1e-9])
def test_from_a_point_near_a_corner_the_far_facets_are_found_too(near):
    for features in (2, 5, 40):
        weight = np.vstack([np.eye(features), -np.eye(features)])
        bias = np.concatenate([np.zeros(features), np.ones(features)])
        facets = find_facets(weight, bias, np.full(features, near), tolerance=1e-12)
        assert facets.rows.tolist() == list(range(2 * features))
        check_points(weight, bias, facets)


def test_rows_within_the_tolerance_are_equal():
    weight = np.array([[1.0, 0.0], [1.0, 1e-6], [0.0, 1.0], [-1.0, -1.0]])
    bias = np.array([0.0, 0.0, 0.0, 1.0])
    inside = [0.3, 0.3]
    assert find_facets(weight, bias, inside, tolerance=1e-4).facet_of.tolist() == [0, 0, 1, 2]
    # Both rows go through the corner 0: the first is the tighter one inside the cell.
    assert find_facets(weight, bias, inside).facet_of.tolist() == [0, -1, 1, 2]


def test_threads_do_not_change_the_facets(monkeypatch):
    monkeypatch.setattr(facets_module, "WORTH_A_THREAD", 1)
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((120, 20)), rng.random(120)
    one, three = (find_facets(weight, bias, np.zeros(20), threads=threads) for threads in (1, 3))
    for name in ("rows", "facet_of", "points"):
        assert np.array_equal(getattr(one, name), getattr(three, name))


def test_rows_multiplied_in_parts_have_the_same_facets(monkeypatch):
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((100, 5)), rng.random(100)
    whole = find_facets(weight, bias, np.zeros(5))
    monkeypatch.setattr(facets_module, "AT_ONCE", 7)
    parts = find_facets(weight, bias, np.zeros(5))
    assert np.array_equal(whole.rows, parts.rows)
    assert np.allclose(whole.points, parts.points)


@given(small_half_spaces())
def test_where_the_projection_fails_a_linear_programme_decides(drawn):
    weight, bias, inside = drawn
    expected = find_facets(weight, bias, inside)

    def undecided(columns, lengths, least, part, *_):
        return np.full(len(part), facets_module.UNDECIDED)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facets_module, "locate_columns", undecided)
        patch.setattr(facets_module, "CLEAR", 1.0)  # no row is a facet at first sight
        facets = find_facets(weight, bias, inside)
    assert groups(facets) == groups(expected)
    check_points(weight, bias, facets)


def test_a_wrong_answer_of_the_linear_programme_is_an_error(monkeypatch):
    monkeypatch.setattr(facets_module, "CLEAR", 1.0)
    monkeypatch.setattr(facets_module, "locate_columns", lambda *a: np.full(len(a[3]), facets_module.UNDECIDED))
    monkeypatch.setattr(facets_module, "linear_programme", lambda cost, units, *_, **__: -units.sum(axis=0))
    with pytest.raises(SolverError, match="violates other rows"):
        find_facets([[1, 0], [1, 1], [0, 1]], [1, 1, 1], [0, 0])


def test_bad_half_spaces_are_errors():
    with pytest.raises(InputError, match=r"row 1 is -1 at the inner point"):
        find_facets([[1], [-1]], [1, -1], [0])
    with pytest.raises(InputError, match=r"weight has shape \(2,\)"):
        find_facets([1, -1], [1, 1], [0])
    with pytest.raises(InputError, match=r"bias \(3,\)"):
        find_facets([[1], [-1]], [1, 1, 1], [0])
    with pytest.raises(InputError, match=r"inside has shape \(2,\)"):
        find_facets([[1], [-1]], [1, 1], [0, 0])
    with pytest.raises(InputError, match="not finite"):
        find_facets([[np.nan], [-1]], [1, 1], [0])


@pytest.mark.slow
def test_the_search_leaves_torch_its_number_of_threads():
    """Asking numba for its number of threads would set OpenMP's, which torch shares, to the number of cores."""
    code = """
import numpy as np, torch
from nas_relucode.geometry.facets import find_facets
rows = np.random.default_rng(0).normal(size=(400, 6))
find_facets(rows, np.ones(400), np.zeros(6))
print(torch.get_num_threads())
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["1"]
