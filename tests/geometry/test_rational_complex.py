"""The exact reference against known counts, closed forms, brute force and linear programmes."""

import hashlib
import itertools
from collections import Counter
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from drawn_networks import code_of, exact_values, networks
from hypothesis import given
from hypothesis import strategies as st
from perceptrons import oracle
from rational_complex import rational_complex
from scipy.optimize import linprog


def one_layer(weight, bias):
    return [(np.array(weight, float), np.array(bias, float)), (np.ones((1, len(bias))), np.zeros(1))]


def apart(pair):
    return sum(one != other for one, other in zip(*pair, strict=True))


def digest(codes):
    return hashlib.sha256("\n".join(sorted(codes)).encode()).hexdigest()


@pytest.mark.parametrize("name", "PUCA")
def test_the_whole_space_has_the_cells_that_are_known(name):
    weights, truth = oracle(name)
    known, found = truth["whole_space"], rational_complex(weights)
    assert digest(found.codes) == known["cell_codes_sha256"]
    assert len(found.codes) == known["cells"]
    assert len(found.neighbours) == known["adjacent_pairs"]
    assert len(found.one_bit_apart) == known["hamming1_pairs"]
    assert len(found.one_bit_apart - found.neighbours) == known["hamming1_not_adjacent"]
    assert len(found.bounded) == known["bounded"]
    assert sum(map(len, found.facets.values())) == known["total_facets"]
    assert len(found.corners) == known["vertices"]
    distances = Counter(map(apart, found.neighbours))
    assert distances == {int(distance): pairs for distance, pairs in known["hamming_of_adjacent_pairs"].items()}
    for point in (point for point in truth["points"] if "code" in point):
        assert found.facets[point["code"]] == {frozenset([neuron]) for neuron in point["facets"]}
        assert (point["code"] in found.bounded) == point["bounded"]


@pytest.mark.parametrize("name", "PUCA")
def test_the_box_has_the_cells_that_are_known(name):
    weights, truth = oracle(name)
    known, found = truth["box_minus1_1"], rational_complex(weights, (-1, 1))
    assert digest(found.codes) == known["cell_codes_sha256"]
    assert len(found.codes) == known["cells"] == len(found.bounded)
    assert len(found.neighbours) == known["adjacent_pairs_inside_box"]
    assert len(found.one_bit_apart) == known["hamming1_pairs"]


@pytest.mark.parametrize(("features", "neurons"), [(1, 1), (1, 9), (2, 1), (2, 2), (2, 12), (3, 3), (3, 8)])
def test_one_layer_in_general_position_has_the_cells_of_the_closed_forms(features, neurons):
    random = np.random.default_rng(features + neurons)
    found = rational_complex(
        one_layer(random.integers(-999, 999, (neurons, features)), random.integers(-999, 999, neurons))
    )
    assert len(found.codes) == sum(comb(neurons, k) for k in range(features + 1))
    assert len(found.bounded) == comb(neurons - 1, features)
    assert len(found.neighbours) == neurons * sum(comb(neurons - 1, k) for k in range(features))
    assert sum(map(len, found.facets.values())) == 2 * len(found.neighbours)
    assert found.one_bit_apart == found.neighbours
    assert len(found.corners) == (comb(neurons, features) if neurons >= features else 0)


@pytest.mark.parametrize(("features", "neurons", "cells", "pairs"), [(2, 7, 14, 14), (3, 6, 32, 60)])
def test_hyperplanes_through_0_cut_space_into_cones(features, neurons, cells, pairs):
    """n planes through 0 cut it into 2 (1 + (n-1) + C(n-1,2)) cones; each is cut by the others into 2 (n-1) parts."""
    weight = np.random.default_rng(neurons).integers(-99, 99, (neurons, features))
    found = rational_complex(one_layer(weight, np.zeros(neurons)))
    assert (len(found.codes), len(found.neighbours), len(found.bounded)) == (cells, pairs, 0)
    assert found.corners == {(0,) * features}


def test_codes_one_bit_apart_may_lie_apart():
    """relu(2 relu(x) - relu(x + 10) + 9) on a line: -2 has code 011, 2 has 111, and -1..1 lies between."""
    hidden = (np.array([[1.0], [1.0]]), np.array([0.0, 10.0]))
    found = rational_complex([hidden, (np.array([[2.0, -1.0]]), np.array([9.0])), (np.ones((1, 1)), np.zeros(1))])
    line = ["001", "011", "010", "110", "111"]  # turns at -10, -1, 0 and 1
    assert found.codes == set(line)
    assert found.neighbours == {tuple(sorted(pair)) for pair in itertools.pairwise(line)}
    assert found.one_bit_apart - found.neighbours == {("011", "111")}
    assert found.corners == {(-10,), (-1,), (0,), (1,)}
    assert found.bounded == {"011", "010", "110"}


def test_rows_that_coincide_make_one_facet():
    found = rational_complex(one_layer([[1, 0], [2, 0], [-1, 0], [0, 0], [0, 0]], [1, 2, -1, 0, 1]))
    assert found.facets == {"11001": {frozenset([0, 1, 2])}, "00101": {frozenset([0, 1, 2])}}
    assert found.neighbours == {("00101", "11001")}
    assert found.one_bit_apart == set()


def test_a_neuron_that_is_0_on_a_cell_has_bit_0_and_no_facet():
    first, second = one_layer([[1, 0]], [0])[0], (np.array([[1.0], [-1.0]]), np.zeros(2))
    found = rational_complex([first, second, (np.ones((1, 2)), np.zeros(1))])
    assert found.facets == {"000": {frozenset([0])}, "110": {frozenset([0, 1, 2])}}


def test_a_row_on_a_wall_of_the_box_is_no_facet():
    found = rational_complex(one_layer([[1, 0], [0, 1]], [-1, 0]), (-1, 1))
    assert found.facets == {"00": {frozenset([1])}, "01": {frozenset([1])}}
    assert found.walls == 6


def test_cells_may_be_halves_and_strips_of_space():
    found = rational_complex(one_layer([[1, 1, 0], [1, 1, 0]], [0, -1]))
    assert {code: len(facets) for code, facets in found.facets.items()} == {"00": 1, "10": 2, "11": 1}
    assert found.neighbours == {("00", "10"), ("10", "11")}
    assert (found.bounded, found.corners) == (set(), set())


@given(networks(2))
def test_a_square_cut_into_cells_has_one_more_face_than_its_sides_exceed_its_corners(weights):
    found = rational_complex(weights, (-2, 2))
    assert len(found.corners) - (len(found.neighbours) + found.walls) + len(found.codes) == 1


@given(networks())
def test_the_complex_is_in_one_piece_and_each_facet_is_seen_from_both_sides(weights):
    found = rational_complex(weights)
    assert sum(map(len, found.facets.values())) == 2 * len(found.neighbours)
    pieces = {code: code for code in found.codes}
    for one, other in found.neighbours:
        old, new = pieces[one], pieces[other]
        pieces = {code: new if piece == old else piece for code, piece in pieces.items()}
    assert len(set(pieces.values())) == 1


@given(networks(), st.randoms(use_true_random=False))
def test_every_point_off_the_borders_lies_in_a_cell(weights, random):
    found = rational_complex(weights)
    for code, point in found.points.items():
        assert code_of(exact_values(weights, point)) == code
    for _ in range(20):
        values = exact_values(weights, [Fraction(random.randint(-99, 99), 10) for _ in weights[0][0][0]])
        assert 0 in values or code_of(values) in found.codes


@given(networks(1, most=6))
def test_the_cells_of_a_line_follow_each_other(weights):
    """Brute force: where any neuron may turn under any code, and the codes halfway between these places."""
    turns = {Fraction(0)}
    neurons = [(row, bias) for weight, biases in weights[:-1] for row, bias in zip(weight, biases, strict=True)]
    for code in itertools.product((0, 1), repeat=len(neurons)):
        slopes, offsets, left = [Fraction(1)], [Fraction(0)], list(code)
        for weight, bias in weights[:-1]:
            exact = [[Fraction(w) for w in row] for row in weight.tolist()]
            slopes, offsets = (
                [sum(w * x for w, x in zip(row, column, strict=True)) + at for row, at in zip(exact, add, strict=True)]
                for column, add in ((slopes, [Fraction(0)] * len(bias)), (offsets, map(Fraction, bias.tolist())))
            )
            turns |= {-offset / slope for slope, offset in zip(slopes, offsets, strict=True) if slope}
            bits, left = left[: len(bias)], left[len(bias) :]
            slopes, offsets = ([bit * x for bit, x in zip(bits, column, strict=True)] for column in (slopes, offsets))
    places = sorted(turns)
    middles = [places[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(places)), places[-1] + 1]
    line = [code for code, _ in itertools.groupby(code_of(exact_values(weights, [place])) for place in middles)]
    found = rational_complex(weights)
    assert found.codes == set(line)
    assert found.neighbours == {tuple(sorted(pair)) for pair in itertools.pairwise(line)}
    assert found.bounded == set(line[1:-1])


@given(networks((2, 3), most=7), st.randoms(use_true_random=False))
def test_cells_that_follow_each_other_on_a_line_through_space_are_neighbours(weights, random):
    """A line in no special direction leaves a cell through a facet and no smaller face."""
    (weight, bias), *rest = weights
    start, direction = np.array([[random.randint(-(2**20), 2**20) / 2**18 for _ in weight[0]] for _ in range(2)])
    line = rational_complex([((weight @ direction)[:, None], weight @ start + bias), *rest])
    found = rational_complex(weights)
    assert line.codes <= found.codes
    assert line.neighbours <= found.neighbours


def rows_of(weights, code):
    """The half-spaces of a code, in floats: weight and bias of each neuron."""
    weight, bias, found = np.eye(len(weights[0][0][0])), np.zeros(len(weights[0][0][0])), []
    for layer, offset in weights[:-1]:
        weight, bias = layer @ weight, layer @ bias + offset
        bits = np.array([int(bit) for bit in code[: len(bias)]])
        found += [np.column_stack([weight, bias]) * (2 * bits - 1)[:, None]]
        weight, bias, code = bits[:, None] * weight, bits * bias, code[len(bias) :]
    return np.concatenate(found)


def room(rows, on=None):
    """How far within all rows a point can be, at most 1, on the hyperplane ``on`` if given."""
    norms = np.linalg.norm(rows[:, :-1], axis=1)
    flat = norms == 0
    if (rows[flat, -1] < 0).any():
        return -1.0
    rows, norms = rows[~flat], norms[~flat]
    result = linprog(
        np.append(np.zeros(rows.shape[1] - 1), -1),
        A_ub=np.column_stack([-rows[:, :-1], norms]),
        b_ub=rows[:, -1],
        A_eq=None if on is None else np.append(on[:-1], 0)[None],
        b_eq=None if on is None else [-on[-1]],
        bounds=[(None, None)] * (rows.shape[1] - 1) + [(-1, 1)],
    )
    return result.x[-1] if result.status == 0 else -1.0


def share_a_facet(one, other):
    """Whether a row of one, which the other has too, has a point well within all rows on other hyperplanes."""
    both = np.concatenate([one, other])
    both = both[both[:, :-1].any(axis=1)]
    for row in one[one[:, :-1].any(axis=1)]:
        elsewhere = np.array([np.linalg.matrix_rank([row, each]) == 2 for each in both])
        is_shared = any(each[:-1].any() and np.linalg.matrix_rank([row, each]) == 1 for each in other)
        if is_shared and room(both[elsewhere], on=row) > 1e-7:
            return True
    return False


@given(networks((2, 3), most=5, largest=2))
def test_linear_programmes_find_the_same_cells_and_neighbours(weights):
    """Each code has room or has not; the numbers are small, so that room is far above rounding."""
    neurons = sum(len(bias) for _, bias in weights[:-1])
    found = rational_complex(weights)
    cells = {}
    for bits in itertools.product("01", repeat=neurons):
        rows = rows_of(weights, bits)
        zero = ~rows.any(axis=1)
        if room(rows) > 1e-7 and not any(bits[at] == "1" for at in np.flatnonzero(zero)):
            cells["".join(bits)] = rows
    assert set(cells) == found.codes
    pairs = itertools.combinations(sorted(cells), 2)
    assert {pair for pair in pairs if share_a_facet(*map(cells.get, pair))} == found.neighbours
