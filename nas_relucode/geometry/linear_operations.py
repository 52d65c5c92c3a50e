"""torch's operations that are linear with an offset: what each does to points, and without the offset to tangents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Function = Callable[..., Any]


@dataclass(frozen=True)
class LinearCall:
    """A call of an operation that is not a bend, with its result on the recorded samples, which are all equal."""

    func: Any
    args: tuple[Any, ...]
    options: dict[str, Any]
    moving: list[bool]  # which tensors among the arguments depend on the network's input
    result: Any

    @property
    def packet(self) -> Any:
        return self.func.overloadpacket

    @property
    def first_only(self) -> bool:
        """Whether only the first tensor depends on the network's input."""
        return self.moving[0] and not any(self.moving[1:])


def _same(call: LinearCall) -> tuple[Function, Function] | None:
    """An operation that is linear in its first argument, without an offset."""
    return (call.func, call.func) if call.first_only else None


def _of_maps(call: LinearCall) -> tuple[Function, Function] | None:
    """As `_same`, for images with samples: without them the first dimension would be the channels."""
    return _same(call) if call.args[0].ndim == 4 else None


def _shaped(call: LinearCall) -> tuple[Function, Function] | None:
    """Only the shape changes. Samples stay first, but several rows of the result may belong to one sample."""
    rows, shape = call.result.shape[0] // call.args[0].shape[0], tuple(call.result.shape[1:])

    def reshaped(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x.reshape(x.shape[0], *([rows] if rows > 1 else []), *shape)

    return reshaped, reshaped


def _expanded(call: LinearCall) -> tuple[Function, Function] | None:
    shape = tuple(call.result.shape[1:])
    if call.args[0].ndim != call.result.ndim:
        return None

    def expanded(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x.expand(x.shape[0], *shape)

    return expanded, expanded


def _repeated(call: LinearCall) -> tuple[Function, Function] | None:
    return _same(call) if call.args[0].ndim == call.result.ndim and call.args[1][0] == 1 else None


def _unchanged(call: LinearCall) -> tuple[Function, Function] | None:
    return (lambda x, *_, **__: x, lambda x, *_, **__: x) if call.result.shape == call.args[0].shape else None


def _along(call: LinearCall, at: int = 1) -> tuple[Function, Function] | None:
    """As `_same`, along dimensions, argument ``at``, that must be named and must not be that of the samples."""
    named = call.args[at] if len(call.args) > at else call.options.get("dim")
    dims = named if isinstance(named, list | tuple) else [named or 0]
    return _same(call) if dims and all(d % call.args[0].ndim for d in dims) else None


def _joined(call: LinearCall) -> tuple[Function, Function] | None:
    """Several tensors joined in one; parts that do not depend on the input are offsets."""
    dim = call.args[1] if len(call.args) > 1 else call.options.get("dim", 0)
    parts = list(zip(call.args[0], call.moving, strict=True))
    constants = [None if moves else _for_any_samples(part, part.ndim) for part, moves in parts]
    unlike = any(constant is None and not moves for constant, moves in zip(constants, call.moving, strict=True))
    if dim % call.result.ndim == 0 or unlike:
        return None

    def joined(parts: list[Tensor], offset: float) -> Tensor:
        count = next(len(part) for part, moves in zip(parts, call.moving, strict=True) if moves)
        filled = [
            part if constant is None else offset * constant.expand(count, *constant.shape[1:])
            for part, constant in zip(parts, constants, strict=True)
        ]
        return call.func(filled, dim)

    return lambda parts, *_, **__: joined(parts, 1.0), lambda parts, *_, **__: joined(parts, 0.0)


def _permuted(call: LinearCall) -> tuple[Function, Function] | None:
    if call.packet is aten.permute:
        stay = call.args[1][0] % call.result.ndim == 0
    else:
        stay = all(d % call.result.ndim != 0 for d in call.args[1:3])
    return _same(call) if stay else None


def _sliced(call: LinearCall) -> tuple[Function, Function] | None:
    return _along(call) or _unchanged(call)


def _for_any_samples(constant: Any, ndim: int) -> Any:
    """A constant that combines with any number of samples, of ``ndim`` dimensions; None if it differs among samples."""
    if not isinstance(constant, Tensor) or constant.ndim < ndim or constant.shape[0] == 1:
        return constant
    return constant[:1] if bool((constant == constant[:1]).all()) else None


def _of_two(call: LinearCall, function: Function) -> tuple[Function, int] | None:
    """A function of two arguments for any number of samples, and which of them depends on the input; -1 for both."""
    moves = [bool(call.moving[0]), len(call.moving) == 2 and call.moving[1]]
    at = -1 if all(moves) else int(not moves[0])
    ndims = {part.ndim for part, move in zip(call.args[:2], moves, strict=True) if move}
    if len(call.args) != 2 or ndims != {call.result.ndim}:
        return None
    if at < 0:
        return function, at
    constant = _for_any_samples(call.args[1 - at], call.result.ndim)
    if constant is None:
        return None

    def with_constant(*args: Any, **options: Any) -> Tensor:
        return function(*((args[0], constant) if at == 0 else (constant, args[1])), **options)

    return with_constant, at


def _added(call: LinearCall) -> tuple[Function, Function] | None:
    """Sums and differences; a part that does not depend on the input is an offset."""
    minus = call.packet in (aten.sub, aten.sub_)
    of_two = _of_two(call, torch.sub if minus else torch.add)
    if of_two is None:
        return None
    function, at = of_two
    if at < 0:
        return function, function
    factor = (-1.0 if minus else 1.0) * call.options.get("alpha", 1) if at else 1.0
    shape = tuple(call.result.shape[1:])

    def tangent(*args: Any, **_: Any) -> Tensor:
        x = args[at] * factor
        return x.expand(x.shape[0], *shape)

    return function, tangent


def _subtracted_from(call: LinearCall) -> tuple[Function, Function] | None:
    """``other - alpha * x`` for a number ``other``."""
    if not call.first_only or len(call.moving) > 1:
        return None
    alpha = call.args[2] if len(call.args) > 2 else call.options.get("alpha", 1)
    return call.func, lambda x, *_, **__: -alpha * x


def _scaled(call: LinearCall) -> tuple[Function, Function] | None:
    """A product or quotient with something that does not depend on the input."""
    quotient = call.packet in (aten.div, aten.div_)
    of_two = _of_two(call, torch.div if quotient else torch.mul)
    if of_two is None or of_two[1] < 0 or (quotient and of_two[1]) or call.options:
        return None
    return of_two[0], of_two[0]


def _product(call: LinearCall) -> tuple[Function, Function] | None:
    """Rows times a matrix; several rows may belong to one sample."""
    if call.packet is aten.mm:
        return (torch.matmul, torch.matmul) if call.first_only else None
    if call.moving != [False, True, False] or call.options or call.args[0].ndim > 1:
        return None
    return lambda bias, x, weight: x @ weight + bias, lambda _, x, weight: x @ weight


def _products(call: LinearCall) -> tuple[Function, Function] | None:
    """Each sample's matrix times the same matrix, from the right or the left."""
    if all(call.moving):
        return None
    right = call.moving[0]
    matrix = _for_any_samples(call.args[int(right)], 3)
    if matrix is None:
        return None
    function: Function = (lambda x, _: x @ matrix) if right else (lambda _, x: matrix @ x)
    return function, function


def _linear(call: LinearCall) -> tuple[Function, Function] | None:
    return (call.func, lambda x, weight, *_: x @ weight.T) if call.first_only else None


def _convolution(call: LinearCall) -> tuple[Function, Function] | None:
    if not call.first_only:
        return None
    return call.func, lambda x, weight, _, *rest: call.func(x, weight, None, *rest)


def _batch_norm(call: LinearCall) -> tuple[Function, Function] | None:
    x, weight, bias, mean, variance = call.args[:5]
    flags = [part for part in call.args[5:] if isinstance(part, bool)]
    if any(flags) or mean is None or not call.first_only:
        return None
    eps = call.args[-1] if call.packet is not aten.cudnn_batch_norm else call.args[7]
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    offset = torch.zeros_like(mean) if bias is None else bias
    mean, scale, offset = (part.reshape(-1, *[1] * (x.ndim - 2)) for part in (mean, scale, offset))
    return lambda x, *_, **__: (x - mean) * scale + offset, lambda x, *_, **__: x * scale


def _padded(call: LinearCall) -> tuple[Function, Function] | None:
    x, pad = call.args[:2]
    return (call.func, lambda x, pad, *_: aten.constant_pad_nd(x, pad, 0.0)) if len(pad) < 2 * x.ndim else None


RESHAPES = (aten.view, aten._unsafe_view, aten.reshape, aten.squeeze, aten.unsqueeze, aten.flatten)
ROWS = (aten.mm, aten.addmm)  # they may take several rows of one sample, as Linear does with sequences
# They use the shape of an activation and not its values.
SHAPE_ONLY = (
    *(aten.zeros_like, aten.ones_like, aten.full_like, aten.empty_like),
    *(aten.new_zeros, aten.new_ones, aten.new_full, aten.new_empty),
)

# Each returns what runs on points and what runs on tangents; None if the call is not linear in what depends on the
# input, or mixes samples.
LINEAR: dict[Any, Callable[[LinearCall], tuple[Function, Function] | None]] = {
    **dict.fromkeys(RESHAPES, _shaped),
    **dict.fromkeys([aten.clone, aten.alias, aten.detach, aten._to_copy, aten.lift_fresh, aten.contiguous], _unchanged),
    **dict.fromkeys([aten.avg_pool2d, aten._adaptive_avg_pool2d, aten.neg], _same),
    **dict.fromkeys([aten.upsample_nearest2d, aten.upsample_bilinear2d, aten.pixel_shuffle], _of_maps),
    **dict.fromkeys([aten.channel_shuffle, aten.reflection_pad2d, aten.replication_pad2d], _of_maps),
    **dict.fromkeys([aten.mean, aten.sum, aten.select, aten.flip, aten.unbind], _along),
    **dict.fromkeys([aten.split, aten.split_with_sizes], partial(_along, at=2)),
    **dict.fromkeys([aten.cat, aten.stack], _joined),
    **dict.fromkeys([aten.permute, aten.transpose], _permuted),
    **dict.fromkeys([aten.add, aten.add_, aten.sub, aten.sub_], _added),
    **dict.fromkeys([aten.mul, aten.mul_, aten.div, aten.div_], _scaled),
    **dict.fromkeys(ROWS, _product),
    **dict.fromkeys(
        [aten.native_batch_norm, aten._native_batch_norm_legit_no_training, aten.cudnn_batch_norm], _batch_norm
    ),
    aten.bmm: _products,
    aten.expand: _expanded,
    aten.repeat: _repeated,
    aten.slice: _sliced,
    aten.rsub: _subtracted_from,
    aten.linear: _linear,
    aten.convolution: _convolution,
    aten.constant_pad_nd: _padded,
}
