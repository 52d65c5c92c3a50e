"""Runs a network and restores its modes, its buffers, and torch's random state and precision."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nas_relucode.codes.batches import copied
from nas_relucode.errors import InputError, a_type


def check_network(network: object, what: str = "the network") -> nn.Module:
    """The network itself. Raises InputError if it is something else than a module."""
    if not isinstance(network, nn.Module):
        raise InputError(f"{what} is {a_type(network)}. Give a torch.nn.Module.")
    return network


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's first parameter or buffer, the CPU if it has none."""
    tensor = next(itertools.chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def float_type_of(network: nn.Module) -> torch.dtype:
    """The type of the network's first parameter or buffer of floats; torch's default if it has none."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.get_default_dtype())


def plain_settings(network: nn.Module) -> list[tuple[str, str, bool | int | float | str]]:
    """The numbers and texts among the attributes of the modules, except their mode: module, attribute, value."""
    return [
        (name, attribute, value)
        for name, module in network.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, (bool, int, float, str)) and attribute != "training"
    ]


def run(network: nn.Module, inputs: Any, forward: Callable[[nn.Module, Any], Any] | None = None) -> Any:
    """The output for a copy of the inputs, because a forward pass may overwrite what it is given; otherwise `call`."""
    return call(network, copied(inputs), forward)


def call(network: nn.Module, inputs: Any, forward: Callable[[nn.Module, Any], Any] | None = None) -> Any:
    """The output: of ``network(**inputs)`` for a dict, ``network(*inputs)`` for a tuple; of ``forward`` if given.

    The network may overwrite the inputs: give some that nobody needs any more, or see `run`.
    """
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

    Buffers are restored byte by byte, whether the forward pass overwrote, resized, replaced, added or removed them,
    and so are the weights of embeddings with ``max_norm``, which overwrite them.
    One thread at a time is inside, because modes, buffers and torch's settings belong to all. Raises InputError for a
    network with lazy modules that never ran.
    """
    return Untouched(network, mode)


class Untouched:
    """The context of `untouched`. It may be entered several times, but not within itself."""

    def __init__(self, network: nn.Module, mode: str) -> None:
        modules = list(check_network(network).modules())
        _check_not_lazy(network)
        # Frozen TorchScript modules have no mode.
        with_mode = [module for module in modules if hasattr(module, "training")]
        self.modes = [(module, mode == "train" and "running_mean" in module._buffers) for module in with_mode]
        tables = [module._buffers for module in modules]
        self.empty = [table for table in tables if not table]
        self.tables = [table for table in tables if table]
        self.tables += [module._parameters for module in modules if getattr(module, "max_norm", None) is not None]
        self.parallel = [module for module in modules if isinstance(module, nn.DataParallel)]
        self.attends = any(isinstance(module, _WITH_FUSED_PATH) for module in modules)
        self.device, self.floats = device_of(network), float_type_of(network)
        self.inference = any(t.is_inference() for t in itertools.chain(network.parameters(), network.buffers()))
        self.precisions = _float32_parts()

    def __enter__(self) -> None:
        with ExitStack() as restore:
            _LOCK.acquire()
            restore.callback(_LOCK.release)
            if self.inference:  # torch changes such tensors nowhere else
                restore.enter_context(torch.inference_mode())
            restore.callback(torch.set_rng_state, torch.get_rng_state())
            if self.device.type == "cuda":
                restore.enter_context(torch.random.fork_rng([self.device]))
            restore.callback(_clear, self.empty)
            for table in self.tables:
                restore.callback(_restore, table, [_Stored(name, tensor) for name, tensor in table.items()])
            restore.callback(_set_modes, [(module, module.training) for module, _ in self.modes])
            _set_modes(self.modes)
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


_LOCK = threading.RLock()


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        if module.training is not training:
            module.training = training


def _check_not_lazy(network: nn.Module) -> None:
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    lazy = [name for name, tensor in tensors if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise InputError(
            f"{', '.join(lazy[:3])} of {type(network).__name__} have no values yet: its lazy modules never ran. "
            "Run it once on a batch: network(inputs)."
        )


class _Stored:
    """A buffer as it was before a forward pass."""

    def __init__(self, name: str, tensor: Tensor | None) -> None:
        self.name, self.tensor = name, tensor
        if tensor is not None:
            self.same = tensor.detach()  # shares its memory, and keeps its shape
            self.values = self.same.clone()
            self.size = _bytes(tensor)

    def restore(self) -> None:
        """Gives the tensor its memory, shape and values back."""
        tensor = self.tensor
        if tensor is None:
            return
        moved = tensor.device != self.same.device or tensor.dtype != self.same.dtype
        if moved or _layout(tensor) != _layout(self.same) or _bytes(tensor) != self.size:
            tensor.data = self.same
            if self.size is not None and _bytes(tensor) != self.size:
                tensor.untyped_storage().resize_(self.size)
        if not _equal(tensor, self.values):
            with torch.no_grad():
                tensor.copy_(self.values)


def _clear(tables: list[Any]) -> None:
    """Removes what a forward pass has put into tables that were empty."""
    for table in tables:
        if table:
            table.clear()


def _restore(table: Any, stored: list[_Stored]) -> None:
    for entry in stored:
        entry.restore()
    present = list(table.items())
    if [(entry.name, id(entry.tensor)) for entry in stored] != [(name, id(tensor)) for name, tensor in present]:
        for name, _ in present:
            del table[name]
        table.update({entry.name: entry.tensor for entry in stored})


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.layout != torch.strided:
        return tuple(tensor.shape), tensor.layout
    return tensor.shape, tensor.stride(), tensor.data_ptr()


def _bytes(tensor: Tensor) -> int | None:
    """The size of the memory that the tensor lies in; None where it has none of its own."""
    return tensor.untyped_storage().nbytes() if tensor.layout == torch.strided else None


_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether both hold the same bytes: 0.0 is not -0.0, and NaN is NaN."""
    if a.layout != torch.strided or a.is_quantized or a.dtype.itemsize not in _WHOLE:
        return torch.equal(a, b)
    whole = _WHOLE[a.dtype.itemsize]
    return torch.equal(a.detach().view(whole), b.view(whole))


_WITH_FUSED_PATH = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


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
