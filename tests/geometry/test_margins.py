"""Margins against rows that are written out, and against codes and pooling winners around the points."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from linear_pieces import in_float64, points_of
from pooled_networks import Residual, mlp, winners, with_weights
from torch import nn

from nas_relucode import capture, margins
from nas_relucode.geometry.polyhedra import polyhedron
from nas_relucode.geometry.program import read_program


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(0)
    return in_float64(Residual())


def least_of(cell):
    """The margin and its row, from rows written out."""
    norms = np.linalg.norm(cell.weight, axis=1)
    far = norms < 1e-12
    distances = np.where(far, np.inf, cell.slack / np.where(far, 1, norms))
    return distances.min(), int(distances.argmin())


def check_margins(network, points, same_cell):
    """Margins follow from the rows; a ball of that radius lies in one cell, and beyond the nearest row is another."""
    together, program = margins(network, points), read_program(network, points)
    rng = np.random.default_rng(0)
    for at, point in enumerate(points):
        cell = polyhedron(program, point[None])
        distance, row = least_of(cell)
        assert together.distance[at] == pytest.approx(distance, rel=1e-9)
        assert cell.margin == pytest.approx(distance, rel=1e-9)
        assert margins(network, point[None]).distance == pytest.approx([distance], rel=1e-9)
        assert (together.layer[at], together.neuron[at]) == (cell.layer_of[row], cell.neuron_of[row])
        sphere = rng.normal(size=(300, cell.program.features))
        sphere *= distance * (1 - 1e-9) / np.linalg.norm(sphere, axis=1, keepdims=True)
        ball = point.flatten().numpy() + sphere
        assert same_cell(torch.as_tensor(ball).reshape(-1, *point.shape), point).all()
        towards = -cell.weight[row] / np.linalg.norm(cell.weight[row]) * distance
        behind = torch.as_tensor(point.flatten().numpy() + towards * (1 + 1e-6)).reshape(1, *point.shape)
        assert not same_cell(behind, point).any()


class Skipping(nn.Module):
    """The input bypasses the first layer, so that its rows do not span those of later layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(9, 4), nn.Linear(4, 9), nn.Linear(9, 6)

    def forward(self, x):
        return F.relu(self.third(x + self.second(F.relu(self.first(x)))))


MARGINS = {
    "narrow at first": (lambda: mlp(20, 6, 9, 9, 3), (20,)),
    "wide at first": (lambda: mlp(4, 9, 9, 3), (4,)),
    "skipping": (Skipping, (9,)),
    "maps": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 5), nn.ReLU()),
        (1, 4, 4),
    ),
    "leaky": (lambda: nn.Sequential(nn.Linear(5, 8), nn.LeakyReLU(), nn.Linear(8, 8), nn.PReLU()), (5,)),
}


@pytest.mark.parametrize("name", MARGINS)
def test_the_margin_is_the_distance_to_the_nearest_other_code(name):
    make, shape = MARGINS[name]
    torch.manual_seed(0)
    network = in_float64(make())

    def same_cell(points, point):
        codes = capture(network, torch.cat([point[None], points])).bits()
        return (codes[1:] == codes[0]).all(axis=1)

    check_margins(network, points_of(*shape, count=8), same_cell)


def test_the_margin_includes_changes_of_pooling_winners(residual):
    def same_cell(images, image):
        images = torch.cat([image[None], images])
        codes, winner = capture(residual, images).bits(), winners(residual, images)
        return ((codes == codes[0]).all(axis=1) & (winner == winner[0]).flatten(1).all(1).numpy())[1:]

    check_margins(residual, points_of(2, 6, 6, count=8), same_cell)


def test_margins_do_not_depend_on_the_batch_size(monkeypatch):
    network, points = mlp(20, 6, 9, 3), points_of(20, count=30)
    together = margins(network, points)
    monkeypatch.setattr("nas_relucode.geometry.borders.AT_ONCE", 1)
    alone = margins(network, points)
    assert together.distance == pytest.approx(alone.distance, rel=1e-12)
    assert np.array_equal(together.layer, alone.layer)
    assert np.array_equal(together.neuron, alone.neuron)
    assert len(margins(read_program(network, points), points[:0]).distance) == 0


def test_margins_of_hand_made_borders():
    network = with_weights(([[3, 4], [0, 1], [0, 0]], [-5, -10, 7]))
    nearest = margins(network, torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 9.0], [-1.0, 2.0]]))
    assert nearest.distance == pytest.approx([1, 4, 1, 0])
    assert nearest.layer.tolist() == [0, 0, 0, 0]
    assert nearest.neuron.tolist() == [0, 0, 1, 0]


def test_a_cell_without_a_border_has_no_margin():
    network = with_weights(([[0, 0], [0, 0]], [1, -1]))
    cell = polyhedron(network, [5.0, 5.0])
    assert cell.margin == cell.inradius == np.inf
    assert cell.has_interior
    assert not cell.bounded
    assert len(cell.facets().rows) == 0
    nearest = margins(network, torch.ones(2, 2))
    assert nearest.layer.tolist() == nearest.neuron.tolist() == [-1, -1]


def test_margins_of_wide_layers_come_in_parts(monkeypatch):
    network, points = mlp(20, 6, 9, 3), points_of(20, count=5)
    together = margins(network, points).distance
    monkeypatch.setattr("nas_relucode.geometry.borders.AT_MOST", 8 * 9 * 2)
    assert margins(network, points).distance == pytest.approx(together, rel=1e-12)
