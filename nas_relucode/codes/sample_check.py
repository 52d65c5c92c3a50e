"""Whether a network gives each sample a row of its own, the same beside any other samples and each time."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from nas_relucode.codes.batches import moved
from nas_relucode.codes.handwritten import Run, run_compared
from nas_relucode.codes.network_state import run, untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.codes.relus import Call, ReluCalls
from nas_relucode.errors import InputError


@dataclass
class SampleCheck:
    """What passes over copies of a sample, and over that sample beside others, showed, by the names of the calls."""

    samples: int  # of the batch whose first sample was copied
    copies: int  # another number
    mixed: bool  # samples may depend on each other
    rows: dict[str, int] = field(default_factory=dict)  # the first dimension of each call's activation
    noisy: set[str] = field(default_factory=set)  # activations differ between copies, or between equal passes
    mixing: set[str] = field(default_factory=set)  # the sample's activation is another one beside other samples
    overwrites: bool = False  # the forward pass overwrites its inputs
    handwritten: dict[tuple[str, str], bool] = field(default_factory=dict)  # module, operation -> is a vector
    kept: dict[str, torch.Tensor] = field(default_factory=dict)  # the activations of the first copy

    def take(self, call: Call) -> None:
        """Notes the rows of one call, and whether they are equal."""
        values = call.values.detach()
        self.rows[call.name] = len(values) if values.ndim else 0
        if self.rows[call.name] != self.copies or not values.is_floating_point() or not values.numel():
            return
        values = _dense(values)
        self.kept[call.name] = values[:1].clone()
        if _differ(values, values[:1]):
            self.noisy.add(call.name)

    def compare(self, changed: set[str], call: Call) -> None:
        """Adds a call to ``changed`` if the first sample's activation is another one than among its copies."""
        values, first = call.values.detach(), self.kept.get(call.name)
        if first is None or values.ndim == 0 or len(values) != self.copies:
            return
        values = _dense(values)
        if first.shape == values[:1].shape and _differ(values[:1], first):
            changed.add(call.name)

    def problem(self, network: nn.Module, names: Iterable[str]) -> str:
        """Why the codes of one of these calls would not be those of its samples, and what to do; empty if they are."""
        for name in names:
            layer, rows = f"layer {name!r} of {type(network).__name__}", self.rows.get(name, self.copies)
            if rows != self.copies:
                return (
                    f"{layer} gives {rows} rows for {self.copies} samples, though {self.samples} for "
                    f"{self.samples}: its first dimension is not the samples. Codes need one row per sample: put the "
                    "samples first, or choose other layers."
                )
            if name in self.noisy:
                return (
                    f"{layer} gives copies of one sample different activations, in evaluation mode: the forward pass "
                    "draws random numbers, and codes would be noise. Switch them off: functional.dropout needs "
                    "training=self.training."
                )
            if name in self.mixing:
                return (
                    f"{layer} gives one sample other activations beside other samples, in evaluation mode: codes would "
                    "depend on the batch. The samples of a batch are mixed (a normalisation without running "
                    "statistics, attention over the first dimension), or random numbers are drawn. Make each row a "
                    "function of its sample alone; if the statistics of a batch are wanted, use mode='train'."
                )
        return ""


def _dense(values: torch.Tensor) -> torch.Tensor:
    return values.to_dense() if values.layout != torch.strided else values


def _differ(values: torch.Tensor, first: torch.Tensor) -> bool:
    """Whether activations differ by more than rounding."""
    scale, rounding = torch.clamp(first.abs().max(), min=1), torch.finfo(values.dtype).eps ** 0.5
    return bool((values - first).abs().max() > rounding * scale)


_CHECKED: weakref.WeakKeyDictionary[nn.Module, tuple[Hashable, SampleCheck]] = weakref.WeakKeyDictionary()


def known_check(network: nn.Module, forward: Forward | None) -> SampleCheck | None:
    """The check that the network passed, if neither its settings nor ``forward`` have changed since."""
    circumstances, check = _CHECKED.get(network, (None, None))
    return check if circumstances == _circumstances(network, forward) else None


def check_samples(
    network: nn.Module,
    calls: ReluCalls,
    names: Sequence[str],
    rows: Callable[[list[int]], Any],
    samples: int,
    forward: Forward | None,
    *,
    mixed: bool = False,
) -> SampleCheck:
    """The check of the calls ``names`` of a network; raises InputError if codes would not be those of the samples.

    ``rows`` gives some of the ``samples`` of a batch by their numbers. The network runs twice, on three samples at
    most. With ``mixed`` its samples may depend on each other (statistics of a batch). One that cannot run on another
    number of samples is not checked. A check that was passed is remembered (see `known_check`).
    """
    known = known_check(network, forward)
    if known and known.mixed <= mixed and known.rows.keys() >= set(names) and not known.problem(network, names):
        return known
    check = SampleCheck(samples, copies=3 if samples == 2 else 2, mixed=mixed)
    copies = [0] * check.copies
    evaluation = untouched(network)
    device = evaluation.device if evaluation.device.type == "cuda" else torch.device("cpu")

    def watched(chosen: list[int], take: Callable[[Call], None]) -> None:
        def noted(run: Run, operation: Any, arguments: Any, options: Any) -> Any:
            result, is_relu = run_compared(run, operation, arguments, options)
            if is_relu:
                check.handwritten[passed.caller("")[0], str(operation)] = result.ndim == 2
            return result

        inputs = moved(rows(chosen), evaluation.device, evaluation.floats)
        with evaluation, calls.watch(take, around=noted) as passed:
            torch.rand(1 + len(check.kept), device=device)  # other random numbers than in the first pass
            run(network, inputs, forward)

    again = partial(check.compare, check.noisy)
    try:
        watched(copies, check.take)
        if mixed:
            watched(copies, again)
        else:
            watched([0, *[samples - 1] * (check.copies - 1)], partial(check.compare, check.mixing))
            if check.mixing:
                watched(copies, again)
    except Exception:  # whatever a forward pass raises on fewer samples than it was written for
        check = SampleCheck(samples, samples, mixed)
    check.kept.clear()
    for name in names:  # a pass over other samples, or one that failed, may lack some
        check.rows.setdefault(name, check.copies)
    if problem := check.problem(network, names):
        raise InputError(problem)
    _CHECKED[network] = _circumstances(network, forward), check
    return check


def _circumstances(network: nn.Module, forward: Forward | None) -> Hashable:
    """What a check depends on: numbers and texts among the modules' attributes, such as a rate, and ``forward``."""
    settings = [
        (name, value)
        for module in network.modules()
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str)) and name != "training"
    ]
    try:
        return tuple(settings), None if forward is None else weakref.ref(forward)
    except TypeError:  # no weak reference to it can be made: such a ``forward`` is checked each time
        return object()
