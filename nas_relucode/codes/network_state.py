"""Runs a network and restores its modes, its buffers, and torch's random state and precision."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's first parameter or buffer, the CPU if it has none."""
    tensor = next(itertools.chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def run(network: nn.Module, inputs: Any, forward: Callable[[nn.Module, Any], Any] | None = None) -> Any:
    """The output: of ``network(**inputs)`` for a dict, ``network(*inputs)`` for a tuple; of ``forward`` if given."""
    if forward is not None:
        return forward(network, inputs)
    if isinstance(inputs, Mapping):
        return network(**inputs)
    if isinstance(inputs, tuple | list):
        try:
            return network(*inputs)
        except TypeError as error:
            error.add_note(f"The batch is a tuple of {len(inputs)}. Give forward= to call the network in another way.")
            raise
    return network(inputs)


def untouched(network: nn.Module, mode: str = "eval") -> Untouched:
    """A context in evaluation mode; on leaving it, modes, buffers and torch's random state are restored.

    With ``mode`` ``"train"``, modules with running statistics (BatchNorm) use the statistics of the batch; all others
    stay in evaluation mode. Inside, transformers take their plain path (the fused one hides its ReLUs), float32 is
    computed without autocast, TF32 or bfloat16, no gradients are kept, and a DataParallel uses a single device.
    """
    return Untouched(network, mode)


class Untouched:
    """The context of `untouched`. It may be entered several times, but not within itself."""

    def __init__(self, network: nn.Module, mode: str) -> None:
        modules = list(network.modules())
        # Frozen TorchScript modules have no mode.
        with_mode = [module for module in modules if hasattr(module, "training")]
        self.modes = [(module, mode == "train" and "running_mean" in module._buffers) for module in with_mode]
        self.buffered = [module for module in modules if module._buffers]
        self.parallel = [module for module in modules if isinstance(module, nn.DataParallel)]
        self.attends = any(isinstance(module, _WITH_FUSED_PATH) for module in modules)
        self.device = device_of(network)
        self.precisions = _float32_parts()

    def __enter__(self) -> None:
        with ExitStack() as restore:
            restore.callback(torch.set_rng_state, torch.get_rng_state())
            if self.device.type == "cuda":
                restore.enter_context(torch.random.fork_rng([self.device]))
            for module in self.buffered:
                for name, buffer in module._buffers.items():
                    restore.callback(_restore, module, name, buffer, None if buffer is None else buffer.clone())
            for module, training in self.modes:
                if module.training is not training:
                    restore.callback(setattr, module, "training", module.training)
                    module.training = training
            for module in self.parallel:
                restore.callback(setattr, module, "device_ids", module.device_ids)
                module.device_ids = []
            if self.attends and torch.backends.mha.get_fastpath_enabled():
                restore.callback(torch.backends.mha.set_fastpath_enabled, True)
                torch.backends.mha.set_fastpath_enabled(False)
            _full_float32(self.device.type, self.precisions, restore)
            if torch.is_autocast_enabled(self.device.type):
                restore.enter_context(torch.autocast(self.device.type, enabled=False))
            if torch.is_grad_enabled():
                restore.callback(torch.set_grad_enabled, True)
                torch.set_grad_enabled(False)
            self._restore = restore.pop_all()

    def __exit__(self, *error: object) -> None:
        self._restore.close()


_WITH_FUSED_PATH = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


def _restore(module: nn.Module, name: str, buffer: Tensor | None, value: Tensor | None) -> None:
    if buffer is not None and not torch.equal(buffer, value):
        with torch.no_grad():
            buffer.copy_(value)
    if module._buffers[name] is not buffer:
        module._buffers[name] = buffer


def _float32_parts() -> dict[str, list[Any]]:
    """The backends that have a ``fp32_precision``, by device; none in older versions of torch."""
    cuda = [torch.backends.cuda.matmul, *(getattr(torch.backends.cudnn, part, None) for part in ("conv", "rnn"))]
    cpu = [getattr(torch.backends.mkldnn, part, None) for part in ("matmul", "conv", "rnn")]
    return {
        device: [part for part in parts if hasattr(part, "fp32_precision")]
        for device, parts in {"cuda": cuda, "cpu": cpu}.items()
    }


def _full_float32(device: str, parts: dict[str, list[Any]], restore: ExitStack) -> None:
    """Sets full float32 precision through torch's old and its new settings, and restores both.

    An old setting may raise when it is read after the new one was changed; it is then left unchanged.
    """
    lowered = any(part.fp32_precision not in ("none", "ieee") for part in parts.get(device, ()))
    products = _read(torch.get_float32_matmul_precision)
    convolutions = _read(lambda: torch.backends.cudnn.allow_tf32) if device == "cuda" else None
    if not lowered and products in (None, "highest") and not convolutions:
        return
    backends = [part for device_parts in parts.values() for part in device_parts]
    for part in backends:  # restored last, because the old settings change them too
        restore.callback(setattr, part, "fp32_precision", part.fp32_precision)
    if products:
        restore.callback(torch.set_float32_matmul_precision, products)
        torch.set_float32_matmul_precision("highest")
    if convolutions:
        restore.callback(setattr, torch.backends.cudnn, "allow_tf32", True)
        torch.backends.cudnn.allow_tf32 = False
    for part in backends:
        part.fp32_precision = "ieee"


def _read(setting: Callable[[], Any]) -> Any:
    try:
        return setting()
    except RuntimeError:
        return None
