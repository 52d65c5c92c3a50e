"""Polyhedra against autograd, captured codes, pooling by hand, known shapes and exact arithmetic."""

import itertools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from linear_pieces import Function, in_float64, jacobians, odd_statistics, points_of
from perceptrons import oracle, perceptron
from pooled_networks import POOL, Residual, mlp, pool_places, winners, with_weights
from rational_half_spaces import facets as exact_facets
from torch import nn

from nas_relucode import InputError, build_network, capture, margins
from nas_relucode.geometry.polyhedra import Polyhedron, polyhedron
from nas_relucode.geometry.program import read_program


def expected_rows(network, image):
    """Weight and bias by autograd, bend by bend."""
    inputs = network.bend_inputs(image)
    weights, values = [], []
    for at, x in enumerate(inputs[:-1]):
        slope = jacobians(lambda y, at=at: network.bend_inputs(y)[at], image)[0]
        if at == POOL:
            places, winner = pool_places(), winners(network, image)[0]
            for channel, window, place in np.ndindex(3, 9, 9):
                lead, other = (channel * 36 + int(places[window, p]) for p in (winner[channel, window], place))
                inside = places[window, place] >= 0
                weights.append((slope[lead] - slope[other] if inside else 0 * slope[0])[None])
                values.append((x.flatten()[lead] - x.flatten()[other] if inside else torch.zeros(())).reshape(1))
        else:
            sign = torch.where(x > 0, 1.0, -1.0).flatten()
            weights.append(sign[:, None] * slope)
            values.append(sign * x.flatten())
    weight, values = torch.cat(weights).numpy(), torch.cat(values).numpy()
    return weight, values - weight @ image.flatten().numpy()


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(0)
    return in_float64(Residual())


def test_rows_are_those_of_autograd_with_the_signs_of_the_code(residual):
    for image in points_of(2, 6, 6, count=2):
        cell = polyhedron(residual, image[None])
        weight, bias = expected_rows(residual, image[None])
        assert cell.weight == pytest.approx(weight, abs=1e-9)
        assert cell.bias == pytest.approx(bias, abs=1e-9)
        assert cell.slack == pytest.approx(cell.weight @ image.flatten().numpy() + cell.bias, abs=1e-12)
        assert (cell.slack >= 0).all()


def test_each_row_names_its_layer_and_neuron(residual):
    cell = polyhedron(residual, points_of(2, 6, 6, count=1))
    sizes = [3 * 36, 3 * 9 * 9, 3 * 9, 3 * 9, 8]
    assert cell.program.layers == [
        "relu",
        "the network itself (max_pool2d_with_indices)",
        "leaky_relu",
        "relu#2",
        "relu#3",
    ]
    assert cell.layer_of.tolist() == np.repeat(range(5), sizes).tolist()
    places = [1, 9, 1, 1, 1]
    assert cell.neuron_of.tolist() == [k // p for size, p in zip(sizes, places, strict=True) for k in range(size)]
    assert cell.is_bit.tolist() == np.repeat([True, False, True, True, True], sizes).tolist()
    assert cell.rows == sum(sizes) == len(cell.closed)


def nearby(point, count, seed=0):
    """Points around one, from very near to far off."""
    steps = points_of(*point.shape, count=count, seed=seed)
    return point + steps * torch.logspace(-4, 0.3, count, dtype=torch.float64).reshape(-1, *[1] * point.ndim)


def test_points_lie_in_the_cell_where_codes_and_winners_are_equal(residual):
    for image in points_of(2, 6, 6, count=3, seed=5):
        images = torch.cat([image[None], nearby(image, 400), points_of(2, 6, 6, count=100)])
        cell = polyhedron(residual, image[None])
        codes, winner = capture(residual, images).bits(), winners(residual, images)
        assert np.array_equal(cell.code, codes[0])
        same = (codes == codes[0]).all(axis=1) & (winner == winner[0]).flatten(1).all(1).numpy()
        assert 20 < same.sum() < 400
        assert np.array_equal(cell.contains(images), same)


@given(st.integers(0, 10_000))
def test_points_lie_in_the_cell_where_codes_are_equal(seed):
    network = in_float64(mlp(3, 8, 8, 8, 2, seed=seed))
    points = points_of(3, count=300, seed=seed)
    codes = capture(network, points).bits()
    for at in range(3):
        cell = polyhedron(network, points[at])
        assert np.array_equal(cell.code, codes[at])
        assert np.array_equal(cell.contains(points), (codes == codes[at]).all(axis=1))


@st.composite
def whole_numbers(draw):
    """Layers of whole numbers, so that points of a grid often lie on borders, and of several at once."""
    widths = [2, *draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))]
    number = st.integers(-2, 2)

    def matrix(rows, columns):
        return draw(st.lists(st.lists(number, min_size=columns, max_size=columns), min_size=rows, max_size=rows))

    return [(matrix(b, a), matrix(1, b)[0]) for a, b in itertools.pairwise(widths)]


GRID = torch.tensor(list(itertools.product(range(-3, 4), repeat=2))).double()


@given(whole_numbers())
def test_on_borders_the_closed_sides_are_those_of_the_code(layers):
    network = in_float64(with_weights(*layers))
    codes, program = capture(network, GRID).bits(), read_program(network, GRID)
    for at in range(0, len(GRID), 5):
        cell = polyhedron(program, GRID[at])
        assert np.array_equal(cell.contains(GRID), (codes == codes[at]).all(axis=1))
        assert cell.margin > 0 or (cell.slack == 0).any()


@given(whole_numbers())
def test_on_borders_the_first_of_equal_places_wins(layers):
    (weight, bias), *_ = layers
    pool = nn.MaxPool1d(3, stride=1, padding=1)
    network = with_weights((weight * 2, bias * 2))[:1]
    network = in_float64(nn.Sequential(*network, nn.Unflatten(1, (1, -1)), pool, nn.ReLU()))
    padded = F.pad(network[0](GRID), (1, 1), value=-torch.inf)
    winner = padded.unfold(1, 3, 1).argmax(2).numpy()
    codes, program = capture(network, GRID).bits(), read_program(network, GRID)
    for at in range(0, len(GRID), 5):
        cell = polyhedron(program, GRID[at])
        same = (codes == codes[at]).all(axis=1) & (winner == winner[at]).all(axis=1)
        assert np.array_equal(cell.contains(GRID), same)


def test_with_a_tolerance_points_just_outside_are_contained():
    cell = polyhedron(with_weights(([[2.0]], [-1.0])), [3.0])
    assert cell.contains([[0.5], [0.5 - 1e-15], [0.5 + 1e-15]]).tolist() == [False, False, True]
    assert cell.contains([[0.5], [0.5 - 1e-6], [0.4]], tolerance=1e-5).tolist() == [True, True, False]
    assert polyhedron(cell.program, [0.0]).contains([[0.5], [0.6]]).tolist() == [True, False]


def test_products_without_the_weight_are_those_with_it(residual):
    rng = np.random.default_rng(0)
    cell = polyhedron(residual, points_of(2, 6, 6, count=1))
    vectors, factors = rng.normal(size=(4, 72)), rng.normal(size=cell.rows)
    assert cell.times(vectors) == pytest.approx(vectors @ cell.weight.T, abs=1e-11)
    assert cell.times(vectors.reshape(4, 2, 6, 6)) == pytest.approx(vectors @ cell.weight.T, abs=1e-11)
    assert cell.transposed_times(factors) == pytest.approx(cell.weight.T @ factors, abs=1e-11)
    assert cell.values(vectors) == pytest.approx(vectors @ cell.weight.T + cell.bias, abs=1e-11)
    assert cell.values(np.empty((0, 72))).shape == (0, cell.rows)
    with pytest.raises(InputError, match=rf"factors have shape \(3,\)\. Give one for each of the {cell.rows} rows"):
        cell.transposed_times(np.ones(3))


def test_the_affine_map_is_the_network_in_its_cell(residual):
    image = points_of(2, 6, 6, count=1)
    cell = polyhedron(residual, image)
    matrix, offset = cell.affine_map()
    inside = nearby(image[0], 400)
    inside = inside[cell.contains(inside)]
    assert len(inside) > 20
    assert inside.flatten(1).numpy() @ matrix.T + offset == pytest.approx(residual(inside).numpy(), abs=1e-11)
    assert matrix == pytest.approx(jacobians(residual, image)[0].numpy(), abs=1e-11)


def test_the_affine_map_of_a_softmax_is_an_error():
    cell = polyhedron(nn.Sequential(mlp(2, 3, 2), nn.Softmax(1)), [0.0, 0.0])
    assert cell.rows == 3
    with pytest.raises(InputError, match=r"the outputs come behind 1 \(_softmax\), which is not piecewise linear"):
        cell.affine_map()


def test_a_module_of_a_network_has_the_cells_of_the_separate_module():
    network = odd_statistics(build_network("9-8", (1, 8, 8), 4, backbone="small_conv"))
    images = torch.rand(3, 1, 8, 8)
    features = in_float64(network).backbone(images.double())
    for image, vector in zip(images, features, strict=True):
        cell, alone = polyhedron(network, image[None], module="head"), polyhedron(network.head, vector)
        assert np.array_equal(cell.weight, alone.weight)
        assert cell.bias == pytest.approx(alone.bias, abs=1e-14)
        assert cell.point == pytest.approx(vector.numpy(), abs=1e-14)
        assert cell.margin == pytest.approx(alone.margin, rel=1e-9)
    distances = margins(network, images, module="head").distance
    assert distances == pytest.approx(margins(network.head, features).distance, rel=1e-9)


@pytest.fixture(scope="module")
def vgg():
    return build_network("128-128", (3, 32, 32), 10, backbone="vgg16")


def check_vgg(network, pixels):
    image = torch.rand(1, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
    cell = polyhedron(network, image)
    rng = np.random.default_rng(0)
    vectors, factors = rng.normal(size=(2, 3 * pixels**2)), rng.normal(size=cell.rows)
    times, back = cell.times(vectors), cell.transposed_times(factors)
    assert times @ factors == pytest.approx(vectors @ back, rel=1e-9)  # <W v, u> = <v, W' u>
    apart = cell.values(vectors[:1] + vectors[1:]) - cell.values(vectors[1:])
    assert times[0] == pytest.approx(apart[0], abs=1e-9 * np.abs(times).max())
    assert (cell.slack >= 0).all()
    assert cell.contains(image).all()
    assert np.array_equal(cell.code, capture(in_float64(network), image.double()).bits()[0])
    return cell


@pytest.mark.slow
def test_the_rows_of_vgg16_are_not_written_out(vgg):
    cell = check_vgg(vgg, 32)
    bits = int(cell.is_bit.sum())
    assert bits == sum(c * s for c, s in [(128, 1024), (256, 256), (768, 64), (1536, 16), (1536, 4)]) + 256 == 276_736
    assert cell.rows - bits == 4 * sum(c * s for c, s in [(64, 256), (128, 64), (256, 16), (512, 4), (512, 1)])
    with pytest.raises(
        InputError, match=r"rows of 3,072 features take \d+ GiB\. Use times, transposed_times and values"
    ):
        _ = cell.weight
    matrix, offset = cell.affine_map()
    image = torch.as_tensor(cell.point).reshape(1, 3, 32, 32)
    assert matrix @ cell.point + offset == pytest.approx(in_float64(vgg)(image)[0].numpy(), rel=1e-9, abs=1e-12)


def test_a_code_that_occurs_only_on_a_border_has_a_cell_without_interior():
    network = with_weights(([[1, 0], [-1, 0]], [0, 0]))  # 00 is the line x = 0
    cell = polyhedron(network, [0.0, 2.0])
    assert not cell.has_interior
    assert cell.inradius == cell.margin == 0
    for question in (cell.facets, cell.vertices, cell.volume, lambda: cell.random_points(3)):
        with pytest.raises(InputError, match="the cell of this point has no interior"):
            question()
    assert cell.contains([[0.0, 5.0], [1e-9, 5.0]]).tolist() == [True, False]


SQUARE = ([[1, 0], [-1, 0], [0, 2], [0, -2], [1, 1], [0, 0]], [1, 1, 2, 2, 9, 3])


@pytest.mark.parametrize("point", [[0.25, -0.5], [1.0 - 1e-14, 0.0]])
def test_a_square_has_its_sides_corners_and_area(point):
    cell = polyhedron(with_weights(SQUARE), point)
    assert cell.has_interior
    assert cell.bounded
    assert cell.inradius == pytest.approx(1, abs=1e-9)
    assert cell.centre == pytest.approx([0, 0], abs=1e-9)
    assert cell.facets().rows.tolist() == [0, 1, 2, 3]
    assert cell.facets().facet_of.tolist() == [0, 1, 2, 3, -1, -1]
    assert sorted(cell.vertices().round(9).tolist()) == [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    assert cell.volume() == pytest.approx(4)
    random = cell.random_points(500)
    assert random.shape == (500, 2)
    assert cell.contains(random).all()
    assert np.abs(random.mean(axis=0)).max() < 0.15
    assert random.min(axis=0) == pytest.approx([-1, -1], abs=0.1)


def test_the_cell_of_a_point_on_a_border_may_have_an_interior():
    cell = polyhedron(with_weights(([[1, 0], [0, 1]], [0, 0])), [0.0, 3.0])
    assert cell.code.tolist() == [False, True]
    assert cell.margin == 0
    assert cell.has_interior
    inside = cell.inside
    assert inside[0] < 0 < inside[1]
    assert cell.facets().rows.tolist() == [0, 1]


def test_a_strip_has_an_inradius_and_no_bound():
    cell = polyhedron(with_weights(([[1, 1], [-1, -1]], [1, 1])), [0.3, -0.2])
    assert cell.inradius == pytest.approx(0.5**0.5, abs=1e-9)
    assert not cell.bounded
    assert cell.volume() == np.inf
    assert len(cell.vertices()) == 0


def test_vertices_and_volume_in_nine_dimensions_are_errors():
    cell = polyhedron(mlp(9, 5, 2), np.zeros(9))
    for question in (cell.vertices, cell.volume):
        with pytest.raises(InputError, match="9 features"):
            question()
    assert len(cell.facets().rows) == 5


@pytest.mark.parametrize("name", ["A", "C", "P"])
def test_cells_are_those_of_the_oracle(name):
    weights, truth = oracle(name)
    network = perceptron(weights)
    for known in truth["points"]:
        cell = polyhedron(network, torch.tensor(known["point"], dtype=torch.float64))
        assert "".join(map(str, cell.code.astype(int))) == known["code"]
        assert cell.facets().rows.tolist() == known["facets"]
        assert cell.bounded is known["bounded"]
        if known["inradius"] is not None:
            assert cell.inradius == pytest.approx(known["inradius"], abs=1e-9)
        assert cell.contains(cell.facets().points, tolerance=1e-9).all()
        assert cell.has_interior


def test_facets_with_duplicated_dead_and_constant_neurons_are_those_of_exact_arithmetic():
    weights, truth = oracle("U")
    network = perceptron(weights)
    for known in truth["points"]:
        cell = polyhedron(network, torch.tensor(known["point"], dtype=torch.float64))
        scaled = 1024 * np.column_stack([cell.weight, cell.bias])
        assert np.array_equal(scaled, scaled.round())
        facets = cell.facets()
        groups = [np.flatnonzero(facets.facet_of == facet).tolist() for facet in range(len(facets))]
        assert groups == exact_facets([tuple(map(int, row)) for row in scaled])


def test_a_polyhedron_takes_one_point():
    network, images = nn.Sequential(nn.Conv2d(3, 2, 2), nn.ReLU()), torch.rand(2, 3, 4, 4)
    program = read_program(network, images)
    assert isinstance(polyhedron(network, images[:1]), Polyhedron)
    for point in (images[:1], images[0], images[0].flatten()):
        assert np.array_equal(polyhedron(program, point).point, images[0].double().flatten().numpy())
    for target, points in ((network, images), (program, images), (network, torch.rand(3, 3, 4, 4))):
        with pytest.raises(
            InputError, match=r"there are \d points, but a polyhedron takes one\. Give points\[:1\] or image"
        ):
            polyhedron(target, points)


def test_rows_that_do_not_depend_on_the_input_are_zero_and_ignored():
    """Where the whole first layer is off, later layers are constant."""
    network = with_weights(([[1, 0], [0, 1]], [0, 0]), ([[1, 1], [-1, 2]], [1, -1]))
    cell = polyhedron(network, [-1.0, -2.0])
    assert cell.weight.tolist() == [[-1, 0], [0, -1], [0, 0], [0, 0]]
    assert cell.bias.tolist() == [0, 0, 1, 1]
    assert cell.margin == 1
    assert cell.has_interior
    assert cell.inradius == np.inf
    assert cell.facets().rows.tolist() == [0, 1]


@pytest.mark.parametrize("point", [-3.0, 0.4, 1.3, 3.0, 7.7])
def test_a_row_of_rounding_errors_is_no_border(point):
    """3 * 0.1 - 0.3 is not 0 in float64; the second layer is constant nevertheless."""
    network = with_weights(([[0], [0]], [1, 3]), ([[3, -1]], [0])).double()
    network[0].weight.data[:, 0] = torch.tensor([0.1, 0.3], dtype=torch.float64)
    cell = polyhedron(network, [point])
    assert 0 < abs(cell.weight[2, 0]) < 1e-15
    assert cell.margin == pytest.approx(point + 10)
    assert margins(network, [[point]]).layer.tolist() == [0]
    assert cell.facets().rows.tolist() == [0]
    assert cell.inradius == np.inf
    assert cell.has_interior
    assert cell.inside == pytest.approx([point])


def test_networks_may_be_made_of_functions():
    network = Function(lambda x: F.relu(x @ torch.tensor([[1.0], [-1.0]], dtype=x.dtype) + 1))
    cell = polyhedron(network, [2.0, 5.0])
    assert (cell.weight.tolist(), cell.bias.tolist(), cell.closed.tolist()) == ([[-1, 1]], [-1], [True])


def test_layers_may_differ_by_many_magnitudes():
    triangle = ([[1, 0], [0, 1], [-1, -1]], [1, 1, 1])
    network = with_weights(triangle, ([[1e14, 2e14, 3e14], [1e14, -2e14, 3e14]], [1, 1]))
    cell = polyhedron(network, [0.1, 0.05])
    assert cell.bounded
    assert np.isfinite(cell.inradius)
    small = with_weights(([[1, 0], [0, 1e-12]], [0.3, 0.2e-12]))
    assert margins(small, [[5.0, 0.0]]).distance == pytest.approx([0.2])


@pytest.mark.parametrize("module", [None, "1"])
def test_a_pickled_polyhedron_is_the_same(module):
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU6(), nn.Flatten())
    network = nn.Sequential(body, nn.Sequential(nn.Linear(8, 3), nn.ReLU()))
    cell = polyhedron(network, points_of(1, 6, 6, count=1), module=module)
    again = pickle.loads(pickle.dumps(cell))
    assert np.array_equal(again.weight, cell.weight)
    assert np.array_equal(again.code, cell.code)
    assert again.margin == cell.margin
