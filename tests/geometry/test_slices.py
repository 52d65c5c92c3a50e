"""Slices: exact polygons that fill the square, divided by class, and drawn."""

import pickle

import numpy as np
import pytest
import torch
from perceptrons import oracle, perceptron
from torch import nn

from nas_relucode import InputError, build_network, capture, slice_through
from nas_relucode.geometry import neighbourhood
from nas_relucode.geometry.slices import plane_through
from nas_relucode.plots.slices import area, class_pieces, slice_figure


def network_and_samples():
    torch.manual_seed(0)
    network = build_network("16-12", (1, 3, 3), 4, backbone="none").double().eval()
    return network, torch.randn(3, 1, 3, 3, dtype=torch.float64)


def test_the_plane_contains_the_three_samples():
    points = np.random.default_rng(0).standard_normal((3, 7))
    plane, at = plane_through(points)
    assert plane.directions @ plane.directions.T == pytest.approx(np.eye(2))
    assert plane.origin + at @ plane.directions == pytest.approx(points)


@pytest.mark.parametrize("points", [np.zeros((3, 4)), np.arange(12.0).reshape(3, 4)])
def test_samples_on_a_line_span_no_plane(points):
    with pytest.raises(InputError, match="on a line"):
        plane_through(points)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_middle_of_two_samples_is_on_their_line_whatever_the_rounding(dtype):
    network, samples = network_and_samples()
    first, second, third = samples.to(dtype)
    with pytest.raises(InputError, match="on a line"):
        slice_through(network.to(dtype), torch.stack([first, second, (first + second) / 2]))
    assert len(slice_through(network.to(dtype), torch.stack([first, second, third])).complex)


def test_the_cells_of_a_slice_fill_its_square_and_so_do_the_pieces_of_classes():
    network, samples = network_and_samples()
    cut = slice_through(network, samples)
    square = (2 * cut.reach) ** 2
    assert sum(area(outline) for outline in cut.complex.outlines) == pytest.approx(square)
    assert sum(area(piece) for piece, _ in class_pieces(cut)) == pytest.approx(square)
    corners, sides, cells = cut.complex.f_vector
    assert corners - sides + cells == 1


def test_points_of_the_slice_have_the_codes_and_classes_of_their_polygons():
    network, samples = network_and_samples()
    cut = slice_through(network, samples)
    at = np.random.default_rng(0).uniform(-cut.reach, cut.reach, (400, 2))
    inputs = torch.as_tensor(cut.plane.origin + at @ cut.plane.directions).reshape(-1, 1, 3, 3)
    codes = capture(network, inputs).bits()
    with torch.no_grad():
        predicted = network(inputs).argmax(dim=1).numpy()
    pieces, classes = zip(*class_pieces(cut), strict=True)
    assert np.array_equal(cut.complex.codes.bits()[the_one_around(at, cut.complex.outlines)], codes)
    assert np.array_equal(np.array(classes)[the_one_around(at, pieces)], predicted)


def the_one_around(points, outlines):
    """The number of the outline in which each point lies; it lies in one alone."""
    inside = np.empty((len(outlines), len(points)), bool)
    for k, outline in enumerate(outlines):
        ahead, towards = np.roll(outline, -1, axis=0) - outline, points[:, None] - outline
        inside[k] = (ahead[:, 0] * towards[..., 1] - ahead[:, 1] * towards[..., 0] >= 0).all(axis=1)
    assert (inside.sum(axis=0) == 1).all()
    return inside.argmax(axis=0)


def test_the_coordinates_of_the_samples_lead_back_to_the_samples():
    network, samples = network_and_samples()
    cut = slice_through(network, samples)
    back = cut.plane.origin + cut.samples @ cut.plane.directions
    assert back == pytest.approx(samples.reshape(3, -1).numpy())
    assert np.abs(cut.samples).max() < cut.reach


def test_a_neighbourhood_has_its_sample_in_the_middle():
    weights, truth = oracle("A")
    network = perceptron(weights)
    point = torch.tensor([truth["points"][0]["point"]], dtype=torch.float64)
    cut = neighbourhood(network, point)
    assert cut.plane.origin == pytest.approx(point[0].numpy())
    cell = the_one_around(np.zeros((1, 2)), cut.complex.outlines)
    assert np.array_equal(cut.complex.codes.bits()[cell], capture(network, point).bits())
    assert len(cut.complex) > 4


@pytest.mark.parametrize("by", ["class", "area"])
def test_slices_are_drawn(by, tmp_path):
    network, samples = network_and_samples()
    cut = slice_through(network, samples)
    figure = slice_figure(cut, by=by, classes=list("abcd"), labels=[0, 1, 2])
    figure.savefig(tmp_path / "slice.png")
    assert (tmp_path / "slice.png").read_bytes().startswith(b"\x89PNG")
    assert f"{len(cut.complex):,} cells" in figure.axes[0].get_title()


def test_slices_that_cannot_be_drawn_are_errors():
    network, samples = network_and_samples()
    with pytest.raises(InputError, match="three"):
        slice_through(network, samples[:2])
    some = slice_through(network, samples, max_cells=10)
    with pytest.raises(InputError, match="more cells"):
        slice_figure(some)
    soft = slice_through(nn.Sequential(network, nn.Softmax(1)), samples)
    with pytest.raises(InputError, match="Colour by area"):
        slice_figure(soft)
    with pytest.raises(InputError, match="coloured by"):
        slice_figure(soft, by="size")


def test_a_neighbourhood_needs_borders_in_two_directions_and_ignores_zero_rows():
    weights, _ = oracle("U")
    cut = neighbourhood(perceptron(weights), [[0.1, 0.2]])
    assert np.isfinite(cut.reach)
    assert len(cut.complex) > 1
    with pytest.raises(InputError, match="one direction only"):
        neighbourhood(nn.Sequential(nn.Linear(3, 1), nn.ReLU()), torch.ones(1, 3))


def test_a_pickled_slice_is_the_same():
    cut = slice_through(*network_and_samples())
    again = pickle.loads(pickle.dumps(cut))
    assert np.array_equal(again.outputs, cut.outputs)
    assert again.complex.summary() == cut.complex.summary()
