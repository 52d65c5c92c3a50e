"""A forward pass of the first samples, to be measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nas_relucode.codes.batches import batches, copied, moved, needed_arguments, read_batch
from nas_relucode.codes.network_state import Untouched, call, untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.errors import InputError, whole_number


@dataclass(frozen=True)
class ForwardPass:
    """Called, it runs the network on the batch and waits for the device."""

    network: nn.Module
    batch: Any  # in memory of its own
    device: torch.device
    forward: Forward | None

    def __call__(self) -> Any:
        output = call(self.network, self.batch, self.forward)
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return output

    @property
    def tensors(self) -> list[Any]:
        """The network's parameters and buffers, and the batch."""
        return [*self.network.parameters(), *self.network.buffers(), self.batch]


@contextmanager
def forward_pass(network: nn.Module, inputs: Any, size: int, forward: Forward | None) -> Iterator[ForwardPass]:
    """A forward pass of the first ``size`` samples in evaluation mode, which has run once; see `untouched`."""
    size = whole_number("batch size", size, least=1)
    borrowed = untouched(network)
    with borrowed:
        batch = _first_samples(network, inputs, size, borrowed, forward)
        one = ForwardPass(network, batch, borrowed.device, forward)
        one()
        yield one


def _first_samples(network: nn.Module, inputs: Any, size: int, borrowed: Untouched, forward: Forward | None) -> Any:
    batch: Any = next(iter(batches(inputs, size)), None)
    parts = None if batch is None else read_batch(batch, None if forward else needed_arguments(network))
    samples = 0 if parts is None else max(parts.lengths)
    if parts is None or samples < size:
        raise InputError(f"the first batch has {samples} samples, fewer than the batch size {size}. Give more.")
    return copied(moved(parts.rows(samples, slice(size)), borrowed.device, borrowed.floats))
