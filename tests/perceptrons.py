"""Perceptrons with given weights, as float64 networks: the oracles of tests/data, and degenerate drawn ones."""

import json
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

ORACLES = Path(__file__).parent / "data" / "oracles"


def perceptron(weights):
    """ReLU after each pair (weight, bias) but the last."""
    layers = []
    for weight, bias in weights:
        layer = nn.Linear(weight.shape[1], len(weight), dtype=torch.float64)
        layer.load_state_dict({"weight": torch.as_tensor(weight), "bias": torch.as_tensor(bias)})
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def oracle(name):
    """The weights of an oracle (``A``, ``C``, ``P`` or ``U``), and what is exactly true of its cells."""
    with np.load(ORACLES / f"{name}.npz") as stored:
        count = sum(key.startswith("W") for key in stored.files)
        weights = [(stored[f"W{k}"].astype(float), stored[f"b{k}"].astype(float)) for k in range(count)]
    return weights, json.loads((ORACLES / "truth.json").read_text("utf-8"))[name]


@st.composite
def degenerate(draw, features=2, most=4, layers=(1, 3)):
    """Small whole weights, so that hyperplanes coincide, neurons die, and biases vanish; bottlenecks of one neuron."""
    widths = draw(st.lists(st.integers(1, most), min_size=layers[0], max_size=layers[1]))
    unbiased = draw(st.booleans())
    weights, width = [], features
    for outputs in [*widths, 1]:
        numbers = st.lists(st.integers(-2, 2), min_size=outputs * width, max_size=outputs * width)
        weight = np.array(draw(numbers), float).reshape(outputs, width)
        bias = np.array(draw(st.lists(st.integers(-2, 2), min_size=outputs, max_size=outputs)), float)
        if outputs > 1 and draw(st.booleans()):  # a neuron twice, or a multiple of another
            weight[-1], bias[-1] = (draw(st.sampled_from([1, 2, -1])) * part[0] for part in (weight, bias))
        weights.append((weight, np.zeros_like(bias) if unbiased else bias))
        width = outputs
    return weights
