"""Whether a network gives each sample a row of its own, the same beside any other samples and each time."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_relucode.codes.batches import moved
from nas_relucode.codes.handwritten import Run, run_compared
from nas_relucode.codes.network_state import run, untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.codes.relus import Call, ReluCalls
from nas_relucode.errors import InputError

MOST_ALONE = 8  # samples that run alone where a forward pass may branch on a value


@dataclass
class SampleCheck:
    """What passes over copies of a sample, and over that sample beside others, showed, by the names of the calls."""

    samples: int  # of the batch whose first sample was copied
    copies: int  # another number
    mixed: bool  # samples may depend on each other
    rows: dict[str, int] = field(default_factory=dict)  # the first dimension of each call's activation
    noisy: set[str] = field(default_factory=set)  # activations differ between copies, or between equal passes
    mixing: set[str] = field(default_factory=set)  # the sample's activation is another one, or none, beside others
    handwritten: dict[tuple[str, str], bool] = field(default_factory=dict)  # module, operation -> is a vector
    overwrites: bool = False  # the forward pass overwrites its inputs

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
                    "statistics, attention over the first dimension, a branch), or random numbers are drawn. Make each "
                    "row a function of its sample alone; if the statistics of a batch are wanted, use mode='train'."
                )
        return ""


class _Pass:
    """The calls of one forward pass, with the activations of some of its samples."""

    def __init__(self, samples: list[int], places: Sequence[int]) -> None:
        self.samples = samples
        self.places = list(places)
        self.rows: dict[str, int] = {}
        self.values: dict[str, torch.Tensor] = {}  # (places, ...), where the rows may be the samples
        self.asks = False  # for a value as a number, on which it may branch

    def take(self, call: Call) -> None:
        values = call.values.detach()
        self.rows[call.name] = len(values) if values.ndim else 0
        if self.rows[call.name] == len(self.samples) and values.is_floating_point() and values.numel():
            dense = values.to_dense() if values.layout != torch.strided else values
            self.values[call.name] = dense[self.places].clone()

    def changed(self, other: _Pass, place: int = 0) -> set[str]:
        """The calls that one pass lacks, or whose activation in a place of the other is not the first one here."""
        both = self.values.keys() & other.values.keys()
        pairs = {name: (other.values[name][place : place + 1], self.values[name][:1]) for name in both}
        changed = {name for name, (one, first) in pairs.items() if one.shape == first.shape and _differ(one, first)}
        return changed | (self.rows.keys() ^ other.rows.keys())


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
    most. If it asks for a value as a number, on which it may branch, it runs on the whole batch and on `MOST_ALONE` of
    its samples one by one, too. With ``mixed`` its samples may depend on each other (statistics of a batch). One that
    cannot run on another number of samples is not checked. A check that was passed is remembered (see `known_check`).
    """
    known = known_check(network, forward)
    if known and known.mixed <= mixed and known.rows.keys() >= set(names) and not known.problem(network, names):
        return known
    check = SampleCheck(samples, copies=3 if samples == 2 else 2, mixed=mixed)
    evaluation, passes = untouched(network), itertools.count(1)
    device = evaluation.device if evaluation.device.type == "cuda" else torch.device("cpu")

    def watched(chosen: list[int], places: Sequence[int] = (0,)) -> _Pass:
        made = _Pass(chosen, places)

        def noted(run: Run, operation: Any, arguments: Any, options: Any) -> Any:
            result, is_relu = run_compared(run, operation, arguments, options)
            made.asks |= operation.overloadpacket is torch.ops.aten._local_scalar_dense
            if is_relu:
                check.handwritten[passed.caller("")[0], str(operation)] = result.ndim == 2
            return result

        inputs = moved(rows(chosen), evaluation.device, evaluation.floats)
        with evaluation, calls.watch(made.take, around=noted) as passed:
            torch.rand(next(passes), device=device)  # other random numbers than in the first pass
            run(network, inputs, forward)
        return made

    def copied(sample: int) -> _Pass:
        return watched([sample] * check.copies, range(check.copies))

    def compare(alone: _Pass, other: _Pass, place: int = 0) -> None:
        if changed := alone.changed(other, place):
            check.noisy |= alone.changed(copied(alone.samples[0]))
            check.mixing |= changed

    try:
        first = copied(0)
        check.rows |= first.rows
        check.noisy |= {name for name, values in first.values.items() if _differ(values, values[:1])}
        if mixed:
            check.noisy |= first.changed(copied(0))
        else:
            compare(first, watched([0, *[samples - 1] * (check.copies - 1)]))
            if first.asks:
                chosen = sorted({round(place) for place in np.linspace(0, samples - 1, MOST_ALONE)})
                whole = watched(list(range(samples)), chosen)
                for place, sample in enumerate(chosen):
                    compare(copied(sample), whole, place)
    except Exception:  # whatever a forward pass raises on fewer samples than it was written for
        check = SampleCheck(samples, samples, mixed)
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
