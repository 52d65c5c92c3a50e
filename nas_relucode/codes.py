"""Codes: one bit a ReLU neuron and input, 1 where the activation is positive (Definition 1, Equation 2)."""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from nas_relucode.errors import InputError, NonFiniteError, unknown

WORD = 64


@dataclass(frozen=True)
class Layer:
    """One ReLU call of a network's forward pass."""

    name: str  # the module that called ReLU, as in named_modules(); "#2" is appended for its second call
    shape: tuple[int, ...]  # of the activation of one sample
    start: int  # the layer's first column in Codes.words

    @property
    def neurons(self) -> int:
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        return self.start + -(-self.neurons // WORD)


@dataclass(frozen=True)
class Codes:
    """The codes of a sample, bit-packed: each layer starts at a new word, the bits that fill its last word are 0.

    Distances and equality of rows are therefore those of the codes, for one layer and for all layers jointly.
    """

    words: np.ndarray  # uint64, (samples, words)
    layers: tuple[Layer, ...]  # in the order of the forward pass

    @property
    def samples(self) -> int:
        return len(self.words)

    @property
    def neurons(self) -> int:
        return sum(layer.neurons for layer in self.layers)

    @property
    def columns(self) -> np.ndarray:
        """Which bits of a row are neurons, the others being filled with 0: int64, (neurons,)."""
        return np.concatenate([np.arange(layer.neurons) + layer.start * WORD for layer in self.layers])

    def __getitem__(self, rows: Any) -> Codes:
        """The codes of the chosen samples; ``rows`` is a slice, a mask or an array of sample numbers."""
        return replace(self, words=self.words[rows])

    def layer(self, name: str) -> Codes:
        """The codes of one layer alone."""
        for layer in self.layers:
            if layer.name == name:
                words = np.ascontiguousarray(self.words[:, layer.start : layer.stop])
                return Codes(words, (replace(layer, start=0),))
        raise unknown("layer", name, [layer.name for layer in self.layers])

    def bits(self) -> np.ndarray:
        """The codes unpacked: bool, (samples, neurons).

        >>> pack([[1, 0, 1], [0, 0, 1]]).bits().astype(int)
        array([[1, 0, 1],
               [0, 0, 1]])
        """
        return np.unpackbits(self.words.view(np.uint8), axis=1, bitorder="little").view(bool)[:, self.columns]


def pack(bits: Any, name: str = "layer") -> Codes:
    """Codes of one layer from a 0/1 matrix of shape (samples, neurons)."""
    array = np.asarray(bits, dtype=bool)
    if array.ndim != 2:
        raise InputError(f"bits have the shape {array.shape}. Give a matrix of samples x neurons.")
    layer = Layer(name, (array.shape[1],), 0)
    words = np.zeros((len(array), layer.stop * WORD // 8), np.uint8)
    words[:, : -(-array.shape[1] // 8)] = np.packbits(array, axis=1, bitorder="little")
    return Codes(words.view(np.uint64), (layer,))


def capture(network: nn.Module, inputs: Tensor, *, layers: str | Sequence[str] = "all", batch_size: int = 512) -> Codes:
    """The codes of ``inputs`` (samples, ...) under ``network``, in evaluation mode and without autocast.

    ``layers`` is ``"all"``, or names, prefixes (``"head"`` means ``head`` and everything below it) or globs
    (``"layer?.*"``), one or several. Every ReLU of the forward pass counts, a module's or a function's, also when it
    is called several times; ReLU6, LeakyReLU, PReLU, ``clamp(min=0)`` and ``threshold(0, 0)`` are read the same way.
    A ReLU written as arithmetic (``x * (x > 0)``, ``torch.where``, ``torch.maximum``) is not seen.

    The samples must come first in every activation. The network's device is used, and its mode, buffers and hooks and
    torch's random state are left as they were; what else a forward pass changes by itself stays changed. The
    arithmetic is the network's own (float32 as a rule): a pre-activation within rounding of 0 may change its bit
    with the batch size, because matrix products are then summed in another order.

    >>> layer = nn.Linear(1, 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0], [1.0]])), layer.bias.data.copy_(torch.tensor([0.0, -1.0]))
    >>> network = nn.Sequential(layer, nn.ReLU())
    >>> capture(network, torch.tensor([[-1.0], [0.5], [2.0]])).bits().astype(int)
    array([[0, 0],
           [1, 0],
           [1, 1]])

    Raises InputError if the network calls no ReLU, if no layer has a name asked for, or if an activation is not finite.
    """
    return capture_with_outputs(network, inputs, layers=layers, batch_size=batch_size)[0]


def capture_with_outputs(
    network: nn.Module, inputs: Tensor, *, layers: str | Sequence[str] = "all", batch_size: int = 512
) -> tuple[Codes, Tensor | None]:
    """The codes as from `capture`, and the network's outputs (samples, ...) of the same forward passes, on the CPU.

    The outputs are None for a network that does not return one tensor with a row for each sample.
    """
    if len(inputs) == 0:
        raise InputError("there are no samples to take codes of. Give at least one.")
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is not positive. Give a whole number of at least 1.")
    writer = _Writer(len(inputs), layers)
    outputs: list[Tensor] = []
    device = device_of(network)
    with untouched(network), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size].to(device)
            writer.begin(start, len(batch))
            with relu_calls(network, writer.take):
                output = network(batch)
            writer.end(network)
            if isinstance(output, Tensor) and output.ndim and len(output) == len(batch):
                outputs.append(output.cpu())
    complete = sum(map(len, outputs)) == len(inputs)
    return writer.codes(), torch.cat(outputs) if complete else None


def device_of(network: nn.Module) -> torch.device:
    """The device of the network's first parameter or buffer, the CPU if it has none."""
    for tensor in [*network.parameters(), *network.buffers()]:
        return tensor.device
    return torch.device("cpu")


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module's mode, every buffer and torch's random state are as before.

    Inside, transformers take their plain path (the fused one hides its ReLUs) and CUDA computes in full float32.
    """
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    device = device_of(network)
    fused, tf32 = torch.backends.mha.get_fastpath_enabled(), torch.backends.cudnn.allow_tf32
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        torch.backends.cudnn.allow_tf32 = False
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            network.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.backends.cudnn.allow_tf32 = tf32
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
                module._buffers[name] = buffer


@contextmanager
def relu_calls(network: nn.Module, take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside, every ReLU that the network's forward calls is answered by ``take(layer name, activation)``.

    The calls are seen below autograd, where a module, a function and an in-place method are the same operation.
    The modules' names come from hooks that belong to torch, not to the network, and are removed on leaving.
    """
    names = {id(module): name for name, module in network.named_modules()}
    stack: list[str] = []
    calls: Counter[str] = Counter()

    def enter(module: nn.Module, args: Any) -> None:
        if id(module) in names:
            stack.append(names[id(module)])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if id(module) in names:
            stack.pop()

    def called(activation: Tensor) -> None:
        name = (stack[-1] if stack else "") or "relu"
        calls[name] += 1
        take(name if calls[name] == 1 else f"{name}#{calls[name]}", activation)

    with (
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
        _ReLUMode(called),
    ):
        yield


class _ReLUMode(TorchDispatchMode):
    def __init__(self, called: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.called = called

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in _RELUS and _RELUS[packet](*args[1:], **(kwargs or {})):
            self.called(args[0] if packet in _SIGNED else result)
        return result


_aten = torch.ops.aten

# The operations that are read, each with a test of its other arguments: they bend at 0, and but for a negative slope
# their outputs are positive exactly where their inputs are.
_RELUS: dict[Any, Callable[..., bool]] = {
    _aten.relu: lambda: True,
    _aten.relu_: lambda: True,
    _aten.hardtanh: lambda low=-1, high=1: low == 0,
    _aten.hardtanh_: lambda low=-1, high=1: low == 0,
    _aten.clamp: lambda min=None, max=None: _is_zero(min),
    _aten.clamp_: lambda min=None, max=None: _is_zero(min),
    _aten.clamp_min: lambda min: _is_zero(min),
    _aten.clamp_min_: lambda min: _is_zero(min),
    _aten.threshold: lambda threshold, value: threshold == 0 and value == 0,
    _aten.threshold_: lambda threshold, value: threshold == 0 and value == 0,
    _aten.leaky_relu: lambda slope=0.01: True,
    _aten.leaky_relu_: lambda slope=0.01: slope >= 0,
    _aten._prelu_kernel: lambda weight: True,
}
_SIGNED = {_aten.leaky_relu, _aten._prelu_kernel}  # read from their inputs, as a slope may be negative


def _is_zero(bound: Any) -> bool:
    return isinstance(bound, int | float) and bound == 0


class _Writer:
    """Packs the activations of one batch after the other into one array, whose columns the first batch decides."""

    def __init__(self, samples: int, layers: str | Sequence[str]) -> None:
        self.samples = samples
        self.patterns = [layers] if isinstance(layers, str) else list(layers)
        if not self.patterns:
            raise InputError("layers is empty. Name at least one, or all.")
        self.layers: list[Layer] = []
        self.seen: list[str] = []  # every layer of the current batch, chosen or not
        self.packed: list[tuple[Layer, np.ndarray]] = []
        self.bytes: np.ndarray | None = None

    def begin(self, start: int, size: int) -> None:
        self.start, self.size = start, size
        self.seen, self.packed = [], []

    def take(self, name: str, activation: Tensor) -> None:
        self.seen.append(name)
        if not any(_matches(name, pattern) for pattern in self.patterns):
            return
        if activation.ndim == 0 or len(activation) != self.size:
            raise InputError(
                f"layer {name!r} gives an activation of shape {tuple(activation.shape)} for a batch of {self.size}. "
                "Codes need one row a sample: put the samples first, or choose other layers."
            )
        start = self.packed[-1][0].stop if self.packed else 0
        layer = Layer(name, tuple(activation.shape[1:]), start)
        self.packed.append((layer, np.packbits(_positive(name, activation), axis=1, bitorder="little")))

    def end(self, network: nn.Module) -> None:
        layers = [layer for layer, _ in self.packed]
        if self.bytes is None:
            if not self.seen:
                used = sorted({type(m).__name__ for m in network.modules() if not list(m.children())})
                raise InputError(
                    f"{type(network).__name__} called no ReLU, so it has no codes (its modules: {', '.join(used)}). "
                    "Give a network with ReLU activations."
                )
            if not layers:
                raise InputError(f"no layer matches {', '.join(self.patterns)}. Known: all, {', '.join(self.seen)}.")
            self.layers = layers
            self.bytes = np.zeros((self.samples, layers[-1].stop * WORD // 8), np.uint8)
        elif layers != self.layers:
            raise InputError(
                f"{type(network).__name__} called other ReLUs for sample {self.start} than for sample 0 "
                f"({', '.join(self.seen)}). Codes need the same layers for every sample."
            )
        for layer, packed in self.packed:
            column = layer.start * WORD // 8
            self.bytes[self.start : self.start + self.size, column : column + packed.shape[1]] = packed

    def codes(self) -> Codes:
        assert self.bytes is not None
        return Codes(self.bytes.view(np.uint64), tuple(self.layers))


def _matches(name: str, pattern: str) -> bool:
    return pattern == "all" or name.startswith((f"{pattern}.", f"{pattern}#")) or fnmatch.fnmatchcase(name, pattern)


def _positive(name: str, activation: Tensor) -> np.ndarray:
    """Where the activation is positive: bool, (samples, neurons). On a GPU the bits are moved, not the floats."""
    values = activation.detach().reshape(len(activation), -1)
    if values.shape[1] and not bool(torch.isfinite(values.amax())):
        raise NonFiniteError(f"layer {name!r} has activations that are not finite. Check the weights and the inputs.")
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        return np.greater(values.numpy(), 0)
    return np.asarray((values > 0).cpu().numpy())
