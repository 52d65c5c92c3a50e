"""A forward pass recorded operation by operation, below autograd, where modules and functions look alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from nas_relucode.codes.batches import in_words
from nas_relucode.codes.handwritten import ADVICE, Run, run_compared
from nas_relucode.codes.network_state import check_network
from nas_relucode.codes.relus import Call, ReluCalls, WatchedPass, unwrapped
from nas_relucode.errors import InputError
from nas_relucode.geometry.bends import DECOMPOSED, Bend, bend_of
from nas_relucode.geometry.linear_operations import LINEAR, RESHAPES, ROWS, SHAPE_ONLY, LinearCall

SAMPLES = 5  # recorded at once, all equal; each operation must keep them first


@dataclass(frozen=True)
class Ref:
    """Stands for the result of a step among the arguments of a later one."""

    step: int


@dataclass
class Step:
    """One operation: linear with an offset, or a bend. Step 0 is the input."""

    run: Callable[..., Any] | None  # on points
    tangent: Callable[..., Any] | None  # the same on tangents, without the offset; None if it can't be read
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    bend: Bend | None = None
    bend_call: int = -1  # its number among all bends that the pass called
    has_bits: bool = False  # it is an activation whose signs are bits of the code
    name: str = ""  # of the layer, or of the module that called it, and the operation

    @cached_property
    def sources(self) -> list[Ref]:
        """The steps whose results it takes."""
        return refs((self.arguments, self.options))


@dataclass(frozen=True, eq=False)
class BendCall:
    """One call of a bending operation in a network's own forward pass."""

    layer: str | None  # its layer's name as in `Codes`, if codes have bits of it
    operation: str
    bend: Bend
    inputs: Tensor  # (points, ...), copied before an in-place operation overwrites them

    @property
    def name(self) -> str:
        return self.layer or self.operation


def record(network: nn.Module, inputs: Tensor) -> tuple[list[Step], int]:
    """The steps of a forward pass on ``inputs`` (`SAMPLES`, ...), and the number of the one that gives the output.

    Raises InputError, naming the module, where the pass asks for values as numbers, writes into memory that it keeps,
    or does not return one tensor.
    """
    recorder = _Recorder(inputs)
    with recorder.subscriber.watch(ReluCalls(network)) as recorder.seen, forward_errors(network, inputs):
        output = network(inputs)
    if not isinstance(output, Tensor) or id(output) not in recorder.numbers:
        raise InputError(f"{type(network).__name__} does not return one tensor made of its input. Wrap its forward.")
    return recorder.steps, recorder.numbers[id(output)]


def bend_calls(
    relus: ReluCalls, forward: Callable[[], Any], *, refuse_handwritten: bool = False
) -> tuple[list[BendCall], Any]:
    """All bends that a forward pass of the network of ``relus`` calls, in order, and what ``forward`` returns.

    Bends that are not in the tables, ``torch.where`` for instance, are not seen; with ``refuse_handwritten`` those that
    are ReLUs raise InputError.
    """
    calls: list[BendCall] = []

    def operation(run: Run, func: Any, args: Any, options: Any) -> Any:
        bend = bend_of(func, args, options)
        inputs = None if bend is None else args[0].detach().clone()
        result, is_relu = run_compared(run, func, args, options)
        if bend is not None and inputs is not None:
            calls.append(BendCall(subscriber.layer or None, func.overloadpacket.__name__, bend, inputs))
        elif is_relu and refuse_handwritten:
            raise InputError(
                f"{passed.caller('')[0] or 'the network'} computes a ReLU by {func}, which can't be read. {ADVICE}."
            )
        return result

    subscriber = _Subscriber(operation)
    with subscriber.watch(relus) as passed:
        return calls, forward()


def float64_points(values: Any, what: str, device: torch.device | None = None) -> Tensor:
    """Points as float64, on ``device`` or where they are. Raises InputError, which names ``what``, for other values."""
    try:
        return torch.as_tensor(values, dtype=torch.float64, device=device).detach()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} are {in_words(values)}. Give a tensor or an array of numbers, samples first, without labels."
        ) from error


def float64_copy(network: nn.Module) -> nn.Module:
    """A copy that computes in float64, without the wrappers of torch.compile and DataParallel."""
    try:
        with torch.no_grad():  # otherwise a copied TorchScript module's weights would be results, not weights
            return copy.deepcopy(unwrapped(check_network(network))).double()
    except RuntimeError as error:
        raise InputError(
            f"{type(network).__name__} cannot be copied, as happens where weights are computed anew at each call. "
            "Make them plain weights first (torch.nn.utils.prune.remove, remove_weight_norm)."
        ) from error


@contextmanager
def forward_errors(network: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Turns what a forward pass raises by itself into an InputError that says for which input."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{type(network).__name__} failed on an input of shape {tuple(inputs.shape[1:])} in float64 "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Check the shape, and casts in its forward pass."
        ) from error


class _Subscriber:
    """Sees each operation of a forward pass; those that are decomposed, as the calls that they stand for."""

    def __init__(self, operation: Callable[[Run, Any, Any, Any], Any]) -> None:
        self.operation = operation
        self.layer = ""  # while an operation runs that has bits in the code: its layer's name

    def watch(self, relus: ReluCalls) -> WatchedPass:
        return relus.watch(self._name_layer, around=self._around)

    def _name_layer(self, call: Call) -> None:
        self.layer = call.name

    def _around(self, run: Run, func: Any, args: Any, options: Any) -> Any:
        self.layer = ""
        if func in DECOMPOSED and args[0].is_floating_point():
            return DECOMPOSED[func](partial(_call, self.operation), *args, **options)
        return self.operation(run, func, args, options)


def _call(operation: Callable[..., Any], func: Any, *args: Any, **options: Any) -> Any:
    """A part of a decomposed operation: a ReLU in it is not the network's and has no bits."""
    return operation(lambda func, args, options: func(*args, **options), func, args, options)


class _Recorder:
    """Writes down the steps of a forward pass, and knows which tensors depend on its input."""

    seen: WatchedPass

    def __init__(self, inputs: Tensor) -> None:
        self.subscriber = _Subscriber(self.operation)
        self.numbers = {id(inputs): 0}  # the step of each tensor that depends on the input
        self.alive: list[Any] = [inputs]  # kept, so that no id is used twice
        self.steps = [Step(None, None)]
        self.stale: set[int] = set()  # tensors whose memory was overwritten through another tensor
        self.split: set[int] = set()  # tensors of which several rows belong to one sample
        self.bend_count = 0

    def operation(self, run: Run, func: Any, args: Any, options: Any) -> Any:
        bend = bend_of(func, args, options)  # before an in-place operation overwrites its input
        self.bend_count += bend is not None
        moving = [part for part in _tensors((args, options)) if id(part) in self.numbers]
        if not moving or func.overloadpacket in SHAPE_ONLY:
            return self._constant(run(func, args, options), func, args, options)
        moves = [id(part) in self.numbers for part in _tensors(args)]
        lost = any(id(part) in self.stale for part in moving)
        split = any(id(part) in self.split for part in moving)
        arguments, kept_options = self._replaced((args, options))
        result, layer = run(func, args, options), self.subscriber.layer
        if result is None:
            return None
        self._check_writes(func, args, options, result, bend)
        first = result[0] if isinstance(result, tuple | list) and len(result) else result
        if not isinstance(first, Tensor):
            raise InputError(
                f"{self._caller(func)} asks for an activation's value as a number, so what comes next may differ from "
                "input to input. Cells need a forward pass that takes the same path for each: remove this branch."
            )
        step = Step(
            None, None, tuple(arguments), kept_options, name=self._caller(func), has_bits=bool(self.subscriber.layer)
        )
        if bend is not None and moves[:1] == [True] and len(moving) == 1:
            if not lost and not split and first.ndim > 0 and first.shape[0] == SAMPLES:
                step.bend, step.bend_call, step.tangent = bend, self.bend_count - 1, _nothing
                step.name = layer or step.name
                written = set(map(id, _written(func, args, options)))
                step.arguments = tuple(part for part in arguments if id(part) not in written)
        elif not lost and sum(moves) == len(moving):
            self._read(step, LinearCall(func, args, options, moves, first), split)
        self._add(result, step)
        return result

    def _check_writes(self, func: Any, args: Any, options: Any, result: Any, bend: Bend | None) -> None:
        for written in _written(func, args, options):
            if id(written) not in self.numbers:
                if bend is not None and written is not result:  # the noise of an RReLU in evaluation mode
                    continue
                raise InputError(f"{self._caller(func)} writes activations into memory that existed before. {WRITES}")
            place = written.untyped_storage().data_ptr()
            self.stale |= {id(part) for part in self._at(place) if part is not written or part is not result}

    def _read(self, step: Step, call: LinearCall, split: bool) -> None:
        """A linear operation, if its result has the samples first: one row of each, or several before matrices."""
        rule, rows = LINEAR.get(call.packet), call.result.shape[0] if call.result.ndim else 0
        if rule is None or rows == 0 or rows % SAMPLES or call.result.dtype != torch.float64:
            return
        whole, reshapes = rows == SAMPLES, call.packet in RESHAPES
        if not ((split and (call.packet in ROWS or (reshapes and whole))) or (not split and (whole or reshapes))):
            return
        step.run, step.tangent = rule(call) or (None, None)
        if not whole:
            self.split.add(id(call.result))

    def _caller(self, func: Any) -> str:
        name = self.seen.caller("")[0]
        return f"{name or 'the network itself'} ({func.overloadpacket.__name__})"

    def _constant(self, result: Any, func: Any, args: Any, options: Any) -> Any:
        """A result that does not depend on the input."""
        self.alive.append(result)
        written = [part for one in _written(func, args, options) for part in self._at(one.untyped_storage().data_ptr())]
        if any(id(part) in self.numbers for part in written):
            raise InputError(f"{self._caller(func)} overwrites an activation. {WRITES}")
        return result

    def _at(self, place: int) -> list[Tensor]:
        """The tensors that lie in one piece of memory."""
        return [part for part in _tensors(self.alive) if part.untyped_storage().data_ptr() == place]

    def _replaced(self, part: Any) -> Any:
        if isinstance(part, Tensor):
            return Ref(self.numbers[id(part)]) if id(part) in self.numbers else part
        if isinstance(part, tuple | list):
            return type(part)(self._replaced(each) for each in part)
        if isinstance(part, dict):
            return {key: self._replaced(each) for key, each in part.items()}
        return part

    def _add(self, result: Any, step: Step) -> None:
        """One step for each tensor of a list, which the operation makes alike; of a tuple only the first is read."""
        for at, part in enumerate(result if isinstance(result, list | tuple) else [result]):
            for tensor in _tensors(part):
                self.numbers[id(tensor)] = len(self.steps)
                self.stale.discard(id(tensor))
            one = step
            if isinstance(result, list) and step.run and step.tangent:
                run, tangent = (partial(_one_of, at, function) for function in (step.run, step.tangent))
                one = Step(run, tangent, step.arguments, step.options, name=step.name)
            elif isinstance(result, tuple) and at > 0:
                one = Step(None, None, step.arguments, step.options, name=step.name)
            self.steps.append(one)
        self.alive.append(result)


WRITES = "Its cells can't be read: make a new tensor there."


def refs(part: Any) -> list[Ref]:
    """The steps whose results are among the arguments."""
    return [leaf for leaf in leaves(part) if isinstance(leaf, Ref)]


def _nothing(*_: Any) -> None:
    """Stands for a bend's effect on tangents, which depends on its state."""


def _one_of(at: int, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return function(*args, **options)[at]


def _written(func: Any, args: Any, options: Any) -> list[Tensor]:
    """The arguments that an operation writes into."""
    if not func._schema.is_mutable:
        return []
    named = {argument.name: part for argument, part in zip(func._schema.arguments, args, strict=False)} | options
    return _tensors([named.get(argument.name) for argument in func._schema.arguments if argument.is_write])


def _tensors(part: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(part) if isinstance(leaf, Tensor)]


def leaves(part: Any) -> Iterator[Any]:
    """The items of nested tuples, lists and dictionaries."""
    if isinstance(part, tuple | list):
        for each in part:
            yield from leaves(each)
    elif isinstance(part, dict):
        yield from leaves(tuple(part.values()))
    else:
        yield part
