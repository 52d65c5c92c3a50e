"""Which module of a TorchScript network calls which activation, read off its graph: its modules take no hooks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch

Plan = list[tuple[str, str]]  # an operation of aten, without its in-place underscore, and the module that calls it

# The names under which operations of the graph are seen below autograd.
_SEEN_AS = {"relu6": "hardtanh", "prelu": "_prelu_kernel", "clip": "clamp", "selu": "elu", "rrelu": "rrelu_with_noise"}
_DECIDABLE: dict[str, Callable[..., bool]] = {
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "aten::__not__": operator.not_,
}
_UNREADABLE = {"prim::CallMethod", "prim::fork", "aten::rnn_relu", "aten::rnn_relu_cell"}


class ScriptRun:
    """One run of a TorchScript module: calls that were seen are removed from the plan."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.name = name
        self.missing = list(reversed(plan))

    def caller(self, operation: str) -> str:
        """The module that the plan names next; the script's own name if the plan has another operation, or ended."""
        return self.missing.pop()[1] if self.missing and self.missing[-1][0] == operation else self.name


def script_plan(module: torch.jit.ScriptModule, names: dict[int, str], operations: Collection[str]) -> Plan:
    """The calls of ``operations`` in the order in which the module's forward makes them.

    Branches are followed where an attribute (``training``, for instance) or a constant decides them. The plan is empty
    if the order depends on data, or on code that can't be read. ``names`` holds the modules' names by their ids.
    """

    def calls_of(method: Any, name: str, owner: Any = None) -> Plan:
        known = {} if owner is None else {next(method.graph.inputs()).debugName(): owner}
        return block_plan(method.graph, name, known)

    def block_plan(block: Any, name: str, known: dict[str, Any]) -> Plan:
        plan: Plan = []
        for node in block.nodes():
            node_type, inputs = node.kind(), list(node.inputs())
            values = [known.get(value.debugName()) for value in inputs]
            if node_type == "prim::Constant" and node.output().type().kind() in ("BoolType", "IntType"):
                known[node.output().debugName()] = node.output().toIValue()
            elif node_type == "prim::GetAttr" and values[0] is not None:
                known[node.output().debugName()] = getattr(values[0], node.s("name"))
            elif node_type in _DECIDABLE and None not in values:
                known[node.output().debugName()] = _DECIDABLE[node_type](*values)
            elif node_type == "prim::If":
                branches = list(node.blocks()) if values[0] is None else [list(node.blocks())[0 if values[0] else 1]]
                plans = [block_plan(branch, name, known) for branch in branches]
                if plans[0] != plans[-1]:
                    raise _OrderUnknownError
                plan += plans[0]
            elif node_type == "prim::CallMethod" and isinstance(values[0], torch.jit.ScriptModule):
                plan += calls_of(_method(values[0], node.s("name")), names[id(values[0])], values[0])
            elif node_type == "prim::CallFunction":
                # Functions of a graph are known only to the compilation unit, which has no public name.
                plan += calls_of(torch.jit._state._python_cu.find_function(str(inputs[0].type())), name)
            elif node_type in _UNREADABLE or any(block_plan(inner, name, known) for inner in node.blocks()):
                raise _OrderUnknownError
            else:
                operation = node_type.removeprefix("aten::").rstrip("_")
                operation = _SEEN_AS.get(operation, operation)
                if operation in operations and node.output().type().kind() == "TensorType":  # math.tanh has no tensor
                    plan.append((operation, name))
        return plan

    try:
        return calls_of(_method(module, "forward"), names[id(module)], module)
    except _OrderUnknownError:
        return []


def _method(module: torch.jit.ScriptModule, name: str) -> Any:
    """A method as it is compiled. The public attribute of that name may be a Python wrapper without a graph."""
    return module._c._get_method(name)


class _OrderUnknownError(Exception):
    pass
