"""Bends against autograd, torch's own functions and pooling indices, and windows walked through place by place."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given
from hypothesis import strategies as st
from linear_pieces import Function, check_last_layer, points_of
from torch import nn

from nas_relucode.codes.activations import Pieces
from nas_relucode.codes.relus import ReluCalls
from nas_relucode.geometry.bends import Levels, Maxima, bend_of
from nas_relucode.geometry.program import read_program
from nas_relucode.geometry.recording import bend_calls

aten = torch.ops.aten


def slopes(*values):
    layer = nn.PReLU(len(values))
    layer.weight.data = torch.tensor(values)
    return layer


RELU = Levels(Pieces((0.0,), (0.0, 1.0), (0.0, 0.0)))

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
    "RReLU": nn.RReLU().eval(),
    "ReLU6": Function(lambda x: F.relu6(9 * x)),
    "a clamp at 0 and above": Function(lambda x: x.clamp(0, 0.4)),
}
WITHOUT_BITS = {
    "Hardtanh": nn.Hardtanh(-0.3, 0.2),
    "a clamp": Function(lambda x: x.clamp(-0.4, 0.3)),
    "a clamp to a tensor": Function(lambda x: x.clamp(min=torch.tensor(0.2, dtype=x.dtype))),
    "clamp_min": Function(lambda x: x.clamp_min(0.1)),
    "clamp_max in place": Function(lambda x: (x + 0).clamp_max_(0.1)),
    "a threshold": nn.Threshold(0.3, 0.3),
    "softshrink": nn.Softshrink(0.2),
    "abs": Function(torch.abs),
    "abs in place": Function(lambda x: (x - 0.1).abs_()),
    "maximum": Function(lambda x: torch.maximum(x, x.flip(1))),
    "maximum with a constant": Function(lambda x: torch.maximum(torch.tensor(0.1, dtype=x.dtype), x)),
    "minimum": Function(lambda x: torch.minimum(x, 0.3 * x.flip(1))),
    "torch.max of two": Function(lambda x: torch.max(x, x.flip(1))),
    "amax": Function(lambda x: x.amax(1, keepdim=True) - x),
    "amin": Function(lambda x: x.amin([-1], keepdim=True) + x),
    "max over a dimension": Function(lambda x: x.max(1, keepdim=True).values - x),
    "min over a dimension": Function(lambda x: x.min(dim=1, keepdim=True)[0] - x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("maps", [False, True])
def test_behind_an_activation_is_read_what_autograd_sees(name, maps):
    torch.manual_seed(0)
    first, last = (nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 2)) if maps else (nn.Linear(5, 4), nn.Linear(4, 6))
    program = check_last_layer(nn.Sequential(first, ACTIVATIONS[name], last), *((2, 6, 6) if maps else (5,)))
    assert program.has_bits == [True, True]
    assert all(isinstance(program.bend(at), Levels) for at in range(2))


@pytest.mark.parametrize("name", WITHOUT_BITS)
@pytest.mark.parametrize("maps", [False, True])
def test_behind_a_bend_without_bits_is_read_what_autograd_sees(name, maps):
    torch.manual_seed(0)
    first, last = (nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 2)) if maps else (nn.Linear(5, 4), nn.Linear(4, 6))
    program = check_last_layer(nn.Sequential(first, WITHOUT_BITS[name], last), *((2, 6, 6) if maps else (5,)))
    assert program.has_bits == [False, True]


LEVELS = {
    "relu": (aten.relu.default, (), {}, [0]),
    "leaky_relu": (aten.leaky_relu.default, (-0.5,), {}, [0]),
    "prelu": (aten._prelu_kernel.default, (torch.tensor([[0.5, -0.2, 3]]),), {}, [0]),
    "rrelu": (aten.rrelu_with_noise.default, (torch.empty(501, 3), 0.1, 0.3, False), {}, [0]),
    "abs": (aten.abs.default, (), {}, [0]),
    "relu6": (aten.hardtanh.default, (0.0, 6.0), {}, [0, 6]),
    "hardtanh": (aten.hardtanh.default, (), {}, [-1, 1]),
    "clamp": (aten.clamp.default, (-0.4, 0.3), {}, [-0.4, 0.3]),
    "clamp by names": (aten.clamp.default, (), {"max": 0.3}, [0.3]),
    "clamp to a tensor": (aten.clamp.Tensor, (torch.tensor(0.25),), {}, [0.25]),
    "clamp without an end": (aten.clamp.default, (-np.inf, 0.3), {}, [0.3]),
    "clamp of ends in reverse": (aten.clamp.default, (2, 0.3), {}, [0.3, 0.3]),
    "clamp_min": (aten.clamp_min.default, (0.5,), {}, [0.5]),
    "clamp_max": (aten.clamp_max_.default, (0.5,), {}, [0.5]),
    "threshold": (aten.threshold.default, (0.5, 0.5), {}, [0.5]),
    "hardsigmoid": (aten.hardsigmoid.default, (), {}, [-3, 3]),
    "softshrink": (aten.softshrink.default, (0.2,), {}, [-0.2, 0.2]),
}


@pytest.mark.parametrize("name", LEVELS)
def test_an_activation_is_torchs_own_on_its_pieces_and_bends_at_its_levels(name):
    function, args, options, levels = LEVELS[name]
    x = torch.cat([10 * points_of(3, count=500), *(torch.full((1, 3), level, dtype=torch.float64) for level in levels)])
    args = tuple(part.double() if isinstance(part, torch.Tensor) else part for part in args)
    bend = bend_of(function, (x, *args), options)
    assert list(bend.pieces.levels) == pytest.approx(levels)
    state = bend.state(x)
    assert torch.allclose(bend.apply(x, state), function(x.clone(), *args, **options), atol=1e-15)
    rows = bend.rows(x, state).reshape(*x.shape, len(levels))
    beyond = x[..., None] - torch.tensor(levels, dtype=torch.float64)
    assert torch.equal(rows, beyond.abs())
    assert torch.equal(bend.is_closed(state).reshape(rows.shape), beyond <= 0)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (aten.clamp.Tensor, (torch.zeros(3),)),
        (aten.clamp.default, (-np.inf, np.inf)),
        (aten.threshold.default, (0.0, 1.0)),
        (aten.threshold.default, (0.5, 0.0)),
        (aten.rrelu_with_noise.default, (torch.empty(3), 0.1, 0.3, True)),
        (aten.gelu.default, ()),
        (aten.hardswish.default, ()),
        (aten.hardshrink.default, ()),
        (aten.max.default, ()),
        (aten.amax.default, ()),
        (aten.amax.default, ([0],)),
        (aten.amax.default, ([0, 1],)),
    ],
)
def test_what_jumps_or_is_smooth_or_compares_points_is_no_bend(function, args):
    assert bend_of(function, (torch.zeros(4, 3), *args), {}) is None


def test_whole_numbers_do_not_bend():
    assert bend_of(aten.clamp_min.default, (torch.arange(3), 0), {}) is None


def bends(network, points):
    with torch.no_grad():
        return bend_calls(ReluCalls(network), lambda: network(points))[0]


def test_calls_are_named_as_the_layers_of_codes_and_maxima_by_their_operation():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Hardtanh(), nn.ReLU6(), nn.Flatten())
    calls = bends(network, torch.randn(3, 1, 6, 6))
    assert [call.layer for call in calls] == ["1", None, None, "4"]
    assert [call.name for call in calls] == ["1", "max_pool2d_with_indices", "hardtanh", "4"]


def test_inputs_are_those_before_an_operation_in_place():
    points = torch.randn(5, 7)
    network = nn.Sequential(Function(lambda x: x + 0), nn.ReLU(inplace=True), nn.LeakyReLU(-0.5, inplace=True))
    first, second = bends(network, points)
    assert torch.equal(first.inputs, points)
    assert torch.equal(second.inputs, points.relu())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, dilation=2),
        lambda x: F.max_pool3d(x[:, None], (2, 3, 2), (1, 2, 2)),
        lambda x: F.max_pool3d(x.reshape(4, 2, 3, 3, 7), 3, 1, padding=1),
        lambda x: F.adaptive_max_pool3d(x.reshape(4, 2, 3, 3, 7), (2, 1, 3)),
        lambda x: F.max_pool1d(x.flatten(2), 4, 3, padding=2),
        lambda x: F.adaptive_max_pool2d(x, (2, 5)),
        lambda x: x.amax((1, -1)),
        lambda x: x.amax((1, 2, 3)),
        lambda x: x.amax(2, keepdim=True),
        lambda x: x.max(-2).values,
        lambda x: -x.amin((2, 3)),
        lambda x: -x.min(1, keepdim=True)[0],
    ],
)
def test_the_largest_values_are_what_a_maximum_returns(function):
    (call,) = bends(Function(function), points := torch.randn(4, 3, 6, 7))
    expected, bend = function(points), call.bend
    assert torch.equal(bend.apply(call.inputs, bend.state(call.inputs)).flatten(), expected.flatten())


def test_an_elementwise_maximum_bends_where_its_sides_are_equal():
    points = torch.randn(4, 6)
    for function, sign in ((torch.maximum, 1), (torch.minimum, -1), (torch.max, 1), (torch.min, -1)):
        network = Function(lambda x, function=function: function(x, x.flip(1)))
        (call,) = bends(network, points)
        assert torch.equal(call.inputs, sign * (points - points.flip(1)))
        assert call.bend.pieces.levels == (0,)
        assert call.layer is None


@pytest.mark.parametrize("function", [torch.min, torch.max])
def test_indices_of_a_maximum_are_handed_on(function):
    points, indices = torch.randn(4, 6), []
    bends(Function(lambda x: indices.append(function(x, 1)) or F.relu(x)), points)
    assert torch.equal(indices[0][0], function(points, 1).values)
    assert torch.equal(indices[0][1], function(points, 1).indices)


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
        places = []
        for step in itertools.product(range(kernel[0]), range(kernel[1])):
            i, j = (
                at * options["stride"][axis] - options["padding"][axis] + move * options["dilation"][axis]
                for axis, (at, move) in enumerate(zip(start, step, strict=True))
            )
            if 0 <= i < size[0] and 0 <= j < size[1]:
                places.append(i * size[1] + j)
        yield places


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
    bend = bend_of(aten.max_pool2d_with_indices.default, (x, kernel, *options.values()), {})
    check_pooling(bend, x, expected, list(places_of(size, kernel, options, expected[0].shape[2:])))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_an_adaptive_max_pool_has_uneven_windows(height, width, rows, columns):
    rows, columns = min(rows, height), min(columns, width)
    x = points_of(2, height, width)
    bend = bend_of(aten.adaptive_max_pool2d.default, (x, [rows, columns]), {})
    ends = [
        [(int(np.floor(i * n / count)), int(np.ceil((i + 1) * n / count))) for i in range(count)]
        for n, count in ((height, rows), (width, columns))
    ]
    places = [[i * width + j for i in range(*one) for j in range(*other)] for one in ends[0] for other in ends[1]]
    check_pooling(bend, x, F.adaptive_max_pool2d(x, (rows, columns), return_indices=True), places)


POOLS = {
    "of three dimensions": nn.Sequential(nn.Unflatten(1, (2, 2)), nn.MaxPool3d(2, 1, padding=1)),
    "adaptive of three dimensions": nn.Sequential(nn.Unflatten(1, (2, 2)), nn.AdaptiveMaxPool3d((1, 4, 3))),
    "over dimensions": Function(lambda x: x.amax((1, 3))),
    "over all dimensions": Function(lambda x: (x.amax((1, 2, 3)) + x.mean((1, 2, 3))).unsqueeze(1)),
    "least over dimensions": Function(lambda x: x.amin((2, 3))),
    "with indices that are not used": Function(lambda x: x.flatten(2).max(2)[0]),
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
    assert isinstance(program.bend(0), Maxima)


def test_the_first_of_equal_places_wins():
    bend = bend_of(aten.max_pool2d_with_indices.default, (torch.zeros(1, 1, 2, 2), [2, 2]), {})
    for values, place in [([0, 0, 0, 0], 0), ([1, 2, 2, 0], 1), ([-3, -2, -1, -1], 2)]:
        assert bend.state(torch.tensor(values).double().reshape(1, 1, 2, 2)).item() == place


def test_behind_a_hyperplane_states_follow_the_direction():
    x, ties = torch.tensor([[0.0, 0, 0, 3]]), torch.tensor([[True, True, True, False]])
    direction, tiny = torch.tensor([[1.0, -1, 1e-12, -9]]), torch.tensor([1e-9])
    assert RELU.across(x > 0, ties, direction, tiny).tolist() == [[True, False, False, True]]
    bend = bend_of(aten.max_pool2d_with_indices.default, (torch.zeros(1, 1, 2, 2), [2, 2]), {})
    x = torch.tensor([2.0, 2, 1, 2]).reshape(1, 1, 2, 2)
    state = bend.state(x)
    ties = bend.rows(x, state) == 0
    for direction, place in [([0, 1, 9, 2], 3), ([5, 1, 9, 2], 0), ([-5, -1, 9, -2], 1)]:
        step = torch.tensor(direction).double().reshape(1, 1, 2, 2)
        assert bend.across(state, ties, step, tiny).item() == place == bend.state(x + 1e-3 * step).item()
    nearly = torch.tensor([1, 1 + 1e-12, 0, 0]).double().reshape(1, 1, 2, 2)
    assert bend.across(state, ties, nearly, tiny).item() == 0


@pytest.mark.parametrize("levels", [(0.0, 6.0), (-1.0, 2.0, 5.0), (2.0, 2.0)])
def test_behind_a_level_the_state_is_that_of_a_point_there(levels):
    bend = Levels(Pieces(levels, (1.0,) * (len(levels) + 1), (0.0,) * (len(levels) + 1)))
    x = torch.tensor([[*levels, -9.0, 9.0]]).double()
    state = bend.state(x)
    ties = bend.rows(x, state) == 0
    for direction in points_of(x.shape[1], count=8):
        there = bend.across(state, ties, direction[None], torch.tensor([1e-9]))
        assert torch.equal(there, bend.state(x + 1e-3 * direction))


def test_tangents_are_the_differences_inside_a_cell():
    """Of every bend: the linear piece of a state, and its rows, are as far apart as the points are."""
    x, step = points_of(2, 4, 4), 1e-3 * points_of(2, 4, 4, seed=1)
    pool = bend_of(aten.max_pool2d_with_indices.default, (x, [3, 3], [2, 2], [1, 1]), {})
    channels = Levels(Pieces((0.0,), (torch.randn(1, 2, 1, 1).double(), 1.0), (0.0, 0.0)))
    three = Levels(Pieces((-0.5, 0.0, 0.5), (0.0, 2.0, -1.0, 3.0), (-1.0, 0.0, 0.0, -2.0)))
    for bend in (RELU, channels, three, pool, bend_of(aten.amax.default, (x, [1, 2]), {})):
        state, both = bend.state(x), torch.stack([step, -2 * step], 1)
        for values, tangents in ((bend.apply, bend.tangents), (bend.rows, bend.row_tangents)):
            apart, moved = values(x + step, state) - values(x, state), tangents(both, state)
            assert torch.allclose(moved[:, 0], apart, atol=1e-14)
            assert torch.allclose(moved[:, 1], -2 * apart, atol=1e-14)
        assert torch.allclose(bend.squared_norms(both, state), bend.row_tangents(both, state).square().sum(1))


def test_the_rows_of_a_neuron_are_among_those_of_all():
    x = points_of(2, 4, 4, count=3)
    pool = bend_of(aten.max_pool2d_with_indices.default, (x, [3, 3], [2, 2], [1, 1]), {})
    for bend in (RELU, Levels(Pieces((-0.5, 0.5), (0.0, 1.0, 0.0), (-0.5, 0.0, 0.5))), pool):
        state = bend.state(x)
        rows = bend.rows(x.flip(0), state).reshape(3, -1, bend.places)
        points, neurons = torch.ones(rows.shape[:2]).nonzero(as_tuple=True)
        single = bend.rows_of(x.flip(0), points, neurons, state.flatten(1)[points, neurons])
        assert torch.equal(single.reshape(rows.shape), rows)


def test_numbers_of_one_dimension_have_one_row_each():
    network = nn.Sequential(nn.Linear(3, 1), Function(lambda x: x.squeeze(1)), nn.ReLU())
    program = read_program(network, torch.ones(1, 3))
    assert program.widths == [1]
