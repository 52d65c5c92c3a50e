"""The losses of a recipe: of a batch, and over an epoch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from nas_relucode.errors import InputError

LOSSES: dict[str, Callable[..., Tensor]] = {  # of `recipe.LOSSES`
    "cross_entropy": functional.cross_entropy,
    "sigmoid": functional.binary_cross_entropy_with_logits,
    "mse": functional.mse_loss,
}


def batch_loss(outputs: Tensor, targets: Tensor, loss: str) -> Tensor:
    """The mean loss of one batch; ``targets`` are its labels, or the images that the network reconstructs."""
    check_shapes(outputs.shape, targets.shape, loss)
    try:
        return LOSSES[loss](outputs, targets)
    except IndexError as error:  # as torch raises on a CPU; a GPU gives up the process
        raise InputError(
            f"labels go from {int(targets.min())} to {int(targets.max())}, but the network has outputs of shape "
            f"{tuple(outputs.shape)}. Give labels from 0 to the number of classes - 1."
        ) from error


def epoch_loss(batch_losses: Tensor, samples: int, batch_size: int) -> Tensor:
    """The mean over the samples, from the mean losses (batches, ...) of batches of which the last may be short.

    >>> float(epoch_loss(torch.tensor([1.0, 4.0]), samples=3, batch_size=2))
    2.0
    """
    last = samples - (len(batch_losses) - 1) * batch_size
    values = batch_losses.cpu().double()
    return (values[:-1].sum(dim=0) * batch_size + values[-1] * last) / samples


def check_shapes(outputs: torch.Size, targets: torch.Size, loss: str) -> None:
    """Raises InputError where a reconstruction has another shape than its inputs."""
    if loss != "cross_entropy" and outputs != targets:
        raise InputError(
            f"the loss {loss} compares outputs with inputs, but a batch has outputs of shape {tuple(outputs)} "
            f"and inputs of shape {tuple(targets)}. Give a network that reconstructs its inputs."
        )
