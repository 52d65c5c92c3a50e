"""The ReLU calls of a forward pass, seen below autograd, and the names of the modules that make them (Section 2)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from nas_relucode.errors import InputError, unknown
from nas_relucode.torchscript import Plan, ScriptRun, script_plan


@dataclass(frozen=True)
class Kind:
    """One of torch's operations that may be an activation."""

    operation: str  # aten's name, without the underscore of its in-place form
    label: str  # what it is called in Layer.activation
    bends_at_0: Callable[..., bool]  # asked with the call's arguments after the first
    by_input: bool = False  # the input is read, not the output: a slope may be negative, a sigmoid never is


@dataclass(frozen=True)
class Call:
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
    The modules' names come from hooks that belong to torch, not to the network, and are removed on leaving.
    Smooth activations are told of where ``also`` names them.
    """

    def __init__(self, network: nn.Module, also: tuple[str, ...] = ()) -> None:
        for name in also:
            if name not in SMOOTH:
                raise unknown("smooth activation", name, SMOOTH)
        self.also = also
        self.names = module_names(network)
        self.untold: dict[str, set[str]] = {}  # the other activations that were called: label -> callers
        self.plans: dict[int, Plan] = {}  # of the TorchScript modules that were called

    def told_to(self, take: Callable[[Call], None]) -> ForwardPass:
        """A context for one forward pass, in which ``take`` is told of each call.

        What is compiled or fused runs as it is written. On leaving, what ``take`` raised is raised: before,
        TorchScript would make an error of its own of it, and a network might catch it. Raises InputError if an
        operation has swallowed a ReLU.
        """
        return ForwardPass(self, take)


class ForwardPass(TorchDispatchMode):
    """The context of `ReluCalls.told_to`."""

    def __init__(self, calls: ReluCalls, take: Callable[[Call], None]) -> None:
        super().__init__()
        self.calls = calls
        self.take = take
        self.stack: list[tuple[str, ScriptRun | None]] = [("", None)]  # the modules that are running
        self.numbers: dict[str, int] = {}
        self.scripts: list[ScriptRun] = []
        self.errors: list[InputError] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's own default keeps the compiler out of each operation, and imports it, for seconds, to do so."""
        return False

    def __enter__(self) -> ForwardPass:
        with ExitStack() as back:
            if "torch._dynamo" in sys.modules:  # or else nothing is compiled
                back.enter_context(torch.compiler.set_stance("force_eager"))
            back.enter_context(torch.jit.optimized_execution(False))
            back.enter_context(register_module_forward_pre_hook(self.enter))
            back.enter_context(register_module_forward_hook(self.leave, always_call=True))
            super().__enter__()
            self.back = back.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        self.back.close()
        for script in self.scripts:
            if script.missing and not error:
                operation, name = script.missing[-1]
                self.errors.append(
                    InputError(
                        f"TorchScript left out the {operation} of {name or 'the network'}: after some runs it merges "
                        "or fuses what it can. Give a fresh copy, loaded or scripted anew."
                    )
                )
        if self.errors and (error is None or isinstance(error, Exception)):
            raise self.errors[0] from error

    def enter(self, module: nn.Module, args: Any) -> None:
        name = self.calls.names.get(id(module))
        if name is not None:
            self.stack.append((name, self.script_run(module, name)))

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if id(module) in self.calls.names:
            self.stack.pop()

    def script_run(self, module: nn.Module, name: str) -> ScriptRun | None:
        if not isinstance(module, torch.jit.ScriptModule):
            return None
        plans = self.calls.plans
        if id(module) not in plans:
            plans[id(module)] = script_plan(module, self.calls.names, _OPERATIONS)
        self.scripts.append(ScriptRun(name, plans[id(module)]))
        return self.scripts[-1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = _KINDS.get(func, _NEW)
        if kind is _NEW:
            self.look_at(func, args)
        if kind is None or kind is _NEW or not args[0].is_floating_point():  # a clamp of whole numbers is no activation
            return func(*args, **kwargs)
        if kind.by_input:  # before an in-place operation overwrites it
            self.called(kind, args[0], args, kwargs)
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        self.called(kind, result, args, kwargs)
        return result

    def called(self, kind: Kind, values: Tensor, args: Any, kwargs: Any) -> None:
        name, script = self.stack[-1]
        name = (script.caller(kind.operation) if script else name) or kind.label
        rest = {key: value for key, value in kwargs.items() if key != "out"}
        if not (kind.label in self.calls.also if kind.label in SMOOTH else kind.bends_at_0(*args[1:], **rest)):
            self.calls.untold.setdefault(kind.label, set()).add(name)
        elif not self.errors:
            number = self.numbers[name] = self.numbers.get(name, 0) + 1
            try:
                self.take(Call(name if number == 1 else f"{name}#{number}", kind, values))
            except InputError as error:
                self.errors.append(error)

    def look_at(self, func: Any, args: Any) -> None:
        """An operation that is met for the first time, and not an activation, may have one inside."""
        name = str(func)
        if "pointwise" in name:  # oneDNN's, told by an argument what comes after a matrix product
            hidden = any(arg == "relu" for arg in args if isinstance(arg, str))
        elif ("relu" in name and "backward" not in name) or name.startswith(_WITH_RELU):
            hidden = True
        else:
            _KINDS[func] = None
            return
        if hidden:
            caller = self.stack[-1][0] or "the network"
            self.errors.append(
                InputError(
                    f"{caller} calls {name}, and the ReLU inside it can't be seen. "
                    "Give the network as it was before it was quantized, fused or scripted."
                )
            )


_NEW = Kind("", "", _always)
_WITH_RELU = ("aten._transformer_encoder_layer_fwd", "aten._addmm_activation")


@contextmanager
def relu_calls(network: nn.Module, take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside, every ReLU that the network's forward calls is answered by ``take(layer name, activation)``."""
    with ReluCalls(network).told_to(lambda call: take(call.name, call.values)):
        yield
