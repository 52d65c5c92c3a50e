"""Perceptrons of one structure, forward and back, as batched matrix products written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nas_relucode.data import Split
from nas_relucode.networks import Autoencoder, Network
from nas_relucode.products import times
from nas_relucode.recipes import Recipe, slope_of

KNOWN = {Network: ("backbone", "head"), Autoencoder: ("backbone", "head", "decoder")}  # their parts, in turn
Dense = tuple[str, bool]  # what the names of a Linear's parameters begin with, and whether a ReLU follows


def written_out(network: nn.Module, data: Split, recipe: Recipe) -> list[Dense] | None:
    """The layers of a perceptron that the recipe trains in the plain way, by outputs that fit the loss; else None."""
    shape = tuple(data.inputs.shape[1:])
    layers = None if recipe.mixed_precision or recipe.compile else dense_layers(network, shape)
    if layers and recipe.loss != "cross_entropy":
        with torch.no_grad():
            if network(data.inputs[:1]).shape[1:] != shape:
                return None
    return layers


def dense_layers(network: nn.Module, shape: tuple[int, ...]) -> list[Dense] | None:
    """The layers of a perceptron on inputs (samples, *shape); None of any other network.

    A perceptron is a Sequential of Linear and ReLU in turn, or an `Autoencoder`, or a `Network` without a backbone. A
    Flatten may come first and an Unflatten last. Nothing has hooks, no Linear is there twice, and all are trained.
    """
    modules = _in_turn(network, "")
    if modules and type(modules[0][1]) is nn.Flatten:
        modules, shape = modules[1:], (1,)
    if modules and type(modules[-1][1]) is nn.Unflatten:
        modules = modules[:-1]
    if not modules or len(shape) != 1 or not all(p.requires_grad for p in network.parameters()):
        return None
    found: list[Dense] = []
    for name, module in modules:
        if type(module) is nn.Linear:
            found.append((f"{name}." if name else "", False))
        elif type(module) is nn.ReLU and found:
            found[-1] = (found[-1][0], True)
        else:
            return None
    linear = [module for _, module in modules if type(module) is nn.Linear]
    return found if len(set(linear)) == len(linear) else None


def by_products(
    layers: Sequence[Dense], parameters: Mapping[str, Tensor], inputs: Tensor, wanted: Tensor, loss: str, *, own: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean losses (networks,) of a batch, and their gradients by the stacked ``parameters`` (networks, ...).

    ``own``: the inputs are (networks, samples, ...), else (samples, ...) for all networks, and ``wanted`` likewise.
    Features come before samples here, so that products, sums and the softmax run along what lies side by side in
    memory; autograd would spend more time between the products than in them where networks are small.
    """
    with torch.no_grad():
        samples = inputs.flatten(2 if own else 1)
        values = samples.transpose(-1, -2)
        given: list[Tensor] = [values]  # what each layer is given, and the outputs
        for name, relu in layers:
            values = _forward(parameters[f"{name}weight"], parameters.get(f"{name}bias"), values)
            given.append(values.relu_() if relu else values)
        target = wanted if loss == "cross_entropy" else given[0].contiguous()
        means, slope = slope_of(given[-1], target, loss)
        gradients: dict[str, Tensor] = {}
        for place in range(len(layers) - 1, -1, -1):
            name, relu = layers[place]
            weight = parameters[f"{name}weight"]
            if relu:
                slope = torch.ops.aten.threshold_backward(slope, given[place + 1], 0)
            if f"{name}bias" in parameters:
                gradients[f"{name}bias"] = slope.sum(dim=2)
            if given[place].ndim == 2:
                gradients[f"{name}weight"] = times(slope.flatten(0, 1), samples.t()).view_as(weight)
            else:
                gradients[f"{name}weight"] = torch.bmm(slope, given[place].transpose(1, 2))
            if place:
                slope = torch.bmm(weight.transpose(1, 2), slope)
        return means, gradients


def _forward(weight: Tensor, bias: Tensor | None, values: Tensor) -> Tensor:
    """Outputs (networks, outputs, samples) of values (networks, inputs, samples), or (inputs, samples) for all."""
    if values.ndim == 3:
        return torch.bmm(weight, values) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, values)
    rows = weight.flatten(0, 1)  # one product, whose rows are the neurons of all networks
    product = times(rows, values.t())
    return (product if bias is None else product.add_(bias.view(-1, 1))).unflatten(0, weight.shape[:2])


def _in_turn(module: nn.Module, name: str) -> list[tuple[str, nn.Module]] | None:
    """The innermost modules of a Sequential in turn, by name; None where something has hooks or a way of its own."""
    if any(hooks for key, hooks in vars(module).items() if key.endswith("_hooks")):
        return None
    if type(module) in (nn.Sequential, *KNOWN):
        found: list[tuple[str, nn.Module]] = []
        for key in KNOWN.get(type(module), module._modules):  # not named_children, which gives a module once
            inner = _in_turn(module.get_submodule(key), f"{name}.{key}" if name else key)
            if inner is None:
                return None
            found += inner
        return found
    plain = (
        type(module) in (nn.Linear, nn.ReLU)
        or (type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1))
        or (type(module) is nn.Unflatten and module.dim == 1)
    )
    return [(name, module)] if plain else None
