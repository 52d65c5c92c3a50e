"""The recipe of B.1: softmax loss, plain gradient descent, batch 256, seed 1234; a callback after each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_relucode.data import Split
from nas_relucode.errors import InputError, NonFiniteError, unknown
from nas_relucode.network_state import untouched

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a candidate is trained, but for its learning rate and its seed. The defaults are the paper's."""

    epochs: int = 20
    batch_size: int = 256
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"  # or "cosine": from the learning rate down to 0 over all steps
    mixed_precision: bool = False  # bfloat16 autocast in the training steps; codes are always taken in float32
    compile: bool = False  # torch.compile of the training step

    def __post_init__(self) -> None:
        for name, low in {"epochs": 0, "batch_size": 1}.items():
            if not isinstance(getattr(self, name), int) or getattr(self, name) < low:
                raise InputError(f"{name} {getattr(self, name)!r} is too small. Give a whole number of at least {low}.")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum {self.momentum!r} is out of range. Give a number of at least 0 and below 1.")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay {self.weight_decay!r} is out of range. Give a number of at least 0.")
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)


@dataclass(frozen=True)
class Epoch:
    """What the callback is told: after epoch 0 nothing has been trained yet, and the loss is NaN."""

    number: int
    loss: float  # mean over the samples of the epoch, taken while the weights move


def pick_device(device: str | None = None) -> torch.device:
    """``device``, or where there is none: ``cuda`` if there is one, else ``mps``, else ``cpu``."""
    if device is None:
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used ({reason}). Give cpu, cuda, cuda:1 or mps.") from error
    return torch.device(device)


def train(
    network: nn.Module,
    data: Split,
    *,
    learning_rate: float,
    recipe: Recipe,
    seed: int = 1234,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> None:
    """Trains ``network`` in place on images that lie, all of them, on its device; leaves it in training mode.

    ``seed`` decides the order of the samples. ``on_epoch`` is called before the first epoch and after each; it may
    take codes of the network. The same seed gives the same weights on the same machine and number of threads.
    Raises NonFiniteError after the epoch in which the loss stopped being finite.
    """
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning rate {learning_rate!r} is out of range. Give a positive number, e.g. 0.01.")
    if data.labels is None or not len(data):
        raise InputError("there are no labelled samples to train on. Give at least one.")
    device = data.inputs.device
    if data.inputs.ndim == 4:
        network.to(memory_format=torch.channels_last)
    forward = torch.compile(network) if recipe.compile else network
    optimizer = torch.optim.SGD(
        network.parameters(), lr=learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * math.ceil(len(data) / recipe.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    generator = torch.Generator().manual_seed(seed)
    if on_epoch:
        on_epoch(Epoch(0, math.nan))
    for epoch in range(1, recipe.epochs + 1):
        network.train()
        total = torch.zeros((), device=device)
        for rows in torch.randperm(len(data), generator=generator).to(device).split(recipe.batch_size):
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision):
                loss = functional.cross_entropy(forward(data.inputs[rows]), data.labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if recipe.schedule == "cosine":
                scheduler.step()
            total += loss.detach() * len(rows)
        mean = float(total) / len(data)
        if not (math.isfinite(mean) and all(bool(p.isfinite().all()) for p in network.parameters())):
            raise NonFiniteError(
                f"loss or weights stopped being finite in epoch {epoch} "
                f"(loss {mean:g}, learning rate {learning_rate:g})"
            )
        if on_epoch:
            on_epoch(Epoch(epoch, mean))


def accuracy(network: nn.Module, data: Split, *, batch_size: int = 512) -> float:
    """The fraction of the samples that are classified as labelled; NaN if there are none."""
    if data.labels is None or not len(data):
        return math.nan
    with untouched(network), torch.no_grad():
        outputs: list[Tensor] = [network(inputs).argmax(dim=1) for inputs in data.inputs.split(batch_size)]
    return float((torch.cat(outputs) == data.labels).cpu().double().mean())
