"""Networks of one shape, trained as one batched network: candidates that differ in learning rate or seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.training.batched import Stack, check_networks, slopes_of
from nas_relucode.training.data import Split
from nas_relucode.training.descent import Descent
from nas_relucode.training.loop import batches, check_training
from nas_relucode.training.recipe import Recipe, mean_loss


@dataclass(frozen=True)
class Together:
    """What `train_together` found."""

    losses: np.ndarray  # float64, (epochs, networks): as Epoch.loss; NaN from the epoch on in which a network diverged
    diverged: tuple[int | None, ...]  # (networks,): the epoch in which its loss or weights stopped being finite


def train_together(
    networks: Sequence[nn.Module],
    data: Split,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    recipe: Recipe,
    on_epoch: Callable[[int, np.ndarray], None] | None = None,
) -> Together:
    """Trains networks of one structure in place, each as `train` does with its learning rate and seed, at once.

    The results are those of `train` within rounding. Small networks gain most, for their time goes into starting
    operations, not into numbers: one operation serves all of them here. Perceptrons (Flatten, Linear, ReLU, and an
    Unflatten) and small convolutions are batched matrix products; other networks go through torch.func's ``vmap``.
    Equal ``seeds`` share their batches, which is faster still; random layers draw for each network.
    ``on_epoch`` is told the epoch's number and the losses (networks,), before the first epoch (NaN) and after each,
    while all networks have their current weights. A network that diverges is NaN from there on; the others go on.
    """
    networks = list(networks)
    check_networks(networks, learning_rates, seeds)
    for rate in learning_rates:
        check_training(data, recipe, rate)
    for network in networks:
        network.train()
    stack = Stack(networks)
    own = len(set(seeds)) > 1
    slopes = slopes_of(networks[0], stack, data, recipe, own=own)
    rates = torch.tensor(list(learning_rates), dtype=torch.float64)
    descent = Descent(stack.trained, rates, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    step, steps = 0, recipe.epochs * math.ceil(len(data) / recipe.batch_size)
    orders = [torch.Generator().manual_seed(seed) for seed in (seeds if own else seeds[:1])]
    losses_found: list[np.ndarray] = []
    diverged: list[int | None] = [None] * len(networks)
    if on_epoch:
        on_epoch(0, np.full(len(networks), math.nan))
    for epoch in range(1, recipe.epochs + 1):
        order = torch.stack([torch.randperm(len(data), generator=generator) for generator in orders])
        losses: list[Tensor] = []
        for _, inputs, labels in batches(data, order if own else order[0], recipe):
            means, gradients = slopes(inputs, inputs if labels is None else labels)
            descent.step(gradients, recipe.rate(1.0, step, steps))
            losses.append(means)
            step += 1
        stack.write(networks)
        found = mean_loss(torch.stack(losses), len(data), recipe.batch_size)
        sound = found.isfinite() & stack.finite().cpu()
        diverged = [at or (None if fine else epoch) for at, fine in zip(diverged, sound.tolist(), strict=True)]
        losses_found.append(np.where([at is None for at in diverged], found.numpy(), math.nan))
        if on_epoch:
            on_epoch(epoch, losses_found[-1])
    return Together(np.array(losses_found).reshape(-1, len(networks)), tuple(diverged))
