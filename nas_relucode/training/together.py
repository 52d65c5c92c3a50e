"""Training networks of one structure at once, as one batched network: candidates that differ in rate or seed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from nas_relucode.codes.network_state import check_network
from nas_relucode.errors import InputError
from nas_relucode.training.data import Split
from nas_relucode.training.loop import batches, check_training, clear_gradients, sgd
from nas_relucode.training.losses import LOSSES, check_shapes, epoch_loss
from nas_relucode.training.names import check_seed
from nas_relucode.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Together:
    """The result of `train_together`."""

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
    """Trains networks of one structure at once, in place, each as `train` with its one of ``learning_rates``.

    The results are those of `train` within rounding. Small networks gain most: their time goes into starting
    operations rather than into arithmetic, and one operation serves all networks here (torch.func's ``vmap`` over
    stacked weights). Heads of hundreds of neurons gain nothing on a CPU. Networks of equal ``seeds`` share their
    batches, which is faster still; random layers draw for each network.

    ``on_epoch`` receives the epoch's number and the losses (networks,), before the first epoch (NaN) and after each,
    while all networks have their current weights. A network that diverges has NaN from there on; the others go on.

    Raises InputError for networks of different structures, or that share weights, and as `train` does.
    """
    networks = [check_network(network) for network in networks]
    for seed in seeds:
        check_seed(seed)
    _check_networks(networks, learning_rates, seeds)
    for rate in learning_rates:
        check_training(data, recipe, rate)
    for network in networks:
        network.train()
    stack = _Stack(networks, learning_rates, recipe, own_batches=len(set(seeds)) > 1)
    generators = [torch.Generator().manual_seed(seed) for seed in (seeds if stack.own_batches else seeds[:1])]
    steps_per_epoch = math.ceil(len(data) / recipe.batch_size)
    losses: list[np.ndarray] = []
    diverged: list[int | None] = [None] * len(networks)
    if on_epoch:
        on_epoch(0, np.full(len(networks), math.nan))
    for epoch in range(1, recipe.epochs + 1):
        order = torch.stack([torch.randperm(len(data), generator=generator) for generator in generators])
        step_losses: list[Tensor] = []
        for _, inputs, targets in batches(data, order if stack.own_batches else order[0], recipe):
            step = (epoch - 1) * steps_per_epoch + len(step_losses)
            factor = recipe.rate(1.0, step, recipe.epochs * steps_per_epoch)
            step_losses.append(stack.step(inputs, targets, factor))
        stack.write(networks)
        means = epoch_loss(torch.stack(step_losses), len(data), recipe.batch_size)
        finite = means.isfinite() & stack.finite().cpu()
        diverged = [at or (None if fine else epoch) for at, fine in zip(diverged, finite.tolist(), strict=True)]
        losses.append(np.where([at is None for at in diverged], means.numpy(), math.nan))
        if on_epoch:
            on_epoch(epoch, losses[-1])
    return Together(np.array(losses).reshape(-1, len(networks)), tuple(diverged))


class _Stack:
    """The networks as one: weights and buffers by name, each (networks, ...), and one optimizer."""

    def __init__(
        self, networks: Sequence[nn.Module], learning_rates: Sequence[float], recipe: Recipe, *, own_batches: bool
    ) -> None:
        self.recipe, self.own_batches = recipe, own_batches
        parameters, buffers = stack_module_state(list(networks))
        self.values = {**parameters, **buffers}
        self.trained = [values for values in self.values.values() if values.requires_grad]
        # Each network's learning rate scales its gradients, and the optimizer's is the factor of the schedule. So
        # weight decay, which torch.optim.SGD adds to the gradient, is added here, where it is scaled as well.
        self.optimizer = sgd(self.trained, 1.0, momentum=recipe.momentum, weight_decay=0.0)
        self.rates = torch.tensor(list(learning_rates), dtype=self.trained[0].dtype, device=self.trained[0].device)

        network = copy.deepcopy(networks[0])  # functional_call does not restore a module that is registered twice
        tied = len(list(network.named_parameters(remove_duplicate=False))) > len(parameters)  # looking takes time

        def outputs_of_one(values: dict[str, Tensor], inputs: Tensor) -> Tensor:
            outputs: Tensor = functional_call(network, values, (inputs,), tie_weights=tied)
            return outputs

        in_dims = (0, 0 if own_batches else None)
        self.forward = recipe.compiled(vmap(outputs_of_one, in_dims=in_dims, randomness="different"))

    def step(self, inputs: Tensor, targets: Tensor, factor: float) -> Tensor:
        """One step of every network at ``factor`` times its learning rate; the mean losses (networks,) before it."""
        losses = self._losses(self.forward(self.values, inputs), targets)
        losses.backward(self.rates)  # the gradient of the sum of losses, each times its network's learning rate
        if self.recipe.weight_decay:
            with torch.no_grad():
                for weights in self.trained:
                    if weights.grad is not None:
                        rates = self.rates.view(-1, *[1] * (weights.ndim - 1))
                        weights.grad.addcmul_(weights, rates, value=self.recipe.weight_decay)
        self.optimizer.param_groups[0]["lr"] = factor
        self.optimizer.step()
        clear_gradients(self.trained)
        return losses.detach()

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean losses (networks,) of outputs (networks, samples, ...)."""
        if not self.own_batches:
            targets = targets.expand(len(outputs), *targets.shape)
        check_shapes(outputs.shape[1:], targets.shape[1:], self.recipe.loss)
        if self.recipe.loss == "cross_entropy":
            outputs = outputs.transpose(1, 2)  # torch wants the classes second
        return LOSSES[self.recipe.loss](outputs, targets, reduction="none").flatten(1).mean(dim=1)

    def finite(self) -> Tensor:
        """Whether all weights of a network are finite, (networks,)."""
        return torch.stack([values.detach().flatten(1).isfinite().all(dim=1) for values in self.trained]).all(dim=0)

    def write(self, networks: Sequence[nn.Module]) -> None:
        """Copies the weights and buffers into the networks."""
        with torch.no_grad():
            for number, network in enumerate(networks):
                for name, value in (*network.named_parameters(), *network.named_buffers()):
                    value.copy_(self.values[name][number])


def _check_networks(networks: Sequence[nn.Module], learning_rates: Sequence[float], seeds: Sequence[int]) -> None:
    """Raises InputError unless the networks differ only in their values, each with a learning rate and a seed."""
    if not networks or not len(networks) == len(learning_rates) == len(seeds):
        raise InputError(
            f"there are {len(networks)} networks, {len(learning_rates)} learning rates and {len(seeds)} seeds. "
            "Give one of each for every network."
        )
    parameters = [parameter for network in networks for parameter in network.parameters()]
    if len({id(parameter) for parameter in parameters}) < len(parameters):
        raise InputError("two of the networks share weights. Build a new one for each candidate.")
    first = _structure(networks[0])
    for number, network in enumerate(networks):
        if _structure(network) != first:
            raise InputError(
                f"network {number} has another structure than network 0. Train networks of one structure together."
            )


def _structure(network: nn.Module) -> tuple[object, ...]:
    """What networks that are trained together have in common."""
    tensors = (*network.named_parameters(), *network.named_buffers())
    return (
        [(name, type(module)) for name, module in network.named_modules()],
        repr(network),
        [(name, value.shape, value.dtype, value.device, value.requires_grad) for name, value in tensors],
    )
