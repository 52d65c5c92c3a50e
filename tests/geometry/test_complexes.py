"""Whole complexes against the oracles, closed forms, Euler's formula, and a reference in integer arithmetic."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from cases import first_on_push
from hypothesis import given
from hypothesis import strategies as st
from perceptrons import degenerate, oracle, perceptron
from rational_complex import as_strings, rational_complex
from torch import nn

from nas_relucode import InputError, capture, complex_of, polyhedron
from nas_relucode.geometry import Plane, read_program
from nas_relucode.geometry.facet_search import FacetSearch


def pairs_of(cells, pairs):
    codes = as_strings(cells.codes)
    return {tuple(sorted((codes[a], codes[b]))) for a, b in pairs}


def check(weights, box=None):
    """Compares all that the reference knows."""
    expected = rational_complex(weights, box)
    cells = complex_of(perceptron(weights), weights[0][0].shape[1], box=box)
    codes = as_strings(cells.codes)
    assert cells.complete
    assert len(set(codes)) == len(codes)
    assert set(codes) == expected.codes
    assert pairs_of(cells, cells.facet_neighbours) == expected.neighbours
    assert pairs_of(cells, cells.adjacent_pairs) == expected.one_bit_apart
    assert pairs_of(cells, cells.phantom_pairs) == expected.one_bit_apart - expected.neighbours
    assert {code for code, bounded in zip(codes, cells.bounded, strict=True) if bounded} == expected.bounded
    facets = {code: len(expected.facets[code]) for code in codes}
    assert dict(zip(codes, cells.facet_counts.tolist(), strict=True)) == facets
    assert cells.walls == expected.walls
    return cells, expected


@pytest.mark.parametrize("name", ["A", "C", "P", "U"])
def test_complexes_of_the_oracles_have_the_known_counts(name):
    weights, truth = oracle(name)
    cells, known = complex_of(perceptron(weights), 2), truth["whole_space"]
    assert cells.summary() == {
        "cells": known["cells"],
        "bounded": known["bounded"],
        "facets": known["total_facets"],
        "facet_neighbours": known["adjacent_pairs"],
        "adjacent_pairs": known["hamming1_pairs"],
        "phantom_pairs": known["hamming1_not_adjacent"],
        "components": known["components_true"],
    }
    assert len(cells.corners) == known["vertices"]
    bits = cells.codes.bits()
    apart = (bits[cells.facet_neighbours[:, 0]] != bits[cells.facet_neighbours[:, 1]]).sum(axis=1)
    counts = {str(distance): int((apart == distance).sum()) for distance in np.unique(apart)}
    assert counts == known["hamming_of_adjacent_pairs"]


@pytest.mark.parametrize("name", ["A", "C", "P", "U"])
def test_the_oracles_in_a_box_have_the_known_counts(name):
    weights, truth = oracle(name)
    cells, known = complex_of(perceptron(weights), 2, box=(-1.0, 1.0)), truth["box_minus1_1"]
    assert len(cells) == known["cells"]
    assert len(cells.adjacent_pairs) == known["hamming1_pairs"]
    assert len(cells.facet_neighbours) == known["adjacent_pairs_inside_box"]


def test_cells_one_bit_apart_may_not_touch():
    weights = [(np.array([[1.0], [1.0]]), np.array([0.0, 10.0])), (np.array([[2.0, -1.0]]), np.array([9.0]))]
    cells, _ = check([*weights, (np.ones((1, 1)), np.zeros(1))])  # the counterexample of the README
    assert len(cells.phantom_pairs) == 1


@given(degenerate())
def test_degenerate_complexes_in_the_plane_are_those_of_the_reference(weights):
    cells, expected = check(weights)
    assert len(cells.corners) == len(expected.corners)


@given(degenerate(), st.sampled_from([(-1.0, 1.0), (-0.5, 2.5), (0.0, 3.0), (-4.0, -1.0)]))
def test_degenerate_complexes_in_a_box_are_those_of_the_reference(weights, box):
    cells, expected = check(weights, box)
    assert len(cells.corners) == len(expected.corners)
    corners, sides, faces = cells.f_vector
    assert corners - sides + faces == 1


@given(degenerate(features=1, most=5))
def test_degenerate_complexes_on_the_line_are_those_of_the_reference(weights):
    cells, _ = check(weights)
    borders, segments = cells.f_vector
    assert borders - segments == -1


@given(degenerate(features=3, most=3, layers=(1, 2)))
def test_degenerate_complexes_in_space_are_those_of_the_reference(weights):
    check(weights)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 1), (3, 2), (12, 2), (40, 2), (5, 3), (8, 3), (6, 4)])
def test_one_layer_in_general_position_has_the_cells_of_its_closed_form(n, d):
    rng = np.random.default_rng(n * 10 + d)
    weights = [(rng.standard_normal((n, d)), rng.standard_normal(n)), (np.ones((1, n)), np.zeros(1))]
    cells = complex_of(perceptron(weights), d)
    assert len(cells) == sum(math.comb(n, j) for j in range(d + 1))
    assert cells.bounded.sum() == math.comb(n - 1, d)
    assert len(cells.facet_neighbours) == n * sum(math.comb(n - 1, j) for j in range(d))
    assert len(cells.phantom_pairs) == 0


@given(st.integers(1, 3), st.integers(2, 6), st.integers(0, 10**6))
def test_random_complexes_obey_eulers_formula_and_have_each_facet_twice(layers, width, seed):
    rng = np.random.default_rng(seed)
    sizes = [2, *[width] * layers, 1]
    weights = [(rng.standard_normal((b, a)), rng.standard_normal(b)) for a, b in itertools.pairwise(sizes)]
    whole, boxed = (complex_of(perceptron(weights), 2, box=box) for box in (None, (-1.0, 1.0)))
    for cells in (whole, boxed):
        corners, sides, faces = cells.f_vector
        assert corners - sides + faces == 1
        assert cells.facet_counts.sum() == 2 * len(cells.facet_neighbours)  # each facet is seen from both sides
        assert cells.facet_counts.mean() <= 4  # 2 d
        assert cells.component_count == 1


def test_inner_points_have_the_codes_of_their_cells_and_lie_in_their_outlines():
    weights, _ = oracle("A")
    network = perceptron(weights)
    cells = complex_of(network, 2, box=(-1.0, 1.0))
    assert np.array_equal(cells.codes.bits(), capture(network, torch.as_tensor(cells.points)).bits())
    total = 0.0
    for point, outline in zip(cells.points, cells.outlines, strict=True):
        ahead = np.roll(outline, -1, axis=0) - outline
        towards = point - outline
        assert (ahead[:, 0] * towards[:, 1] - ahead[:, 1] * towards[:, 0] > 0).all()  # counterclockwise around it
        total += abs(np.linalg.det(np.stack([outline, np.roll(outline, -1, axis=0)], axis=1)).sum()) / 2
    assert total == pytest.approx(4.0)  # the outlines fill the box


@pytest.mark.parametrize("name", first_on_push("P", "A", "U"))
def test_the_codes_behind_the_facets_of_a_cell_are_those_of_its_neighbours(name):
    weights, _ = oracle(name)
    network = perceptron(weights)
    cells = complex_of(network, 2)
    program, codes = read_program(network, torch.zeros(1, 2)), cells.codes.bits()
    for number, point in enumerate(cells.points):
        cell = polyhedron(program, point)
        facets = cell.facets()
        behind = {tuple(code) for code in cell.neighbours(facets)}
        pairs = cells.facet_neighbours[(cells.facet_neighbours == number).any(axis=1)]
        assert behind == {tuple(codes[pairs.sum(axis=1) - number][k]) for k in range(len(pairs))}
        assert len(facets.rows) == cells.facet_counts[number]
        assert cell.bounded == cells.bounded[number]


@given(degenerate(), st.integers(0, 1000))
def test_the_codes_behind_the_facets_of_degenerate_cells_are_those_of_the_reference(weights, seed):
    expected = rational_complex(weights)
    names = sorted(expected.codes)
    name = names[seed % len(names)]
    cell = polyhedron(perceptron(weights), [float(x) for x in expected.points[name]])
    behind = {"".join(map(str, code.astype(int))) for code in cell.neighbours()}
    assert behind == {a if b == name else b for a, b in expected.neighbours if name in (a, b)}


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e3, 1e8])
def test_the_scale_of_the_inputs_does_not_matter(scale):
    weights, truth = oracle("A")
    cells = complex_of(perceptron([(weights[0][0] * scale, weights[0][1]), *weights[1:]]), 2)
    assert len(cells) == truth["whole_space"]["cells"]
    assert cells.facet_counts.sum() == truth["whole_space"]["total_facets"]
    assert len(cells.phantom_pairs) == truth["whole_space"]["hamming1_not_adjacent"]


@pytest.mark.parametrize("bias", [1.0, 1e-2, 1e-5])
def test_with_small_biases_eulers_formula_still_holds(bias):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        weights = [
            (rng.standard_normal((b, a)), bias * rng.standard_normal(b)) for a, b in itertools.pairwise((2, 8, 8, 1))
        ]
        corners, sides, cells = complex_of(perceptron(weights), 2).f_vector
        assert corners - sides + cells == 1


def test_a_small_neuron_of_the_first_layer_counts():
    weights = [(np.array([[1, 0], [0, 1e-12]]), np.array([0.3, 0.2e-12])), (np.ones((1, 2)), np.zeros(1))]
    assert len(complex_of(perceptron(weights), 2)) == 4


def test_parts_of_one_cell_with_pooling_are_no_phantom_pairs():
    torch.manual_seed(0)
    layers = [nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 6), nn.ReLU()]
    cells = complex_of(nn.Sequential(*layers, nn.Linear(6, 2)), 2)
    codes = np.unique(cells.codes.bits(), axis=0)
    assert len(codes) < len(cells)
    assert len(cells.adjacent_pairs) == ((codes[:, None] != codes).sum(axis=2) == 1).sum() / 2
    joined = {frozenset(map(tuple, cells.codes.bits()[pair])) for pair in cells.facet_neighbours}
    near = {frozenset(map(tuple, cells.codes.bits()[pair])) for pair in cells.adjacent_pairs}
    assert len(cells.phantom_pairs) == len(near - joined)


def test_a_plane_in_a_larger_space_has_the_cells_that_it_crosses():
    weights, truth = oracle("A")
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((5, 2)))[0].T
    origin = rng.standard_normal(5)
    first = weights[0][0] @ directions
    lifted = [(first, weights[0][1] - first @ origin), *weights[1:]]  # the same network in the plane's coordinates
    cells = complex_of(perceptron(lifted), 5, plane=Plane(origin, directions))
    assert len(cells) == truth["whole_space"]["cells"]
    assert len(cells.facet_neighbours) == truth["whole_space"]["adjacent_pairs"]


def test_pooling_and_residual_networks_fill_the_box():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.inner, self.norm = nn.Linear(2, 8), nn.BatchNorm1d(8)
            self.norm.running_mean.normal_(), self.norm.running_var.uniform_(0.5, 2)
            self.outer = nn.Linear(10, 6)

        def forward(self, x):
            y = nn.functional.leaky_relu(self.norm(self.inner(x)), 0.2).reshape(-1, 1, 2, 4)
            y = torch.cat([nn.functional.max_pool2d(y, 2).flatten(1), x, y.flatten(1)[:, :6]], dim=1)
            return self.outer(torch.relu(y)).relu()

    cells = complex_of(Odd().eval(), 2, box=(-2.0, 2.0))
    corners, sides, faces = cells.f_vector
    assert corners - sides + faces == 1
    assert len(np.unique(cells.codes.words, axis=0)) < faces  # pooling cuts cells of one code


def test_a_search_up_to_max_cells_can_be_continued(tmp_path):
    weights, truth = oracle("A")
    network, file = perceptron(weights), tmp_path / "state.npz"
    known = []
    for cap in (30, 200, None):
        cells = complex_of(network, 2, max_cells=cap, state=file)
        known.append(len(cells))
        assert cells.complete == (cap is None)
    assert 30 < known[0] < 200 < known[1] < known[2] == truth["whole_space"]["cells"]
    assert cells.summary() == complex_of(network, 2).summary()
    assert complex_of(network, 2, max_cells=known[2]).complete


def test_an_interrupted_search_can_be_continued(tmp_path):
    weights, _ = oracle("A")
    file = tmp_path / "state.npz"

    def stop(done, known):
        if done > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complex_of(perceptron(weights), 2, state=file, progress=stop)
    assert complex_of(perceptron(weights), 2, state=file).summary() == complex_of(perceptron(weights), 2).summary()


@pytest.mark.parametrize("calls", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_search_interrupted_within_a_batch_continues_correctly(calls, tmp_path, monkeypatch):
    weights, _ = oracle("A")
    network, file = perceptron(weights), tmp_path / "state.npz"
    expected = complex_of(network, 2).summary()
    monkeypatch.setattr("nas_relucode.geometry.complexes.AT_ONCE", 20)
    for place in ("facets_of", "across", "settled", "add", "ends_of"):
        file.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(FacetSearch, place, stopping(getattr(FacetSearch, place), calls))
            with pytest.raises(KeyboardInterrupt):
                complex_of(network, 2, state=file)
        assert complex_of(network, 2, state=file).summary() == expected


def stopping(method, calls):
    count = 0

    def stopped(*arguments):
        nonlocal count
        count += 1
        result = method(*arguments)
        if count > calls:
            raise KeyboardInterrupt
        return result

    return stopped


def test_the_state_tells_networks_apart_that_differ_far_from_all_points(tmp_path):
    def network(k):
        last = (np.ones((1, 1)), np.zeros(1))
        return perceptron([(np.eye(2), np.full(2, -10.0)), (np.array([[k, 1.0]]), np.array([-1.0])), last])

    complex_of(network(1.0), 2, state=tmp_path / "state.npz")
    with pytest.raises(InputError, match="another network"):
        complex_of(network(-1.0), 2, state=tmp_path / "state.npz")


def test_the_state_of_another_network_or_a_damaged_one_is_refused(tmp_path):
    (a, _), (c, _) = oracle("A"), oracle("C")
    file = tmp_path / "state.npz"
    complex_of(perceptron(a), 2, max_cells=20, state=file)
    with pytest.raises(InputError, match="another network"):
        complex_of(perceptron(c), 2, state=file)
    with pytest.raises(InputError, match="another network"):
        complex_of(perceptron(a), 2, state=file, box=(-1.0, 1.0))
    file.write_bytes(file.read_bytes()[:-200])
    before = file.read_bytes()
    with pytest.raises(InputError, match="damaged"):
        complex_of(perceptron(a), 2, state=file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": (1.0, -1.0)}, "two finite numbers, low < high"),
        ({"box": (0.0, math.inf)}, "two finite numbers, low < high"),
        ({"max_cells": 0}, "max_cells 0"),
        ({"start": [0.0]}, "shape"),
        ({"start": [0.0, 0.0]}, "border"),
    ],
)
def test_bad_arguments_are_errors(options, message):
    weights = [(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]
    with pytest.raises(InputError, match=message):
        complex_of(perceptron(weights), 2, **options)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (6, 1), (1, 3), *first_on_push((4, 3), (2, 3), (7, 3), (5, 4))])
def test_an_arrangement_in_general_position_has_the_faces_of_its_closed_form(n, d):
    rng = np.random.default_rng(n * 10 + d)
    weights = [(rng.standard_normal((n, d)), rng.standard_normal(n)), (np.ones((1, n)), np.zeros(1))]
    faces = [math.comb(n, d - k) * sum(math.comb(n - d + k, j) for j in range(k + 1)) if n >= d - k else 0
             for k in range(d + 1)]  # fmt: skip
    assert complex_of(perceptron(weights), d).f_vector == tuple(faces)


@given(degenerate(features=3, most=3, layers=(1, 2)), st.sampled_from([None, (-1.0, 1.0), (-0.5, 2.0)]))
def test_the_faces_of_degenerate_complexes_in_space_are_those_of_the_reference_and_obey_eulers_formula(weights, box):
    expected = rational_complex(weights, box)
    corners, edges, sides, cells = complex_of(perceptron(weights), 3, box=box).f_vector
    assert corners == len(expected.corners)
    assert sides == len(expected.neighbours) + expected.walls
    assert corners - edges + sides - cells == (-1 if box is None else 1)


def test_faces_of_an_incomplete_complex_or_with_pooling_in_space_are_errors():
    weights, _ = oracle("A")
    with pytest.raises(InputError, match="not all cells"):
        complex_of(perceptron(weights), 2, max_cells=20).f_vector  # noqa: B018
    torch.manual_seed(0)
    pooled = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Unflatten(1, (1, 2, 2)), nn.MaxPool2d(2))
    with pytest.raises(InputError, match="pooling"):
        complex_of(pooled, 3).f_vector  # noqa: B018


def test_the_faces_of_a_pickled_complex_are_counted():
    tiles = complex_of(perceptron([(np.eye(3), np.zeros(3)), (np.ones((1, 3)), np.zeros(1))]), 3)
    again = pickle.loads(pickle.dumps(tiles))
    assert np.array_equal(again.codes.words, tiles.codes.words)
    assert again.f_vector == tiles.f_vector
