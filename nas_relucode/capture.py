"""Codes read off a network's forward passes (Definition 1), a batch at a time; the network is left as it was."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.batches import batches, labels_of, moved, samples_of
from nas_relucode.codes import WORD, Codes, Layer
from nas_relucode.errors import InputError, NonFiniteError, unknown
from nas_relucode.network_state import device_of as device_of
from nas_relucode.network_state import untouched as untouched
from nas_relucode.packing import LEVELS, neurons_shape, pack_on_cpu, pack_on_device
from nas_relucode.relus import SMOOTH, Call, ReluCalls, unwrapped

Forward = Callable[[nn.Module, Any], Any]

MODES = ("eval", "train")
PRESETS = tuple(LEVELS)
MAPS = ("pixel", "channel", "pooled")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How bits are read off a network; a str stands for a tuple of one.

    ``layers`` are names, prefixes (``"classifier"`` means it and everything below it), globs (``"layer?.*"``), or

    - ``"all"``;
    - ``"fc"``: layers whose activation is a vector a sample;
    - ``"head"``: the module called head; if there is none, the layers of ``"fc"`` behind the last other layer.

    ``mode`` ``"eval"`` is for trained networks. ``"train"``, for scores at initialisation, lets normalisation use the
    statistics of the batch, so that a sample's code depends on its batch; all else (dropout, stochastic depth,
    auxiliary heads) stays in evaluation mode, and codes have no noise.

    ``preset`` ``"paper"`` sets a bit where the activation is positive, ``"released_code"`` where it is at least 1, as
    the code released with the paper does by rounding it down to a whole number.

    ``maps`` says what a neuron of a convolution is, whose activation is (channels, height, width): ``"pixel"`` each of
    its numbers, ``"channel"`` a channel, active if any of its pixels is, ``"pooled"`` any of 2 x 2 pixels (at the edge
    of an odd size, fewer).

    ``also`` names smooth activations, one or several of `nas_relucode.relus.SMOOTH`, whose inputs are read the same
    way. They have no linear cells: nothing that is said of cells holds for them, and their layers are labelled.
    """

    layers: tuple[str, ...] = ("all",)
    mode: str = "eval"
    preset: str = "paper"
    maps: str = "pixel"
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("layers", "also"):
            value = getattr(self, field)
            object.__setattr__(self, field, (value,) if isinstance(value, str) else tuple(value))
        if not self.layers:
            raise InputError("layers is empty. Name at least one, or all.")
        for field, choices in {"mode": MODES, "preset": PRESETS, "maps": MAPS}.items():
            if getattr(self, field) not in choices:
                raise unknown(field, getattr(self, field), choices)
        for name in self.also:
            if name not in SMOOTH:
                raise unknown("smooth activation", name, SMOOTH)


@dataclass(frozen=True)
class CodeBatch:
    """What `capture_batches` read off one forward pass."""

    codes: Codes
    start: int  # how many samples the batches before it had
    outputs: Tensor | None  # on the CPU; None if the network does not return one tensor with a row a sample
    labels: np.ndarray | None  # int64, (samples,); None if the batch is not a pair of inputs and labels
    dtype: str  # in which the network computed: "float32" as a rule


def capture_batches(
    network: nn.Module,
    data: Any,
    *,
    reading: Reading = Reading(),
    batch_size: int = 512,
    forward: Forward | None = None,
) -> Iterator[CodeBatch]:
    """The codes of ``data``, one batch after the other; nothing is kept, so ``data`` may be of any length.

    ``data`` is a tensor or array of inputs, a pair (inputs, labels), a Split or a dict of tensors, cut into batches of
    ``batch_size``; or a DataLoader or another iterable of batches, taken as they are. Of those, a batch is a tensor, a
    pair of inputs and labels (one whole number a sample), or else a tuple for ``network(*batch)`` or a dict for
    ``network(**batch)``. ``forward(network, batch)`` calls a network that wants it otherwise.

    Seen is every ReLU of the forward pass, a module's or a function's, also when it is called several times; ReLU6,
    LeakyReLU, PReLU, ``clamp(min=0)`` and ``threshold(0, 0)`` are read the same way. Layers are named by the module
    that calls. torch.compile, DataParallel and DistributedDataParallel are unwrapped, transformers take their plain
    path, TorchScript runs unfused; a quantized or fused operation that hides a ReLU is an error. Not seen are ReLUs
    written as arithmetic (``x * (x > 0)``, ``torch.where``, ``torch.maximum``) and those inside cuDNN's RNN.

    The samples must come first in every activation. The network's device is used, and between two batches its mode,
    buffers and hooks and torch's random state are as they were; what else a forward pass changes by itself stays
    changed. The arithmetic is the network's own, float32 as a rule and a 16-bit network as it is, without autocast or
    TF32: a pre-activation within rounding of 0 may change its bit with the batch size, because matrix products are
    then summed in another order.

    Raises InputError if the network calls no ReLU, or for other samples other ReLUs, if no layer has a name asked for,
    or if there are no samples; NonFiniteError if an activation is not finite.
    """
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is not positive. Give a whole number of at least 1.")
    return _code_batches(unwrapped(network), batches(data, batch_size), reading, forward)


def capture(
    network: nn.Module,
    inputs: Any,
    *,
    layers: str | Sequence[str] = "all",
    mode: str = "eval",
    preset: str = "paper",
    maps: str = "pixel",
    also: str | Sequence[str] = (),
    batch_size: int = 512,
    forward: Forward | None = None,
) -> Codes:
    """The codes of ``inputs`` under ``network``: those of `capture_batches`, which see for data, networks and errors.

    ``layers``, ``mode``, ``preset``, ``maps`` and ``also`` are those of `Reading`.

    >>> layer = nn.Linear(1, 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0], [1.0]])), layer.bias.data.copy_(torch.tensor([0.0, -1.0]))
    >>> network = nn.Sequential(layer, nn.ReLU())
    >>> capture(network, torch.tensor([[-1.0], [0.5], [2.0]])).bits().astype(int)
    array([[0, 0],
           [1, 0],
           [1, 1]])
    """
    reading = Reading(layers=layers, mode=mode, preset=preset, maps=maps, also=also)  # type: ignore[arg-type]
    parts = capture_batches(network, inputs, reading=reading, batch_size=batch_size, forward=forward)
    codes = [part.codes for part in parts]
    return codes[0] if len(codes) == 1 else Codes(np.concatenate([part.words for part in codes]), codes[0].layers)


def capture_with_outputs(
    network: nn.Module, inputs: Tensor, *, layers: str | Sequence[str] = "all", batch_size: int = 512
) -> tuple[Codes, Tensor | None]:
    """The codes as from `capture`, and the network's outputs (samples, ...) of the same forward passes, on the CPU.

    The outputs are None for a network that does not return one tensor with a row for each sample.
    """
    reading = Reading(layers=layers)  # type: ignore[arg-type]
    parts = list(capture_batches(network, inputs, reading=reading, batch_size=batch_size))
    codes = Codes(np.concatenate([part.codes.words for part in parts]), parts[0].codes.layers)
    outputs = [part.outputs for part in parts if part.outputs is not None]
    return codes, torch.cat(outputs) if len(outputs) == len(parts) else None


def _code_batches(
    network: nn.Module, parts: Iterable[Any], reading: Reading, forward: Forward | None
) -> Iterator[CodeBatch]:
    calls = ReluCalls(network, reading.also)
    writer = _Writer(reading, has_head="head" in calls.names.values())
    as_before = untouched(network, reading.mode)
    start = 0
    for given in parts:
        labels = labels_of(given)
        size = samples_of(given)
        if size == 0:
            continue
        writer.begin(size)
        with as_before:
            batch = moved(given, as_before.device)
            with calls.told_to(writer.take):
                output = _run(network, batch if labels is None else batch[0], batch, forward)
        words = writer.end(network, start, calls.untold)
        rows = isinstance(output, Tensor) and output.ndim > 0 and len(output) == size
        yield CodeBatch(
            codes=Codes(words, writer.layers),
            start=start,
            outputs=output.detach().cpu() if rows else None,
            labels=labels,
            dtype=writer.dtype,
        )
        start += size
    if start == 0:
        raise InputError("there are no samples to take codes of. Give at least one.")


def _run(network: nn.Module, inputs: Any, batch: Any, forward: Forward | None) -> Any:
    if forward is not None:
        return forward(network, batch)
    if isinstance(inputs, Mapping):
        return network(**inputs)
    if isinstance(inputs, tuple | list):
        return network(*inputs)
    return network(inputs)


@dataclass(frozen=True)
class _Piece:
    """The packed bits of one layer and batch, uint8 (samples, bytes), where its activation was."""

    layer: Layer
    shape: tuple[int, ...]  # of the activation of one sample
    dtype: str
    chosen: bool  # or only kept in case that it belongs to the head
    bits: np.ndarray | Tensor
    finite: bool | Tensor


class _Writer:
    """Packs the activations of one batch after the other. The first batch decides which layers there are, and where."""

    def __init__(self, reading: Reading, has_head: bool) -> None:
        self.reading = reading
        self.seeks_head = "head" in reading.layers and not has_head
        self.layers: tuple[Layer, ...] = ()
        self.dtype = ""
        self.places: dict[str, tuple[int, tuple[int, ...], slice]] = {}  # name: number, activation's shape, bytes

    def begin(self, size: int) -> None:
        self.size = size
        self.seen: list[str] = []  # every layer of this batch, chosen or not
        self.pieces: list[_Piece] = []
        self.rows = np.zeros((size, self.layers[-1].stop * WORD // 8 if self.layers else 0), np.uint8)
        self.taken = 0
        self.unlike_the_first = False

    def take(self, call: Call) -> None:
        self.seen.append(call.name)
        if not self.layers:
            self._take_first(call)
        elif call.name in self.places:
            number, shape, columns = self.places[call.name]
            self._check_rows(call)
            if number != self.taken or call.values.shape[1:] != shape:
                self.unlike_the_first = True
            else:
                bits, finite = self._pack(call, self.rows[:, columns])
                if isinstance(bits, Tensor):
                    self.pieces.append(_Piece(self.layers[number], shape, "", True, bits, finite))
            self.taken += 1
        elif self._chosen(call):
            self.unlike_the_first = True

    def _take_first(self, call: Call) -> None:
        vector, chosen = call.values.ndim == 2, self._chosen(call)
        if self.seeks_head and not vector:  # what came before it is no head
            self.pieces = [piece for piece in self.pieces if piece.chosen]
        if not chosen and not (self.seeks_head and vector):
            return
        self._check_rows(call)
        shape = tuple(call.values.shape[1:])
        layer = Layer(call.name, neurons_shape(shape, self.reading.maps), 0, call.kind.label)
        dtype = str(call.values.dtype).removeprefix("torch.")
        bits, finite = self._pack(call, np.zeros((self.size, layer.stop * WORD // 8), np.uint8))
        self.pieces.append(_Piece(layer, shape, dtype, chosen, bits, finite))

    def _chosen(self, call: Call) -> bool:
        return any(_matches(call.name, call.values.ndim == 2, pattern) for pattern in self.reading.layers)

    def _check_rows(self, call: Call) -> None:
        if call.values.ndim == 0 or len(call.values) != self.size:
            raise InputError(
                f"layer {call.name!r} gives an activation of shape {tuple(call.values.shape)} for a batch of {self.size}. "
                "Codes need one row a sample: put the samples first, or choose other layers."
            )

    def _pack(self, call: Call, room: np.ndarray) -> tuple[np.ndarray | Tensor, bool | Tensor]:
        """The bits, in ``room`` or on the device, and whether the activation is finite, which a GPU says later."""
        preset, maps = self.reading.preset, self.reading.maps
        if call.values.device.type != "cpu":
            return pack_on_device(call.values, preset=preset, maps=maps)
        _check_finite(call.name, pack_on_cpu(call.values, room, preset=preset, maps=maps, signed=call.kind.by_input))
        return room, True

    def end(self, network: nn.Module, start: int, untold: Mapping[str, set[str]]) -> np.ndarray:
        """The rows of the batch: uint64, (samples, words)."""
        if not self.seen:
            raise _no_relu(network, untold)
        if not self.layers:
            self._place()
        elif self.unlike_the_first or self.taken < len(self.layers):
            raise InputError(
                f"{type(network).__name__} called other ReLUs for sample {start} than for sample 0 "
                f"({', '.join(self.seen)}). Codes need the same layers for every sample."
            )
        for piece in self.pieces:
            _check_finite(piece.layer.name, bool(piece.finite))
            bits = piece.bits.cpu().numpy() if isinstance(piece.bits, Tensor) else piece.bits
            self.rows[:, self.places[piece.layer.name][2]] = bits
        return self.rows.view(np.uint64)

    def _place(self) -> None:
        if not self.pieces:
            raise InputError(f"no layer matches {', '.join(self.reading.layers)}. Known: all, {', '.join(self.seen)}.")
        for number, piece in enumerate(self.pieces):
            layer = replace(piece.layer, start=self.layers[-1].stop if self.layers else 0)
            self.layers += (layer,)
            self.places[layer.name] = number, piece.shape, slice(layer.start * WORD // 8, layer.stop * WORD // 8)
        self.dtype = ", ".join(sorted({piece.dtype for piece in self.pieces}))
        self.rows = np.zeros((self.size, self.layers[-1].stop * WORD // 8), np.uint8)


def _matches(name: str, vector: bool, pattern: str) -> bool:
    if pattern in ("all", "fc"):
        return pattern == "all" or vector
    return name.startswith((f"{pattern}.", f"{pattern}#")) or fnmatch.fnmatchcase(name, pattern)


def _check_finite(name: str, finite: bool) -> None:
    if not finite:
        raise NonFiniteError(f"layer {name!r} has activations that are not finite. Check the weights and the inputs.")


def _no_relu(network: nn.Module, untold: Mapping[str, set[str]]) -> InputError:
    found = ", ".join(f"{label} ({', '.join(sorted(names))})" for label, names in sorted(untold.items()))
    used = sorted({type(module).__name__ for module in network.modules() if not list(module.children())})
    advice = "Give a network with ReLU activations."
    smooth = [label for label in SMOOTH if label in untold]
    if smooth:
        advice += f" To read the signs of the inputs of {smooth[0]}, which has no linear cells, say also={smooth[0]!r}."
    return InputError(
        f"{type(network).__name__} called no ReLU, so it has no codes. It called {found or 'no other activation'}; "
        f"its modules: {', '.join(used)}. {advice}"
    )
