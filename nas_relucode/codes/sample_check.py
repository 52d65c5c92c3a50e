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
from nas_relucode.codes.network_state import plain_settings, run, untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.codes.relus import Call, ReluCalls
from nas_relucode.errors import InputError

PROBED = 8  # samples of the first batch that are compared, and of those that run alone where a pass may branch


@dataclass
class SampleCheck:
    """What passes over some samples, and over parts of them, showed, by the names of the calls."""

    samples: int  # of the batch that they were taken from
    others: int  # another number of samples, of a pass
    mixed: bool  # samples may depend on each other
    rows: dict[str, int] = field(default_factory=dict)  # the first dimension of each call's activation in that pass
    noisy: set[str] = field(default_factory=set)  # activations differ between equal passes or between copies
    mixing: set[str] = field(default_factory=set)  # a sample's activation is another one, or none, beside others
    handwritten: dict[tuple[str, str], bool] = field(default_factory=dict)  # module, operation -> is a vector

    def holds_for(self, names: Sequence[str], samples: int, *, mixed: bool) -> bool:
        """Whether the check says all about these calls; one of a single sample shows nothing about mixing."""
        return self.mixed <= mixed and self.rows.keys() >= set(names) and (self.samples > 1 or samples == 1)

    def problem(self, network: nn.Module, names: Iterable[str]) -> str:
        """Why the codes of one of these calls would not be those of its samples, and what to do; empty if they are."""
        for name in names:
            layer, rows = f"layer {name!r} of {type(network).__name__}", self.rows.get(name, self.others)
            if rows != self.others:
                return (
                    f"{layer} gives {rows} rows for {self.others} samples, though {self.samples} for "
                    f"{self.samples}: its first dimension is not the samples. Codes need one row per sample: put the "
                    "samples first, or choose other layers."
                )
            if name in self.noisy:
                return (
                    f"{layer} gives a sample different activations each time, in evaluation mode: the forward pass "
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
        """The calls that one pass lacks, or whose activations here are not those from a place on in the other."""
        pairs = [
            (name, values, other.values[name][place : place + len(values)])
            for name, values in self.values.items()
            if name in other.values
        ]
        changed = {name for name, one, same in pairs if one.shape == same.shape and _differ(same, one)}
        return changed | (self.rows.keys() ^ other.rows.keys())


def _differ(values: torch.Tensor, first: torch.Tensor) -> bool:
    """Whether activations differ by more than rounding; NaN is NaN's equal alone."""
    scale = first.abs().nan_to_num(0.0, 0.0).max().clamp(min=1)
    near = (values - first).abs() <= torch.finfo(values.dtype).eps ** 0.5 * scale
    return not bool((near | (values == first) | (values.isnan() & first.isnan())).all())


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

    ``rows`` gives some of the ``samples`` of a batch by their numbers. The network runs on `PROBED` of them, and then
    on each half of these; where that changes an activation, on all of these again, which shows whether it was chance.
    If it asks for a value as a number, on which it may branch, it runs on the whole batch and on some samples alone,
    too. With ``mixed`` its samples may depend on each other (statistics of a batch). One that cannot run on another
    number of samples is not checked. A check that was passed is remembered (see `known_check`).
    """
    known = known_check(network, forward)
    if known and known.holds_for(names, samples, mixed=mixed) and not known.problem(network, names):
        return known
    chosen = _spread(samples)
    halves = [_filled_up(half, samples) for half in (chosen[: len(chosen) // 2 or 1], chosen[len(chosen) // 2 :])]
    check = SampleCheck(samples, len(halves[0]), mixed=mixed)
    evaluation, passes = untouched(network), itertools.count(1)
    device = evaluation.device if evaluation.device.type == "cuda" else torch.device("cpu")

    def watched(samples: list[int], places: Sequence[int]) -> _Pass:
        made = _Pass(samples, places)

        def noted(run: Run, operation: Any, arguments: Any, options: Any) -> Any:
            result, is_relu = run_compared(run, operation, arguments, options)
            made.asks |= operation.overloadpacket is torch.ops.aten._local_scalar_dense
            if is_relu:
                check.handwritten[passed.caller("")[0], str(operation)] = result.ndim == 2
            return result

        inputs = moved(rows(samples), evaluation.device, evaluation.floats)
        with evaluation, calls.watch(made.take, around=noted) as passed:
            torch.rand(next(passes), device=device)  # other random numbers than in the first pass
            run(network, inputs, forward)
        return made

    def compare(part: _Pass, whole: _Pass, place: int = 0) -> None:
        if changed := part.changed(whole, place):
            check.noisy |= part.changed(watched(part.samples, part.places))
            check.mixing |= changed

    try:
        first = watched(halves[0], range(len(chosen) // 2 or 1))
        check.rows |= first.rows
        if mixed or samples == 1:
            check.noisy |= first.changed(watched(halves[0], first.places))
        else:
            whole = watched(chosen, range(len(chosen)))
            compare(first, whole)
            compare(watched(halves[1], range(len(chosen) - len(chosen) // 2)), whole, len(chosen) // 2)
            if first.asks:
                every = watched(list(range(samples)), chosen)
                for place, sample in enumerate(chosen):
                    compare(watched(_filled_up([sample], samples), [0]), every, place)
    except Exception:  # whatever a forward pass raises on fewer samples than it was written for
        _check_not_one_sample(network, calls, rows, samples, forward)
        check = SampleCheck(samples, samples, mixed)
    for name in names:  # a pass over other samples, or one that failed, may lack some
        check.rows.setdefault(name, check.others)
    if problem := check.problem(network, names):
        raise InputError(problem)
    _CHECKED[network] = _circumstances(network, forward), check
    return check


def _spread(samples: int) -> list[int]:
    """The numbers of `PROBED` of so many samples, or of all, evenly spread.

    >>> _spread(3), _spread(100)
    ([0, 1, 2], [0, 14, 28, 42, 57, 71, 85, 99])
    """
    return sorted({round(place) for place in np.linspace(0, samples - 1, PROBED)})


def _filled_up(chosen: list[int], samples: int) -> list[int]:
    """These samples, the last of them as often as makes two or more, and another number than ``samples``.

    >>> _filled_up([0], 1), _filled_up([4], 2), _filled_up([4, 5], 9)
    ([0, 0], [4, 4, 4], [4, 5])
    """
    while len(chosen) < 2 or len(chosen) == samples:
        chosen = [*chosen, chosen[-1]]
    return chosen


def _check_not_one_sample(
    network: nn.Module, calls: ReluCalls, rows: Callable[[list[int]], Any], samples: int, forward: Forward | None
) -> None:
    """Raises InputError if the rows of a batch, which cannot run alone, are those of one sample."""
    inputs, evaluation = rows(list(range(samples))), untouched(network)
    if not isinstance(inputs, torch.Tensor | np.ndarray):
        return
    one = _Pass([0], [0])
    try:
        with evaluation, calls.watch(one.take):
            run(network, moved(inputs[None], evaluation.device, evaluation.floats), forward)
    except Exception:
        return
    if set(one.rows.values()) == {1}:
        shape = tuple(inputs.shape)
        raise InputError(
            f"inputs of shape {shape} are one sample for {type(network).__name__}, which cannot run on some of their "
            f"rows but on inputs of shape {(1, *shape)}. Put the samples first: inputs[None]."
        )


def _circumstances(network: nn.Module, forward: Forward | None) -> Hashable:
    """What a check depends on: the modules with their hooks and settings, such as a rate, and ``forward``."""
    modules = [
        (id(module), type(module), id(vars(module).get("forward")), *module._forward_hooks, *module._forward_pre_hooks)
        for module in network.modules()
    ]
    try:
        return tuple(modules), tuple(plain_settings(network)), None if forward is None else weakref.ref(forward)
    except TypeError:  # no weak reference to it can be made: such a ``forward`` is checked each time
        return object()
