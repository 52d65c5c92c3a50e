"""Slices through samples: exact polygons that fill the square, cut by class, and drawn."""

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


def test_the_plane_holds_the_three_samples():
    points = np.random.default_rng(0).standard_normal((3, 7))
    plane, at = plane_through(points)
    assert plane.directions @ plane.directions.T == pytest.approx(np.eye(2))
    assert plane.origin + at @ plane.directions == pytest.approx(points)


@pytest.mark.parametrize("points", [np.zeros((3, 4)), np.arange(12.0).reshape(3, 4)])
def test_samples_on_a_line_span_no_plane(points):
    with pytest.raises(InputError, match="on a line"):
        plane_through(points)


def test_a_slice_is_filled_by_its_cells_and_its_pieces():
    network, samples = network_and_samples()
    found = slice_through(network, samples)
    square = (2 * found.reach) ** 2
    assert sum(area(outline) for outline in found.complex.outlines) == pytest.approx(square)
    assert sum(area(piece) for piece, _ in class_pieces(found)) == pytest.approx(square)
    corners, sides, cells = found.complex.f_vector
    assert corners - sides + cells == 1


def test_points_of_the_slice_have_the_codes_and_classes_of_their_polygons():
    network, samples = network_and_samples()
    found = slice_through(network, samples)
    at = np.random.default_rng(0).uniform(-found.reach, found.reach, (400, 2))
    inputs = torch.as_tensor(found.plane.origin + at @ found.plane.directions).reshape(-1, 1, 3, 3)
    codes = capture(network, inputs).bits()
    with torch.no_grad():
        predicted = network(inputs).argmax(dim=1).tolist()
    holders = [[k for k, outline in enumerate(found.complex.outlines) if inside(outline, point)] for point in at]
    pieces = list(class_pieces(found))
    for point, code, label, held in zip(at, codes, predicted, holders, strict=True):
        assert len(held) == 1
        assert np.array_equal(found.complex.codes.bits()[held[0]], code)
        assert [k for piece, k in pieces if inside(piece, point)] == [label]


def inside(outline, point):
    ahead, towards = np.roll(outline, -1, axis=0) - outline, point - outline
    return bool((ahead[:, 0] * towards[:, 1] - ahead[:, 1] * towards[:, 0] >= 0).all())


def test_the_samples_lie_in_the_slice_where_they_should():
    network, samples = network_and_samples()
    found = slice_through(network, samples)
    back = found.plane.origin + found.samples @ found.plane.directions
    assert back == pytest.approx(samples.reshape(3, -1).numpy())
    assert np.abs(found.samples).max() < found.reach


def test_a_neighbourhood_has_its_sample_in_the_middle_and_the_two_nearest_borders_square_to_it():
    weights, truth = oracle("A")
    network = perceptron(weights)
    point = torch.tensor([truth["points"][0]["point"]], dtype=torch.float64)
    found = neighbourhood(network, point)
    assert found.plane.origin == pytest.approx(point[0].numpy())
    held = [k for k, outline in enumerate(found.complex.outlines) if inside(outline, np.zeros(2))]
    assert np.array_equal(found.complex.codes.bits()[held], capture(network, point).bits())
    assert len(found.complex) > 4


@pytest.mark.parametrize("by", ["class", "area"])
def test_slices_are_drawn(by, tmp_path):
    network, samples = network_and_samples()
    found = slice_through(network, samples)
    figure = slice_figure(found, by=by, classes=list("abcd"), labels=[0, 1, 2])
    figure.savefig(tmp_path / "slice.png")
    assert (tmp_path / "slice.png").read_bytes().startswith(b"\x89PNG")
    assert f"{len(found.complex):,} cells" in figure.axes[0].get_title()


def test_what_cannot_be_drawn_is_refused():
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


def test_zero_rows_do_not_span_a_neighbourhood():
    weights, _ = oracle("U")
    found = neighbourhood(perceptron(weights), [[0.1, 0.2]])
    assert np.isfinite(found.reach)
    assert len(found.complex) > 1
    with pytest.raises(InputError, match="one direction only"):
        neighbourhood(nn.Sequential(nn.Linear(3, 1), nn.ReLU()), torch.ones(1, 3))
