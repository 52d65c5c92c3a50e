"""Bends against autograd, torch's own pooling with its indices, and windows walked through one place at a time."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given
from hypothesis import strategies as st
from linear_pieces import Function, check_last_layer, points_of
from torch import nn

from nas_relucode.geometry.operations import BENDS, MaxPool, Relu
from nas_relucode.geometry.program import read_program

aten = torch.ops.aten


def slopes(*values):
    layer = nn.PReLU(len(values))
    layer.weight.data = torch.tensor(values)
    return layer


ACTIVATIONS = {
    "ReLU": nn.ReLU(),
    "ReLU in place": nn.ReLU(inplace=True),
    "F.relu": Function(F.relu),
    "relu_": Function(lambda x: (x - 0.1).relu_()),
    "clamp": Function(lambda x: x.clamp(min=0)),
    "clamp in place": Function(lambda x: (2 * x).clamp_(0)),
    "clamp_min": Function(lambda x: torch.clamp_min(x, 0.0)),
    "threshold": nn.Threshold(0, 0, inplace=True),
    "LeakyReLU": nn.LeakyReLU(0.3),
    "LeakyReLU as it comes": nn.LeakyReLU(),
    "LeakyReLU in place": Function(lambda x: F.leaky_relu_(x - 0.1, 0.3)),
    "LeakyReLU that falls": nn.LeakyReLU(-0.7),
    "PReLU": slopes(0.25),
    "PReLU with a slope for each channel": slopes(0.5, -0.2, 0.0, 1.5),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("maps", [False, True])
def test_behind_an_activation_is_read_what_autograd_sees(name, maps):
    torch.manual_seed(0)
    first, last = (nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 2)) if maps else (nn.Linear(5, 4), nn.Linear(4, 6))
    program = check_last_layer(nn.Sequential(first, ACTIVATIONS[name], last), *((2, 6, 6) if maps else (5,)))
    assert len(program.layers) == 2
    assert all(isinstance(program.bend(at), Relu) for at in range(2))


def test_what_bends_elsewhere_is_no_bend_that_is_read():
    x = torch.zeros(1, 3)
    for packet, args in [
        (aten.clamp, (x, 0, 6)),
        (aten.clamp, (x, -1)),
        (aten.clamp, (x, torch.zeros(3))),
        (aten.clamp_min, (x, 0.5)),
        (aten.threshold, (x, 0.0, 1.0)),
        (aten.threshold, (x, 0.5, 0.0)),
    ]:
        assert BENDS[packet](args, {}) is None
    assert aten.hardtanh not in BENDS  # ReLU6


@st.composite
def poolings(draw):
    """A map, and a kernel, stride, padding and dilation that torch takes."""
    axes = []
    for _ in range(2):
        kernel = draw(st.integers(1, 3))
        dilation, padding = draw(st.integers(1, 2)), draw(st.integers(0, kernel // 2))
        length = draw(st.integers(max(1, dilation * (kernel - 1) + 1 - 2 * padding), 7))
        axes.append((length, kernel, draw(st.integers(1, 3)), padding, dilation))
    size, kernel, stride, padding, dilation = zip(*axes, strict=True)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": draw(st.booleans())}
    return size, kernel, options, draw(st.integers(0, 999))


def places_of(size, kernel, options, result):
    """Of each window the places that lie in the map, as numbers, found by walking."""
    for start in itertools.product(range(result[0]), range(result[1])):
        found = []
        for step in itertools.product(range(kernel[0]), range(kernel[1])):
            i, j = (
                at * options["stride"][axis] - options["padding"][axis] + move * options["dilation"][axis]
                for axis, (at, move) in enumerate(zip(start, step, strict=True))
            )
            if 0 <= i < size[0] and 0 <= j < size[1]:
                found.append(i * size[1] + j)
        yield found


def check_pooling(bend, x, expected, places):
    """Values and winners are torch's, and the rows are the winner's lead over each place of its window."""
    values, winners = expected
    state = bend.state(x)
    assert torch.equal(bend.apply(x, state), values)
    assert torch.equal(bend.windows.expand(*state.shape, -1).gather(-1, state[..., None])[..., 0], winners.flatten(2))
    rows = bend.rows(x, state).reshape(*x.shape[:2], len(places), -1)
    assert rows.shape[-1] == bend.places
    maps = x.flatten(2)
    for window, inside in enumerate(places):
        lead, within = rows[:, :, window], bend.windows[window] >= 0
        assert torch.equal(lead[..., within], values.flatten(2)[:, :, [window]] - maps[..., inside])
        assert not lead[..., ~within].any()


@given(poolings())
def test_a_max_pool_has_the_values_winners_and_rows_of_its_windows(case):
    size, kernel, options, seed = case
    x = points_of(3, *size, count=2, seed=seed)
    try:
        expected = F.max_pool2d(x, kernel, return_indices=True, **options)
    except RuntimeError:  # the last window would begin outside
        assume(False)
    assume(torch.isfinite(expected[0]).all())  # or else a window lies outside
    bend = BENDS[aten.max_pool2d_with_indices]((x, kernel, *options.values()), {})
    check_pooling(bend, x, expected, list(places_of(size, kernel, options, expected[0].shape[2:])))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_an_adaptive_max_pool_has_uneven_windows(height, width, rows, columns):
    rows, columns = min(rows, height), min(columns, width)
    x = points_of(2, height, width)
    bend = BENDS[aten.adaptive_max_pool2d]((x, [rows, columns]), {})
    ends = [
        [(int(np.floor(i * n / count)), int(np.ceil((i + 1) * n / count))) for i in range(count)]
        for n, count in ((height, rows), (width, columns))
    ]
    places = [[i * width + j for i in range(*one) for j in range(*other)] for one in ends[0] for other in ends[1]]
    check_pooling(bend, x, F.adaptive_max_pool2d(x, (rows, columns), return_indices=True), places)


POOLS = {
    "3, stride 2, padding 1": nn.MaxPool2d(3, 2, padding=1),
    "ceil mode": nn.MaxPool2d((2, 3), ceil_mode=True),
    "dilated": nn.MaxPool2d(2, 1, dilation=(2, 3)),
    "adaptive": nn.AdaptiveMaxPool2d((4, 3)),
    "with indices": Function(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
    "of one dimension": nn.Sequential(nn.Flatten(2), nn.MaxPool1d(5, 3, padding=2)),
    "adaptive of one dimension": nn.Sequential(nn.Flatten(2), nn.AdaptiveMaxPool1d(7)),
    "over channels": Function(lambda x: F.max_pool1d(x.flatten(2).mT, 2).mT),
    "without channels": Function(lambda x: F.max_pool2d(x.mean(1), 2)),
}


@pytest.mark.parametrize("name", POOLS)
def test_behind_a_max_pool_is_read_what_autograd_sees(name):
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4))
    layers = nn.Sequential(stem, POOLS[name], nn.Flatten(), nn.LazyLinear(6)).eval()
    layers(torch.zeros(1, 2, 6, 6))
    program = check_last_layer(layers, 2, 6, 6)
    assert isinstance(program.bend(0), MaxPool)


def test_the_first_of_equal_places_wins():
    bend = BENDS[aten.max_pool2d_with_indices]((torch.zeros(1, 1, 2, 2), [2, 2]), {})
    for values, place in [([0, 0, 0, 0], 0), ([1, 2, 2, 0], 1), ([-3, -2, -1, -1], 2)]:
        assert bend.state(torch.tensor(values).double().reshape(1, 1, 2, 2)).item() == place


def test_behind_a_hyperplane_states_follow_the_direction():
    x, ties = torch.tensor([[0.0, 0, 0, 3]]), torch.tensor([[True, True, True, False]])
    direction, tiny = torch.tensor([[1.0, -1, 1e-12, -9]]), torch.tensor([1e-9])
    assert Relu().across(x > 0, ties, direction, tiny).tolist() == [[True, False, False, True]]
    bend = BENDS[aten.max_pool2d_with_indices]((torch.zeros(1, 1, 2, 2), [2, 2]), {})
    x = torch.tensor([2.0, 2, 1, 2]).reshape(1, 1, 2, 2)
    state = bend.state(x)
    ties = bend.rows(x, state) == 0
    for direction, place in [([0, 1, 9, 2], 3), ([5, 1, 9, 2], 0), ([-5, -1, 9, -2], 1)]:
        step = torch.tensor(direction).double().reshape(1, 1, 2, 2)
        assert bend.across(state, ties, step, tiny).item() == place == bend.state(x + 1e-3 * step).item()
    nearly = torch.tensor([1, 1 + 1e-12, 0, 0]).double().reshape(1, 1, 2, 2)
    assert bend.across(state, ties, nearly, tiny).item() == 0


def test_tangents_are_the_differences_inside_a_cell():
    """Of every bend: the linear piece of a state, and its rows, are as far apart as the points are."""
    x, step = points_of(2, 4, 4), 1e-3 * points_of(2, 4, 4, seed=1)
    args = (x, [3, 3], [2, 2], [1, 1])
    for bend in (
        Relu(),
        Relu(-0.3),
        Relu(torch.randn(1, 2, 1, 1).double()),
        BENDS[aten.max_pool2d_with_indices](args, {}),
    ):
        state = bend.state(x)
        for way in (bend.apply, bend.rows):
            apart = way(x + step, state) - way(x, state)
            tangents = torch.stack([step, -2 * step], 1)
            moved = way(tangents, state[:, None], *([2] if way == bend.rows else []))
            assert torch.allclose(moved[:, 0], apart, atol=1e-14)
            assert torch.allclose(moved[:, 1], -2 * apart, atol=1e-14)


def test_numbers_of_one_dimension_have_one_row_each():
    network = nn.Sequential(nn.Linear(3, 1), Function(lambda x: x.squeeze(1)), nn.ReLU())
    program = read_program(network, torch.ones(1, 3))
    assert program.widths == [1]
