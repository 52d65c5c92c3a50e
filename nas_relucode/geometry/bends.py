"""Where a forward pass bends: the operations that are linear but for some borders, seen below autograd.

A ReLU bends where its input is 0, a clamp at both of its ends, a maximum where another value becomes the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas_relucode.codes.relus import Call, ReluCalls, Watching


@dataclass(frozen=True)
class Bend:
    """What one call of a bending operation was given, in the order of the forward pass."""

    layer: str | None  # its layer's name as in `Codes`, if codes have bits of it
    operation: str
    values: Tensor  # (points, ...), copied before an in-place operation overwrites them
    levels: Sequence[float]  # it bends where one of the values is one of these, ...
    largest: Tensor | None  # ... or where this changes: int64, (points, windows), which of a point's values wins

    @property
    def name(self) -> str:
        return self.layer or self.operation


@contextmanager
def bending_calls(relus: ReluCalls, take: Callable[[Bend], None]) -> Iterator[None]:
    """A context for one forward pass of the network of ``relus``, in which ``take`` is told of each bending operation.

    Seen are ReLU and its kin, clamps, absolute values, elementwise maxima and minima, max-pooling of any kind, and
    maxima and minima over dimensions. What is not in the table, ``torch.where`` say, bends unseen.
    """
    mode = _BendMode(take)
    with relus.told_to(mode.name), mode:
        yield


class _BendMode(Watching):
    def __init__(self, take: Callable[[Bend], None]) -> None:
        super().__init__()
        self.take = take
        self.layer: str | None = None

    def name(self, call: Call) -> None:
        """Told while the operation runs, by `ReluCalls`, whose mode stands below this one."""
        self.layer = call.name

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = _BENDS.get(func.overloadpacket)
        found = read(*args, **kwargs) if read else None
        self.layer = None
        result = func(*args, **kwargs)
        if found is not None:
            values, levels, largest = found
            self.take(Bend(self.layer, func.overloadpacket.__name__, values.detach(), levels, largest))
        elif func.overloadpacket in _POOLS:
            values = args[0].detach()
            largest = _of_all(result[1], values, _POOLS[func.overloadpacket])
            self.take(Bend(None, func.overloadpacket.__name__, values.clone(), (), largest))
        return result


_aten = torch.ops.aten
Found = tuple[Tensor, Sequence[float], Tensor | None]


def _at(*levels: float) -> Callable[..., Found]:
    return lambda x, *_, **__: (x.clone(), levels, None)


def _clamp(x: Tensor, min: Any = None, max: Any = None) -> Found | None:
    ends = [end for end in (min, max) if end is not None]
    if any(isinstance(end, Tensor) and end.ndim for end in ends):
        return None
    levels = [float(end) for end in ends if math.isfinite(end)]
    return (x.clone(), levels, None) if levels else None


def _difference(x: Tensor, y: Tensor) -> Found:
    return x - y, (0.0,), None


def _over(sign: int) -> Callable[..., Found | None]:
    """A maximum (or, of sign -1, a minimum) over dimensions."""

    def read(x: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Found | None:
        dims = sorted({d % x.ndim for d in ([dim] if isinstance(dim, int) else dim or [])})
        if not dims or dims[0] == 0:  # over the points too
            return None
        ends = list(range(-len(dims), 0))
        numbers = torch.arange(x[0].numel(), device=x.device).reshape(1, *x.shape[1:])
        largest = (sign * x).movedim(dims, ends).flatten(-len(dims)).argmax(-1, keepdim=True)
        numbers = numbers.movedim(dims, ends).flatten(-len(dims)).expand(*largest.shape[:-1], -1)
        return sign * x, (), numbers.gather(-1, largest).flatten(1)

    return read


def _of_all(largest: Tensor, values: Tensor, dimensions: int) -> Tensor:
    """The numbers that max-pooling gives, of places in one map, as numbers of all of a point's values."""
    size = math.prod(values.shape[-dimensions:])
    maps = torch.arange(values[0].numel() // size, device=values.device) * size
    return (largest.reshape(len(values), len(maps), -1) + maps[:, None]).flatten(1)


# Each reads the operation's arguments; None where they are of a form that has no borders or is not known.
_BENDS: dict[Any, Callable[..., Found | None]] = {
    _aten.relu: _at(0.0),
    _aten.relu_: _at(0.0),
    _aten.leaky_relu: _at(0.0),
    _aten.leaky_relu_: _at(0.0),
    _aten._prelu_kernel: _at(0.0),
    _aten.rrelu_with_noise: _at(0.0),  # in evaluation mode a leaky ReLU
    _aten.rrelu_with_noise_: _at(0.0),
    _aten.abs: _at(0.0),
    _aten.abs_: _at(0.0),
    _aten.hardsigmoid: _at(-3.0, 3.0),
    _aten.hardsigmoid_: _at(-3.0, 3.0),
    _aten.softshrink: lambda x, width=0.5: (x.clone(), (-float(width), float(width)), None),
    _aten.threshold: lambda x, threshold, value: (x.clone(), (float(threshold),), None),
    _aten.threshold_: lambda x, threshold, value: (x.clone(), (float(threshold),), None),
    _aten.hardtanh: lambda x, low=-1, high=1: _clamp(x, low, high),
    _aten.hardtanh_: lambda x, low=-1, high=1: _clamp(x, low, high),
    _aten.clamp: _clamp,
    _aten.clamp_: _clamp,
    _aten.clamp_min: lambda x, min: _clamp(x, min),
    _aten.clamp_min_: lambda x, min: _clamp(x, min),
    _aten.clamp_max: lambda x, max: _clamp(x, max),
    _aten.clamp_max_: lambda x, max: _clamp(x, max),
    _aten.maximum: _difference,
    _aten.minimum: _difference,
    _aten.amax: _over(1),
    _aten.amin: _over(-1),
    _aten.max: _over(1),
    _aten.min: _over(-1),
}
_POOLS = {  # which say themselves which value is the largest; with the dimensions of a map
    _aten.max_pool2d_with_indices: 2,
    _aten.max_pool3d_with_indices: 3,
    _aten.adaptive_max_pool2d: 2,
    _aten.adaptive_max_pool3d: 3,
}
