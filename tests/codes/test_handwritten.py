"""A ReLU written as arithmetic has no bits: it is refused where its layer is chosen, and nothing else is."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nas_relucode import InputError, capture, score
from nas_relucode.geometry import complex_of, crossings


def in_place(x):
    x = x.clone()
    x[x < 0] = 0
    return x


def filled(x):
    return x.clone().masked_fill_(x < 0, 0)


def negated(x):
    return -torch.minimum(-x, torch.zeros_like(x))


class Written(nn.Module):
    """A function of a tensor as a module, so that its calls have a name."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def network(function):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), Written(function), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)
    )


RELUS = {
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum and a number": lambda x: torch.maximum(x, torch.tensor(0.0)),
    "fmax": lambda x: torch.fmax(x, torch.zeros_like(x)),
    "where": lambda x: torch.where(x > 0, x, 0),
    "where with the other sign": lambda x: torch.where(x < 0, torch.zeros_like(x), x),
    "a mask of bools": lambda x: x * (x > 0),
    "a mask of floats": lambda x: (x >= 0).float().to(x.dtype) * x,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "masked_fill in place": filled,
    "an assignment": in_place,
    "minimum": negated,
    "a leaky maximum": lambda x: torch.maximum(x, 0.1 * x),
    "a leaky where": lambda x: torch.where(x > 0, x, 0.01 * x),
}
READ_AS_MAXIMA = ("maximum", "maximum and a number", "minimum")  # which bend, and have no bits


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_a_relu_written_as_arithmetic_is_refused_by_codes(relu):
    inputs = torch.randn(50, 2)
    for read in (capture, score):
        with pytest.raises(InputError, match=r"^3 computes a ReLU by aten\.\w+\.\w+, .*layers=\['1', '5'\]"):
            read(network(relu), inputs)
    with pytest.raises(InputError, match=r"^3 computes a ReLU"):
        capture(network(relu), inputs, layers="fc")
    chosen = capture(network(relu), inputs, layers=["1", "5"])
    assert [layer.name for layer in chosen.layers] == ["1", "5"]


@pytest.mark.parametrize("name", [name for name in RELUS if "leaky" not in name])
def test_cells_of_a_relu_written_as_arithmetic_are_those_of_a_relu_or_are_refused(name):
    own, same = (network(function)[:4] for function in (RELUS[name], functional.relu))
    if name in READ_AS_MAXIMA:
        assert len(complex_of(own)) == len(complex_of(same))
    else:  # behind all bits, so that the code alone would not miss it
        with pytest.raises(InputError, match=r"^3 computes a ReLU by aten\.\w+\.\w+, which can't be read"):
            complex_of(own)


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_layers_before_a_relu_written_as_arithmetic_are_crossed_as_without_it(relu):
    starts, ends = torch.randn(2, 4, 2)
    for own, without in zip(
        crossings(network(relu), starts, ends, layers="1"), crossings(network(relu)[:2], starts, ends), strict=True
    ):
        assert np.array_equal(own.times, without.times)


OTHERS = {
    "gates": lambda x: x * torch.sigmoid(x.mean(1, keepdim=True)),
    "a mask that does not depend on signs": lambda x: x * (torch.arange(8) % 2),
    "padding": lambda x: x.masked_fill(torch.arange(8) > 5, 0),
    "twice the mask": lambda x: 2 * x * (x > -9),
    "maxout": lambda x: torch.maximum(x, x.roll(1, 1)),
    "a maximum elsewhere": lambda x: torch.maximum(x, torch.full_like(x, 0.1)),
    "a mask behind a ReLU": lambda x: functional.relu(x) * (x > 0),
    "attention": lambda x: x * torch.softmax(x, 1),
    "absolute values": lambda x: x * x.sign(),
    "a hard gate": lambda x: x * functional.hardsigmoid(x),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_arithmetic_is_left_alone(other):
    assert {"1", "5"} <= {layer.name for layer in capture(network(other), torch.randn(50, 2)).layers}
