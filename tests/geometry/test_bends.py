"""Bending operations against what torch computes from the same arguments, value by value."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from nas_relucode.codes.relus import ReluCalls
from nas_relucode.geometry.bends import bending_calls


def bends(network, points):
    found = []
    with torch.no_grad(), bending_calls(ReluCalls(network), found.append):
        network(points)
    return found


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_calls_are_named_as_the_layers_of_codes_and_maxima_by_their_operation():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Hardtanh(), nn.ReLU6(), nn.Flatten())
    found = bends(network, torch.randn(3, 1, 6, 6))
    assert [bend.layer for bend in found] == ["1", None, None, "4"]
    assert [bend.name for bend in found] == ["1", "max_pool2d_with_indices", "hardtanh", "4"]
    assert [list(bend.levels) for bend in found] == [[0], [], [-1, 1], [0, 6]]


def test_inputs_are_those_before_an_operation_in_place():
    points = torch.randn(5, 7)
    network = nn.Sequential(Function(lambda x: x + 0), nn.ReLU(inplace=True), nn.LeakyReLU(-0.5, inplace=True))
    first, second = bends(network, points)
    assert torch.equal(first.values, points)
    assert torch.equal(second.values, points.relu())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, dilation=2),
        lambda x: F.max_pool3d(x[:, None], (2, 3, 2), (1, 2, 2)),
        lambda x: F.max_pool1d(x.flatten(2), 4, 3, padding=2),
        lambda x: F.adaptive_max_pool2d(x, (2, 5)),
        lambda x: x.amax((1, -1)),
        lambda x: x.amax(2, keepdim=True),
        lambda x: x.max(-2).values,
        lambda x: -x.amin((2, 3)),
        lambda x: -x.min(1, keepdim=True)[0],
    ],
)
def test_the_largest_values_are_what_a_maximum_returns(function):
    (bend,) = bends(Function(function), points := torch.randn(4, 3, 6, 7))
    expected = function(points).flatten(1)
    assert torch.equal(bend.values.flatten(1).gather(1, bend.largest), expected)
    assert len(bend.levels) == 0


def test_an_elementwise_maximum_bends_where_its_sides_are_equal():
    points = torch.randn(4, 6)
    for function in (torch.maximum, torch.minimum, torch.max, torch.min):
        (bend,) = bends(Function(lambda x, function=function: function(x, x.flip(1))), points)
        assert torch.equal(bend.values, points - points.flip(1))
        assert list(bend.levels) == [0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.max(),
        lambda x: x.amax(),
        lambda x: x.amin(0),
        lambda x: x.clamp(min=torch.zeros(6)),
        lambda x: x.clamp(-np.inf, np.inf),
        lambda x: torch.where(x > 0, x, 0),
    ],
)
def test_what_has_no_borders_of_one_point_or_no_known_ones_is_not_told(function):
    assert bends(Function(function), torch.randn(4, 6)) == []
