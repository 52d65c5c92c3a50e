"""Perceptrons and small convolutions of one structure, forward and back, as batched matrix products written out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nas_relucode.training.data import Split
from nas_relucode.training.networks import Autoencoder, Network
from nas_relucode.training.products import times
from nas_relucode.training.recipe import Recipe, slope_of
from nas_relucode.training.small_convolutions import Patches, patches_of

KNOWN = {Network: ("backbone", "head"), Autoencoder: ("backbone", "head", "decoder")}  # their parts, in turn


@dataclass(frozen=True)
class Layer:
    """A matrix product with a weight, plus a bias."""

    name: str  # what the names of its parameters begin with
    relu: bool = False  # whether one follows
    patches: Patches | None = None  # of a convolution


def written_out(network: nn.Module, data: Split, recipe: Recipe) -> list[Layer] | None:
    """The layers of a perceptron that the recipe trains in the plain way, by outputs that fit the loss; else None."""
    shape = tuple(data.inputs.shape[1:])
    layers = None if recipe.mixed_precision or recipe.compile else dense_layers(network, shape, recipe.batch_size)
    if layers and recipe.loss != "cross_entropy":
        with torch.no_grad():
            if network(data.inputs[:1]).shape[1:] != shape:
                return None
    return layers


def dense_layers(network: nn.Module, shape: tuple[int, ...], batch_size: int) -> list[Layer] | None:
    """The layers of a perceptron on inputs (batch_size, *shape); None of any other network.

    A perceptron is a Sequential of Linear and ReLU in turn, or an `Autoencoder`, or a `Network` without a backbone. A
    Flatten may come first, behind small convolutions (`patches_of`) with or without ReLU, and an Unflatten last.
    Nothing has hooks, no layer is there twice, and all are trained; weights and biases are the network's own
    parameters, a name each, so that none is tied to another.
    """
    modules = _in_turn(network, "")
    if modules and type(modules[-1][1]) is nn.Unflatten:
        modules = modules[:-1]
    if not modules or not all(p.requires_grad for p in network.parameters()):
        return None
    found: list[Layer] = []
    for name, module in modules:
        prefix = f"{name}." if name else ""
        if type(module) is nn.Flatten:
            shape = (math.prod(shape),)
        elif type(module) is nn.Linear and shape == (module.in_features,):
            shape = (module.out_features,)
            found.append(Layer(prefix))
        elif isinstance(module, nn.Conv2d) and (read := patches_of(module, shape, batch_size)):
            patches, shape = read
            found.append(Layer(prefix, patches=patches))
        elif type(module) is nn.ReLU and found:
            found[-1] = replace(found[-1], relu=True)
        else:
            return None
    needed = [
        f"{name}.{key}" if name else key
        for name, module in modules
        if isinstance(module, nn.Linear | nn.Conv2d)
        for key in ("weight", "bias")
        if getattr(module, key) is not None
    ]
    named = [name for name, _ in network.named_parameters()]  # which gives what is tied once
    return found if len(shape) == 1 and sorted(needed) == sorted(named) else None


def by_products(
    layers: Sequence[Layer], parameters: Mapping[str, Tensor], inputs: Tensor, wanted: Tensor, loss: str, *, own: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean losses (networks,) of a batch, and their gradients by the stacked ``parameters`` (networks, ...).

    ``own``: the inputs are (networks, samples, ...), else (samples, ...) for all networks, and ``wanted`` likewise.
    Features come before samples here, so that products, sums and the softmax run along what lies side by side in
    memory; autograd would spend more time between the products than in them where networks are small.
    """
    with torch.no_grad():
        values = inputs.flatten(2 if own else 1).transpose(-1, -2)
        target = wanted if loss == "cross_entropy" else values.contiguous()
        samples = values.shape[-1]
        given: list[Tensor] = []  # what each product is given
        outputs: list[Tensor] = []
        for layer in layers:
            weight, bias = parameters[f"{layer.name}weight"], parameters.get(f"{layer.name}bias")
            if layer.patches:
                values = layer.patches.gather(values)
                weight = weight.flatten(2)
            given.append(values)
            values = _forward(weight, bias, values)
            if layer.patches:
                values = values.view(len(weight), -1, samples)
            outputs.append(values.relu_() if layer.relu else values)
        means, slope = slope_of(values, target, loss)
        gradients: dict[str, Tensor] = {}
        for place in range(len(layers) - 1, -1, -1):
            layer, operand = layers[place], given[place]
            weight = parameters[f"{layer.name}weight"]
            if layer.relu:
                slope = torch.ops.aten.threshold_backward(slope, outputs[place], 0)
            if layer.patches:
                slope = slope.reshape(*weight.shape[:2], -1)
            if f"{layer.name}bias" in parameters:
                gradients[f"{layer.name}bias"] = slope.sum(dim=2)
            if operand.ndim == 2:
                by_weight = times(slope.flatten(0, 1), operand)
            else:
                by_weight = torch.bmm(slope, operand.transpose(1, 2))
            gradients[f"{layer.name}weight"] = by_weight.view_as(weight)
            if place and layer.patches:
                slope = layer.patches.spread(torch.bmm(weight.flatten(2).transpose(1, 2), slope))
            elif place:
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
        type(module) in (nn.Linear, nn.ReLU, nn.Conv2d)
        or (type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1))
        or (type(module) is nn.Unflatten and module.dim == 1)
    )
    return [(name, module)] if plain else None
