"""The exact reference against known counts, closed forms, brute force and linear programmes."""

import hashlib
import itertools
from collections import Counter
from fractions import Fraction
from math import comb, lcm

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from perceptrons import degenerate, oracle
from rational_complex import all_cells, code_of, exact_values, rational_complex
from scipy.optimize import linprog

coordinates = st.integers(-(2**20), 2**20)  # in units of 2**-18, so that all products are exact in floats


def networks(*features, **sizes):
    return st.sampled_from(features).flatmap(lambda count: degenerate(features=count, **sizes))


def one_layer(weight, bias):
    return [(np.array(weight, float), np.array(bias, float)), (np.ones((1, len(bias))), np.zeros(1))]


def apart(pair):
    return sum(one != other for one, other in zip(*pair, strict=True))


def digest(codes):
    return hashlib.sha256("\n".join(sorted(codes)).encode()).hexdigest()


@pytest.mark.parametrize("name", "PUCA")
def test_the_whole_space_has_the_known_cells(name):
    weights, truth = oracle(name)
    known, reference = truth["whole_space"], rational_complex(weights)
    assert digest(reference.codes) == known["cell_codes_sha256"]
    assert len(reference.codes) == known["cells"]
    assert len(reference.neighbours) == known["adjacent_pairs"]
    assert len(reference.one_bit_apart) == known["hamming1_pairs"]
    assert len(reference.one_bit_apart - reference.neighbours) == known["hamming1_not_adjacent"]
    assert len(reference.bounded) == known["bounded"]
    assert sum(map(len, reference.facets.values())) == known["total_facets"]
    assert len(reference.corners) == known["vertices"]
    distances = Counter(map(apart, reference.neighbours))
    assert distances == {int(distance): pairs for distance, pairs in known["hamming_of_adjacent_pairs"].items()}
    for point in (point for point in truth["points"] if "code" in point):
        assert reference.facets[point["code"]] == {frozenset([neuron]) for neuron in point["facets"]}
        assert (point["code"] in reference.bounded) == point["bounded"]


@pytest.mark.parametrize("name", "PUCA")
def test_the_box_has_the_known_cells(name):
    weights, truth = oracle(name)
    known, reference = truth["box_minus1_1"], rational_complex(weights, (-1, 1))
    assert digest(reference.codes) == known["cell_codes_sha256"]
    assert len(reference.codes) == known["cells"] == len(reference.bounded)
    assert len(reference.neighbours) == known["adjacent_pairs_inside_box"]
    assert len(reference.one_bit_apart) == known["hamming1_pairs"]


@pytest.mark.parametrize(("features", "neurons"), [(1, 1), (1, 9), (2, 1), (2, 2), (2, 12), (3, 3), (3, 8)])
def test_one_layer_in_general_position_has_the_cells_of_the_closed_forms(features, neurons):
    random = np.random.default_rng(features + neurons)
    reference = rational_complex(
        one_layer(random.integers(-999, 999, (neurons, features)), random.integers(-999, 999, neurons))
    )
    assert len(reference.codes) == sum(comb(neurons, k) for k in range(features + 1))
    assert len(reference.bounded) == comb(neurons - 1, features)
    assert len(reference.neighbours) == neurons * sum(comb(neurons - 1, k) for k in range(features))
    assert sum(map(len, reference.facets.values())) == 2 * len(reference.neighbours)
    assert reference.one_bit_apart == reference.neighbours
    assert len(reference.corners) == (comb(neurons, features) if neurons >= features else 0)


@pytest.mark.parametrize(("features", "neurons", "cells", "pairs"), [(2, 7, 14, 14), (3, 6, 32, 60)])
def test_hyperplanes_through_0_cut_space_into_cones(features, neurons, cells, pairs):
    """n planes through 0 cut it into 2 (1 + (n-1) + C(n-1,2)) cones; each is cut by the others into 2 (n-1) parts."""
    weight = np.random.default_rng(neurons).integers(-99, 99, (neurons, features))
    reference = rational_complex(one_layer(weight, np.zeros(neurons)))
    assert (len(reference.codes), len(reference.neighbours), len(reference.bounded)) == (cells, pairs, 0)
    assert reference.corners == {(0,) * features}


def test_codes_one_bit_apart_may_lie_apart():
    """relu(2 relu(x) - relu(x + 10) + 9) on a line: -2 has code 011, 2 has 111, and -1..1 lies between."""
    hidden = (np.array([[1.0], [1.0]]), np.array([0.0, 10.0]))
    reference = rational_complex([hidden, (np.array([[2.0, -1.0]]), np.array([9.0])), (np.ones((1, 1)), np.zeros(1))])
    line = ["001", "011", "010", "110", "111"]  # turns at -10, -1, 0 and 1
    assert reference.codes == set(line)
    assert reference.neighbours == {tuple(sorted(pair)) for pair in itertools.pairwise(line)}
    assert reference.one_bit_apart - reference.neighbours == {("011", "111")}
    assert reference.corners == {(-10,), (-1,), (0,), (1,)}
    assert reference.bounded == {"011", "010", "110"}


def test_coinciding_rows_make_one_facet():
    reference = rational_complex(one_layer([[1, 0], [2, 0], [-1, 0], [0, 0], [0, 0]], [1, 2, -1, 0, 1]))
    assert reference.facets == {"11001": {frozenset([0, 1, 2])}, "00101": {frozenset([0, 1, 2])}}
    assert reference.neighbours == {("00101", "11001")}
    assert reference.one_bit_apart == set()


def test_a_neuron_that_is_0_on_a_cell_has_bit_0_and_no_facet():
    first, second = one_layer([[1, 0]], [0])[0], (np.array([[1.0], [-1.0]]), np.zeros(2))
    reference = rational_complex([first, second, (np.ones((1, 2)), np.zeros(1))])
    assert reference.facets == {"000": {frozenset([0])}, "110": {frozenset([0, 1, 2])}}


def test_a_row_on_a_wall_of_the_box_is_no_facet():
    reference = rational_complex(one_layer([[1, 0], [0, 1]], [-1, 0]), (-1, 1))
    assert reference.facets == {"00": {frozenset([1])}, "01": {frozenset([1])}}
    assert reference.walls == 6


def test_half_spaces_and_slabs_have_no_corners():
    reference = rational_complex(one_layer([[1, 1, 0], [1, 1, 0]], [0, -1]))
    assert {code: len(facets) for code, facets in reference.facets.items()} == {"00": 1, "10": 2, "11": 1}
    assert reference.neighbours == {("00", "10"), ("10", "11")}
    assert (reference.bounded, reference.corners) == (set(), set())


@given(networks(2))
def test_cells_in_a_square_obey_eulers_formula(weights):
    reference = rational_complex(weights, (-2, 2))
    assert len(reference.corners) - (len(reference.neighbours) + reference.walls) + len(reference.codes) == 1


@given(networks(1, 2, 3, most=3))
def test_the_complex_is_connected_and_each_facet_belongs_to_two_cells(weights):
    reference = rational_complex(weights)
    assert sum(map(len, reference.facets.values())) == 2 * len(reference.neighbours)
    pieces = {code: code for code in reference.codes}
    for one, other in reference.neighbours:
        old, new = pieces[one], pieces[other]
        pieces = {code: new if piece == old else piece for code, piece in pieces.items()}
    assert len(set(pieces.values())) == 1


@given(networks(1, 2, 3, most=3), st.randoms(use_true_random=False))
def test_every_point_off_the_borders_lies_in_a_cell(weights, random):
    reference = rational_complex(weights)
    for code, point in reference.points.items():
        assert code_of(exact_values(weights, point)) == code
    for _ in range(20):
        values = exact_values(weights, [Fraction(random.randint(-99, 99), 10) for _ in weights[0][0][0]])
        assert 0 in values or code_of(values) in reference.codes


@given(networks(1, most=2))
def test_the_cells_of_a_line_are_those_of_brute_force(weights):
    """Brute force: the zeros of every neuron under every code, and the codes halfway between these zeros."""
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
    reference = rational_complex(weights)
    assert reference.codes == set(line)
    assert reference.neighbours == {tuple(sorted(pair)) for pair in itertools.pairwise(line)}
    assert reference.bounded == set(line[1:-1])


@given(networks(2, 3, most=3), st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=3))
@example([(np.array([[0, 0, 1], [0, 1, 1]]), np.zeros(2)), (np.zeros((1, 2)), np.zeros(1))], [(0, 0), (0, 0), (0, 1)])
def test_a_line_goes_from_cell_to_neighbour_where_it_crosses_the_border_of_two_cells_only(weights, line):
    """A point of two closed cells only is inside a facet. In the example the line meets four cells in one point."""
    (weight, bias), *rest = weights
    start, direction = np.array(line[: len(weight[0])]).T / 2**18
    on_line = rational_complex([((weight @ direction)[:, None], weight @ start + bias), *rest])
    reference, cones = rational_complex(weights), all_cells(weights).values()

    def closed_cells(place):
        point = [Fraction(at) + place * Fraction(step) for at, step in zip(start, direction, strict=True)]
        factor = lcm(*(number.denominator for number in point))
        return sum(cone.holds([(factor, *(int(factor * number) for number in point))]) for cone in cones)

    places = sorted((place, code) for code, (place,) in on_line.points.items())
    assert {code for place, code in places if closed_cells(place) == 1} <= reference.codes
    pairs = [tuple(sorted((one, other))) for (_, one), (_, other) in itertools.pairwise(places)]
    borders = [place for (place,) in sorted(on_line.corners)]
    assert {
        pair for pair, place in zip(pairs, borders, strict=True) if closed_cells(place) == 2
    } <= reference.neighbours


def rows_of(weights, code):
    """The half-spaces of a code, in floats: weight and bias of each neuron."""
    weight, bias, rows = np.eye(len(weights[0][0][0])), np.zeros(len(weights[0][0][0])), []
    for layer, offset in weights[:-1]:
        weight, bias = layer @ weight, layer @ bias + offset
        bits = np.array([int(bit) for bit in code[: len(bias)]])
        rows += [np.column_stack([weight, bias]) * (2 * bits - 1)[:, None]]
        weight, bias, code = bits[:, None] * weight, bits * bias, code[len(bias) :]
    return np.concatenate(rows)


def room(rows, on=None):
    """The largest distance, up to 1, of a point to all borders; with ``on``, of a point on that hyperplane."""
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
    """Whether on a hyperplane of both cells there is a point well inside all their other half-spaces."""
    both = np.concatenate([one, other])
    both = both[both[:, :-1].any(axis=1)]
    for row in one[one[:, :-1].any(axis=1)]:
        elsewhere = np.array([np.linalg.matrix_rank([row, each]) == 2 for each in both])
        is_shared = any(each[:-1].any() and np.linalg.matrix_rank([row, each]) == 1 for each in other)
        if is_shared and room(both[elsewhere], on=row) > 1e-7:
            return True
    return False


@given(networks(2, 3, most=2, layers=(1, 2)))
def test_linear_programmes_find_the_same_cells_and_neighbours(weights):
    """The numbers are small, so that the room in a cell is far above rounding."""
    neurons = sum(len(bias) for _, bias in weights[:-1])
    reference = rational_complex(weights)
    cells = {}
    for bits in itertools.product("01", repeat=neurons):
        rows = rows_of(weights, bits)
        zero = ~rows.any(axis=1)
        if room(rows) > 1e-7 and not any(bits[at] == "1" for at in np.flatnonzero(zero)):
            cells["".join(bits)] = rows
    assert set(cells) == reference.codes
    pairs = itertools.combinations(sorted(cells), 2)
    assert {pair for pair in pairs if share_a_facet(*map(cells.get, pair))} == reference.neighbours
