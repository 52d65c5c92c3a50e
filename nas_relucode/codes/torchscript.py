"""TorchScript hides its modules from hooks: who will call which activation, read off the graph that it runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch

Plan = list[tuple[str, str]]  # an operation of aten, without its in-place underscore, and the module that calls it

# aten's names for what is another operation by the time that it is seen below autograd
_SEEN_AS = {"relu6": "hardtanh", "prelu": "_prelu_kernel", "clip": "clamp", "selu": "elu", "rrelu": "rrelu_with_noise"}
_DECIDED: dict[str, Callable[..., bool]] = {
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "aten::__not__": operator.not_,
}
_UNREADABLE = {"prim::CallMethod", "prim::fork", "aten::rnn_relu", "aten::rnn_relu_cell"}


class ScriptRun:
    """One run of a TorchScript module, of whose plan the calls that were seen are ticked off."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.name = name
        self.missing = list(reversed(plan))

    def caller(self, operation: str) -> str:
        """The next in the plan; the script's own name where that is another operation or there is no plan."""
        return self.missing.pop()[1] if self.missing and self.missing[-1][0] == operation else self.name


def script_plan(module: torch.jit.ScriptModule, names: dict[int, str], operations: Collection[str]) -> Plan:
    """The calls of ``operations`` in the order in which the module's forward will make them.

    Branches are followed where an attribute (``training``, say) or a constant decides them. The plan is empty where
    the order depends on data, or on code that can't be read; ``names`` holds the modules' names by their ids.
    """

    def called(method: Any, name: str, owner: Any = None) -> Plan:
        known = {} if owner is None else {next(method.graph.inputs()).debugName(): owner}
        return block_plan(method.graph, name, known)

    def block_plan(block: Any, name: str, known: dict[str, Any]) -> Plan:
        plan: Plan = []
        for node in block.nodes():
            kind, inputs = node.kind(), list(node.inputs())
            given = [known.get(value.debugName()) for value in inputs]
            if kind == "prim::Constant" and node.output().type().kind() in ("BoolType", "IntType"):
                known[node.output().debugName()] = node.output().toIValue()
            elif kind == "prim::GetAttr" and given[0] is not None:
                known[node.output().debugName()] = getattr(given[0], node.s("name"))
            elif kind in _DECIDED and None not in given:
                known[node.output().debugName()] = _DECIDED[kind](*given)
            elif kind == "prim::If":
                taken = list(node.blocks()) if given[0] is None else [list(node.blocks())[0 if given[0] else 1]]
                ways = [block_plan(way, name, known) for way in taken]
                if ways[0] != ways[-1]:
                    raise _OrderUnknownError
                plan += ways[0]
            elif kind == "prim::CallMethod" and isinstance(given[0], torch.jit.ScriptModule):
                plan += called(given[0]._c._get_method(node.s("name")), names[id(given[0])], given[0])
            elif kind == "prim::CallFunction":
                plan += called(torch.jit._state._python_cu.find_function(str(inputs[0].type())), name)
            elif kind in _UNREADABLE or any(block_plan(inner, name, known) for inner in node.blocks()):
                raise _OrderUnknownError
            else:
                operation = kind.removeprefix("aten::").rstrip("_")
                operation = _SEEN_AS.get(operation, operation)
                if operation in operations and node.output().type().kind() == "TensorType":  # math.tanh has no tensor
                    plan.append((operation, name))
        return plan

    try:
        return called(module._c._get_method("forward"), names[id(module)], module)
    except _OrderUnknownError:
        return []


class _OrderUnknownError(Exception):
    pass
