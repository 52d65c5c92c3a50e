"""Small networks for hypothesis to draw, most of them far from general position; their numbers are halves."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

Weights = list[tuple[np.ndarray, np.ndarray]]  # (outputs, inputs) and (outputs,), the last pair without a ReLU
ODDITIES = ["none"] * 9 + ["twin", "opposite", "dead", "always on", "zero"]


@st.composite
def networks(
    draw: st.DrawFn, features: int | Sequence[int] = (1, 2, 3), most: int = 8, largest: int = 3, layers: int = 3
) -> Weights:
    """Up to ``most`` neurons in up to ``layers`` hidden layers, bottlenecks among them; biases are all 0 in some."""
    size = features if isinstance(features, int) else draw(st.sampled_from(list(features)))
    numbers = st.integers(-2 * largest, 2 * largest).map(lambda number: number / 2)
    zero_biases = draw(st.sampled_from([False, False, True]))
    widths = [min(most, draw(st.sampled_from([3, 4, most - 1, most, 2, 1])))]
    while len(widths) < layers and sum(widths) < most and draw(st.sampled_from([True, True, False])):
        left = most - sum(widths)
        widths.append(min(left, draw(st.sampled_from([left, 2, 1]))))
    weights: Weights = []
    for width in [*widths, 1]:
        weight = np.array([[draw(numbers) for _ in range(size)] for _ in range(width)])
        bias = np.array([0.0 if zero_biases else draw(numbers) for _ in range(width)])
        for neuron in range(1, width):
            _make_odd(weight, bias, neuron, draw(st.sampled_from(ODDITIES)))
        weights.append((weight, bias))
        size = width
    return weights


def _make_odd(weight: np.ndarray, bias: np.ndarray, neuron: int, oddity: str) -> None:
    """Changes a neuron in place."""
    if oddity in ("twin", "opposite"):
        sign = 1 if oddity == "twin" else -1
        weight[neuron], bias[neuron] = sign * weight[neuron - 1], sign * bias[neuron - 1]
    elif oddity != "none":
        weight[neuron] = 0
        bias[neuron] = {"dead": -1, "always on": 1, "zero": 0}[oddity]


def exact_values(weights: Weights, point: Sequence[Fraction]) -> list[Fraction]:
    """The pre-activations of all hidden neurons at a point."""
    found: list[Fraction] = []
    inputs = list(point)
    for weight, bias in weights[:-1]:
        rows = zip(weight.tolist(), bias.tolist(), strict=True)
        values = [sum((Fraction(w) * x for w, x in zip(row, inputs, strict=True)), Fraction(b)) for row, b in rows]
        found += values
        inputs = [max(value, Fraction(0)) for value in values]
    return found


def code_of(values: Sequence[Fraction]) -> str:
    return "".join("01"[value > 0] for value in values)
