"""Whether a network gives each sample a row of its own, the same each time: a small pass over copies of a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nas_relucode.codes.batches import each, moved
from nas_relucode.codes.network_state import run, untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.codes.relus import Call, ReluCalls
from nas_relucode.errors import InputError


@dataclass
class SampleCheck:
    """What a pass over ``copies`` copies of one sample showed, by the names of the calls."""

    samples: int  # of the batch whose first sample was copied
    copies: int  # another number
    rows: dict[str, int] = field(default_factory=dict)  # the first dimension of each call's activation
    noisy: set[str] = field(default_factory=set)  # the copies have different activations
    overwrites: bool = False  # the forward pass overwrites its inputs
    kept: dict[str, torch.Tensor] = field(default_factory=dict)  # the activations of the first copy

    def take(self, call: Call) -> None:
        """Notes the rows of one call, and whether they are equal."""
        values = call.values.detach()
        self.rows[call.name] = len(values) if values.ndim else 0
        if self.rows[call.name] != self.copies or not values.is_floating_point() or not values.numel():
            return
        values = values.to_dense() if values.layout != torch.strided else values
        first = self.kept.setdefault(call.name, values[:1].clone())  # that of the first pass in a second one
        scale = torch.clamp(first.abs().max(), min=1)
        rounding = torch.finfo(values.dtype).eps ** 0.5
        if first.shape == values[:1].shape and bool((values - first).abs().max() > rounding * scale):
            self.noisy.add(call.name)

    def refuse(self, network: nn.Module, names: Iterable[str]) -> None:
        """Raises InputError if one of these calls has other rows than the samples, or noise."""
        for name in names:
            rows = self.rows.get(name, self.copies)
            if rows != self.copies:
                raise InputError(
                    f"layer {name!r} gives {rows} rows for {self.copies} samples, though {self.samples} for "
                    f"{self.samples}: its first dimension is not the samples. Codes need one row per sample: put the "
                    "samples first, or choose other layers."
                )
            if name in self.noisy:
                raise InputError(
                    f"layer {name!r} of {type(network).__name__} gives copies of one sample different activations, in "
                    "evaluation mode: the forward pass draws random numbers, and codes would be noise. Switch them "
                    "off: functional.dropout needs training=self.training."
                )


def check_samples(
    network: nn.Module, calls: ReluCalls, copies: Callable[[int], Any], samples: int, forward: Forward | None
) -> SampleCheck:
    """The check of a network, given the size of a batch and ``copies``, which repeats its first sample.

    A network that draws random numbers runs twice, because the samples of a pass may share them. One that cannot run on
    another number of samples is not checked.
    """
    check = SampleCheck(samples, copies=3 if samples == 2 else 2)
    evaluation = untouched(network)
    device = evaluation.device if evaluation.device.type == "cuda" else torch.device("cpu")
    try:
        inputs = moved(copies(check.copies), evaluation.device)
        for _ in range(2):
            with evaluation:
                torch.rand(1 + len(check.kept), device=device)  # other numbers than in the passes before
                before = _random_state(device)
                with calls.watch(check.take):
                    run(network, each(inputs, torch.clone), forward)
                if torch.equal(before, _random_state(device)):
                    break
    except Exception:  # whatever a forward pass raises on fewer samples than it was written for
        return SampleCheck(samples, samples)
    check.kept.clear()
    return check


def _random_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
