"""A forward pass recorded operation by operation, below autograd, where modules and functions look alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas_relucode.codes.relus import Call, ReluCalls, SeenPass, Watching
from nas_relucode.errors import InputError
from nas_relucode.geometry.linear_operations import LIKE, LINEAR, RESHAPES, ROWS, LinearCall
from nas_relucode.geometry.operations import BENDS, Bend

SAMPLES = 5  # recorded at once, all equal; each operation must keep them first


@dataclass(frozen=True)
class Ref:
    """Stands for the result of a step among the arguments of a later one."""

    step: int


@dataclass
class Step:
    """One operation: linear with an offset, or a bend. Step 0 is the input."""

    run: Callable[..., Any] | None  # on points
    tangent: Callable[..., Any] | None  # the same on tangents, which know no offset; None if it can't be read
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    bend: Bend | None = None
    has_bits: bool = False  # it is an activation whose signs are bits of the code
    name: str = ""  # of the layer, or of the module that called it, and the operation


def record(network: nn.Module, inputs: Tensor) -> tuple[list[Step], int]:
    """The steps of a forward pass on ``inputs`` (`SAMPLES`, ...), and the number of the one that gives the output.

    Raises InputError, naming the module, where the pass asks for values as numbers, writes into memory that it keeps,
    or does not return one tensor.
    """
    recorder = _Recorder(inputs)
    output = _seen(network, inputs, recorder)
    if not isinstance(output, Tensor) or id(output) not in recorder.numbers:
        raise InputError(f"{type(network).__name__} does not return one tensor made of its input. Wrap its forward.")
    return recorder.steps, recorder.numbers[id(output)]


def bend_inputs(network: nn.Module, points: Tensor) -> tuple[list[Tensor], Any]:
    """The inputs of every bend in the network's own forward pass, which depend on the points, and its outputs."""
    values = _Values(points)
    output = _seen(network, points, values)
    return values.found, output


def refs(part: Any) -> list[Ref]:
    """The steps that some arguments are results of."""
    return [leaf for leaf in leaves(part) if isinstance(leaf, Ref)]


def _seen(network: nn.Module, inputs: Tensor, mode: _Recorder | _Values) -> Any:
    with ReluCalls(network).told_to(mode.name_layer) as seen:
        assert isinstance(seen, SeenPass)
        mode.seen = seen
        with forward_errors(network, inputs), mode:
            return network(inputs)


@contextmanager
def forward_errors(network: nn.Module, inputs: Tensor) -> Iterator[None]:
    """What a forward pass raises of itself, as an InputError that says for which input."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{type(network).__name__} failed on an input of shape {tuple(inputs.shape[1:])} in float64 "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Check the shape, and casts in its forward pass."
        ) from error


class _Pass(Watching):
    """Knows which tensors of a forward pass depend on its input."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.numbers = {id(inputs): 0}  # of the steps whose results depend on the input
        self.alive: list[Any] = [inputs]  # so that no id is given twice
        self.layer = ""
        self.seen: SeenPass | None = None

    def name_layer(self, call: Call) -> None:
        self.layer = call.name

    def bend(self, func: Any, args: Any, options: Any) -> Bend | None:
        make = BENDS.get(func.overloadpacket)
        moves = [id(part) in self.numbers for part in _tensors((args, options))]
        return make(args, options) if make and moves[:1] == [True] and sum(moves) == 1 else None


class _Values(_Pass):
    """Keeps the inputs of the bends."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__(inputs)
        self.found: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        moves = any(id(part) in self.numbers for part in _tensors((args, kwargs)))
        if moves and self.bend(func, args, kwargs) is not None:
            self.found.append(args[0].detach().clone())
        result = func(*args, **kwargs)
        self.alive.append(result)
        if moves and func.overloadpacket not in LIKE:
            self.numbers.update((id(part), 0) for part in _tensors(result))
        return result


class _Recorder(_Pass):
    def __init__(self, inputs: Tensor) -> None:
        super().__init__(inputs)
        self.steps = [Step(None, None)]
        self.stale: set[int] = set()  # whose memory was overwritten through another tensor
        self.split: set[int] = set()  # of which several rows belong to one sample

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        moving = [part for part in _tensors((args, kwargs)) if id(part) in self.numbers]
        if not moving or func.overloadpacket in LIKE:
            return self._kept(func(*args, **kwargs), func, args, kwargs)
        self.layer = ""
        bend = self.bend(func, args, kwargs)  # before an in-place operation overwrites its input
        moves = [id(part) in self.numbers for part in _tensors(args)]
        lost = any(id(part) in self.stale for part in moving)
        split = any(id(part) in self.split for part in moving)
        arguments, options = self._replaced((args, kwargs))
        result = func(*args, **kwargs)
        if result is None:
            return None
        for written in _written(func, args, kwargs):
            if id(written) not in self.numbers:
                raise InputError(f"{self._caller(func)} writes activations into memory that is there before. {WRITES}")
            place = written.untyped_storage().data_ptr()
            self.stale |= {id(part) for part in self._at(place) if part is not written or part is not result}
        first = result[0] if isinstance(result, tuple | list) and len(result) else result
        if not isinstance(first, Tensor):
            raise InputError(
                f"{self._caller(func)} asks for an activation's value as a number, so what comes next may differ from "
                "input to input. Cells need a forward pass that takes the same way for each: remove the question."
            )
        step = Step(None, None, tuple(arguments), options, name=self._caller(func), has_bits=bool(self.layer))
        if bend is not None and not lost and not split and first.ndim > 0 and first.shape[0] == SAMPLES:
            step.bend, step.tangent, step.name = bend, _nothing, self.layer or step.name
        elif not lost and sum(moves) == len(moving):
            self._read(step, LinearCall(func, args, kwargs, moves, first), split)
        self._add(result, step)
        return result

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
        assert self.seen is not None
        name = self.seen.caller("")[0]
        return f"{name or 'the network itself'} ({func.overloadpacket.__name__})"

    def _kept(self, result: Any, func: Any, args: Any, kwargs: Any) -> Any:
        self.alive.append(result)
        written = [part for one in _written(func, args, kwargs) for part in self._at(one.untyped_storage().data_ptr())]
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
        for at, part in enumerate(result if isinstance(result, list) else [result]):
            for tensor in _tensors(part):
                self.numbers[id(tensor)] = len(self.steps)
                self.stale.discard(id(tensor))
            found = step
            if isinstance(result, list) and step.run and step.tangent:
                run, tangent = (partial(_one_of, at, way) for way in (step.run, step.tangent))
                found = Step(run, tangent, step.arguments, step.options, name=step.name)
            self.steps.append(found)
        self.alive.append(result)


WRITES = "Its cells can't be read: make a new tensor there."


def _nothing(*_: Any) -> None:
    """In place of what a bend does to tangents, which depends on its state."""


def _one_of(at: int, way: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return way(*args, **options)[at]


def _written(func: Any, args: Any, options: Any) -> list[Tensor]:
    """The arguments that an operation writes into."""
    if not func._schema.is_mutable:
        return []
    named = {argument.name: part for argument, part in zip(func._schema.arguments, args, strict=False)} | options
    return _tensors([named.get(argument.name) for argument in func._schema.arguments if argument.is_write])


def _tensors(part: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(part) if isinstance(leaf, Tensor)]


def leaves(part: Any) -> Iterator[Any]:
    if isinstance(part, tuple | list):
        for each in part:
            yield from leaves(each)
    elif isinstance(part, dict):
        yield from leaves(tuple(part.values()))
    else:
        yield part
