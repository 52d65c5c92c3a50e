"""A network read as the piecewise linear map that it is: linear operations and bends, run on points and tangents.

What is recorded of one forward pass can be run in any given cell, on many points at once, with tangents beside them
(equations 13 to 18).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes.network_state import untouched
from nas_relucode.codes.relus import ReluCalls
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.geometry.bends import Bend, flat
from nas_relucode.geometry.recording import (
    SAMPLES,
    Ref,
    Step,
    bend_calls,
    float64_copy,
    float64_points,
    forward_errors,
    leaves,
    record,
)

BATCH = 256  # samples of a forward pass that leads to a module
AGREES = 1e-9  # of the largest value: by how much what was read may differ from the network's own forward pass


@dataclass(frozen=True, eq=False)
class Between:
    """Points that are added between others: behind which of them, and at which share of the way to the next."""

    left: Tensor  # int64, (added,), ascending
    share: Tensor  # float64, (added,)

    def added_to(self, values: Tensor, added: Tensor | None = None) -> Tensor:
        """Values (points, ...) and, in between, those of the added points: ``added``, or else on straight lines."""
        result = values.repeat_interleave(1 + self.left.bincount(minlength=len(values)), dim=0)
        places = self.left + 1 + torch.arange(len(self.left), device=values.device)
        result[places] = self.on_lines(values) if added is None else added
        return result

    def on_lines(self, values: Tensor) -> Tensor:
        """The values (added, ...) on the straight lines between those of neighbours."""
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        return torch.lerp(values[self.left], values[self.left + 1], share)


class Program:
    """The ``steps`` of a network, from inputs of shape ``shape`` to step number ``output``; made by `read_program`.

    Its layers are the bends, in the order of the forward pass. A layer has bits in the code if it is a ReLU or one of
    its kin; maxima, absolute values and clamps elsewhere than at 0 have rows and states only.
    """

    def __init__(self, steps: list[Step], output: int, shape: tuple[int, ...], device: torch.device) -> None:
        self.output = output
        self.network: nn.Module | None = None  # a float64 copy of the module that was read
        self.example = torch.empty((0, *shape), dtype=torch.float64, device=device)  # what the module was given
        self.shape = shape
        self.device = device
        self.features = int(np.prod(shape))
        self.steps = steps
        self.bends = _readable_bends(steps)
        self._before = self._needed([*self.bends, *(number for number, step in enumerate(steps) if step.has_bits)])
        unread = next((steps[number] for number in self._before if steps[number].tangent is None), None)
        if unread is not None:
            raise _unreadable(unread)
        if not self.bends:
            raise InputError(
                "no ReLU was found before the network's output, so there are no cells. Give a network with ReLUs."
            )
        self._all = self._needed([*self.bends, output])
        self.opaque = next((steps[number] for number in self._all if steps[number].tangent is None), None)
        self.layers = [steps[number].name for number in self.bends]
        self.has_bits = [steps[number].has_bits for number in self.bends]
        self.widths: list[int] = []  # rows of each bend
        points = torch.zeros((1, *shape), dtype=torch.float64, device=device)
        for at, x, state, _ in self.run(points, to_the_end=False):
            self.widths.append(self.bend(at).rows(x, state).shape[1])
        parts = [
            np.tile(has_bits & (np.arange(self.bend(at).places) == 0), width // self.bend(at).places)
            for at, (width, has_bits) in enumerate(zip(self.widths, self.has_bits, strict=True))
        ]
        self.is_bit = np.concatenate(parts)  # bool, (rows,): the row's sign is a bit of the code

    def __reduce__(self) -> Any:
        """Steps hold functions, which can't be pickled; the network is, and read again."""
        return read_copy, (self.network, self.example)

    def _needed(self, results: list[int]) -> list[int]:
        """The steps that some results depend on, themselves included, in order; without the input."""
        wanted = set(results)
        for number in range(len(self.steps) - 1, 0, -1):
            if number in wanted:
                wanted.update(ref.step for ref in self.steps[number].sources)
        return sorted(wanted - {0})

    def constants(self) -> list[Tensor]:
        """The weights and whatever else the steps are given besides their inputs."""
        return [
            leaf for step in self.steps for leaf in leaves((step.arguments, step.options)) if isinstance(leaf, Tensor)
        ]

    def bend(self, at: int) -> Bend:
        """The bend of layer number ``at``."""
        bend = self.steps[self.bends[at]].bend
        assert bend is not None
        return bend

    def code(self, states: Sequence[Tensor]) -> Tensor:
        """The codes of cells, given the ``states`` (cells, ...) of all layers: bool, (cells, neurons)."""
        parts = [flat(state) > 0 for state, has_bits in zip(states, self.has_bits, strict=True) if has_bits]
        return torch.cat([torch.empty((len(states[0]), 0), dtype=torch.bool, device=self.device), *parts], dim=1)

    def states(self, points: Tensor) -> list[Tensor]:
        """The states of all layers at points (points, *shape)."""
        return [state for _, _, state, _ in self.run(points, to_the_end=False)]

    def bits(self, points: Tensor) -> np.ndarray:
        """The codes of points (points, *shape), in the order of the forward pass: bool, (points, neurons)."""
        parts = [self.code(self.states(part)).cpu().numpy() for part in points.split(BATCH)]
        return np.concatenate([np.empty((0, int(self.is_bit.sum())), bool), *parts])

    def row_space(self) -> Tensor:
        """Orthonormal inputs (directions, *shape) that span the gradients of all neurons, everywhere.

        They are the gradients of the first layer if it has fewer rows than there are inputs and all other layers lie
        behind it, else all inputs.
        """
        units = torch.eye(self.features, dtype=torch.float64, device=self.device).reshape(-1, *self.shape)
        reached = {0}
        for number in self._before:
            if number != self.bends[0] and any(ref.step in reached for ref in self.steps[number].sources):
                reached.add(number)
        if self.widths[0] >= self.features or reached & set(self.bends[1:]):
            return units
        _, _, _, gradients = next(self.run(units[:1], units[None], to_the_end=False))
        assert gradients is not None
        return torch.linalg.qr(gradients[0].flatten(1))[0].T.reshape(-1, *self.shape)

    def points(self, values: Any) -> Tensor:
        """``values`` as points, float64, (points, *shape), on the device; one point may be given alone."""
        points = float64_points(values, "points", self.device)
        if points.shape in (self.shape, (self.features,)):
            points = points[None]
        if points.ndim == 0 or points.shape[1:] not in (self.shape, (self.features,)):
            raise InputError(f"points have shape {tuple(points.shape)}. The network takes {self.shape} for each.")
        if not torch.isfinite(points).all():
            raise NonFiniteError("a point is NaN or infinite. Give finite coordinates.")
        return points.reshape(-1, *self.shape)

    def before_bends(self, tangents: Tensor) -> dict[int, Tensor]:
        """The ``tangents`` behind each step before the first bend, where they are the same for all points."""
        tangents_of = {0: tangents}
        for number in self._before[: self._before.index(self.bends[0])]:
            tangents_of[number] = _on_tangents(self.steps[number], tangents_of)
        return tangents_of

    def run(
        self,
        points: Tensor,
        tangents: Tensor | Mapping[int, Tensor] | None = None,
        decide: Callable[[int, Bend, Tensor, Tensor | None], Tensor] | None = None,
        *,
        to_the_end: bool = True,
    ) -> Generator[tuple[int, Tensor, Tensor, Tensor | None], Between | None]:
        """Runs the steps; yields for each layer its number, its inputs, its state and its inputs' tangents.

        ``points`` is float64 (points, *shape), ``tangents`` (points or 1, tangents, *shape). ``decide`` gives the
        states of a layer, from its number, its bend, its inputs and their tangents; without it they are those of the
        points. Tangents that several runs share may be given as `before_bends` returns them.
        Last comes (-1, outputs, outputs, their tangents), if ``to_the_end``.

        Points may be added on the way: what is sent (see `Between`) is placed between two points that all layers so far
        map linearly, and the layer is yielded again, with more points. There must be no tangents then.
        """
        if to_the_end and self.opaque is not None:
            raise InputError(f"the outputs come behind {self.opaque.name}, which is not piecewise linear.")
        values: dict[int, Tensor] = {0: points}
        shared = tangents if isinstance(tangents, Mapping) else {} if tangents is None else {0: tangents}
        moving = dict(shared)
        numbers = self._all if to_the_end else self._before
        last_uses = {ref.step: number for number in numbers for ref in self.steps[number].sources}
        for number in numbers:
            step = self.steps[number]
            if step.bend is not None:
                source = step.sources[0].step
                x, dx = values[source], moving.get(source)
                at = self.bends.index(number)
                state = step.bend.state(x) if decide is None else decide(at, step.bend, x, dx)
                while (between := (yield at, x, state, dx)) is not None:
                    state = between.added_to(state, step.bend.state(between.on_lines(x)))
                    values = {key: between.added_to(value) for key, value in values.items()}
                    x = values[source]
                values[number] = step.bend.apply(x, state)
                if dx is not None:
                    moving[number] = step.bend.tangents(dx, state)
            else:
                assert step.run is not None
                values[number] = step.run(*_filled(step.arguments, values), **_filled(step.options, values))
                if moving and number not in shared:
                    moving[number] = _on_tangents(step, moving)
            for source in {ref.step for ref in step.sources} - {self.output}:
                if last_uses[source] == number:
                    del values[source]
                    moving.pop(source, None)
        if to_the_end:
            yield -1, values[self.output], values[self.output], moving.get(self.output)


def _readable_bends(steps: list[Step]) -> list[int]:
    """The bends that have bits in the code, or come behind operations that can all be read."""
    unread: set[int] = set()
    bends = []
    for number, step in enumerate(steps[1:], start=1):
        if step.tangent is None or any(ref.step in unread for ref in step.sources):
            unread.add(number)
        if step.bend is not None and (step.has_bits or number not in unread):
            bends.append(number)
    return bends


def _on_tangents(step: Step, moving: dict[int, Tensor]) -> Tensor:
    """A linear step on tangents (points, tangents, ...), which it treats like points.

    Before the first bend all points may share them: (1, tangents, ...).
    """
    parts = {ref.step: moving[ref.step] for ref in step.sources}
    points, count = (max(part.shape[axis] for part in parts.values()) for axis in (0, 1))
    flat = {number: part.expand(points, *part.shape[1:]).flatten(0, 1) for number, part in parts.items()}
    assert step.tangent is not None
    result: Tensor = step.tangent(*_filled(step.arguments, flat), **_filled(step.options, flat))
    return result.unflatten(0, (points, count))


def read_program(network: nn.Module, example: Any, *, module: str | None = None) -> Program:
    """Reads a network from its forward pass on ``example``, one or more inputs, samples first.

    With ``module`` only that module is read, on what the network gives it for these inputs: ``"head"`` leads to cells
    in the space of the head's inputs.

    It reads Linear, convolutions, average pooling, BatchNorm (in evaluation mode), sums, scaling by constants, cat,
    shapes and padding; and as bends ReLU, ReLU6, LeakyReLU, PReLU, RReLU (in evaluation mode), Hardtanh, clamps to
    numbers, hard-sigmoid, softshrink, absolute values, elementwise maxima and minima, maxima and minima over
    dimensions, and max-pooling. Modules and functions are alike. Everything runs on a float64 copy, and what was read
    is compared with its forward pass at the example and beside it.

    Raises InputError, naming the module, where a ReLU lies behind any other operation, where samples do not come first
    or depend on each other, and where the forward pass differs from input to input.
    """
    with torch.inference_mode(False):
        return read_copy(float64_copy(network), example, module)


def program_of(network: nn.Module | Program, inputs: Any, module: str | None = None) -> tuple[Program, Tensor]:
    """A network as `read_program` reads it, or the Program that it is already, and the inputs as its points.

    Raises InputError as `read_program`, and for a ``module`` beside a Program, which has been read.
    """
    if not isinstance(network, Program):
        program = read_program(network, inputs, module=module)
        return program, program.example
    if module is not None:
        raise InputError(f"module {module!r:.80} is given beside a Program. Give the network itself, or leave it out.")
    return network, network.points(inputs)


def read_copy(inner: nn.Module, example: Any, module: str | None = None) -> Program:
    """As `read_program`, for a copy as `float64_copy` makes it, which is not copied again."""
    _check_weights(inner)
    inner.requires_grad_(False)
    inputs = float64_points(example, "inputs")
    if inputs.ndim < 2 or len(inputs) == 0:
        raise InputError(f"the example has shape {tuple(inputs.shape)}. Give at least one input, samples first.")
    evaluation = untouched(inner)
    inputs = inputs.to(evaluation.device).clone()  # a forward pass may overwrite it
    if not torch.isfinite(inputs).all():
        raise NonFiniteError("the example is NaN or infinite somewhere. Give finite inputs.")
    if module is not None:
        inner, inputs = _inputs_of(inner, module, inputs, evaluation)
        evaluation = untouched(inner)
    with evaluation:
        steps, output = record(inner, inputs[:1].expand(SAMPLES, *inputs.shape[1:]).clone())
        program = Program(steps, output, tuple(inputs.shape[1:]), inputs.device)
        _check(program, inner, inputs)
    program.network, program.example = inner, inputs
    return program


def _check_weights(network: nn.Module) -> None:
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise InputError(f"{type(network).__name__} is TorchScript, which can't be read. Give it as it was written.")
    for name, value in network.state_dict().items():
        if torch.is_tensor(value) and not torch.isfinite(value).all():
            raise NonFiniteError(f"{name} has values that are NaN or infinite. A cell needs finite weights.")


def _inputs_of(network: nn.Module, name: str, inputs: Tensor, evaluation: Any) -> tuple[nn.Module, Tensor]:
    modules = dict(network.named_modules())
    if name not in modules:
        raise InputError(f"there is no module {name!r}. Known: {', '.join(sorted(key for key in modules if key))}.")
    calls: list[Any] = []
    handle = modules[name].register_forward_pre_hook(
        lambda _, args, options: calls.append(_copies((*args, *options.values()))), with_kwargs=True
    )
    parts = inputs.split(BATCH)
    with evaluation, forward_errors(network, inputs):
        for part in parts:
            network(part)
    handle.remove()
    if len(calls) != len(parts):
        raise InputError(f"module {name!r} is not called once in a forward pass. Name another.")
    if any(len(arguments) != 1 or not isinstance(arguments[0], Tensor) for arguments in calls):
        raise InputError(f"module {name!r} takes more than one tensor. Name one that takes one.")
    return modules[name], torch.cat([arguments[0] for arguments in calls])


def _copies(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """A module's arguments as they are now: the network may overwrite them later."""
    return tuple(part.detach().clone() if isinstance(part, Tensor) else part for part in arguments)


def _unreadable(step: Step) -> InputError:
    where = "it makes bits of the code" if step.has_bits else "bits of the code come behind it"
    return InputError(
        f"{step.name} can't be read as piecewise linear, and {where}. Readable are linear and convolution layers, "
        "pooling, BatchNorm in evaluation mode, sums, shapes, ReLU and its kin, clamps, abs and maxima, samples first. "
        "Name with module= a part of the network that is made of these."
    )


def _check(program: Program, network: nn.Module, inputs: Tensor) -> None:
    """Compares what was read with the network's own forward pass, at other samples and along random directions."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((2, *inputs.shape[1:]), generator=generator, dtype=torch.float64)
    scale = inputs.abs().amax().clamp(min=1)
    points = torch.cat([inputs[:2], inputs[:1] + 0.5 * scale * noise.to(inputs.device)])
    with forward_errors(network, inputs):
        calls, output = bend_calls(ReluCalls(network), lambda: network(points.clone()), refuse_handwritten=True)
    own = {number: call.inputs for number, call in enumerate(calls)}
    expected = [own.get(program.steps[number].bend_call, points[:0]) for number in program.bends]
    if program.opaque is None:
        expected.append(output)
    if not all(bool(torch.isfinite(part).all()) for part in expected):
        raise NonFiniteError(f"{type(network).__name__} computes values that are NaN or infinite near the example.")
    read = [x for _, x, _, _ in program.run(points, to_the_end=program.opaque is None)]
    if [part.shape for part in expected] != [part.shape for part in read] or not _agree(expected, read):
        raise InputError(
            f"{type(network).__name__} computes something else for other inputs than what was read for the first. "
            "Cells need a forward pass that takes the same path for every input, and each sample for itself."
        )
    directions = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    _check_tangents(program, points, directions.to(points.device))


def _agree(expected: list[Tensor], read: list[Tensor]) -> bool:
    largest = 0.0  # of all layers so far: where they cancel out, their rounding is left
    for own, other in zip(expected, read, strict=True):
        size = float(own.abs().max())
        largest = max(largest, size)
        if not (own - other).abs().max() <= AGREES * size + 1e-13 * largest:
            return False
    return True


def _check_tangents(program: Program, points: Tensor, directions: Tensor) -> None:
    """Compares tangents with central differences, which are exact where both points lie in one cell."""
    step = 1e-6 * points.abs().amax().clamp(min=1)
    passes = [list(program.run(points + way * step * directions, to_the_end=False)) for way in (-1, 1)]
    middle = list(program.run(points, directions[:, None], to_the_end=False))
    same = torch.ones(len(points), dtype=torch.bool, device=points.device)
    largest = torch.zeros(len(points), dtype=torch.float64, device=points.device)
    for (at, before, low, _), (_, after, high, _), (_, x, _, dx) in zip(*passes, middle, strict=True):
        assert dx is not None
        off = flat((after - before) / (2 * step) - dx[:, 0]).abs().amax(1)
        size = flat(dx).abs().amax(1) + flat(x).abs().amax(1)
        largest = torch.maximum(largest, size)
        if (off > 1e-6 * size + 1e-8 * largest)[same].any():
            raise InputError(
                f"layer {program.layers[at]!r} does not depend on its inputs as was read. Please report it."
            )
        same &= flat(low == high).all(1)


def _filled(part: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(part, Ref):
        return values[part.step]
    if isinstance(part, tuple | list):
        return type(part)(_filled(each, values) for each in part)
    if isinstance(part, dict):
        return {key: _filled(each, values) for key, each in part.items()}
    return part
