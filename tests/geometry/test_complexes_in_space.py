"""Whole complexes in two to six dimensions: random networks against an enumeration, none of which may fail."""

import itertools

import numpy as np
import pytest
from enumerated_cells import enumerated_cells
from perceptrons import perceptron
from rational_complex import as_strings
from scipy.optimize import linprog

from nas_relucode import complex_of
from nas_relucode.geometry import cell_facets
from nas_relucode.geometry.cell_facets import facets_of_cells
from nas_relucode.geometry.centres import centre
from nas_relucode.geometry.facets import find_facets
from nas_relucode.geometry.half_spaces import chebyshev, is_bounded

WIDEST = {2: 16, 3: 11, 4: 8, 5: 7, 6: 6}  # by dimension


def random_weights(seed, widest=WIDEST, dimension=None):
    """One to three hidden layers of at least three neurons, normal or He's weights."""
    rng = np.random.default_rng(seed)
    dimension = dimension or int(rng.integers(2, 7))
    widths = rng.integers(3, widest[dimension] + 1, int(rng.integers(1, 4)))
    sizes = [(a, b) for a, b in itertools.pairwise([dimension, *widths, 1])]
    scales = [1.0 if seed % 2 else np.sqrt(2 / a) for a, _ in sizes]
    return [
        (scale * rng.standard_normal((b, a)), (1 if seed % 2 else 0.5) * rng.standard_normal(b))
        for scale, (a, b) in zip(scales, sizes, strict=True)
    ]


def check_cells(weights):
    cells = complex_of(perceptron(weights))
    codes = as_strings(cells.codes)
    assert len(set(codes)) == len(codes)
    assert set(codes) == enumerated_cells(weights)


@pytest.mark.parametrize("dimension", [3, 4, 5])
def test_cells_in_space_are_those_of_an_enumeration(dimension):
    check_cells(random_weights(dimension, dict.fromkeys(WIDEST, 3), dimension))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_cells_of_random_networks_are_those_of_an_enumeration(seed):
    check_cells(random_weights(100 + seed, {2: 10, 3: 7, 4: 6, 5: 5, 6: 5}, 2 + seed % 5))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_no_complex_of_five_hundred_random_networks_fails(part):
    for seed in range(50 * part, 50 * part + 50):
        cells = complex_of(perceptron(random_weights(1000 + seed)))  # which raises if facets and pairs do not match
        assert cells.complete
        assert cells.component_count == 1


def random_cell(rng, k, rows, *, whole=False):
    """Half-spaces around 0: gradients (1, rows, k) and slacks (1, rows); with ``whole``, small whole numbers."""
    if whole:
        return rng.integers(-2, 3, (1, rows, k)).astype(float), rng.integers(1, 3, (1, rows)).astype(float)
    return rng.standard_normal((1, rows, k)), rng.uniform(0.1, 2, (1, rows))


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_centred_point_is_not_much_nearer_to_a_border_than_the_centre_of_the_largest_ball(k):
    rng = np.random.default_rng(k)
    for _ in range(20):
        gradients, slacks = random_cell(rng, k, 4 * k)
        away = rng.standard_normal(k)  # the start is close to the border in this direction
        slope = (gradients[0] @ away).clip(max=0)
        step = (1 - 1e-7) * np.min(-slacks[0][slope < 0] / slope[slope < 0], initial=100)
        points = step * away[None]
        near = slacks + step * gradients @ away
        assert centre(points, gradients, near, np.ones_like(slacks, bool), 1e3).all()
        normals, sizes = gradients[0], np.linalg.norm(gradients[0], axis=1)
        radius = min(chebyshev(normals, slacks[0])[1], 1.0)
        assert ((slacks[0] + normals @ points[0]) / sizes).min() > radius / (2 * 4 * k)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_row_is_a_facet_if_it_can_be_negative_where_no_other_is(k, monkeypatch):
    monkeypatch.setattr(cell_facets, "find_facets", None)  # no generic cell is left to it
    rng = np.random.default_rng(k)
    for _ in range(10):
        gradients, slacks = random_cell(rng, k, 3 * k + 2)
        _, rows, points, bounded = facets_of_cells(gradients, slacks, np.ones_like(slacks, bool), 1e-9)
        weight, bias = gradients[0], slacks[0]
        for row in range(len(bias)):
            room = bias + (np.arange(len(bias)) == row)
            least = linprog(weight[row], A_ub=-weight, b_ub=room, bounds=(None, None)).fun + bias[row]
            assert (least < -1e-7) == (row in rows)
        values = points @ weight.T + bias
        own = np.arange(len(rows)), rows
        assert np.abs(values[own]).max(initial=0) < 1e-9
        values[own] = 1
        assert (values > 0).all()
        assert bounded[0] == is_bounded(weight)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_facets_of_degenerate_cells_are_those_of_the_search_in_one_cell(k):
    rng = np.random.default_rng(k)
    for count in range(100):
        gradients, slacks = random_cell(rng, k, 1 + count % 12, whole=True)
        used = gradients.any(axis=2)
        _, rows, _, bounded = facets_of_cells(gradients, slacks, used, 1e-9)
        kept = np.flatnonzero(used[0])
        expected = find_facets(gradients[0, kept], slacks[0, kept], np.zeros(k))
        assert sorted(rows) == kept[expected.rows].tolist()
        assert bounded[0] == is_bounded(gradients[0])
