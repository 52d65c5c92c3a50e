"""What is measured of a sample's cells as polyhedra: by hand, by autograd and by brute force; and the indices of it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from perceptrons import oracle, perceptron
from torch import nn

from nas_relucode import (
    INDICES,
    InputError,
    Split,
    build_network,
    capture,
    code_space,
    complex_of,
    compute_indices,
    polyhedron,
    score,
)
from nas_relucode.geometry.sample_geometry import confidence_growth, read_geometry
from nas_relucode.indices import FacetCount, IndexInputs, UnboundedFraction
from nas_relucode.indices.geometric import GeometricIndex

GEOMETRIC = [name for name, index in INDICES.items() if isinstance(index, GeometricIndex)]


def quadrants():
    """Four cells around 0, all unbounded; three outputs, of which the first is larger by |x| + 2 |y|."""
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    outputs = np.array([[1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [-1.0, -1.0, 0.0, 0.0]])
    return perceptron([(weight, np.zeros(4)), (outputs, np.zeros(3))])


def test_margins_are_split_by_correctness():
    points = torch.tensor([[1.0, 3.0], [-2.0, 5.0], [4.0, -7.0], [-8.0, -9.0]], dtype=torch.float64)
    result = score(quadrants(), Split(points, torch.tensor([0, 1, 0, 2])), indices=GEOMETRIC).joint
    assert result["margin_mean_correct"] == pytest.approx((1 + 4) / 2)  # the nearer axis
    assert result["margin_mean_wrong"] == pytest.approx((2 + 8) / 2)
    assert result["margin_50_wrong"] == pytest.approx(5.0)
    assert result["margin_90_wrong"] == pytest.approx(np.quantile([2, 8], 0.9))
    assert result["margin_10_correct"] == pytest.approx(np.quantile([1, 4], 0.1))
    assert result["unbounded_fraction"] == 1.0
    assert result["facet_count"] == 2.0
    assert math.isnan(result["phantom_fraction"])  # two neurons change at each axis: no cells are one bit apart


def test_confidence_grows_along_the_rays_of_unbounded_cells():
    cell = polyhedron(quadrants(), [1.0, 3.0])
    # Along (cos, sin) of the quadrant the lead over the second is cos + 2 sin, between 1 and the root of 5.
    assert 1.0 <= confidence_growth(cell) <= math.sqrt(5)
    weights, truth = oracle("A")
    for known in truth["points"]:
        cell = polyhedron(perceptron(weights), known["point"])
        assert np.isnan(confidence_growth(cell)) == known["bounded"]


def test_the_growth_is_that_of_the_outputs_far_out():
    torch.manual_seed(1)
    network = build_network("6-5", (1, 1, 3), 4, backbone="none").double().eval()
    for point in torch.randn(20, 1, 1, 3, dtype=torch.float64):
        cell = polyhedron(network, point[None])
        growth = confidence_growth(cell)
        if np.isnan(growth):
            assert cell.bounded
            continue
        assert growth >= 0
        matrix, offset = cell.affine_map()
        with torch.no_grad():
            assert network(point[None])[0].numpy() == pytest.approx(matrix @ point.flatten().numpy() + offset)


def test_the_distance_to_another_class_is_that_of_brute_force():
    torch.manual_seed(0)
    network = build_network("10-7", (1, 1, 4), 3, backbone="none").double().eval()
    inputs = torch.randn(300, 1, 1, 4, dtype=torch.float64)
    bits = capture(network, inputs).bits()
    with torch.no_grad():
        predicted = network(inputs).argmax(dim=1).numpy()
    assert len(set(predicted)) > 1
    expected = []
    for code, label in zip(bits, predicted, strict=True):
        expected.append((bits[predicted != label] != code).sum(axis=1).min())
    result = read_geometry(network, inputs)
    assert np.array_equal(result.predicted, predicted)
    assert np.array_equal(result.other_class_distances, expected)


def test_one_predicted_class_has_no_other():
    network = perceptron([(np.eye(2), np.ones(2)), (np.zeros((2, 2)), np.array([1.0, 0.0]))])
    assert len(read_geometry(network, torch.randn(9, 2, dtype=torch.float64)).other_class_distances) == 0
    assert math.isnan(
        score(network, torch.randn(9, 2, dtype=torch.float64), indices=["other_class_distance"]).joint[
            "other_class_distance"
        ]
    )


def test_geometric_indices_are_computed_only_where_they_are_named():
    data = Split(torch.randn(40, 2, dtype=torch.float64), torch.arange(40) % 3)
    assert not set(GEOMETRIC) & set(score(quadrants(), data).joint)
    assert set(score(quadrants(), data, indices=["all", *GEOMETRIC]).joint) > set(GEOMETRIC)
    assert set(score(quadrants(), data, indices=GEOMETRIC).joint) == set(GEOMETRIC)


def test_geometric_indices_are_floats_in_their_range():
    torch.manual_seed(0)
    network = build_network("9-6", (1, 1, 3), 3, backbone="none")
    geometry = read_geometry(network, torch.randn(200, 1, 1, 3), np.arange(200) % 3)

    space = code_space(network, (torch.randn(200, 1, 1, 3), torch.arange(200) % 3))
    inputs = IndexInputs(space, network_sample=SimpleNamespace(geometry=lambda module: geometry))
    for name, value in compute_indices(inputs, GEOMETRIC).items():
        low, high = INDICES[name].range(inputs)
        assert type(value) is float
        assert math.isnan(value) or low <= value <= high


def test_a_head_is_measured_in_the_space_of_its_inputs():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten(), nn.Sequential(nn.Linear(8, 5), nn.ReLU()))
    data = torch.randn(30, 1, 4, 4)
    with pytest.raises(InputError, match="gelu"):
        score(network, data, indices=["facet_count"], layers="3")
    result = score(network, data, indices=[FacetCount(module="3"), UnboundedFraction(module="3")], layers="3")
    assert result.joint["unbounded_fraction"] == 1.0  # 5 neurons, 8 features
    assert result.joint["facet_count"] == 5.0


def test_an_iterator_cannot_be_read_twice():
    with pytest.raises(InputError, match="tensors"):
        score(quadrants(), iter([torch.randn(4, 2, dtype=torch.float64)]), indices=["phantom_fraction"])


@pytest.mark.parametrize("index", [*GEOMETRIC, "certified_radius"])
def test_cells_as_polyhedra_are_refused_beside_a_forward_of_ones_own(index):
    data = Split(torch.randn(9, 2, dtype=torch.float64), torch.arange(9) % 3)
    with pytest.raises(InputError, match="forward"):
        score(quadrants(), data, indices=[index], forward=lambda network, batch: network(10 * batch[0]))


def test_without_class_scores_no_sample_is_right_or_wrong():
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    data = Split(torch.randn(40, 4), torch.arange(40) % 2)
    result = score(network, data, indices=GEOMETRIC).joint
    undefined = [name for name in GEOMETRIC if name.startswith("margin")] + [
        "other_class_distance",
        "confidence_growth",
    ]
    assert all(math.isnan(result[name]) for name in undefined)
    assert result["facet_count"] > 0


def test_samples_are_right_by_the_whole_networks_scores_also_for_a_module():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    network = nn.Sequential(first, nn.Linear(6, 3)).double()
    inputs = torch.randn(60, 4, dtype=torch.float64)
    with torch.no_grad():
        predicted = network(inputs).argmax(dim=1).numpy()
    result = read_geometry(network, inputs, predicted, module="0")
    assert result.correct.all()
    assert not result.gives_scores
    assert read_geometry(network, inputs).gives_scores


def test_cells_with_too_many_rows_are_refused_before_they_take_hours():
    network = build_network("64-32", (3, 32, 32), 10, backbone="vgg16", width=0.125)
    with pytest.raises(InputError, match="module='head'"):
        read_geometry(network, torch.rand(2, 3, 32, 32))
    assert read_geometry(network, torch.rand(2, 3, 32, 32), module="head").program.layers == ["1", "3"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_polyhedra_on_a_gpu_are_those_of_the_cpu():
    torch.manual_seed(0)
    network = build_network("9-6", (1, 1, 3), 3, backbone="none")
    inputs = torch.randn(500, 1, 1, 3)
    here, there = read_geometry(network, inputs), read_geometry(network.cuda(), inputs.cuda())
    assert there.points.is_cuda
    assert there.margins == pytest.approx(here.margins, rel=1e-9)
    assert there.audit.counts == here.audit.counts
    assert np.array_equal(there.facet_counts, here.facet_counts)
    assert np.array_equal(there.other_class_distances, here.other_class_distances)
    assert complex_of(there.program).summary() == complex_of(here.program).summary()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_indices_of_samples_on_a_gpu_are_those_of_the_cpu():
    torch.manual_seed(0)
    network = build_network("9-6", (1, 1, 3), 3, backbone="none")
    inputs, labels = torch.randn(60, 1, 1, 3), torch.arange(60) % 3
    indices = [name for name, index in INDICES.items() if index.on_request and name != "regularised_patterns"]
    here = score(network, (inputs, labels), indices=indices).joint
    there = score(network.cuda(), (inputs.cuda(), labels.cuda()), indices=indices).joint
    assert there == pytest.approx(here, rel=1e-3, nan_ok=True)


AFFINE = [
    "decision_margin",
    "principal_margin",
    "certified_radius",
    "affine_norm",
    "affine_deviation",
    "confidence_growth",
]


def test_indices_of_affine_maps_are_the_same_in_inference_mode():
    def made():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    x, labels = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    expected = score(made(), (x, labels), indices=AFFINE).joint
    with torch.inference_mode():
        inputs, network = x.clone(), made()
        assert score(made(), (x, labels), indices=AFFINE).joint == expected
    assert score(made(), (inputs, labels), indices=AFFINE).joint == expected
    assert score(network, (x, labels), indices=AFFINE).joint == expected
