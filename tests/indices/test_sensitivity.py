"""Indices of how codes and scores change: from geometry and by hand, on networks whose pieces are known."""

import itertools
import math

import numpy as np
import pytest
import torch
from perceptrons import perceptron
from torch import nn

from nas_relucode import INDICES, InputError, Split, score
from nas_relucode.indices import AffineDeviation, CertifiedRadius, LocalComplexity, SpaceFolding
from nas_relucode.indices.sensitivity import SensitivityIndex


def value(network, points, labels, index, **options):
    split = Split(torch.as_tensor(points, dtype=torch.float64), torch.as_tensor(labels))
    name = index if isinstance(index, str) else index.name
    return score(network, split, indices=[index], **options).joint[name]


def half_plane(outputs=((1.0,), (0.0,))):
    """One neuron, active where the first coordinate is positive, and two scores."""
    return perceptron([(np.array([[1.0, 0.0]]), np.zeros(1)), (np.array(outputs), np.zeros(2))])


def quadrant():
    """On the positive quadrant the scores are 2 x + y, x - y and 0; elsewhere some coordinates are cut off."""
    return perceptron([(np.eye(2), np.zeros(2)), (np.array([[2.0, 1.0], [1.0, -1.0], [0.0, 0.0]]), np.zeros(3))])


def test_the_share_of_flipped_bits_is_the_arc_beyond_the_border():
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)  # their spread is 1, the border 1 away
    index = LocalComplexity(radius=2.0, directions=20, samples=1000)
    flipped = value(half_plane(), points.repeat(500, 1), [0, 1] * 500, index)
    assert flipped == pytest.approx(math.acos(1 / 2) / math.pi, abs=0.01)
    assert value(half_plane(), points, [0, 1], LocalComplexity(radius=0.99)) == 0


def test_stability_is_relative_to_the_bits_between_classes():
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    flipped = value(half_plane(), points, [0, 1], "local_complexity")
    assert value(half_plane(), points, [0, 1], "code_stability") == pytest.approx(1 - flipped)  # they differ in one bit
    assert math.isnan(value(half_plane(), points, [0, 0], "code_stability"))


def test_the_decision_margin_is_the_distance_to_the_line_where_two_scores_are_equal():
    points = [[1.0, 2.0], [3.0, 1.0]]
    # Of 2 x + y against x - y: x + 2 y over the root of 5; against 0: 2 x + y over the root of 5.
    expected = [min(x + 2 * y, 2 * x + y) / math.sqrt(5) for x, y in points]
    assert value(quadrant(), points, [0, 0], "decision_margin") == pytest.approx(np.mean(expected))
    assert value(quadrant(), points, [0, 1], "decision_margin") == pytest.approx(expected[0])  # the second is wrong
    assert math.isnan(value(quadrant(), points, [1, 1], "decision_margin"))


def test_no_input_within_the_certified_radius_is_classified_otherwise():
    generator = np.random.default_rng(0)
    network = perceptron(
        [(generator.normal(size=(6, 2)), generator.normal(size=6)), (generator.normal(size=(3, 6)), np.zeros(3))]
    )
    points = torch.tensor(generator.normal(size=(30, 2)))
    labels = network(points).argmax(dim=1)
    for point, label in zip(points, labels, strict=True):
        radius = value(network, point[None], label[None], CertifiedRadius())
        angles = torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)
        circle = point + 0.9999 * radius * torch.stack([angles.cos(), angles.sin()], dim=1)
        assert (network(circle).argmax(dim=1) == label).all()
        margin = value(network, point[None], label[None], "decision_margin")
        assert math.isnan(margin) or radius <= margin + 1e-12  # where all scores are constant there is no margin


def test_the_principal_margin_is_measured_along_the_line_on_which_the_samples_lie():
    points = [[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]]  # on a line along the first coordinate: one principal direction
    expected = np.mean([min((x + 2 * 2) / 1, (2 * x + 2) / 2) for x, _ in points])  # x-parts of the gradients: 1 and 2
    assert value(quadrant(), points, [0, 0, 0], "principal_margin") == pytest.approx(expected)


def test_the_affine_norm_is_that_of_the_product_of_the_matrices_of_the_active_neurons():
    assert value(quadrant(), [[1.0, 2.0]], [0], "affine_norm") == pytest.approx(math.sqrt(4 + 1 + 1 + 1))
    assert value(quadrant(), [[1.0, -2.0]], [0], "affine_norm") == pytest.approx(math.sqrt(4 + 1))
    assert value(quadrant(), [[-1.0, -2.0]], [0], "affine_norm") == 0


def absolute():
    """The scores |x| and 0."""
    return perceptron([(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, 1.0], [0.0, 0.0]]), np.zeros(2))])


def test_the_deviation_is_that_of_the_graph_from_its_chord():
    # Between -1 and 2 the chord of |x| runs from 1 to 2. The third sample, of another class, makes scores vary.
    points, samples = [[-1.0], [2.0], [4.0]], np.arange(1, 9) / 9
    chord, graph = 1 + samples, np.abs(-1 + 3 * samples)
    scores = np.array([1.0, 2.0, 4.0])
    expected = math.sqrt(np.mean((chord - graph) ** 2)) / scores.std()
    assert value(absolute(), points, [0, 0, 1], "affine_deviation") == pytest.approx(expected)
    assert value(absolute(), [[1.0], [2.0], [4.0]], [0, 0, 0], "affine_deviation") == pytest.approx(0, abs=1e-12)


def test_codes_that_turn_back_fold_the_space():
    # Both neurons change at 0, and none changes back: the path is as long as the way.
    assert value(absolute(), [[-1.0], [2.0]], [0, 0], "space_folding") == 0
    # A neuron of |x| - 1 is on, off and on again from -2 to 2: four bits change, and the end is two from the start.
    folded = nn.Sequential(*absolute(), nn.ReLU())
    folded[2] = nn.Linear(2, 1, dtype=torch.float64)
    folded[2].weight.data.fill_(1.0)
    folded[2].bias.data.fill_(-1.0)
    network = nn.Sequential(*folded, nn.Linear(1, 2, dtype=torch.float64))
    codes = [[x > 0, x < 0, abs(x) > 1] for x in np.linspace(-2, 2, 17)]
    length = sum(np.not_equal(a, b).sum() for a, b in itertools.pairwise(codes))
    away = max(np.not_equal(codes[0], code).sum() for code in codes)
    assert value(network, [[-2.0], [2.0]], [0, 0], SpaceFolding(points=16)) == pytest.approx(1 - away / length)


class OfWholeNumbers(nn.Module):
    """A network of images as they are stored, or of the numbers of tokens."""

    def __init__(self, tokens):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(9, 2) if tokens else None
        self.body = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 2))

    def forward(self, inputs):
        return self.body(inputs / 9 - 0.5 if self.embedding is None else self.embedding(inputs).flatten(1))


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("name", [name for name, index in INDICES.items() if isinstance(index, SensitivityIndex)])
def test_indices_that_move_inputs_refuse_whole_numbers(name, tokens):
    inputs = torch.arange(24).reshape(6, 4) % 9
    inputs, network = inputs.to(torch.int64 if tokens else torch.uint8), OfWholeNumbers(tokens)
    network(inputs)
    with pytest.raises(InputError, match=rf"{name}.*floating-point inputs.*int(8|64).*inputs\.float\(\)"):
        score(network, (inputs, torch.arange(6) % 2), indices=[name])


def test_segments_between_tokens_are_refused_and_those_between_bytes_are_computed():
    inputs, labels = torch.randint(9, (6, 4)), torch.arange(6) % 2
    of_tokens, of_bytes = OfWholeNumbers(True), OfWholeNumbers(False)
    of_tokens(inputs), of_bytes(inputs)
    with pytest.raises(InputError, match=r"segment_transitions.*float64"):
        score(of_tokens, (inputs, labels), indices=["segment_transitions"])
    as_bytes, as_floats = (
        score(of_bytes, (inputs.to(dtype), labels), indices=["segment_transitions"]).joint
        for dtype in (torch.uint8, torch.float32)
    )
    assert as_bytes == as_floats


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="radius -1"):
        LocalComplexity(radius=-1)
    with pytest.raises(InputError, match="pairs 0"):
        AffineDeviation(pairs=0)


def test_networks_without_class_scores_have_no_affine_maps():
    network = nn.Sequential(nn.Linear(2, 1, dtype=torch.float64), nn.ReLU())
    with pytest.raises(InputError, match="class scores"):
        value(network, [[1.0, 2.0]], [0], "affine_norm")
