"""Helpers for segments: perceptrons, ends, and the codes along a segment on a fine grid of points."""

import copy
import itertools

import numpy as np
import torch
from torch import nn

from nas_relucode import capture


def mlp(*widths, seed=0):
    torch.manual_seed(seed)
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[module for pair in layers for module in pair])


def ends(count, *shape, seed=0):
    return torch.randn(2, count, *shape, generator=torch.Generator().manual_seed(seed))


def check_against_grid(network, start, end, segment, layers="all", points=2000):
    """At each point of a fine grid the code is that of the stretch in which it lies, so no transition is missing."""
    t = np.linspace(0, 1, points + 1)[:-1] + 0.5 / points
    share = torch.from_numpy(t).reshape(-1, *[1] * start.ndim)
    grid = (1 - share) * start.double() + share * end.double()
    codes = capture(copy.deepcopy(network).double(), grid, layers=layers)
    assert [(layer.name, layer.shape, layer.start) for layer in codes.layers] == [
        (layer.name, layer.shape, layer.start) for layer in segment.cells.layers
    ]
    apart = np.abs(t[:, None] - segment.times[None]).min(axis=1, initial=1) > 1e-7
    stretch = np.searchsorted(segment.times, t)
    assert np.array_equal(codes.words[apart], segment.cells.words[stretch[apart]])
    changes = int((codes.words[apart][1:] != codes.words[apart][:-1]).any(axis=1).sum())
    assert changes <= segment.transitions
