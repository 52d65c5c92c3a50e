"""The bends of a piecewise linear network, ReLU and max-pooling: their states, and the half-spaces of each state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def flat(x: Tensor, leading: int = 1) -> Tensor:
    """All dimensions after the ``leading`` ones in one, which is 1 where there are none."""
    return x.flatten(leading) if x.ndim > leading else x[..., None]


class Bend(ABC):
    """An operation that is linear in each state of its neurons; its rows are >= 0 where the states are right."""

    places = 1  # rows a neuron

    @abstractmethod
    def state(self, x: Tensor) -> Tensor:
        """The state of each neuron at the inputs ``x`` (points, ...)."""

    @abstractmethod
    def apply(self, x: Tensor, state: Tensor) -> Tensor:
        """The linear piece of ``state`` at ``x``; of tangents (points, tangents, ...) for a state (points, 1, ...)."""

    @abstractmethod
    def rows(self, x: Tensor, state: Tensor, leading: int = 1) -> Tensor:
        """The left-hand sides of the half-spaces (points, rows); of tangents, (points, tangents, rows), if it is 2."""

    @abstractmethod
    def across(self, state: Tensor, ties: Tensor, direction: Tensor, tiny: Tensor) -> Tensor:
        """The states behind the hyperplanes of the rows ``ties`` (points, rows), where the inputs move in ``direction``
        (points, ...); a move by ``tiny`` (points,) is none.
        """


@dataclass(frozen=True)
class Relu(Bend):
    """ReLU, or LeakyReLU with a slope; the state is the code's bit: is the input positive? (Equation 2)"""

    slope: float | Tensor = 0.0

    def state(self, x: Tensor) -> Tensor:
        return x > 0

    def apply(self, x: Tensor, state: Tensor) -> Tensor:
        if isinstance(self.slope, float) and self.slope == 0:
            return x * state
        return torch.where(state, x, x * self.slope)

    def rows(self, x: Tensor, state: Tensor, leading: int = 1) -> Tensor:
        return flat(torch.where(state, x, -x), leading)

    def across(self, state: Tensor, ties: Tensor, direction: Tensor, tiny: Tensor) -> Tensor:
        moves = direction > tiny.reshape(-1, *[1] * (direction.ndim - 1))
        return torch.where(ties.reshape(state.shape), moves, state)


@dataclass(frozen=True)
class MaxPool(Bend):
    """Max-pooling; the state is the place in its window of the first largest value."""

    windows: Tensor  # int64, (windows, places): numbers within a map, -1 outside of it
    size: tuple[int, ...]  # of the result's maps

    @property
    def places(self) -> int:  # type: ignore[override]
        return self.windows.shape[1]

    def state(self, x: Tensor) -> Tensor:
        return self._spread(x).argmax(-1)

    def apply(self, x: Tensor, state: Tensor) -> Tensor:
        return self._of(x, state).squeeze(-1).unflatten(-1, self.size)

    def rows(self, x: Tensor, state: Tensor, leading: int = 1) -> Tensor:
        found = self._of(x, state) - self._spread(x)
        return found.masked_fill(self.windows < 0, 0.0).flatten(leading)

    def across(self, state: Tensor, ties: Tensor, direction: Tensor, tiny: Tensor) -> Tensor:
        near = ties.reshape(*state.shape, -1) & (self.windows >= 0)
        near = near.scatter(-1, state[..., None], True)
        moves = self._spread(direction).masked_fill(~near, -torch.inf)
        least = moves.amax(-1, keepdim=True) - tiny.reshape(-1, *[1] * (moves.ndim - 1))
        return (moves >= least).int().argmax(-1)

    def _spread(self, x: Tensor) -> Tensor:
        found = x.flatten(-len(self.size))[..., self.windows.clamp(min=0)]
        return found.masked_fill(self.windows < 0, -torch.inf)

    def _of(self, x: Tensor, state: Tensor) -> Tensor:
        spread = self._spread(x)
        shape = torch.broadcast_shapes(spread.shape[:-1], state.shape)
        return spread.expand(*shape, -1).gather(-1, state[..., None].expand(*shape, 1))


def _relu(args: Any, _: Any) -> Bend | None:
    return Relu()


def _leaky(args: Any, options: Any) -> Bend | None:
    return Relu(float(args[1] if len(args) > 1 else options.get("negative_slope", 0.01)))


def _from_0(args: Any, options: Any) -> Bend | None:
    low = args[1] if len(args) > 1 else options.get("min")
    high = args[2] if len(args) > 2 else options.get("max")
    return Relu() if isinstance(low, int | float) and low == 0 and high is None else None


def _threshold(args: Any, _: Any) -> Bend | None:
    return Relu() if args[1] == 0 and args[2] == 0 else None


def _max_pool(args: Any, options: Any) -> Bend | None:
    x, kernel, stride, padding, dilation, ceil = (*args, *[None] * 6)[:6]
    shape, steps = x.shape[-2:], []
    for axis in range(2):
        k, s, p, d = (
            _pair(part, other)[axis] for part, other in ((kernel, 1), (stride, kernel), (padding, 0), (dilation, 1))
        )
        length, reach = shape[axis], d * (k - 1) + 1
        count = (length + 2 * p - reach + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= length + p:  # a window must begin inside
            count -= 1
        steps.append([[i * s - p + d * j for j in range(k)] for i in range(count)])
    return MaxPool(_windows(steps, shape, x.device), (len(steps[0]), len(steps[1])))


def _adaptive_max_pool(args: Any, _: Any) -> Bend | None:
    x, size = args
    shape, steps = x.shape[-2:], []
    for length, count in zip(shape, _pair(size, 1), strict=True):
        ends = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        widest = max(stop - start for start, stop in ends)
        steps.append([[start + j if start + j < stop else -1 for j in range(widest)] for start, stop in ends])
    return MaxPool(_windows(steps, shape, x.device), (len(steps[0]), len(steps[1])))


def _windows(steps: list[list[list[int]]], shape: Any, device: torch.device) -> Tensor:
    """The numbers in a map of the places of each window, given along both axes."""
    rows, columns = (torch.tensor(part, device=device) for part in steps)
    i, j = torch.broadcast_tensors(rows[:, None, :, None], columns[None, :, None, :])
    inside = (i >= 0) & (i < shape[0]) & (j >= 0) & (j < shape[1])
    return torch.where(inside, i * shape[1] + j, -1).flatten(2).flatten(0, 1)


def _pair(value: Any, otherwise: Any) -> list[int]:
    if value is None or (isinstance(value, list | tuple) and not value):
        value = otherwise
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [int(part) for part in (values * 2 if len(values) == 1 else values)]


# What each makes of its arguments; None where they make another operation of it.
BENDS: dict[Any, Callable[[Any, Any], Bend | None]] = {
    aten.relu: _relu,
    aten.relu_: _relu,
    aten.leaky_relu: _leaky,
    aten.leaky_relu_: _leaky,
    aten._prelu_kernel: lambda args, _: Relu(args[1].detach()),
    aten.clamp: _from_0,
    aten.clamp_: _from_0,
    aten.clamp_min: _from_0,
    aten.clamp_min_: _from_0,
    aten.threshold: _threshold,
    aten.threshold_: _threshold,
    aten.max_pool2d_with_indices: _max_pool,
    aten.adaptive_max_pool2d: _adaptive_max_pool,
}
