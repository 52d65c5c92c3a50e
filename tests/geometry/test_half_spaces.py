"""Half-spaces against formulas for simplices, cubes and cross-polytopes, and against exact rational arithmetic."""

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rational_half_spaces import bounded, feasible
from scipy.optimize import OptimizeResult
from scipy.stats import ortho_group

from nas_relucode import InputError
from nas_relucode.errors import SolverError
from nas_relucode.geometry import half_spaces
from nas_relucode.geometry.half_spaces import (
    chebyshev,
    is_bounded,
    nonzero,
    random_inside,
    recession_direction,
    row_space,
    vertices,
    volume,
    whitened,
)


def simplex(features, rng):
    """Corners, and barycentric coordinates as half-spaces: row i is 0 on all corners but i."""
    corners = rng.standard_normal((features + 1, features))
    inverse = np.linalg.inv(np.column_stack([corners, np.ones(features + 1)])).T
    return corners, inverse[:, :-1], inverse[:, -1]


def cube(features):
    return np.vstack([np.eye(features), -np.eye(features)]), np.ones(2 * features)


def cross_polytope(features):
    signs = np.array(np.meshgrid(*[[1.0, -1.0]] * features)).reshape(features, -1).T
    return signs, np.ones(len(signs))


NORMALS = st.integers(1, 3).flatmap(
    lambda features: arrays.arrays(
        np.int64, st.tuples(st.integers(1, 7), st.just(features)), elements=st.integers(-2, 2)
    )
)


@pytest.mark.parametrize("features", [1, 2, 3, 10, 60])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_inradius_of_a_simplex_follows_from_its_heights(features, size):
    corners, weight, bias = simplex(features, np.random.default_rng(features))
    centre, radius = chebyshev(weight / size, bias)
    slopes = np.linalg.norm(weight / size, axis=1)  # 1 / height
    assert radius == pytest.approx(1 / slopes.sum(), rel=1e-9)
    assert np.allclose(centre, size * (slopes / slopes.sum()) @ corners, rtol=1e-7, atol=1e-9 * size)


def test_the_inradius_of_a_cube_of_a_strip_and_of_rows_that_span_a_part_of_the_space():
    weight, bias = cube(5)
    turned = ortho_group.rvs(5, random_state=0)
    assert chebyshev(weight @ turned, bias)[1] == pytest.approx(1)
    assert chebyshev(weight[[0, 5]], np.array([0.0, 3.0])) == (pytest.approx([1.5, 0, 0, 0, 0]), pytest.approx(1.5))
    wide = np.random.default_rng(0).standard_normal((5, 300))
    centre, radius = chebyshev(weight @ wide, bias)
    values = weight @ wide @ centre + bias
    assert (values / np.linalg.norm(weight @ wide, axis=1)).min() == pytest.approx(radius, rel=1e-9)


def test_balls_of_any_size_fit_into_a_cone_and_the_centre_lies_deep_inside():
    weight, bias = np.array([[1.0, 0.0], [-1.0, 1e-3]]), np.array([0.0, -5.0])
    centre, radius = chebyshev(weight, bias)
    assert radius == math.inf
    assert (weight @ centre + bias >= 4.99 * np.linalg.norm(weight, axis=1)).all()
    assert chebyshev(np.zeros((2, 3)), [0.0, 1.0])[1] == math.inf


def test_the_radius_is_zero_without_an_interior_and_the_centre_nan_if_the_cell_is_empty():
    flat = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    centre, radius = chebyshev(flat, [-1, 1, 0, 1])
    assert radius == 0
    assert centre[0] == pytest.approx(1)
    centre, radius = chebyshev(flat, [-1, 1 - 1e-3, 0, 1])
    assert radius == 0
    assert np.isnan(centre).all()
    centre, radius = chebyshev(np.zeros((1, 2)), [-1.0])
    assert radius == 0
    assert np.isnan(centre).all()
    assert chebyshev(np.array([[1.0], [-1.0]]), [0.0, 1e-3])[1] == pytest.approx(5e-4)
    assert chebyshev(np.array([[1.0], [-1.0]]), [0.0, 1e-3], tolerance=1.0)[1] == 0


@given(NORMALS, st.data())
def test_the_radius_is_positive_exactly_if_there_is_an_interior(weight, data):
    bias = data.draw(arrays.arrays(np.int64, len(weight), elements=st.integers(-2, 2)))
    rows = [(*map(int, w), int(b)) for w, b in zip(weight, bias, strict=True) if w.any()]
    assume(not any(b < 0 for w, b in zip(weight, bias, strict=True) if not w.any()))
    centre, radius = chebyshev(weight, bias)
    assert (radius > 0) == feasible(rows)
    assert np.isfinite(centre).all() == feasible([], rows)
    if np.isfinite(centre).all():
        distance = (weight @ centre + bias)[weight.any(axis=1)] / np.linalg.norm(weight[weight.any(axis=1)], axis=1)
        assert distance.min(initial=np.inf) >= min(radius, 1e-9) - 1e-8


@given(NORMALS)
def test_a_cell_is_bounded_exactly_if_it_has_no_recession_direction(weight):
    expected = bounded([tuple(map(int, row)) for row in weight])
    assert is_bounded(weight) == expected
    direction = recession_direction(weight)
    assert (direction is None) == expected
    if direction is not None:
        assert np.linalg.norm(direction) == pytest.approx(1)
        slopes = weight @ direction
        assert slopes.min() > -1e-9
        some = [sum(int(row[i]) for row in weight) for i in range(weight.shape[1])]
        rows = [(*map(int, row), 0) for row in weight]
        assert (slopes.max() > 1e-9) == feasible([(*some, 0)], rows)


def test_along_the_recession_direction_the_sum_of_distances_grows_fastest():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 4)) + 1
    direction = recession_direction(weight)
    units = weight / np.linalg.norm(weight, axis=1)[:, None]
    tried = rng.standard_normal((200_000, 4))
    tried = tried[(tried @ weight.T >= 0).all(axis=1)]
    tried /= np.linalg.norm(tried, axis=1)[:, None]
    best = (tried @ units.T).sum(axis=1).max()
    assert best <= (units @ direction).sum() <= 1.05 * best


def test_a_long_thin_simplex_is_bounded_and_a_thin_cone_is_not():
    for thin in (1e-3, 1e-6):
        weight = np.array([[0.0, 1.0], [thin, -1.0], [-1.0, 0.0]])
        assert is_bounded(weight)
        assert not is_bounded(weight[:2])
        assert not is_bounded(np.vstack([weight[:2], [[1.0, 0.0]]]))
    rng = np.random.default_rng(0)
    _, weight, _ = simplex(60, rng)
    assert is_bounded(weight)
    for row in (0, 30):
        direction = recession_direction(np.delete(weight, row, axis=0))
        assert (np.delete(weight, row, axis=0) @ direction).min() > -1e-9
    assert not is_bounded(weight @ rng.standard_normal((60, 61)))
    direction = recession_direction(weight @ rng.standard_normal((60, 61)))
    assert direction is not None


def test_where_the_projection_fails_a_linear_programme_finds_the_direction(monkeypatch):
    monkeypatch.setattr(half_spaces, "cone_residual", lambda vectors, target: (target, False))
    assert is_bounded([[1, 0], [0, 1], [-1, -1]])
    assert recession_direction([[1, 0], [0, 1], [-1, 0]]) == pytest.approx([0, 1])
    assert chebyshev([[1, 0], [0, 1], [-3, -4]], [0, 0, 12])[1] == pytest.approx(1)


@pytest.mark.parametrize("features", [1, 2, 3, 5, 8])
def test_the_vertices_of_a_simplex_are_its_corners_and_its_volume_a_determinant(features):
    corners, weight, bias = simplex(features, np.random.default_rng(features))
    computed = vertices(weight, bias, corners.mean(axis=0))
    order = np.argmax(computed @ weight.T + bias, axis=1)
    assert sorted(order) == list(range(features + 1))
    assert np.allclose(computed, corners[order], atol=1e-9)
    expected = abs(np.linalg.det(corners[1:] - corners[0])) / math.factorial(features)
    assert volume(weight, bias, corners.mean(axis=0)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("features", [2, 3, 4, 6])
def test_many_rows_may_meet_in_one_vertex(features):
    weight, bias = cross_polytope(features)
    change = np.random.default_rng(0).standard_normal((features, features))
    weight = np.vstack([weight @ change, weight[:3] @ change, np.eye(features)[0] @ change])  # doubled, and touching
    bias = np.append(bias, [1, 1, 1, 1])
    corners = vertices(weight, bias, np.full(features, 1e-3)) @ change.T
    assert len(corners) == 2 * features
    assert np.allclose(np.abs(corners).max(axis=1), 1)
    assert np.allclose(np.abs(corners).sum(axis=1), 1)
    expected = 2**features / math.factorial(features) / abs(np.linalg.det(change))
    assert volume(weight, bias, np.full(features, 1e-3)) == pytest.approx(expected)


def test_an_unbounded_cell_has_vertices_too():
    assert vertices(np.eye(3), [-1, -2, -3], [5, 5, 5]) == pytest.approx(np.array([[1, 2, 3]]))
    assert volume(np.eye(3), [-1, -2, -3], [5, 5, 5]) == math.inf
    assert vertices([[1.0, 0.0], [-1.0, 0.0]], [1, 1], [0, 0]).shape == (0, 2)
    assert volume([[1.0, 0.0], [-1.0, 0.0]], [1, 1], [0, 0]) == math.inf
    assert vertices([[2.0]], [-1], [3]) == pytest.approx(np.array([[0.5]]))
    assert volume([[2.0], [-1.0]], [-1, 2], [1]) == pytest.approx(1.5)
    half_strip = vertices([[1, 0], [-1, 0], [0, 1]], [0, 1, 0], [0.5, 7])
    assert sorted(half_strip.round(9).tolist()) == [[0, 0], [1, 0]]


def test_random_points_fill_a_triangle_evenly_and_a_long_box_too():
    weight, bias = np.array([[1, 0], [0, 1], [-1, -1]]), np.array([0, 0, 1])
    points = random_inside(weight, bias, [0.01, 0.9], 4000, seed=0)
    assert (points @ weight.T + bias > 0).all()
    assert np.allclose(points.mean(axis=0), 1 / 3, atol=0.02)
    assert np.allclose(points.var(axis=0), 1 / 18, atol=0.005)
    weight, bias = cube(6)
    weight = weight / 10.0 ** np.arange(6)  # sides up to 100,000 times as long
    points = random_inside(np.vstack([weight, weight]), np.append(bias, bias), np.full(6, 0.99), 3000, seed=1)
    points = points / 10.0 ** np.arange(6)
    assert (np.abs(points) < 1).all()
    assert np.allclose(points.mean(axis=0), 0, atol=0.06)
    assert np.allclose(points.var(axis=0), 1 / 3, atol=0.05)


def test_random_points_of_an_unbounded_cell_stay_in_a_ball_and_in_the_span_of_its_rows():
    weight = np.hstack([np.eye(3), np.zeros((3, 2))]) @ ortho_group.rvs(5, random_state=0)
    inside = weight.sum(axis=0)  # at the distance 1 from all rows
    points = random_inside(weight, np.zeros(3), inside, 500, seed=0)
    assert (points @ weight.T > 0).all()
    distances = np.linalg.norm(points - inside, axis=1)
    assert 8 < distances.max() <= 10
    assert np.allclose(points - inside, (points - inside) @ np.linalg.pinv(weight) @ weight)
    strip = random_inside([[1.0, 0.0], [-1.0, 0.0]], [1, 1], [0.5, 3], 50, seed=0)
    assert (strip[:, 1] == 3).all()
    assert np.ptp(strip[:, 0]) > 1


def test_the_same_seed_draws_the_same_points_of_a_cell_with_many_dimensions():
    _, weight, bias = simplex(40, np.random.default_rng(0))
    inside, _ = chebyshev(weight, bias)
    first, again, other = (random_inside(weight, bias, inside, 20, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first @ weight.T + bias > 0).all()
    assert random_inside(weight, bias, inside, 0, seed=0).shape == (0, 40)


def test_bad_arguments_are_errors():
    with pytest.raises(InputError, match=r"9 features are too many.*facets"):
        vertices(np.eye(9), np.ones(9), np.zeros(9))
    with pytest.raises(InputError, match="9 features are too many"):
        volume(np.eye(9), np.ones(9), np.zeros(9))
    with pytest.raises(InputError, match="row 0 is -1 at the inner point"):
        random_inside([[1.0]], [0.0], [-1.0], 5, seed=0)
    with pytest.raises(InputError, match="count -1"):
        random_inside([[1.0]], [0.0], [1.0], -1, seed=0)
    with pytest.raises(InputError, match="all rows are zero"):
        random_inside([[0.0]], [1.0], [1.0], 1, seed=0)
    with pytest.raises(InputError, match="weight has shape"):
        chebyshev([1.0], [1.0])
    with pytest.raises(InputError, match="weight has shape"):
        is_bounded(np.ones(3))
    with pytest.raises(InputError, match="not finite"):
        chebyshev([[math.nan]], [1.0])


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "its limit of steps"), (2, "infeasible"), (3, "unbounded"), (4, "numerical difficulties"), (7, "status 7")],
)
def test_without_an_optimum_the_error_names_the_status(monkeypatch, status, words):
    tried = []

    def linprog(*_, method, **__):
        tried.append(method)
        return OptimizeResult(status=status, message="the message", x=None)

    monkeypatch.setattr(half_spaces, "linprog", linprog)
    with pytest.raises(SolverError, match=f"{words}: the message"):
        chebyshev([[1.0], [-1.0]], [0.0, 1.0])
    assert tried == ["highs-ds", "highs-ipm"]


def test_where_one_algorithm_of_highs_fails_the_other_is_used(monkeypatch):
    real = half_spaces.linprog

    def linprog(*arguments, method, **options):
        if method == "highs-ds":
            return OptimizeResult(status=4, message="no", x=None)
        return real(*arguments, method=method, **options)

    monkeypatch.setattr(half_spaces, "linprog", linprog)
    assert chebyshev([[1.0], [-1.0]], [0.0, 1.0])[1] == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(("rows", "features", "rank"), [(3, 10, 3), (10, 10, 4), (20, 5, 5), (20, 5, 2), (0, 3, 0)])
def test_the_row_space_is_spanned_by_the_rows(rows, features, rank):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, features))
    weight *= 10.0 ** rng.integers(-6, 7, rows)[:, None]
    basis = row_space(weight)
    assert basis.shape == (features, rank)
    assert np.allclose(basis.T @ basis, np.eye(rank))
    assert np.allclose(weight @ basis @ basis.T, weight, rtol=1e-9, atol=0)


def test_a_row_of_rounding_errors_counts_as_a_row_of_zeros():
    assert nonzero(np.array([[1e-20, 0], [1.0, 1.0], [0, 0], [1e-6, 0]])).tolist() == [1, 3]
    assert nonzero(np.zeros((2, 3))).tolist() == []


@pytest.mark.parametrize("spread", [0, 4, 9])
def test_whitened_rows_have_the_identity_as_gram_matrix_and_are_exact_relative_to_their_lengths(spread):
    rng = np.random.default_rng(0)
    lengths = 10.0 ** rng.uniform(-spread, spread, 30)
    rows = lengths[:, None] * rng.standard_normal((30, 6))
    white, back = whitened(rows)
    assert np.allclose(white.T @ white, np.eye(6))
    again = white @ np.linalg.inv(back)
    assert (np.linalg.norm(again - rows, axis=1) <= 1e-8 * np.linalg.norm(rows, axis=1)).all()
