"""The ReLU calls of a forward pass, seen below autograd, and the names of the modules that make them (Section 2)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module
from torch.utils._python_dispatch import TorchDispatchMode  # documented as an extension point, exported nowhere else

from nas_relucode.codes.activations import ACTIVATIONS, RELU, RELU6, Activation
from nas_relucode.codes.handwritten import Run
from nas_relucode.codes.network_state import check_network
from nas_relucode.codes.torchscript import Plan, ScriptRun, script_plan
from nas_relucode.errors import InputError


class Call(NamedTuple):
    """One call of an activation function: who made it, and the values whose signs are its bits."""

    name: str  # the module's, as in named_modules(); "#2" is appended for the second call under this name
    activation: Activation
    values: Tensor  # (samples, ...)


# Activations that may have bits; once met, any other operation as None.
_READ: dict[Any, Activation | None] = {
    operation: activation for operation, activation in ACTIVATIONS.items() if activation.label
}
_OPERATIONS = {activation.operation for activation in _READ.values() if activation}


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside torch.compile, DataParallel or DistributedDataParallel; any other module as it is.

    >>> inner = nn.ReLU()
    >>> unwrapped(nn.DataParallel(inner)) is inner
    True
    """
    check_network(module)
    while True:
        if "_orig_mod" in module._modules:
            module = module._modules["_orig_mod"]
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        else:
            return module


def module_names(network: nn.Module) -> dict[int, str]:
    """The name of every module by its id, as in named_modules() of the network without its wrappers (`unwrapped`)."""
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
    """Watches a network's forward passes for ReLUs, whether a module or a function calls them, and names the caller.

    The calls are seen below autograd, where a module, a function and an in-place method are the same operation.
    The caller is read off Python's stack, so nothing is registered on the network.
    Smooth activations are reported only if ``also`` names them.
    """

    def __init__(self, network: nn.Module, also: tuple[str, ...] = ()) -> None:
        self.also = also
        self.wanted = {activation.operation for activation in _READ.values() if activation and not activation.smooth}
        self.wanted.update(also)
        self.names = module_names(network)
        self.taken = set(self.names.values())
        self.ignored: dict[str, set[str]] = {}  # activations that were called and have no bits: label -> callers
        self.plans: dict[int, Plan] = {}  # of the TorchScript modules that were called
        self.modules = list(network.modules())
        self.hooked: list[nn.Module] | None = None  # unknown before the first forward pass

    def call_name(self, name: str, number: int) -> str:
        """What the ``number``-th call by a module is called. Raises InputError if that is another module's name."""
        numbered = name if number == 1 else f"{name}#{number}"
        if number > 1 and numbered in self.taken:
            raise InputError(
                f"call {number} of module {name!r} would be called {numbered!r}, but another module has this name. "
                "Rename that module."
            )
        return numbered

    def watch(
        self, take: Callable[[Call], None], *, around: Callable[[Run, Any, Any, Any], Any] | None = None
    ) -> WatchedPass:
        """A context for one forward pass that hands each call to ``take`` while the operation runs.

        With ``around`` every operation of the pass goes through ``around(run, operation, arguments, options)``, which
        returns the operation's result, as a rule that of ``run(operation, arguments, options)``.

        Compiled and fused modules run as they are written. An InputError that ``take`` raises is kept until the pass
        ends: TorchScript would turn it into an error of its own, and a network might catch it. Raises InputError if
        an operation hides a ReLU.
        """
        return WatchedPass(self, take, around)

    def watch_by_hooks(self, take: Callable[[Call], None]) -> WatchedPass | HookedPass:
        """As `watch`, for a network that is merely called: after the first pass by hooks, if they see the same calls.

        ``take`` is then called when a module ends.
        """
        return HookedPass(self, take) if self.hooked else self.watch(take)

    def choose_hooks(self, callers: list[nn.Module | None]) -> None:
        """After the first forward pass: hooks on the calling modules, if these see all calls of every later pass.

        They do where the network has no code of its own, which could choose other modules or call a function.
        """
        hooks_of_all = every_module._global_forward_hooks or every_module._global_forward_pre_hooks  # not public either
        static = not hooks_of_all and all(
            type(module).__module__.startswith(_STATIC)
            and not (module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)
            and module._compiled_call_impl is None  # torch has no public way to ask whether Module.compile was called
            for module in self.modules
        )
        seen = {id(module): module for module in callers if module is not None and type(module) in _HOOKED}
        self.hooked = list(seen.values()) if static and all(id(module) in seen for module in callers) else []


class HookedPass:
    """The context of `ReluCalls.watch_by_hooks` where hooks on some modules see every call, at less cost."""

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
        self.take(Call(self.calls.call_name(name, number), _HOOKED[type(module)], output))


class WatchedPass(TorchDispatchMode):
    """The context of `ReluCalls.watch`, which sees every operation of a forward pass, below autograd."""

    def __init__(
        self, calls: ReluCalls, take: Callable[[Call], None], around: Callable[[Run, Any, Any, Any], Any] | None
    ) -> None:
        super().__init__()
        self.calls = calls
        self.take = take
        self.around = around
        self.callers: list[nn.Module | None] = []
        self.numbers: dict[str, int] = {}
        self.scripts: dict[FrameType, ScriptRun] = {}  # by the frames that called them
        self.errors: list[InputError] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: torch's default imports the compiler, which takes seconds, only to disable it for each operation."""
        return False

    def __enter__(self) -> WatchedPass:
        with ExitStack() as back:
            # Nothing is compiled before torch._dynamo is imported, and set_stance would import it, which takes seconds.
            if "torch._dynamo" in sys.modules:
                back.enter_context(torch.compiler.set_stance("force_eager"))
            back.enter_context(torch.jit.optimized_execution(False))
            super().__enter__()
            self.back = back.pop_all()
        return self

    def __exit__(self, error_type: Any, error: BaseException | None, trace: Any) -> None:
        super().__exit__(error_type, error, trace)
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
        return self.run(func, args, kwargs) if self.around is None else self.around(self.run, func, args, kwargs)

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation's result; on the way it is reported if it is an activation."""
        activation = _READ.get(func, _NEW)
        if activation is _NEW:
            self.check_new(func, args)
        if activation is None or activation is _NEW:
            return func(*args, **kwargs)
        if not args[0].is_floating_point():  # a clamp of whole numbers is not an activation
            self.caller(activation.operation)
            return func(*args, **kwargs)
        if activation.by_input:  # before an in-place operation overwrites it
            self.called(activation, args[0], args, kwargs)
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        self.called(activation, result, args, kwargs)
        return result

    def called(self, activation: Activation, values: Tensor, args: Any, kwargs: Any) -> None:
        name, module = self.caller(activation.operation)
        name = name or activation.label
        rest = {key: value for key, value in kwargs.items() if key != "out"}
        if not (activation.label in self.calls.also if activation.smooth else activation.has_bits(*args[1:], **rest)):
            self.calls.ignored.setdefault(activation.label, set()).add(name)
        elif not self.errors:
            self.callers.append(module)
            number = self.numbers[name] = self.numbers.get(name, 0) + 1
            try:
                self.take(Call(self.calls.call_name(name, number), activation, values))
            except InputError as error:
                self.errors.append(error)

    def caller(self, operation: str) -> tuple[str, nn.Module | None]:
        """The innermost of the network's modules that is being called, and its name. Ask once for each call."""
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

    def check_new(self, func: Any, args: Any) -> None:
        """Raises InputError if an operation that is not an activation, met for the first time, hides one."""
        name = str(func)
        if "pointwise" in name:  # oneDNN's, whose arguments name what follows a matrix product
            hides_relu = any(arg == "relu" for arg in args if isinstance(arg, str))
        else:
            hides_relu = ("relu" in name and "backward" not in name) or name.startswith(_WITH_RELU)
            if not hides_relu:
                _READ[func] = None
        if hides_relu:
            caller = self.caller("")[0] or "the network"
            self.errors.append(
                InputError(
                    f"{caller} calls {name}, and the ReLU inside it can't be seen. "
                    "Give the network as it was before it was quantized, fused or scripted."
                )
            )


_NEW = Activation("")
_WITH_RELU = ("aten._transformer_encoder_layer_fwd", "aten._addmm_activation")
_HOOKED = {nn.ReLU: RELU, nn.ReLU6: RELU6}  # they return the activation and call nothing else
# Modules whose forward passes take the same path for every input are defined here.
_STATIC = ("torch.nn.modules.", "nas_relucode.training.networks")
# The one frame that is on the stack while a module is called, and holds it as `self`; torch.utils.module_tracker, the
# public way, registers global hooks and costs several times as much.
_CALL = nn.Module._call_impl.__code__
