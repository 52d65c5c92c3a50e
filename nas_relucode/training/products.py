"""Large linear layers by oneDNN, which takes half of MKL's time for them on AMD's processors and as long on Intel's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LARGE = 2**21  # multiplications of a layer on a batch: below, starting it takes longer than it saves


def quick_products(network: nn.Module, batch_size: int) -> contextlib.AbstractContextManager[object]:
    """A context in which large float32 linear layers of ``network`` run by oneDNN on a CPU, forward and back.

    The same sums in another order, so the results differ by rounding. A context that does nothing if no layer is large
    on batches of this size, or this torch has no such product.
    """
    large = any(
        module.weight.numel() * batch_size >= LARGE and _fits(module.weight)
        for module in network.modules()
        if isinstance(module, nn.Linear)
    )
    return _Products() if large and _product() is not None else contextlib.nullcontext()


def times(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right.t()`` of two matrices, by oneDNN where it is large."""
    large = left.numel() * len(right) >= LARGE and _fits(left) and _fits(right)
    return _times(left, right) if large and _product() is not None else left @ right.t()


class _Products(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is functional.linear and not kwargs and len(args) == 3:
            inputs, weight, _ = args
            large = inputs.ndim == 2 and len(inputs) * weight.numel() >= LARGE
            if large and _fits(inputs) and _fits(weight):
                return _Linear.apply(*args)
        return function(*args, **(kwargs or {}))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _times(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        by_inputs, by_weight, by_bias = ctx.needs_input_grad
        slope = slope.contiguous()
        return (
            _times(slope, weight.t()) if by_inputs else None,
            _times(slope.t(), inputs.t()) if by_weight else None,
            slope.sum(dim=0) if by_bias else None,
        )


def _times(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left @ right.t() + bias."""
    product = _product()
    assert product is not None
    found: Tensor = product(left, right, bias, "none", [], "")
    return found


@functools.cache
def _product() -> Callable[..., Tensor] | None:
    """The operator that torch.compile uses for linear layers in inference; None where torch has none."""
    if not torch.backends.mkldnn.is_available():
        return None
    operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return getattr(operator, "default", None)


def _fits(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype is torch.float32
