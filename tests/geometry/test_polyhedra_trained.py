"""Cells of networks trained on digits and MNIST: their half-spaces hold exactly for points with the cell's code."""

import numpy as np
import pytest
import torch

from nas_relucode import Recipe, build_network, capture, load_data, margins, polyhedron, train
from nas_relucode.geometry import read_program


@pytest.fixture(scope="module", params=["digits", pytest.param("mnist", marks=pytest.mark.slow)])
def trained(request, mnist_root):
    data = load_data(request.param, data_root=mnist_root, train_samples=300)
    network = build_network("48-32-16", data.image_shape, len(data.classes), backbone="none")
    train(network, data.train, learning_rate=0.05, recipe=Recipe(epochs=4, batch_size=32, momentum=0.9))
    network.double().eval()
    inputs = data.train.inputs.double()
    return network, inputs, read_program(network, inputs[:1])


def test_samples_lie_in_their_cells(trained):
    network, inputs, program = trained
    codes = capture(network, inputs[:200]).bits()
    for x, code in zip(inputs[:200], codes, strict=True):
        cell = polyhedron(program, x[None])
        assert np.array_equal(cell.code, code)
        assert cell.contains(x[None]).all()
        assert (cell.weight @ x.flatten().numpy() + cell.bias > 0).all()


def test_half_spaces_contain_exactly_the_points_with_the_code(trained):
    network, inputs, program = trained
    rng = np.random.default_rng(0)
    contained = 0
    for x in inputs[:10]:
        cell = polyhedron(program, x[None])
        steps = rng.standard_normal((100, inputs[0].numel()))
        steps *= (
            cell.margin
            * rng.uniform(0.02, 2, (100, 1))
            * np.sqrt(steps.shape[1])
            / np.linalg.norm(steps, axis=1, keepdims=True)
        )
        points = torch.as_tensor(x.flatten().numpy() + steps)
        same = (capture(network, points.reshape(-1, *inputs.shape[1:])).bits() == cell.code).all(axis=1)
        assert np.array_equal(cell.contains(points), same)
        assert np.array_equal((points.numpy() @ cell.weight.T + cell.bias >= 0).all(axis=1), same)
        contained += same.sum()
    assert 100 < contained < 990


def test_the_code_changes_at_the_margin_in_the_direction_of_the_nearest_row(trained):
    network, inputs, program = trained
    distances = margins(program, inputs[:50]).distance
    for x, distance in zip(inputs[:50], distances, strict=True):
        cell = polyhedron(program, x[None])
        norms = np.linalg.norm(cell.weight, axis=1)
        row = int(np.argmin(np.where(norms > 0, cell.slack, np.inf) / np.where(norms > 0, norms, 1)))
        direction = -cell.weight[row] / norms[row]
        ends = torch.as_tensor(x.flatten().numpy() + distance * np.array([[0.999], [1.001]]) * direction)
        before, beyond = capture(network, ends.reshape(-1, *inputs.shape[1:])).bits()
        assert np.array_equal(before, cell.code)
        assert not np.array_equal(beyond, cell.code)
