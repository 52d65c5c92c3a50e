"""Lemma 1 audited: certificates against the whole complex of oracles and of degenerate networks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from perceptrons import degenerate, oracle, perceptron
from rational_complex import as_strings, rational_complex

from nas_relucode import InputError, audit, build_network, capture
from nas_relucode.geometry.phantoms import CERTIFICATES, widest_on

FACET = [CERTIFICATES.index(name) for name in ("last layer", "segment", "programme")]


def check(weights, points):
    """Compares every adjacent pair of the sample's cells with the reference."""
    expected = rational_complex(weights)
    result = audit(perceptron(weights), points)
    codes = as_strings(result.cells.codes)
    for (a, b), certificate in zip(result.pairs, result.certificate, strict=True):
        if not {codes[a], codes[b]} <= expected.codes:  # a neuron is 0 all over the cell, and rounding gave it a bit
            assert certificate not in FACET
            continue
        assert CERTIFICATES[certificate] != "undecided"
        assert (tuple(sorted((codes[a], codes[b]))) in expected.neighbours) == (certificate in FACET)
    return result


@pytest.mark.parametrize("name", ["A", "P", "U"])
def test_pairs_of_the_oracles_are_certified_correctly(name):
    weights, truth = oracle(name)
    expected = rational_complex(weights)
    points = torch.tensor([[float(x) for x in point] for point in expected.points.values()], dtype=torch.float64)
    result = check(weights, points)
    assert len(result.cells) == truth["whole_space"]["cells"]
    assert len(result.pairs) == truth["whole_space"]["hamming1_pairs"]
    assert result.counts["phantom"] == truth["whole_space"]["hamming1_not_adjacent"]
    assert result.phantom_fraction == result.counts["phantom"] / len(result.pairs)


@given(degenerate(), st.integers(0, 1000))
def test_pairs_of_degenerate_networks_are_certified_correctly(weights, seed):
    points = 4 * torch.rand((60, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 2
    check(weights, points)


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_codes_that_differ_by_rounding_alone_are_undecided(bias):
    """Where all neurons of the first layer are on, the second one is -2 (2x + y) + 2 (x + y) + 2x = 0."""
    first = np.array([[2.0, 1.0], [1.0, 1.0], [2.0, 0.0], [0.0, 0.0]]), np.array([0.0, 0.0, 0.0, bias])
    weights = [first, (np.array([[-2.0, 2.0, 1.0, 0.0]]), np.zeros(1)), (np.zeros((1, 1)), np.zeros(1))]
    points = 4 * torch.rand((500, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 2
    assert check(weights, points).counts["undecided"] > 0


def pre_activations(network, point):
    values = []
    relus = [module for module in network.modules() if isinstance(module, torch.nn.ReLU)]
    hooks = [relu.register_forward_pre_hook(lambda _, x: values.append(x[0].detach().flatten())) for relu in relus]
    network(point)
    for hook in hooks:
        hook.remove()
    return torch.cat(values).tolist()


def test_points_of_a_certificate_lie_on_the_border_between_the_two_cells():
    torch.manual_seed(0)
    network = build_network("12-8", (1, 1, 5), 3, backbone="none").double().eval()
    result = audit(network, torch.randn(2000, 1, 1, 5, dtype=torch.float64))
    codes = result.cells.codes.bits()
    known = np.isfinite(result.points).all(axis=1)
    assert (result.certificate[known] < CERTIFICATES.index("phantom")).all()
    assert set(result.certificate.tolist()) >= {0, 1}
    near = []
    for (a, b), point in zip(result.pairs[known], result.points[known], strict=True):
        flipped = int(np.flatnonzero(codes[a] != codes[b])[0])
        near.append(abs(pre_activations(network, torch.tensor(point).reshape(1, 1, 1, 5))[flipped]))
    assert max(near) < 1e-9


def test_the_cells_of_an_audit_are_those_of_the_captured_codes():
    weights, _ = oracle("A")
    points = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = audit(perceptron(weights), points)
    assert np.array_equal(result.cells.codes.bits()[result.cells.cell_of], capture(perceptron(weights), points).bits())


def test_of_more_than_max_pairs_a_subset_is_audited():
    weights, _ = oracle("A")
    points = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    every, some = audit(perceptron(weights), points), audit(perceptron(weights), points, max_pairs=50)
    assert len(some.pairs) == 50 < len(every.pairs)
    assert {tuple(pair) for pair in some.pairs} <= {tuple(pair) for pair in every.pairs}


def test_a_sample_without_pairs_has_no_phantom_fraction():
    weights, _ = oracle("A")
    result = audit(perceptron(weights), torch.zeros(3, 2))
    assert len(result.pairs) == 0
    assert np.isnan(result.phantom_fraction)


def test_a_network_that_is_not_piecewise_linear_is_an_error_that_names_the_operation():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.GELU(), torch.nn.Linear(3, 3), torch.nn.ReLU())
    with pytest.raises(InputError, match="gelu"):
        audit(network, torch.zeros(4, 2))


def test_widest_on_finds_the_point_of_a_line_with_the_most_room():
    square = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # -1 < x, y < 1
    step, room = widest_on(square, np.ones(4), np.array([1.0, 0.0]), -0.5)
    assert step[0] == pytest.approx(0.5)
    assert abs(step[1]) <= 0.5 + 1e-9
    assert room == pytest.approx(0.5)
    _, room = widest_on(square, np.ones(4), np.array([1.0, 0.0]), -3.0)
    assert room == pytest.approx(-2.0)  # outside


@pytest.mark.parametrize("size", [1e-4, 1e-8, 1e-11])
def test_a_border_far_away_changes_no_certificate(size):
    weights, _ = oracle("A")
    points = 6 * torch.rand((4000, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 3
    counts = audit(perceptron(weights), points).counts
    (first, bias), (second, offset), last = weights
    far = (np.concatenate([first, [[size, 0.0]]]), np.append(bias, -1.0))
    result = audit(perceptron([far, (np.column_stack([second, np.zeros(len(second))]), offset), last]), points).counts
    assert result == counts
    assert counts["programme"] > 0
    assert counts["phantom"] > 0
