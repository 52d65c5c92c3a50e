"""The ReLU calls of a forward pass, seen below autograd, and the names of the modules that make them (Section 2)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas_relucode.codes.torchscript import Plan, ScriptRun, script_plan
from nas_relucode.errors import InputError, unknown


@dataclass(frozen=True)
class Kind:
    """One of torch's operations that may be an activation."""

    operation: str  # aten's name, without the underscore of its in-place form
    label: str  # what it is called in Layer.activation
    bends_at_0: Callable[..., bool]  # asked with the call's arguments after the first
    by_input: bool = False  # the input is read, not the output: a slope may be negative, a sigmoid never is


class Call(NamedTuple):
    """One call of an activation function: who made it, and the values whose signs are its bits."""

    name: str  # the module's, as in named_modules(); "#2" is appended for the second call under this name
    kind: Kind
    values: Tensor  # (samples, ...)


def _always(*args: Any, **options: Any) -> bool:
    return True


def _is_zero(bound: Any) -> bool:
    return isinstance(bound, int | float) and bound == 0


# But for a negative slope the outputs of these are positive exactly where their inputs are.
_RELUS = [
    Kind("relu", "relu", _always),
    Kind("hardtanh", "relu6", lambda low=-1, high=1: low == 0),
    Kind("clamp", "clamp", lambda min=None, max=None: _is_zero(min)),
    Kind("clamp_min", "clamp", lambda min: _is_zero(min)),
    Kind("threshold", "threshold", lambda threshold, value: threshold == 0 and value == 0),
    Kind("leaky_relu", "leaky_relu", _always, by_input=True),
    Kind("_prelu_kernel", "prelu", _always, by_input=True),
    Kind("rrelu_with_noise", "rrelu", _always, by_input=True),
]

# These have no linear cells: they are read only where they are asked for, at 0. "elu" stands for SELU, too.
SMOOTH = ("gelu", "silu", "elu", "celu", "mish", "hardswish", "softplus", "tanh", "sigmoid", "hardsigmoid")


def _overloads() -> Iterator[tuple[Any, Kind]]:
    for kind in [*_RELUS, *(Kind(name, name, _always, by_input=True) for name in SMOOTH)]:
        for packet in (kind.operation, f"{kind.operation}_"):
            operation = getattr(torch.ops.aten, packet, None)
            for overload in operation.overloads() if operation else ():
                yield getattr(operation, overload), kind


_KINDS: dict[Any, Kind | None] = dict(_overloads())  # None: not an activation
_OPERATIONS = {kind.operation for kind in _KINDS.values() if kind}


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside torch.compile, DataParallel or DistributedDataParallel; any other module as it is.

    >>> inner = nn.ReLU()
    >>> unwrapped(nn.DataParallel(inner)) is inner
    True
    """
    while True:
        if "_orig_mod" in module._modules:
            module = module._modules["_orig_mod"]
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        else:
            return module


def module_names(network: nn.Module) -> dict[int, str]:
    """The name of every module by its id, as in named_modules(), wherever something is wrapped as in `unwrapped`."""
    names: dict[int, str] = {}

    def walk(module: nn.Module, name: str) -> None:
        if id(module) in names:
            return
        inner = unwrapped(module)
        names[id(module)] = names.setdefault(id(inner), name)
        for child, below in inner.named_children():
            walk(below, f"{name}.{child}" if name else child)

    walk(network, "")
    return names


class ReluCalls:
    """Tells of every ReLU that a network's forward passes call, a module's or a function's, and who calls it.

    The calls are seen below autograd, where a module, a function and an in-place method are the same operation.
    Who calls is read off Python's stack, so that nothing is registered anywhere.
    Smooth activations are told of where ``also`` names them.
    """

    def __init__(self, network: nn.Module, also: tuple[str, ...] = ()) -> None:
        for name in also:
            if name not in SMOOTH:
                raise unknown("smooth activation", name, SMOOTH)
        self.also = also
        self.wanted = {kind.operation for kind in _RELUS}.union(also)
        self.names = module_names(network)
        self.untold: dict[str, set[str]] = {}  # the other activations that were called: label -> callers
        self.plans: dict[int, Plan] = {}  # of the TorchScript modules that were called
        self.modules = list(network.modules())
        self.hooked: list[nn.Module] | None = None  # not known before the first forward pass

    def told_to(self, take: Callable[[Call], None], *, hooks: bool = False) -> SeenPass | HookedPass:
        """A context for one forward pass, in which ``take`` is told of each call, while it runs.

        With ``hooks``, for a network that is only called, it is told when a module ends, from the second forward pass
        on, where hooks see the same calls.

        What is compiled or fused runs as it is written. On leaving, what ``take`` raised is raised: before,
        TorchScript would make an error of its own of it, and a network might catch it. Raises InputError if an
        operation has swallowed a ReLU.
        """
        return HookedPass(self, take) if hooks and self.hooked else SeenPass(self, take)

    def choose_hooks(self, callers: list[nn.Module | None]) -> None:
        """After the first forward pass: hooks on the modules that called, if they see all of every other.

        They do where the network has no code of its own, which could choose other modules or call a function.
        """
        alike = all(
            type(module).__module__.startswith(_STATIC)
            and not (module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)
            and module._compiled_call_impl is None
            for module in self.modules
        )
        seen = {id(module): module for module in callers if module is not None and type(module) in _HOOKED}
        self.hooked = list(seen.values()) if alike and all(id(module) in seen for module in callers) else []


class HookedPass:
    """The context of `ReluCalls.told_to` where hooks on some modules see all that there is to see, for less time."""

    def __init__(self, calls: ReluCalls, take: Callable[[Call], None]) -> None:
        self.calls = calls
        self.take = take
        self.numbers: dict[str, int] = {}

    def __enter__(self) -> None:
        with ExitStack() as back:
            for module in self.calls.hooked or ():
                back.enter_context(module.register_forward_hook(self.called))
            self.back = back.pop_all()

    def __exit__(self, *error: object) -> None:
        self.back.close()

    def called(self, module: nn.Module, args: Any, output: Tensor) -> None:
        name = self.calls.names[id(module)]
        number = self.numbers[name] = self.numbers.get(name, 0) + 1
        self.take(Call(name if number == 1 else f"{name}#{number}", _HOOKED[type(module)], output))


class Watching(TorchDispatchMode):
    """Sees every operation of a forward pass, below autograd."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's own default keeps the compiler out of each operation, and imports it, for seconds, to do so."""
        return False


class SeenPass(Watching):
    """The context of `ReluCalls.told_to` that sees every operation."""

    def __init__(self, calls: ReluCalls, take: Callable[[Call], None]) -> None:
        super().__init__()
        self.calls = calls
        self.take = take
        self.callers: list[nn.Module | None] = []
        self.numbers: dict[str, int] = {}
        self.scripts: dict[FrameType, ScriptRun] = {}  # by the frames that called them
        self.errors: list[InputError] = []

    def __enter__(self) -> SeenPass:
        with ExitStack() as back:
            if "torch._dynamo" in sys.modules:  # or else nothing is compiled
                back.enter_context(torch.compiler.set_stance("force_eager"))
            back.enter_context(torch.jit.optimized_execution(False))
            super().__enter__()
            self.back = back.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        self.back.close()
        for script in self.scripts.values():
            missing = [call for call in script.missing if call[0] in self.calls.wanted]
            if missing and not error:
                operation, name = missing[-1]
                self.errors.append(
                    InputError(
                        f"TorchScript left out the {operation} of {name or 'the network'}: after some runs it merges "
                        "or fuses what it can. Give a fresh copy, loaded or scripted anew."
                    )
                )
        self.scripts.clear()
        if self.errors and (error is None or isinstance(error, Exception)):
            raise self.errors[0] from error
        if self.calls.hooked is None and not error:
            self.calls.choose_hooks(self.callers)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = _KINDS.get(func, _NEW)
        if kind is _NEW:
            self.look_at(func, args)
        if kind is None or kind is _NEW:
            return func(*args, **kwargs)
        if not args[0].is_floating_point():  # a clamp of whole numbers is no activation
            self.caller(kind.operation)
            return func(*args, **kwargs)
        if kind.by_input:  # before an in-place operation overwrites it
            self.called(kind, args[0], args, kwargs)
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        self.called(kind, result, args, kwargs)
        return result

    def called(self, kind: Kind, values: Tensor, args: Any, kwargs: Any) -> None:
        name, module = self.caller(kind.operation)
        name = name or kind.label
        rest = {key: value for key, value in kwargs.items() if key != "out"}
        if not (kind.label in self.calls.also if kind.label in SMOOTH else kind.bends_at_0(*args[1:], **rest)):
            self.calls.untold.setdefault(kind.label, set()).add(name)
        elif not self.errors:
            self.callers.append(module)
            number = self.numbers[name] = self.numbers.get(name, 0) + 1
            try:
                self.take(Call(name if number == 1 else f"{name}#{number}", kind, values))
            except InputError as error:
                self.errors.append(error)

    def caller(self, operation: str) -> tuple[str, nn.Module | None]:
        """The innermost of the network's modules that is being called, and its name; to be asked once a call."""
        frame = sys._getframe().f_back
        while frame is not None:
            if frame.f_code is _CALL:
                module = frame.f_locals.get("self")
                name = self.calls.names.get(id(module))
                if name is not None:
                    script = self.script_run(frame, module, name)
                    return script.caller(operation) if script else name, module
            frame = frame.f_back
        return "", None

    def script_run(self, frame: FrameType, module: nn.Module, name: str) -> ScriptRun | None:
        if not isinstance(module, torch.jit.ScriptModule):
            return None
        if frame not in self.scripts:
            plans = self.calls.plans
            if id(module) not in plans:
                plans[id(module)] = script_plan(module, self.calls.names, _OPERATIONS)
            self.scripts[frame] = ScriptRun(name, plans[id(module)])
        return self.scripts[frame]

    def look_at(self, func: Any, args: Any) -> None:
        """An operation that is met for the first time, and is no activation, may have one inside."""
        name = str(func)
        if "pointwise" in name:  # oneDNN's, told by an argument what comes after a matrix product
            hidden = any(arg == "relu" for arg in args if isinstance(arg, str))
        else:
            hidden = ("relu" in name and "backward" not in name) or name.startswith(_WITH_RELU)
            if not hidden:
                _KINDS[func] = None
        if hidden:
            caller = self.caller("")[0] or "the network"
            self.errors.append(
                InputError(
                    f"{caller} calls {name}, and the ReLU inside it can't be seen. "
                    "Give the network as it was before it was quantized, fused or scripted."
                )
            )


_NEW = Kind("", "", _always)
_WITH_RELU = ("aten._transformer_encoder_layer_fwd", "aten._addmm_activation")
_HOOKED = {nn.ReLU: _RELUS[0], nn.ReLU6: _RELUS[1]}  # whose output is the activation, and whose one call is their own
_STATIC = (
    "torch.nn.modules.",
    "nas_relucode.training.networks",
)  # their forward passes take the same way for every input
_CALL = nn.Module._call_impl.__code__  # runs for as long as a module is being called, and has it as self
