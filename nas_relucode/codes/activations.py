"""torch's activation functions: the linear pieces of each, and which of them have bits in a code (Equation 2).

The recording of codes and the geometry of cells both read this table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas_relucode.codes.reading import SMOOTH


@dataclass(frozen=True)
class Pieces:
    """A continuous function of one number, linear between its levels: ``slopes[k] * x + offsets[k]`` on piece k.

    Piece 0 holds for x up to the first level, piece k for x above level k - 1 and up to level k.
    """

    levels: tuple[float, ...]  # increasing
    slopes: tuple[float | Tensor, ...]  # one more than levels; a tensor holds one for each channel
    offsets: tuple[float, ...]  # as many as slopes


@dataclass(frozen=True)
class Activation:
    """One of torch's element-wise operations. Its functions take the call's arguments except the first.

    A smooth activation has no linear pieces; codes read it only where a user names it. That includes hard-sigmoid,
    which has pieces but does not bend at 0.
    """

    operation: str  # aten's name, without the underscore of the in-place form
    label: str = ""  # Layer.activation; empty if codes never have bits of it
    has_bits: Callable[..., bool] = lambda *_, **__: False  # whether this call is positive exactly where a ReLU is
    by_input: bool = False  # a bit is the sign of the input, not of the output: a slope below 0 may be negative
    pieces: Callable[..., Pieces | None] = lambda *_, **__: None  # of this call; None if it is not piecewise linear
    smooth: bool = False


def _always(*_: Any, **__: Any) -> bool:
    return True


def _is_zero(bound: Any) -> bool:
    if isinstance(bound, Tensor):  # on a GPU this waits for it, but a ReLU that is left out is an error nobody sees
        return bool((bound == 0).all())
    return isinstance(bound, int | float) and bound == 0


def _clamped(low: Any = None, high: Any = None) -> Pieces | None:
    if any(isinstance(end, Tensor) and end.ndim for end in (low, high)):
        return None
    top = math.inf if high is None else float(high)
    bottom = -math.inf if low is None else min(float(low), top)
    has_bottom, has_top = math.isfinite(bottom), math.isfinite(top)
    if not (has_bottom or has_top):
        return None
    return Pieces(
        (bottom,) * has_bottom + (top,) * has_top,
        (0.0,) * has_bottom + (1.0,) + (0.0,) * has_top,
        (bottom,) * has_bottom + (0.0,) + (top,) * has_top,
    )


def _bent_at_zero(below: Any) -> Pieces:
    return Pieces((0.0,), (below, 1.0), (0.0, 0.0))


def _leaky(negative_slope: float = 0.01) -> Pieces:
    return _bent_at_zero(float(negative_slope))


def _threshold(threshold: float, value: float) -> Pieces | None:
    """None where the two differ: the function then jumps."""
    return Pieces((float(threshold),), (0.0, 1.0), (float(value), 0.0)) if threshold == value else None


def _rrelu(_: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *__: Any) -> Pieces | None:
    return None if training else _bent_at_zero((lower + upper) / 2)


def _softshrink(width: float = 0.5) -> Pieces:
    return Pieces((-float(width), float(width)), (1.0, 0.0, 1.0), (float(width), 0.0, -float(width)))


RELU = Activation("relu", "relu", _always, pieces=lambda: _bent_at_zero(0.0))
RELU6 = Activation(
    "hardtanh", "relu6", lambda low=-1, high=1: low == 0, pieces=lambda low=-1, high=1: _clamped(low, high)
)
_BENT = [
    RELU,
    RELU6,
    Activation(
        "clamp", "clamp", lambda min=None, max=None: _is_zero(min), pieces=lambda min=None, max=None: _clamped(min, max)
    ),
    Activation("clamp_min", "clamp", lambda min: _is_zero(min), pieces=lambda min: _clamped(min)),
    Activation("threshold", "threshold", lambda threshold, value: threshold == 0 and value == 0, pieces=_threshold),
    Activation("leaky_relu", "leaky_relu", _always, by_input=True, pieces=_leaky),
    Activation("_prelu_kernel", "prelu", _always, by_input=True, pieces=lambda weight: _bent_at_zero(weight.detach())),
    Activation("rrelu_with_noise", "rrelu", _always, by_input=True, pieces=_rrelu),
    Activation("clamp_max", pieces=lambda max: _clamped(None, max)),
    Activation("abs", pieces=lambda: _bent_at_zero(-1.0)),
    Activation("softshrink", pieces=_softshrink),
]

# "elu" stands for SELU, too.
_HARD_SIGMOID = Pieces((-3.0, 3.0), (0.0, 1 / 6, 0.0), (0.0, 0.5, 1.0))


def _smooth(name: str) -> Activation:
    pieces = _HARD_SIGMOID if name == "hardsigmoid" else None
    return Activation(name, name, by_input=True, pieces=lambda *_, **__: pieces, smooth=True)


def _overloads() -> Iterator[tuple[Any, Activation]]:
    for activation in [*_BENT, *map(_smooth, SMOOTH)]:
        for packet in (activation.operation, f"{activation.operation}_"):
            operation = getattr(torch.ops.aten, packet, None)
            for overload in operation.overloads() if operation else ():
                yield getattr(operation, overload), activation


ACTIVATIONS: dict[Any, Activation] = dict(_overloads())  # by torch's operation, in place or not
