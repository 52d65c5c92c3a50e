"""Helpers that compare what was read of a network with autograd."""

import copy

import torch
from torch import nn

from nas_relucode.geometry.program import read_program


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Kept(nn.Module):
    """A layer that keeps its inputs."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.inputs = layer, []

    def forward(self, x):
        self.inputs.append(x)
        return self.layer(x)


def odd_statistics(network, seed=0):
    """The network, with statistics, scales and shifts of BatchNorm that differ from those of a new layer."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                module.weight.data.uniform_(-1, 1, generator=generator)
                module.bias.data.normal_(std=0.3, generator=generator)
    return network


def points_of(*shape, count=3, seed=0):
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def jacobians(function, points):
    """The Jacobian at each point: (points, outputs, features)."""
    parts = [torch.autograd.functional.jacobian(function, point[None], vectorize=True) for point in points]
    return torch.stack([part.reshape(-1, point.numel()) for part, point in zip(parts, points, strict=True)])


def in_float64(network):
    return copy.deepcopy(network).double().eval().requires_grad_(False)


def read_pieces(program, points):
    """The inputs of each layer (points, neurons), and their Jacobians (points, neurons, features)."""
    units = torch.eye(program.features, dtype=torch.float64).reshape(1, -1, *program.shape)
    for _, x, _, dx in program.run(points, units, to_the_end=False):
        yield x.reshape(len(points), -1), dx.reshape(*dx.shape[:2], -1).mT.expand(len(points), -1, -1)


def check_last_layer(before, *shape):
    """Checks the values and slopes before the ReLU of ``relu(before(x))`` against autograd; returns the program."""
    points = points_of(*shape)
    program = read_program(nn.Sequential(before, nn.ReLU()), points[:1])
    *_, (values, slopes) = read_pieces(program, points)
    exact = in_float64(before)
    expected = exact(points.clone()).reshape(len(points), -1)
    assert torch.allclose(values, expected, rtol=1e-9, atol=1e-12)
    assert torch.allclose(slopes, jacobians(exact, points), rtol=1e-9, atol=1e-12)
    assert expected.abs().max() > 1e-3
    return program
