"""Recipes: what a training is but for its network, its data, its learning rate and its seed; the losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nas_relucode.errors import InputError, unknown

SCHEDULES = ("constant", "cosine")


class _SigmoidLoss(torch.autograd.Function):
    """max(z, 0) - z x - log max(s, 1 - s), where s is the sigmoid of z, pixel by pixel, and its gradient s - x.

    That is binary_cross_entropy_with_logits without log1p, which torch takes one number at a time: most of the step of
    an autoencoder.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, images: Tensor) -> Tensor:
        share = outputs.sigmoid()
        ctx.save_for_backward(share, images)
        return torch.maximum(share, 1 - share).log_().neg_().add_(outputs.clamp_min(0)).sub_(outputs * images)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        share, images = ctx.saved_tensors
        return (share - images).mul_(slope), None


def sigmoid_loss(outputs: Tensor, images: Tensor) -> Tensor:
    """Pixel by pixel; functional.binary_cross_entropy_with_logits within rounding."""
    found: Tensor = _SigmoidLoss.apply(outputs, images)
    return found


def squared_error(outputs: Tensor, images: Tensor) -> Tensor:
    """Pixel by pixel."""
    return functional.mse_loss(outputs, images, reduction="none")


RECONSTRUCTIONS = {"sigmoid": sigmoid_loss, "mse": squared_error}
LOSSES = ("cross_entropy", *RECONSTRUCTIONS)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a candidate is trained, but for its learning rate and its seed. The defaults are the paper's.

    The losses ``sigmoid`` and ``mse`` compare the outputs with the inputs, which they reconstruct, and need no labels:
    the binary cross-entropy of the outputs' sigmoid, and the squared error, both as means over samples and pixels.
    """

    epochs: int = 20
    batch_size: int = 256
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"  # or "cosine": from the learning rate down to 0 over all steps
    mixed_precision: bool = False  # bfloat16 autocast in the training steps; codes are always taken in float32
    compile: bool = False  # torch.compile of the training step
    loss: str = "cross_entropy"  # or "sigmoid", "mse"

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
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)

    def rate(self, learning_rate: float, step: int, steps: int) -> float:
        """The learning rate of the step numbered from 0, of so many.

        >>> [round(Recipe(schedule="cosine").rate(0.1, step, 4), 6) for step in range(4)]
        [0.1, 0.085355, 0.05, 0.014645]
        """
        if self.schedule == "constant":
            return learning_rate
        return learning_rate * (1 + math.cos(math.pi * step / steps)) / 2


def outputs_of(forward: Callable[[Tensor], Tensor], inputs: Tensor, recipe: Recipe) -> Tensor:
    """The outputs in a training step, in the precision of the recipe; losses are taken in at least float32."""
    if not recipe.mixed_precision:
        return forward(inputs)
    with torch.autocast(inputs.device.type, torch.bfloat16):
        return forward(inputs).float()


def mean_of(outputs: Tensor, wanted: Tensor, loss: str) -> Tensor:
    """The mean loss of a batch; ``wanted`` are its labels, or the images that it reconstructs."""
    _check_shapes(outputs, wanted, loss)
    if loss == "cross_entropy":
        return functional.cross_entropy(outputs, wanted)
    return RECONSTRUCTIONS[loss](outputs, wanted).mean()


def means_of(outputs: Tensor, wanted: Tensor, loss: str) -> Tensor:
    """The mean losses (networks,) of outputs (networks, batch, ...); ``wanted`` may be one batch for all networks."""
    own = wanted.ndim > 1 if loss == "cross_entropy" else wanted.ndim == outputs.ndim
    wanted = wanted if own else wanted.expand(len(outputs), *wanted.shape)
    _check_shapes(outputs[0], wanted[0], loss)
    if loss == "cross_entropy":
        return functional.cross_entropy(outputs.transpose(1, 2), wanted, reduction="none").mean(dim=1)
    return RECONSTRUCTIONS[loss](outputs, wanted).flatten(1).mean(dim=1)


def slope_of(outputs: Tensor, wanted: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """The losses of `means_of` and their gradient by the outputs, which are (networks, features, samples) here.

    ``wanted`` are labels ([networks,] samples) or images ([networks,] features, samples).
    """
    if loss == "cross_entropy":
        wanted = wanted.expand(len(outputs), outputs.shape[2]).unsqueeze(1)
        logarithms = outputs.log_softmax(dim=1)
        means = logarithms.gather(1, wanted).mean(dim=(1, 2)).neg_()
        slope = logarithms.exp_().scatter_add_(1, wanted, outputs.new_full((), -1).expand(wanted.shape))
        return means, slope.div_(outputs.shape[2])
    means = RECONSTRUCTIONS[loss](outputs, wanted.expand_as(outputs)).mean(dim=(1, 2))
    slope = outputs.sigmoid().sub_(wanted) if loss == "sigmoid" else (outputs - wanted).mul_(2)
    return means, slope.div_(outputs[0].numel())


def mean_loss(losses: Tensor, samples: int, batch_size: int) -> Tensor:
    """The mean over the samples of the batches' mean losses (batches, ...), of which the last batch may be short."""
    last = samples - (len(losses) - 1) * batch_size
    values = losses.cpu().double()
    return (values[:-1].sum(dim=0) * batch_size + values[-1] * last) / samples


def _check_shapes(outputs: Tensor, wanted: Tensor, loss: str) -> None:
    if loss != "cross_entropy" and outputs.shape != wanted.shape:
        raise InputError(
            f"the loss {loss} compares outputs with inputs, but a batch has outputs of shape {tuple(outputs.shape)} "
            f"and inputs of shape {tuple(wanted.shape)}. Give a network that reconstructs its inputs."
        )
