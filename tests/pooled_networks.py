"""Networks with known bends: perceptrons, given weights, and a residual network whose pooling is followed by hand."""

import itertools

import torch
import torch.nn.functional as F  # noqa: N812
from linear_pieces import odd_statistics
from torch import nn


def mlp(*widths, seed=0, bias=True):
    torch.manual_seed(seed)
    layers = [[nn.Linear(a, b, bias), nn.ReLU()] for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[module for pair in layers for module in pair][:-1])


def with_weights(*layers):
    """A network from pairs of rows of weights and biases, with a ReLU after each layer."""
    modules = []
    for weight, bias in layers:
        linear = nn.Linear(len(weight[0]), len(weight))
        linear.weight.data, linear.bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules)


class Residual(nn.Module):
    """Convolutions, BatchNorm, max-pooling, LeakyReLU and a sum of two paths."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.path = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 3 * 3, 8))
        self.last = nn.Linear(8, 3)
        odd_statistics(self, seed=1)

    def bend_inputs(self, images):
        """The inputs of each bend, in order, and then the outputs."""
        inputs = [self.stem(images)]
        inputs.append(F.relu(inputs[-1]))
        x = F.max_pool2d(inputs[-1], 3, stride=2, padding=1)
        inputs.append(self.path(x))
        inputs.append(x + F.leaky_relu(inputs[-1], 0.2))
        inputs.append(self.head(F.relu(inputs[-1], inplace=False)))
        return [*inputs, self.last(F.relu(inputs[-1]))]

    def forward(self, images):
        return self.bend_inputs(images)[-1]


POOL = 1  # the number of the pooling among the bends of Residual


def pool_places():
    """The places of each of the 3 x 3 windows in a 6 x 6 map, (windows, 9); -1 outside."""
    numbers = F.pad(torch.arange(1.0, 37).reshape(1, 1, 6, 6), (1, 1, 1, 1))
    return F.unfold(numbers, 3, stride=2)[0].T.long() - 1


def winners(network, images):
    """The first largest place of each window: (images, 3, windows)."""
    x = F.pad(network.bend_inputs(images)[POOL], (1, 1, 1, 1), value=-torch.inf)
    return F.unfold(x, 3, stride=2).unflatten(1, (3, 9)).argmax(2)
