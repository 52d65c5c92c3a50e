"""Networks that call their ReLUs in every way, others that hide them, and one that changes whatever it can."""

import io
import math
import pickle
import warnings

import torch
from torch import nn
from torch.nn import functional


class Two(nn.Module):
    """Two layers and what bends after each; what the forward pass computed is kept to compare codes with."""

    def __init__(self, act=functional.relu):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(5, 70), nn.Linear(70, 64)
        self.act = act
        self.kept = []

    def forward(self, x):
        a = self.act(self.first(x))
        b = self.act(self.second(a))
        self.kept.append((a.detach().clone(), b.detach().clone()))
        return b.sum(dim=1, keepdim=True)


class Block(nn.Module):
    """A module that is used twice, and a function."""

    def __init__(self):
        super().__init__()
        self.linear, self.act = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        return functional.relu(self.act(self.linear(self.act(x))))


class Every(nn.Module):
    """A block that is called twice, modules of many kinds, in-place methods, a loop, a method and functions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.block = Block()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU6(), nn.PReLU(), nn.LeakyReLU(0.1, inplace=True))
        self.drop = nn.Dropout()
        self.steps = nn.ModuleList([nn.ReLU(inplace=True), nn.Linear(4, 4), nn.Sequential(nn.RReLU(), nn.GELU())])

    def bent(self, x):
        return x.clamp(min=0)

    def forward(self, x):
        x = self.drop(self.body(self.block(self.block(x)))).relu_()
        for step in self.steps:
            x = step(x)
        if self.training:
            x = x.relu()
        return functional.threshold(self.bent(x - 0.1), 0.0, 0.0)


EVERY = [
    ("block.act", "relu"),
    ("block.act#2", "relu"),
    ("block", "relu"),
    ("block.act#3", "relu"),
    ("block.act#4", "relu"),
    ("block#2", "relu"),
    ("body.1", "relu6"),
    ("body.2", "prelu"),
    ("body.3", "leaky_relu"),
    ("relu", "relu"),
    ("steps.0", "relu"),
    ("steps.2.0", "rrelu"),
    ("clamp", "clamp"),
    ("threshold", "threshold"),
]


class Branching(nn.Module):
    """Which activations it calls is known only to those who have the data."""

    def forward(self, x):
        for _ in range(2):
            x = functional.relu(x - 0.1)
        if bool(x.sum() > 0):
            x = functional.relu(x).clamp(min=0)
        return x


class Numbers(nn.Module):
    """Clamps whole numbers, and takes a hyperbolic tangent of a number that is no tensor."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x):
        chosen = (x.sum(dim=1).long() % 3).clamp(min=0)
        return self.act(x[:, chosen[0] : chosen[0] + 1] * math.tanh(float(x[0, 0])))


class Twice(nn.Module):
    """The same ReLU of the same values twice, which TorchScript makes one of after some runs."""

    def forward(self, x):
        return functional.relu(x) + functional.relu(x)


class Restless(nn.Module):
    """Changes whatever a forward pass can change: batch statistics, buffers, random numbers."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout())
        self.frozen = nn.BatchNorm2d(4).eval()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mask", None)
        self.register_buffer("not_a_number", torch.tensor(torch.nan))

    def forward(self, x):
        self.calls = self.calls + 1
        self.mask = torch.ones(3)
        self.not_a_number += 1
        torch.rand(3)
        return self.frozen(self.body(x)).mean(dim=(2, 3))


def fingerprint(network):
    """Everything that a pass may change in a network: its tensors byte by byte, modes, hooks and attributes."""
    tensors = io.BytesIO()
    torch.save(network.state_dict(), tensors)
    modes = [module.training for module in network.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()]
    return tensors.getvalue(), modes, hooks, pickle.dumps(network)


def silently(make, *args, **kwargs):
    """What torch calls deprecated: torch.jit, quantization."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **kwargs)


def scripted(network):
    return silently(torch.jit.script, network)


def traced(network, x):
    return silently(torch.jit.trace, network, x)
