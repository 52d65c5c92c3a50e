"""Cells of ReLU6, clamps, abs and maxima, against a grid of points, and the same networks written with ReLUs alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from cases import first_on_push
from hypothesis import settings
from linear_pieces import Function, in_float64, jacobians, points_of
from torch import nn

from nas_relucode import capture, complex_of, margins
from nas_relucode.geometry.phantoms import CERTIFICATES, audit
from nas_relucode.geometry.polyhedra import polyhedron
from nas_relucode.geometry.program import read_program


def split(x):
    return x.chunk(2, 1)


# Of each bend: what the network calls, the same in ReLUs alone, and which linear piece each number is on.
BENDS = {
    "relu6": (F.relu6, lambda x: F.relu(x) - F.relu(x - 6), lambda x: (x > 0).int() + (x > 6).int()),
    "hardtanh": (F.hardtanh, lambda x: F.relu(x + 1) - F.relu(x - 1) - 1, lambda x: (x > -1).int() + (x > 1).int()),
    "clamp from 0": (
        lambda x: x.clamp(0, 1.5),
        lambda x: F.relu(x) - F.relu(x - 1.5),
        lambda x: (x > 0).int() + (x > 1.5).int(),
    ),
    "hardsigmoid": (
        lambda x: 6 * F.hardsigmoid(x),
        lambda x: F.relu(x + 3) - F.relu(x - 3),
        lambda x: (x > -3).int() + (x > 3).int(),
    ),
    "softshrink": (
        lambda x: F.softshrink(x, 0.7),
        lambda x: F.relu(x - 0.7) - F.relu(-x - 0.7),
        lambda x: (x > -0.7).int() + (x > 0.7).int(),
    ),
    "abs": (torch.abs, lambda x: F.relu(x) + F.relu(-x), lambda x: (x > 0).int()),
    "maximum": (
        lambda x: torch.maximum(*split(x)),
        lambda x: split(x)[1] + F.relu(split(x)[0] - split(x)[1]),
        lambda x: (split(x)[0] > split(x)[1]).int(),
    ),
    "minimum": (
        lambda x: torch.minimum(*split(x)),
        lambda x: split(x)[1] - F.relu(split(x)[1] - split(x)[0]),
        lambda x: (split(x)[1] > split(x)[0]).int(),
    ),
    "amax of pairs": (
        lambda x: x.unflatten(1, (2, -1)).amax(1),
        lambda x: split(x)[0] + F.relu(split(x)[1] - split(x)[0]),
        lambda x: (split(x)[1] > split(x)[0]).int(),
    ),
    "min of pairs": (
        lambda x: x.unflatten(1, (2, -1)).min(1).values,
        lambda x: split(x)[0] - F.relu(split(x)[0] - split(x)[1]),
        lambda x: (split(x)[0] > split(x)[1]).int(),
    ),
}
HAVE_BITS = ("relu6", "clamp from 0")


class Bent(nn.Module):
    """Linear layers, the bend between, a ReLU, and once more the bend."""

    def __init__(self, bend, name, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.bend = bend
        width = 6 if split_in_two(name) else 12
        self.first, self.second, self.third = nn.Linear(2, 12), nn.Linear(width, 7), nn.Linear(7, 8)
        self.last = nn.Linear(width // 3 * 2, 3)
        for layer in (self.first, self.second, self.third):
            layer.weight.data *= 3

    def bent(self, x):
        inputs = [self.first(x)]
        inputs.append(self.second(self.bend(inputs[0])))
        inputs.append(self.third(F.relu(inputs[1])))
        return inputs

    def forward(self, x):
        return self.last(self.bend(self.bent(x)[2]))


def split_in_two(name):
    return "m" in name and name not in ("clamp from 0", "hardsigmoid")


def networks(name):
    """The network, the same in ReLUs, and the function that gives the linear pieces at points."""
    bend, in_relus, pieces = BENDS[name]
    network = in_float64(Bent(bend, name))

    def patterns(points):
        first, second, third = network.bent(points)
        return torch.cat([pieces(first), (second > 0).int(), pieces(third)], dim=1).numpy()

    return network, in_float64(Bent(in_relus, name)), patterns


GRID = torch.cartesian_prod(*[torch.linspace(-3, 3, 151, dtype=torch.float64)] * 2)


@pytest.mark.parametrize("name", BENDS)
def test_a_complex_has_the_cells_of_a_grid_and_the_counts_of_the_same_network_in_relus(name):
    network, in_relus, patterns = networks(name)
    assert torch.allclose(network(GRID[::125]), in_relus(GRID[::125]), atol=1e-6)  # torch's hard-sigmoid is not exact
    tiles, plain = (complex_of(some, 2, box=(-3.0, 3.0)) for some in (network, in_relus))
    assert len(tiles) > 50
    for count in ("cells", "bounded", "facets", "facet_neighbours", "components"):
        assert tiles.summary()[count] == plain.summary()[count]
    assert tiles.f_vector == plain.f_vector
    rows = {row.tobytes() for row in patterns(torch.as_tensor(tiles.points))}
    assert len(rows) == len(tiles)
    inside = GRID[(GRID.abs() < 3).all(1)]
    assert {row.tobytes() for row in patterns(inside)} <= rows
    assert np.array_equal(tiles.codes.bits(), capture(network, tiles.points).bits())


@pytest.mark.parametrize("name", BENDS)
def test_a_polyhedron_is_where_the_linear_pieces_are_those_of_its_point(name):
    network, _, patterns = networks(name)
    program, grid = read_program(network, GRID[:1]), patterns(GRID)
    assert program.has_bits == [name in HAVE_BITS, True, name in HAVE_BITS]
    for point in 2 * points_of(2, count=max(3, settings.default.max_examples // 20)):
        cell = polyhedron(program, point)
        same = (grid == patterns(point[None])).all(axis=1)
        assert np.array_equal(cell.contains(GRID), same)
        assert np.array_equal(cell.code, capture(network, point[None]).bits()[0])
        matrix, offset = cell.affine_map()
        assert GRID[same].numpy() @ matrix.T + offset == pytest.approx(network(GRID[same]).numpy(), abs=1e-6)
        assert matrix == pytest.approx(jacobians(network, point[None])[0].numpy(), abs=1e-6)
        for place, behind in zip(cell.facets().points, cell.neighbours(), strict=True):
            outside = place + 1e-7 * (place - cell.inside)
            assert np.array_equal(behind, capture(network, torch.as_tensor(outside)[None]).bits()[0])
            assert (patterns(torch.as_tensor(outside)[None]) != patterns(point[None])).sum() == 1


@pytest.mark.parametrize("name", BENDS)
def test_the_margin_is_the_distance_to_the_nearest_other_piece(name):
    network, _, patterns = networks(name)
    points = points_of(2, count=20)
    angle = torch.linspace(0, 2 * np.pi, 2001, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    for point, distance in zip(points, margins(network, points).distance, strict=True):
        own = patterns(point[None])
        assert (patterns(point + distance * (1 - 1e-9) * circle) == own).all()
        assert (patterns(point + distance * 1.001 * circle) != own).any()


def test_a_neuron_of_relu6_has_two_rows_and_one_bit():
    network = nn.Sequential(nn.Linear(1, 2), nn.ReLU6())
    network[0].weight.data, network[0].bias.data = torch.tensor([[2.0], [-1.0]]), torch.tensor([0.0, 1.0])
    for point, code, rows, closed in [
        (-1.0, [0, 1], [[-2, 0], [-2, 6], [-1, 1], [1, 5]], [1, 1, 0, 1]),
        (1.0, [1, 0], [[2, 0], [-2, 6], [1, -1], [1, 5]], [0, 1, 1, 1]),
        (9.0, [1, 0], [[2, 0], [2, -6], [1, -1], [1, 5]], [0, 0, 1, 1]),
    ]:
        cell = polyhedron(network, [point])
        assert cell.code.astype(int).tolist() == code
        assert np.column_stack([cell.weight, cell.bias]).tolist() == rows
        assert cell.closed.astype(int).tolist() == closed
        assert cell.is_bit.tolist() == [True, False, True, False]
        assert cell.neuron_of.tolist() == [0, 0, 1, 1]
        assert cell.layer_of.tolist() == [0, 0, 0, 0]
    measured = margins(network, torch.tensor([[2.8], [-3.0]]))
    assert measured.distance == pytest.approx([0.2, 2])
    assert measured.neuron.tolist() == [0, 1]


def test_a_clamp_behind_what_cannot_be_read_leaves_the_cells():
    """It has no bits, and none lie behind it."""
    relus = nn.Sequential(nn.Linear(2, 9), nn.ReLU(), nn.Linear(9, 4))

    class Probabilities(nn.Module):
        def __init__(self):
            super().__init__()
            self.relus = relus

        def forward(self, x):
            return self.relus(x).softmax(1).clamp(min=1e-6).log()

    program = read_program(Probabilities(), torch.ones(1, 2))
    assert program.layers == ["relus.1"]
    assert program.opaque is not None
    assert complex_of(program).summary() == complex_of(relus, 2).summary()


def test_pairs_one_bit_apart_are_certified_where_other_bends_cut_the_cells():
    """A certificate's point lies on the border: the flipped neuron is 0 there, and on its two sides are both codes."""
    network, _, _ = networks("relu6")
    points = 2 * points_of(2, count=400)
    audited = audit(network, points)
    assert len(audited.pairs) > 50
    assert audited.counts["segment"] > 20
    certified = audited.certificate <= CERTIFICATES.index("programme")
    bits = audited.cells.codes.bits()
    angle = torch.linspace(0, 2 * np.pi, 720, dtype=torch.float64)
    circle = 1e-6 * torch.stack([angle.cos(), angle.sin()], dim=1)
    for pair, place in zip(audited.pairs[certified], audited.points[certified], strict=True):
        around = {row.tobytes() for row in capture(network, torch.as_tensor(place) + circle).bits()}
        assert around == {bits[cell].tobytes() for cell in pair}


@pytest.mark.parametrize("name", first_on_push("relu6", "abs", "softshrink"))
def test_in_space_faces_are_those_of_the_same_network_in_relus(name):
    bend, in_relus, _ = BENDS[name]

    def network(function):
        torch.manual_seed(3)
        first, second = nn.Linear(3, 3), nn.Linear(3, 2)
        first.weight.data *= 5
        return nn.Sequential(first, Function(function), second, nn.ReLU())

    faces, plain = (complex_of(network(function), 3).f_vector for function in (bend, in_relus))
    assert faces == plain
    assert faces[3] > 8
