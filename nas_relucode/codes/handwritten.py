"""ReLUs written as arithmetic, such as ``torch.where(x > 0, x, 0)``: found by what an operation does to its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Run = Callable[[Any, Any, Any], Any]  # runs one operation, given the operation, its arguments and its options
ADVICE = "Write functional.relu(x) or functional.leaky_relu(x)"
FEWEST = 2  # values on either side of 0 by which such a ReLU is known


def run_compared(run: Run, operation: Any, arguments: Any, options: Any) -> tuple[Any, bool]:
    """The result of an operation of a forward pass, and whether it is an argument bent at 0, which no table says."""
    if operation.overloadpacket not in _ARITHMETIC:
        return run(operation, arguments, options), False
    before = [part.detach().clone() for part in _floats((arguments, options))]  # it may work in place
    result = run(operation, arguments, options)
    return result, isinstance(result, Tensor) and any(_is_bent(values, result.detach()) for values in before)


def _is_bent(values: Tensor, result: Tensor) -> bool:
    """Whether a result is its argument where that has one sign, and a smaller share of it where it has the other."""
    if values.shape != result.shape or values.dtype != result.dtype or values.layout != torch.strided:
        return False
    sides = values > 0, values < 0
    if min(int(side.sum()) for side in sides) < FEWEST:
        return False
    for kept, bent in (sides, sides[::-1]):
        if torch.equal(result[kept], values[kept]):
            slopes = result[bent] / values[bent]
            rounding = 4 * torch.finfo(values.dtype).eps
            return bool((slopes - slopes[0]).abs().max() <= rounding) and 0 <= float(slopes[0]) < 1
    return False


def _floats(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        if part.is_floating_point() and part.numel():
            yield part
    elif isinstance(part, tuple | list):
        for each in part:
            yield from _floats(each)
    elif isinstance(part, dict):
        yield from _floats(list(part.values()))


_ARITHMETIC = {
    getattr(torch.ops.aten, name)
    for name in (
        *("maximum", "minimum", "fmax", "fmin", "where", "mul", "mul_"),
        *("masked_fill", "masked_fill_", "index_put", "index_put_", "_index_put_impl_"),
    )
}
