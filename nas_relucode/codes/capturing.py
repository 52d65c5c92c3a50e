"""A network's codes (Definition 1), read off its forward passes batch by batch; the network is left as it was."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import numpy as np
from torch import Tensor, nn

from nas_relucode.codes.batches import Slices, batches, copied, drawn_apart, each, moved, needed_arguments, read_batch
from nas_relucode.codes.bits import WORD, Codes, Layer
from nas_relucode.codes.handwritten import ADVICE
from nas_relucode.codes.network_state import call, check_network, untouched
from nas_relucode.codes.packing import Packer
from nas_relucode.codes.reading import SMOOTH, Forward, Reading, ReadingOptions, read_options
from nas_relucode.codes.relus import Call, ReluCalls, unwrapped
from nas_relucode.codes.sample_check import check_samples
from nas_relucode.errors import InputError, NonFiniteError


@dataclass(frozen=True, eq=False)
class CodeBatch:
    """The codes of one forward pass, with the network's outputs and the labels."""

    codes: Codes
    start: int  # samples in the batches before this one
    outputs: Tensor | None  # on the CPU; None unless the network returns one tensor with one row per sample
    labels: np.ndarray | None  # int64, (samples,); None if the batch is not a pair of inputs and labels
    dtype: str  # of the activations: "float32" as a rule
    parts: str  # what of the first batch was taken for inputs, and for labels, in words


def capture_batches(network: nn.Module, data: Any, **options: Unpack[ReadingOptions]) -> Iterator[CodeBatch]:
    """The codes of ``data``, one batch after the other; nothing is kept, so ``data`` may be of any length.

    ``data`` is a tensor or array of inputs, a pair (inputs, labels), a Split or a dict of tensors, cut into batches of
    ``batch_size``; or a DataLoader or another iterable of batches, which are used as they are. Such a batch is a
    tensor, a tuple for ``network(*batch)`` or a dict for ``network(**batch)``, each perhaps with labels, one whole
    number per sample: the last of a tuple, such as ``(inputs, labels)``, or a dict's entry ``labels`` or ``label``,
    unless the network needs it. A tuple with more tensors than that is refused: they may be labels. The batch has as
    many samples as its activations have rows, which must be the length of one of its parts. NumPy's floats take the
    type of the network's weights. The options are those of `Reading`; ``forward(network, batch)`` is for a network
    that is called in another way.

    Every ReLU that the forward pass calls is read, whether a module or a function and however often it is called;
    ReLU6, LeakyReLU, PReLU, ``clamp(min=0)`` and ``threshold(0, 0)`` are read in the same way. A layer is named after
    the module that calls it. torch.compile, DataParallel and DistributedDataParallel are unwrapped, transformers take
    their plain path, TorchScript runs unfused; a quantized or fused operation that hides a ReLU is an error. ReLUs
    written as arithmetic (``x * (x > 0)``, ``torch.where``, ``torch.maximum``) have no bits and are an error where they
    are chosen; those inside cuDNN's RNN cannot be seen.

    The samples must be the first dimension of every activation, and in evaluation mode a sample's activations may not
    depend on the other samples of its batch: the first time, the network runs three small batches more to check this,
    which finds most networks that mix samples. The network runs on its own device. Between two batches its mode, its
    buffers and torch's random state are as they were before; anything else that a forward pass changes stays changed.
    The network computes in its own precision, without autocast or TF32. A pre-activation within rounding of 0 may
    change its bit with the batch size, which changes the order of the sums in matrix products.

    Raises InputError if the network calls no ReLU, or different ReLUs for different samples, if its forward pass draws
    random numbers or mixes samples, if no layer matches ``layers``, or if there are no samples; NonFiniteError if an
    activation is not finite.
    """
    reading, forward = read_options(options)
    return _code_batches(unwrapped(check_network(network)), batches(data, reading.batch_size), reading, forward)


def capture(network: nn.Module, inputs: Any, **options: Unpack[ReadingOptions]) -> Codes:
    """The codes of ``inputs`` under ``network``, one row per sample. The options are those of `Reading`.

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
    batch_codes: list[Codes] = []
    for batch in capture_batches(network, parts, **options):
        if isinstance(parts, Slices):  # the number of samples is known: no second copy is needed
            if not batch_codes:
                words = np.empty((parts.samples, batch.codes.words.shape[1]), np.uint64)
                batch_codes = [Codes(words, batch.codes.layers)]
            batch_codes[0].words[batch.start : batch.start + batch.codes.samples] = batch.codes.words
        else:
            batch_codes.append(batch.codes)
    first, *others = batch_codes
    return Codes(np.concatenate([first.words, *(part.words for part in others)]), first.layers) if others else first


def _code_batches(
    network: nn.Module, parts: Iterable[Any], reading: Reading, forward: Forward | None
) -> Iterator[CodeBatch]:
    calls = ReluCalls(network, reading.also)
    writer = _Writer(reading, set(calls.names.values()))
    borrowed = untouched(network, reading.mode)
    needed = None if forward else needed_arguments(network)
    start, writes, taken = 0, True, ""
    for part in parts if isinstance(parts, Slices) else drawn_apart(parts):
        held = read_batch(part, needed)
        if held.lengths == {0}:
            continue
        writer.begin(held.lengths)
        with borrowed:
            inputs = moved(held.passed, borrowed.device, borrowed.floats)
            # The caller's may share their memory. A network with code of its own may write to any batch.
            inputs = copied(inputs) if writes or forward is not None or not calls.hooked else inputs
            with calls.watch_by_hooks(writer.add) if forward is None else calls.watch(writer.add):
                output = _run(network, inputs, forward, reading)
        words = writer.end(network, start, calls.ignored)
        if start == 0:
            writes, taken = _has_written(inputs), str(held)
            names, rows = [layer.name for layer in writer.layers], partial(held.rows, writer.size)
            mixed = reading.mode == "train"
            check = check_samples(network, calls, names, rows, writer.size, forward, mixed=mixed)
            writer.check_handwritten(network, check.handwritten)
        has_rows = isinstance(output, Tensor) and output.ndim > 0 and len(output) == writer.size
        yield CodeBatch(
            codes=Codes(words, writer.layers),
            start=start,
            outputs=output.detach().cpu() if has_rows else None,
            labels=held.labels,
            dtype=writer.dtype,
            parts=taken,
        )
        start += writer.size
    if start == 0:
        raise InputError("there are no samples to read codes of. Give at least one.")


def _has_written(copies: Any) -> bool:
    """Whether a forward pass may have overwritten its inputs, given as fresh copies."""
    tensors: list[Tensor] = []
    each(copies, tensors.append)
    return any(tensor.is_inference() or tensor._version for tensor in tensors)


def _run(network: nn.Module, inputs: Any, forward: Forward | None, reading: Reading) -> Any:
    """The output; an InputError instead of torch's error where the cause is known."""
    try:
        return call(network, inputs, forward)
    except InputError:
        raise
    except Exception as error:
        problem = _problem(str(error), network, inputs, reading)
        if problem:
            raise InputError(problem) from error
        raise


def _problem(error: str, network: nn.Module, inputs: Any, reading: Reading) -> str:
    """What made a forward pass fail with torch's ``error``, and what to do; empty if it is unknown."""
    own = {parameter.dtype for parameter in network.parameters()}
    if "type" in error and isinstance(inputs, Tensor) and own and inputs.dtype not in own:
        given, needed = (str(dtype).removeprefix("torch.") for dtype in (inputs.dtype, min(own, key=str)))
        return (
            f"{type(network).__name__} cannot run on inputs of {given}: its weights are {needed}. "
            f"Give inputs.to(torch.{needed}){', images as image / 255' * (given == 'uint8')}; or convert the network."
        )
    if reading.mode == "train" and "more than 1 value per channel" in error:
        return (
            f"a batch of one sample (batch_size {reading.batch_size}) has no statistics for "
            f"{type(network).__name__}'s normalisation, which mode 'train' takes from each batch. "
            "Give another batch_size, so that the last batch too has two samples or more, or mode='eval'."
        )
    return ""


@dataclass(frozen=True)
class _Place:
    """Where the bits of a layer are written, and how."""

    layer: Layer
    packer: Packer
    shape: tuple[int, ...]  # of the activation of one sample
    dtype: str
    chosen: bool  # False: kept only in case it turns out to belong to the head
    number: int  # among the layers
    columns: slice  # the layer's bytes in a row


class _Writer:
    """Packs the activations of one batch after the other. The first batch decides which layers there are."""

    def __init__(self, reading: Reading, modules: set[str]) -> None:
        self.reading = reading
        self.modules = modules  # their names, which are taken as they are, whatever characters they have
        self.seeks_head = "head" in reading.layers and "head" not in modules
        self.layers: tuple[Layer, ...] = ()
        self.dtype = ""
        self.places: dict[str, _Place] = {}

    def begin(self, lengths: set[int]) -> None:
        self.lengths = lengths  # of which the first activation has one: the number of samples
        self.size = 0
        self.called: list[str] = []  # names of all layers of this batch, chosen or not
        self.rows = np.zeros((0, 0), np.uint8)
        self.pending: list[tuple[_Place, np.ndarray | Tensor, bool | Tensor]] = []  # bits that are not in the rows yet
        self.added = 0
        self.differs = False
        self.reshaped: tuple[str, tuple[int, ...], tuple[int, ...]] | None = None  # a layer with its shape, and before

    def add(self, call: Call) -> None:
        self.called.append(call.name)
        if not self.layers:
            self._add_first(call)
            return
        place = self.places.get(call.name)
        if place is None:
            self.differs |= self._chosen(call.name, call.values.ndim == 2)
            return
        self._check_rows(call)
        if place.number != self.added:
            self.differs = True
        elif call.values.shape[1:] != place.shape:
            self.reshaped = self.reshaped or (call.name, tuple(call.values.shape[1:]), place.shape)
        else:
            self._pack(call, place, self.rows[:, place.columns])
        self.added += 1

    def _add_first(self, call: Call) -> None:
        vector = call.values.ndim == 2
        chosen = self._chosen(call.name, vector)
        if self.seeks_head and not vector:  # the layers before it are not the head
            self.pending = [entry for entry in self.pending if entry[0].chosen]
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
            self.pending.append((place, room, True))

    def _chosen(self, name: str, vector: bool) -> bool:
        return any(_matches(name, vector, pattern, self.modules) for pattern in self.reading.layers)

    def _check_rows(self, call: Call) -> None:
        shape = call.values.shape
        if not self.size and shape and shape[0] in self.lengths:
            self._set_size(shape[0])
        if not shape or shape[0] != self.size:
            batch = self.size or " or ".join(map(str, sorted(self.lengths)))
            raise InputError(
                f"layer {call.name!r} gives an activation of shape {tuple(shape)} for a batch of {batch}. "
                "Codes need one row per sample: put the samples first, or choose other layers."
            )

    def _set_size(self, size: int) -> None:
        self.size = size
        if self.layers:
            self.rows = np.zeros((size, self.layers[-1].stop * WORD // 8), np.uint8)

    def _pack(self, call: Call, place: _Place, room: np.ndarray) -> None:
        """Packs into ``room`` on the CPU; bits on a GPU are fetched at the end, so that nothing waits for it."""
        if call.values.device.type == "cpu":
            _check_finite(call.name, place.packer.on_cpu(call.values, room))
        else:
            self.pending.append((place, *place.packer.on_device(call.values)))

    def end(self, network: nn.Module, start: int, ignored: Mapping[str, set[str]]) -> np.ndarray:
        """The rows of the batch: uint64, (samples, words)."""
        if not self.called:
            raise _no_relu(network, ignored)
        if not self.layers:
            self._set_places()
        elif self.differs or self.added < len(self.layers):
            raise InputError(
                f"{type(network).__name__} called other ReLUs for sample {start} than for sample 0 "
                f"({', '.join(self.called)}). Give a network that calls the same ones for every sample."
            )
        if self.reshaped:
            name, shape, before = self.reshaped
            raise InputError(
                f"layer {name!r} has neurons of shape {shape} for sample {start}, but {before} for sample 0. All codes "
                "have the same neurons: bring the inputs to one size, for example by padding sequences."
            )
        for place, bits, finite in self.pending:
            _check_finite(place.layer.name, bool(finite))
            columns = self.places[place.layer.name].columns
            self.rows[:, columns] = bits.cpu().numpy() if isinstance(bits, Tensor) else bits
        return self.rows.view(np.uint64)

    def check_handwritten(self, network: nn.Module, calls: Mapping[tuple[str, str], bool]) -> None:
        """Raises InputError if a ReLU written as arithmetic is among the chosen layers; see `SampleCheck`."""
        for (module, operation), vector in calls.items():
            if self._chosen(module or "relu", vector) or (self.seeks_head and vector):
                others = [layer.name for layer in self.layers]
                raise InputError(
                    f"{module or type(network).__name__} computes a ReLU by {operation}, and its neurons would have no "
                    f"bits. {ADVICE}, or choose layers without it: layers={others!r:.200}."
                )

    def _set_places(self) -> None:
        if not self.pending:
            known = ", ".join(["all", *self.called])
            raise InputError(f"no layer matches {', '.join(self.reading.layers)}. Known: {known}.")
        for place, _, _ in self.pending:
            layer = replace(place.layer, start=self.layers[-1].stop if self.layers else 0)
            columns = slice(layer.start * WORD // 8, layer.stop * WORD // 8)
            self.places[layer.name] = replace(place, layer=layer, number=len(self.layers), columns=columns)
            self.layers += (layer,)
        self.dtype = ", ".join(sorted({place.dtype for place in self.places.values()}))
        self._set_size(self.size)


def _matches(name: str, vector: bool, pattern: str, modules: set[str]) -> bool:
    """Whether a layer is chosen; a module's name is not a glob, and brackets may stand for themselves."""
    if pattern in ("all", "fc"):
        return pattern == "all" or vector
    if name == pattern or name.startswith((f"{pattern}.", f"{pattern}#")):
        return True
    if pattern.partition("#")[0] in modules:
        return False
    return any(fnmatch.fnmatchcase(name, glob) for glob in (pattern, pattern.replace("[", "[[]")))


def _check_finite(name: str, finite: bool) -> None:
    if not finite:
        raise NonFiniteError(f"layer {name!r} has activations that are not finite. Check the weights and the inputs.")


def _no_relu(network: nn.Module, ignored: Mapping[str, set[str]]) -> InputError:
    called = ", ".join(f"{label} ({', '.join(sorted(names))})" for label, names in sorted(ignored.items()))
    used = sorted({type(module).__name__ for module in network.modules() if not list(module.children())})
    advice = "Give a network with ReLU activations."
    smooth = [label for label in SMOOTH if label in ignored]
    if smooth:
        advice += f" To read the signs of {smooth[0]}'s inputs, which has no linear cells, give also={smooth[0]!r}."
    return InputError(
        f"{type(network).__name__} called no ReLU, so it has no codes. It called {called or 'no other activation'}; "
        f"its modules: {', '.join(used)}. {advice}"
    )
