"""Codes read off a network's forward passes (Definition 1), a batch at a time; the network is left as it was."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
from torch import Tensor, nn

from nas_relucode.codes.activations import SMOOTH
from nas_relucode.codes.batches import Slices, batches, labels_of, moved, samples_of
from nas_relucode.codes.bits import WORD, Codes, Layer
from nas_relucode.codes.network_state import untouched
from nas_relucode.codes.packing import Packer
from nas_relucode.codes.reading import Forward, Reading, ReadingOptions, read_options
from nas_relucode.codes.relus import Call, ReluCalls, unwrapped
from nas_relucode.errors import InputError, NonFiniteError


@dataclass(frozen=True)
class CodeBatch:
    """What `capture_batches` read off one forward pass."""

    codes: Codes
    start: int  # how many samples the batches before it had
    outputs: Tensor | None  # on the CPU; None if the network does not return one tensor with a row a sample
    labels: np.ndarray | None  # int64, (samples,); None if the batch is not a pair of inputs and labels
    dtype: str  # in which the network computed: "float32" as a rule


def capture_batches(network: nn.Module, data: Any, **options: Unpack[ReadingOptions]) -> Iterator[CodeBatch]:
    """The codes of ``data``, one batch after the other; nothing is kept, so ``data`` may be of any length.

    ``data`` is a tensor or array of inputs, a pair (inputs, labels), a Split or a dict of tensors, cut into batches of
    ``batch_size``; or a DataLoader or another iterable of batches, which are used as they are. Such a batch is a
    tensor, a pair of inputs and labels (one whole number a sample), or else a tuple for ``network(*batch)`` or a dict
    for ``network(**batch)``. The options are those of `Reading`; ``forward(network, batch)`` is for a network that is
    called in another way.

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
    reading, forward = read_options(options)
    return _code_batches(unwrapped(network), batches(data, reading.batch_size), reading, forward)


def capture(network: nn.Module, inputs: Any, **options: Unpack[ReadingOptions]) -> Codes:
    """The codes of ``inputs`` under ``network``, a row a sample. The options are those of `Reading`.

    Data, networks and errors are those of `capture_batches`.

    >>> import torch
    >>> layer = nn.Linear(1, 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0], [1.0]])), layer.bias.data.copy_(torch.tensor([0.0, -1.0]))
    >>> network = nn.Sequential(layer, nn.ReLU())
    >>> capture(network, torch.tensor([[-1.0], [0.5], [2.0]])).bits().astype(int)
    array([[0, 0],
           [1, 0],
           [1, 1]])
    """
    reading, _ = read_options(options)
    parts = batches(inputs, reading.batch_size)
    taken: list[Codes] = []
    for batch in capture_batches(network, parts, **options):
        if isinstance(parts, Slices):  # how many samples there are is known: they are not kept twice
            if not taken:
                room = np.empty((parts.samples, batch.codes.words.shape[1]), np.uint64)
                taken = [Codes(room, batch.codes.layers)]
            taken[0].words[batch.start : batch.start + batch.codes.samples] = batch.codes.words
        else:
            taken.append(batch.codes)
    return taken[0] if len(taken) == 1 else Codes(np.concatenate([part.words for part in taken]), taken[0].layers)


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
            with calls.watch_by_hooks(writer.take) if forward is None else calls.watch(writer.take):
                output = _run(network, batch if labels is None else batch[0], batch, forward)
        words = writer.end(network, start, calls.ignored)
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
        try:
            return network(*inputs)
        except TypeError as error:
            error.add_note(f"The batch is a tuple of {len(inputs)}. Say with forward= how the network is called on it.")
            raise
    return network(inputs)


@dataclass(frozen=True)
class _Place:
    """Where the bits of a layer are, and how they come there."""

    layer: Layer
    packer: Packer
    shape: tuple[int, ...]  # of the activation of one sample
    dtype: str
    chosen: bool  # or only kept in case that it belongs to the head
    number: int
    columns: slice  # the layer's bytes in a row


class _Writer:
    """Packs the activations of one batch after the other. The first batch decides which layers there are, and where."""

    def __init__(self, reading: Reading, has_head: bool) -> None:
        self.reading = reading
        self.seeks_head = "head" in reading.layers and not has_head
        self.layers: tuple[Layer, ...] = ()
        self.dtype = ""
        self.places: dict[str, _Place] = {}

    def begin(self, size: int) -> None:
        self.size = size
        self.seen: list[str] = []  # every layer of this batch, chosen or not
        self.rows = np.zeros((size, self.layers[-1].stop * WORD // 8 if self.layers else 0), np.uint8)
        self.late: list[tuple[_Place, np.ndarray | Tensor, bool | Tensor]] = []  # bits that are not yet in the rows
        self.taken = 0
        self.unlike_the_first = False

    def take(self, call: Call) -> None:
        self.seen.append(call.name)
        if not self.layers:
            self._take_first(call)
            return
        place = self.places.get(call.name)
        if place is None:
            self.unlike_the_first |= self._chosen(call)
            return
        self._check_rows(call)
        if place.number != self.taken or call.values.shape[1:] != place.shape:
            self.unlike_the_first = True
        else:
            self._pack(call, place, self.rows[:, place.columns])
        self.taken += 1

    def _take_first(self, call: Call) -> None:
        vector, chosen = call.values.ndim == 2, self._chosen(call)
        if self.seeks_head and not vector:  # what came before it is no head
            self.late = [late for late in self.late if late[0].chosen]
        if not chosen and not (self.seeks_head and vector):
            return
        self._check_rows(call)
        shape = tuple(call.values.shape[1:])
        packer = Packer(shape, preset=self.reading.preset, maps=self.reading.maps, signed=call.activation.by_input)
        layer = Layer(call.name, packer.neurons, 0, call.activation.label)
        place = _Place(layer, packer, shape, str(call.values.dtype).removeprefix("torch."), chosen, 0, slice(0))
        room = np.zeros((self.size, layer.stop * WORD // 8), np.uint8)
        self._pack(call, place, room)
        if call.values.device.type == "cpu":
            self.late.append((place, room, True))

    def _chosen(self, call: Call) -> bool:
        return any(_matches(call.name, call.values.ndim == 2, pattern) for pattern in self.reading.layers)

    def _check_rows(self, call: Call) -> None:
        shape = call.values.shape
        if not shape or shape[0] != self.size:
            raise InputError(
                f"layer {call.name!r} gives an activation of shape {tuple(shape)} for a batch of {self.size}. "
                "Codes need one row a sample: put the samples first, or choose other layers."
            )

    def _pack(self, call: Call, place: _Place, room: np.ndarray) -> None:
        """Into ``room`` on the CPU; bits on a GPU are fetched at the end, so that it need not be waited for."""
        if call.values.device.type == "cpu":
            _check_finite(call.name, place.packer.on_cpu(call.values, room))
        else:
            self.late.append((place, *place.packer.on_device(call.values)))

    def end(self, network: nn.Module, start: int, ignored: Mapping[str, set[str]]) -> np.ndarray:
        """The rows of the batch: uint64, (samples, words)."""
        if not self.seen:
            raise _no_relu(network, ignored)
        if not self.layers:
            self._settle()
        elif self.unlike_the_first or self.taken < len(self.layers):
            raise InputError(
                f"{type(network).__name__} called other ReLUs for sample {start} than for sample 0 "
                f"({', '.join(self.seen)}). Codes need the same layers for every sample."
            )
        for place, bits, finite in self.late:
            _check_finite(place.layer.name, bool(finite))
            columns = self.places[place.layer.name].columns
            self.rows[:, columns] = bits.cpu().numpy() if isinstance(bits, Tensor) else bits
        return self.rows.view(np.uint64)

    def _settle(self) -> None:
        if not self.late:
            raise InputError(f"no layer matches {', '.join(self.reading.layers)}. Known: all, {', '.join(self.seen)}.")
        for place, _, _ in self.late:
            layer = replace(place.layer, start=self.layers[-1].stop if self.layers else 0)
            columns = slice(layer.start * WORD // 8, layer.stop * WORD // 8)
            self.places[layer.name] = replace(place, layer=layer, number=len(self.layers), columns=columns)
            self.layers += (layer,)
        self.dtype = ", ".join(sorted({place.dtype for place in self.places.values()}))
        self.rows = np.zeros((self.size, self.layers[-1].stop * WORD // 8), np.uint8)


def _matches(name: str, vector: bool, pattern: str) -> bool:
    if pattern in ("all", "fc"):
        return pattern == "all" or vector
    return name.startswith((f"{pattern}.", f"{pattern}#")) or fnmatch.fnmatchcase(name, pattern)


def _check_finite(name: str, finite: bool) -> None:
    if not finite:
        raise NonFiniteError(f"layer {name!r} has activations that are not finite. Check the weights and the inputs.")


def _no_relu(network: nn.Module, ignored: Mapping[str, set[str]]) -> InputError:
    found = ", ".join(f"{label} ({', '.join(sorted(names))})" for label, names in sorted(ignored.items()))
    used = sorted({type(module).__name__ for module in network.modules() if not list(module.children())})
    advice = "Give a network with ReLU activations."
    smooth = [label for label in SMOOTH if label in ignored]
    if smooth:
        advice += f" To read the signs of the inputs of {smooth[0]}, which has no linear cells, say also={smooth[0]!r}."
    return InputError(
        f"{type(network).__name__} called no ReLU, so it has no codes. It called {found or 'no other activation'}; "
        f"its modules: {', '.join(used)}. {advice}"
    )
