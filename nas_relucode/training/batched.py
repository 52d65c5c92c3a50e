"""Networks of one structure as one: their weights stacked, and a forward pass that serves all of them at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError
from nas_relucode.training.data import Split
from nas_relucode.training.perceptrons import by_products, written_out
from nas_relucode.training.recipe import Recipe, means_of, outputs_of

# Of inputs and what is wanted, one batch for all networks or one for each: the mean losses (networks,), and the
# gradient of each by what is trained of it (None where something takes no part).
Slopes = Callable[[Tensor, Tensor], tuple[Tensor, list[Tensor | None]]]


class Stack:
    """Parameters and buffers (networks, ...) of all networks by name; a shared tensor has one name."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        first = networks[0]
        named = [dict(network.named_parameters()) for network in networks]
        self.parameters = {
            name: torch.stack([parameters[name].detach() for parameters in named]).requires_grad_(value.requires_grad)
            for name, value in first.named_parameters()
        }
        self.trained = [values for values in self.parameters.values() if values.requires_grad]
        buffered = [dict(network.named_buffers()) for network in networks]
        self.buffers = {name: torch.stack([buffers[name] for buffers in buffered]) for name in buffered[0]}

    def finite(self) -> Tensor:
        """Which networks (networks,) have finite weights throughout."""
        return torch.stack([values.detach().flatten(1).isfinite().all(dim=1) for values in self.trained]).all(dim=0)

    def write(self, networks: Sequence[nn.Module]) -> None:
        """Gives the networks their current weights and buffers."""
        with torch.no_grad():
            for place, network in enumerate(networks):
                for name, value in (*network.named_parameters(), *network.named_buffers()):
                    value.copy_((self.parameters if name in self.parameters else self.buffers)[name][place])


def check_networks(networks: Sequence[nn.Module], learning_rates: Sequence[float], seeds: Sequence[int]) -> None:
    """Raises InputError unless the networks differ in values alone, each with a learning rate and a seed."""
    if not networks or not len(networks) == len(learning_rates) == len(seeds):
        raise InputError(
            f"there are {len(networks)} networks, {len(learning_rates)} learning rates and {len(seeds)} seeds. "
            "Give one of each for every network."
        )
    if len({id(p) for network in networks for p in network.parameters()}) < sum(
        len(list(network.parameters())) for network in networks
    ):
        raise InputError("two of the networks share weights. Build each anew.")
    first = _structure(networks[0])
    for number, network in enumerate(networks):
        if _structure(network) != first:
            raise InputError(
                f"network {number} has another structure than network 0. Train networks of one structure together."
            )


def slopes_of(network: nn.Module, stack: Stack, data: Split, recipe: Recipe, *, own: bool) -> Slopes:
    """What gives the losses and gradients of the stack; ``own``: each network has inputs of its own.

    Perceptrons, also behind small convolutions, are matrix products written out; other networks, and other ways to
    compute, go through vmap.
    """
    layers = written_out(network, data, recipe)
    if layers:
        values = {name: value.detach() for name, value in stack.parameters.items()}

        def products(inputs: Tensor, wanted: Tensor) -> tuple[Tensor, list[Tensor | None]]:
            means, gradients = by_products(layers, values, inputs, wanted, recipe.loss, own=own)
            return means, [gradients[name] for name in values]

        return products
    # Without values; to("meta") would untie tied weights.
    empty = {id(value): nn.Parameter(value.detach().to("meta")) for value in network.parameters()}
    skeleton = copy.deepcopy(network, {**empty, **{id(value): value.to("meta") for value in network.buffers()}})

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(skeleton, (parameters, buffers), (inputs,))
        return outputs

    every = torch.func.vmap(one, in_dims=(0, 0, 0 if own else None), randomness="different")
    forward = torch.compile(every) if recipe.compile else every

    def mapped(inputs: Tensor, wanted: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        outputs = outputs_of(lambda inputs: forward(stack.parameters, stack.buffers, inputs), inputs, recipe)
        means = means_of(outputs, wanted, recipe.loss)
        return means.detach(), list(torch.autograd.grad(means.sum(), stack.trained, allow_unused=True))

    return mapped


def _structure(network: nn.Module) -> tuple[object, ...]:
    """What networks that are trained together have in common."""
    tensors = (*network.named_parameters(), *network.named_buffers())
    return (
        [(name, type(module)) for name, module in network.named_modules()],
        repr(network),
        [(name, value.shape, value.dtype, value.device, value.requires_grad) for name, value in tensors],
    )
