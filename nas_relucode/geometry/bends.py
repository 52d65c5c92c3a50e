"""The bends of a piecewise linear network: their states, and the half-spaces in which a state holds (Theorem 1).

An activation bends where a number passes a level, a maximum where another value of its window becomes the largest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from nas_relucode.codes.activations import ACTIVATIONS, Pieces

aten = torch.ops.aten


def flat(x: Tensor, leading: int = 1) -> Tensor:
    """All dimensions after the ``leading`` ones as one dimension, of size 1 if there are none."""
    return x.flatten(leading) if x.ndim > leading else x[..., None]


class Bend(ABC):
    """An operation whose neurons each have a state, in which it is linear.

    The half-spaces of a state are rows, ``places`` of them a neuron, that are >= 0 where the state holds. A method
    takes inputs ``x`` (points, ...) or tangents ``dx`` (points, tangents, ...), and states (points, ...).
    """

    @property
    @abstractmethod
    def places(self) -> int:
        """Rows per neuron."""

    @abstractmethod
    def state(self, x: Tensor) -> Tensor:
        """The state of each neuron."""

    @abstractmethod
    def apply(self, x: Tensor, state: Tensor) -> Tensor:
        """The outputs on the linear piece of ``state``."""

    @abstractmethod
    def tangents(self, dx: Tensor, state: Tensor) -> Tensor:
        """The outputs' tangents on the linear piece of ``state``."""

    @abstractmethod
    def rows(self, x: Tensor, state: Tensor) -> Tensor:
        """The left-hand sides of the half-spaces: (points, rows)."""

    @abstractmethod
    def row_tangents(self, dx: Tensor, state: Tensor) -> Tensor:
        """The tangents of the rows: (points, tangents, rows)."""

    @abstractmethod
    def rows_of(self, x: Tensor, points: Tensor, neurons: Tensor, state: Tensor) -> Tensor:
        """The rows of single neurons at one of the points each, in states (neurons,): (neurons, places)."""

    def squared_norms(self, dx: Tensor, state: Tensor) -> Tensor:
        """The sum of the squares of each row's tangents: (points, rows)."""
        return self.row_tangents(dx, state).square().sum(1)

    @abstractmethod
    def is_closed(self, state: Tensor) -> Tensor:
        """Whether points on the border of a half-space belong to the cell: bool, (points, rows)."""

    @abstractmethod
    def across(self, state: Tensor, ties: Tensor, direction: Tensor, tiny: Tensor) -> Tensor:
        """The states behind the hyperplanes of the rows ``ties`` (points, rows), where the inputs move in ``direction``
        (points, ...). A move of at most ``tiny`` (points,) counts as none.
        """


@dataclass(frozen=True)
class Levels(Bend):
    """An activation; a neuron's state is how many levels its input is above, as a bool where there is one level.

    The state of a ReLU is thus its bit in the code: is the input positive? (Equation 2)
    """

    pieces: Pieces

    @property
    def places(self) -> int:
        return len(self.pieces.levels)

    def state(self, x: Tensor) -> Tensor:
        above = [x > level for level in self.pieces.levels]
        return above[0] if len(above) == 1 else torch.stack(above).sum(0)

    def apply(self, x: Tensor, state: Tensor) -> Tensor:
        return self._piece(x, state, self.pieces.offsets)

    def tangents(self, dx: Tensor, state: Tensor) -> Tensor:
        return self._piece(dx, state[:, None], [0.0] * len(self.pieces.offsets))

    def _piece(self, x: Tensor, state: Tensor, offsets: Any) -> Tensor:
        if self._is_relu:
            return x * state
        pieces = [_affine(x, slope, offset) for slope, offset in zip(self.pieces.slopes, offsets, strict=True)]
        if state.dtype == torch.bool:
            return torch.where(state, pieces[1], pieces[0])
        return reduce(lambda below, k: torch.where(state >= k, pieces[k], below), range(1, len(pieces)), pieces[0])

    @property
    def _is_relu(self) -> bool:
        below, *above = self.pieces.slopes
        return self.pieces.levels == (0.0,) and isinstance(below, float) and below == 0 and above == [1.0]

    def rows(self, x: Tensor, state: Tensor) -> Tensor:
        return self._signed(self.beyond(x), state, 1)

    def beyond(self, x: Tensor) -> Tensor:
        """By how much each input is above each level: (points, ...), with the levels last if there are several."""
        if len(self.pieces.levels) == 1:
            return x - self.pieces.levels[0] if self.pieces.levels[0] else x
        return x[..., None] - torch.tensor(self.pieces.levels, dtype=x.dtype, device=x.device)

    def row_tangents(self, dx: Tensor, state: Tensor) -> Tensor:
        several = len(self.pieces.levels) > 1
        return self._signed(dx[..., None] if several else dx, state[:, None], 2)

    def rows_of(self, x: Tensor, points: Tensor, neurons: Tensor, state: Tensor) -> Tensor:
        return self.rows(flat(x)[points, neurons][:, None], state[:, None])

    def squared_norms(self, dx: Tensor, state: Tensor) -> Tensor:
        squares = flat(dx.square().sum(1))
        return squares if self.places == 1 else squares.repeat_interleave(self.places, dim=1)

    def is_closed(self, state: Tensor) -> Tensor:
        return flat(~self._above(state))

    def across(self, state: Tensor, ties: Tensor, direction: Tensor, tiny: Tensor) -> Tensor:
        rises = direction > tiny.reshape(-1, *[1] * (direction.ndim - 1))
        if len(self.pieces.levels) == 1:
            return torch.where(ties.reshape(state.shape), rises, state)
        tied = ties.reshape(*state.shape, self.places)  # a neuron is at several levels only if they are equal
        lowest = tied.int().argmax(-1)
        return torch.where(tied.any(-1), lowest + rises * tied.sum(-1), state)

    def _above(self, state: Tensor) -> Tensor:
        several = len(self.pieces.levels) > 1
        return state[..., None] > torch.arange(self.places, device=state.device) if several else state

    def _signed(self, x: Tensor, state: Tensor, leading: int) -> Tensor:
        return flat(torch.where(self._above(state), x, -x), leading)


def _affine(x: Tensor, slope: Any, offset: float) -> Tensor:
    scaled = x if isinstance(slope, float) and slope == 1 else x * slope
    return scaled + offset if offset else scaled


@dataclass(frozen=True)
class Maxima(Bend):
    """The largest value of each window of a map; the state is the place in the window of the first largest value.

    A place's row is by how much the winner leads it. An image has one map per channel; where maxima are taken over
    dimensions, all that belongs to one point is one map.
    """

    windows: Tensor  # int64, (windows, places): numbers within a map, -1 outside of it
    dimensions: int  # of a map, the last of the input
    size: tuple[int, ...]  # of the results of one map

    @property
    def places(self) -> int:
        return self.windows.shape[1]

    def state(self, x: Tensor) -> Tensor:
        return self._spread(x).argmax(-1)

    def apply(self, x: Tensor, state: Tensor) -> Tensor:
        winners = self._winners(x, state)
        return winners.reshape(*winners.shape[:-1], *self.size)

    def tangents(self, dx: Tensor, state: Tensor) -> Tensor:
        return self.apply(dx, state[:, None])

    def rows(self, x: Tensor, state: Tensor) -> Tensor:
        return self._leads(x, state).flatten(1)

    def row_tangents(self, dx: Tensor, state: Tensor) -> Tensor:
        return self._leads(dx, state[:, None]).flatten(2)

    def rows_of(self, x: Tensor, points: Tensor, neurons: Tensor, state: Tensor) -> Tensor:
        maps, windows = neurons // len(self.windows), self.windows[neurons % len(self.windows)]
        size = math.prod(x.shape[-self.dimensions :])
        values = x.flatten(1)[points[:, None], maps[:, None] * size + windows]
        return (values.gather(1, state[:, None]) - values).masked_fill(windows < 0, 0.0)

    def is_closed(self, state: Tensor) -> Tensor:
        """An equal value at a later place does not win."""
        places = torch.arange(self.places, device=state.device)
        return ((state[..., None] <= places) | (self.windows < 0)).flatten(1)

    def across(self, state: Tensor, ties: Tensor, direction: Tensor, tiny: Tensor) -> Tensor:
        near = ties.reshape(*state.shape, -1) & (self.windows >= 0)
        near = near.scatter(-1, state[..., None], True)
        moves = self._spread(direction).masked_fill(~near, -torch.inf)
        least = moves.amax(-1, keepdim=True) - tiny.reshape(-1, *[1] * (moves.ndim - 1))
        return (moves >= least).int().argmax(-1)

    def _spread(self, x: Tensor) -> Tensor:
        values = x.flatten(-self.dimensions)[..., self.windows.clamp(min=0)]
        return values.masked_fill(self.windows < 0, -torch.inf)

    def _winners(self, x: Tensor, state: Tensor) -> Tensor:
        numbers = self.windows[torch.arange(len(self.windows), device=x.device), state]
        maps = torch.broadcast_shapes(x.shape[: -self.dimensions], state.shape[:-1])
        return x.flatten(-self.dimensions).expand(*maps, -1).gather(-1, numbers.expand(*maps, -1))

    def _leads(self, x: Tensor, state: Tensor) -> Tensor:
        return (self._winners(x, state)[..., None] - self._spread(x)).masked_fill(self.windows < 0, 0.0)


def _max_pool(args: Any, options: Any, dimensions: int) -> Bend | None:
    x, kernel, stride, padding, dilation, ceil = (*args, *[None] * 6)[:6]
    shape, steps = x.shape[-dimensions:], []
    for axis, length in enumerate(shape):
        k, s, p, d = (
            _numbers(part, otherwise, dimensions)[axis]
            for part, otherwise in ((kernel, 1), (stride, kernel), (padding, 0), (dilation, 1))
        )
        reach = d * (k - 1) + 1
        count = (length + 2 * p - reach + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= length + p:  # a window must begin inside
            count -= 1
        steps.append([[i * s - p + d * j for j in range(k)] for i in range(count)])
    return Maxima(_windows(steps, shape, x.device), dimensions, tuple(map(len, steps)))


def _adaptive_max_pool(args: Any, options: Any, dimensions: int) -> Bend | None:
    x, size = args
    shape, steps = x.shape[-dimensions:], []
    for length, count in zip(shape, _numbers(size, 1, dimensions), strict=True):
        ends = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        widest = max(stop - start for start, stop in ends)
        steps.append([[start + j if start + j < stop else -1 for j in range(widest)] for start, stop in ends])
    return Maxima(_windows(steps, shape, x.device), dimensions, tuple(map(len, steps)))


def _windows(steps: list[list[list[int]]], shape: Any, device: torch.device) -> Tensor:
    """The numbers in a map of the places of each window, given for each axis: int64, (windows, places)."""
    axes = len(shape)
    numbers = torch.zeros([1] * 2 * axes, dtype=torch.int64, device=device)
    inside = torch.ones([1] * 2 * axes, dtype=torch.bool, device=device)
    for axis, (length, places) in enumerate(zip(shape, steps, strict=True)):
        sizes = [1] * 2 * axes
        sizes[axis], sizes[axes + axis] = len(places), len(places[0])
        place = torch.tensor(places, device=device).reshape(sizes)
        numbers = numbers * length + place
        inside = inside & (place >= 0) & (place < length)
    return torch.where(inside, numbers, -1).flatten(axes).flatten(0, axes - 1)


def _numbers(value: Any, otherwise: Any, dimensions: int) -> list[int]:
    """One number for each dimension."""
    if value is None or (isinstance(value, list | tuple) and not value):
        value = otherwise
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [int(part) for part in (values * dimensions if len(values) == 1 else values)]


def _maximum_over(args: Any, options: Any) -> Bend | None:
    """Over dimensions of each point."""
    x, dims, keeps = (*args, *[None] * 3)[:3]
    dims = options.get("dim", dims)
    chosen = sorted({d % x.ndim for d in ([dims] if isinstance(dims, int) else dims or []) if x.ndim})
    if not chosen or chosen[0] == 0:  # over the points, too
        return None
    ends = list(range(-len(chosen), 0))
    numbers = torch.arange(x[:1].numel(), device=x.device).reshape(x.shape[1:])
    windows = numbers.movedim([d - 1 for d in chosen], ends).flatten(-len(chosen))
    size = [1 if d in chosen else length for d, length in enumerate(x.shape)]
    if not options.get("keepdim", keeps):
        size = [length for d, length in enumerate(x.shape) if d not in chosen]
    return Maxima(windows.reshape(-1, windows.shape[-1]), x.ndim - 1, tuple(size[1:]))


# By torch's operation, how its arguments make a bend; None where they make something else.
_MAXIMA: dict[Any, Callable[[Any, Any], Bend | None]] = {
    aten.max_pool2d_with_indices.default: partial(_max_pool, dimensions=2),
    aten.max_pool3d_with_indices.default: partial(_max_pool, dimensions=3),
    aten.adaptive_max_pool2d.default: partial(_adaptive_max_pool, dimensions=2),
    aten.adaptive_max_pool3d.default: partial(_adaptive_max_pool, dimensions=3),
    aten.amax.default: _maximum_over,
    aten.max.dim: _maximum_over,
}


def bend_of(operation: Any, args: Any, options: Any) -> Bend | None:
    """The bend that a call of one of torch's operations makes; None if it makes none that the tables list."""
    if operation in _MAXIMA:
        return _MAXIMA[operation](args, options)
    activation = ACTIVATIONS.get(operation)
    if activation is None or not args[0].is_floating_point():
        return None
    pieces = activation.pieces(*args[1:], **{key: value for key, value in options.items() if key != "out"})
    return None if pieces is None else Levels(pieces)


def _maximum(call: Callable[..., Any], x: Tensor, y: Tensor) -> Any:
    return call(aten.add.Tensor, y, call(aten.relu.default, call(aten.sub.Tensor, x, y)))


def _minimum(call: Callable[..., Any], x: Tensor, y: Tensor) -> Any:
    return call(aten.sub.Tensor, y, call(aten.relu.default, call(aten.sub.Tensor, y, x)))


def _least(call: Callable[..., Any], x: Tensor, *args: Any, **options: Any) -> Any:
    return call(aten.neg.default, call(aten.amax.default, call(aten.neg.default, x), *args, **options))


def _least_of_one(call: Callable[..., Any], x: Tensor, dim: int, *args: Any, **options: Any) -> Any:
    values = _least(call, x, [dim], *args, **options)
    return values, call(aten.min.dim, x, dim, *args, **options)[1]


# Operations that bend as others do: each is run as the calls it stands for.
DECOMPOSED: dict[Any, Callable[..., Any]] = {
    aten.maximum.default: _maximum,
    aten.minimum.default: _minimum,
    aten.amin.default: _least,
    aten.min.dim: _least_of_one,
}
