"""Accuracy of a network whose weights are pruned or rounded; biases and all other parameters stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError
from nas_relucode.qualities.quality import PerSample, Quality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_relucode.codes.reading import Forward
    from nas_relucode.qualities.samples import Batch


def pruned_accuracy(
    network: nn.Module, data: Any, *, shares: float | Iterable[float] = (0.6,), forward: Forward | None = None
) -> PerSample:
    """Accuracy after the smallest ``shares`` of the weights of each layer are set to 0, the mean over shares.

    Weights are parameters of two or more dimensions; they are pruned by absolute value on a copy of the network
    (`torch.nn.utils.prune`), and nothing is trained afterwards. ``data`` are samples with labels.
    """
    from torch.nn.utils.prune import L1Unstructured

    from nas_relucode.qualities.samples import strengths

    def pruned(weights: Tensor, share: float) -> Tensor:
        import torch

        in_order = weights.contiguous()  # which torch's pruning needs
        return weights * L1Unstructured(share).compute_mask(in_order, torch.ones_like(in_order))

    return _accuracy(network, data, pruned, strengths("shares", shares, most=0.999), forward)


def rounded_accuracy(
    network: nn.Module, data: Any, *, bits: int | Iterable[int] = (4,), forward: Forward | None = None
) -> PerSample:
    """Accuracy after all weights are rounded to ``bits`` bits, the mean over numbers of bits.

    Weights are parameters of two or more dimensions. In a copy of the network, those of each tensor are rounded to
    ``2 ** bits - 1`` values from minus the largest absolute value to it, equally far apart; activations stay as they
    are. ``data`` are samples with labels.
    """
    from nas_relucode.qualities.samples import strengths

    def rounded(weights: Tensor, number: float) -> Tensor:
        most = 2 ** (int(number) - 1) - 1
        step = weights.abs().amax().clamp_min(1e-30) / most
        return (weights / step).round() * step

    return _accuracy(network, data, rounded, strengths("bits", bits, least=2, most=24, whole=True), forward)


def _accuracy(
    network: nn.Module,
    data: Any,
    change: Callable[[Tensor, float], Tensor],
    strengths: tuple[float, ...],
    forward: Forward | None,
) -> PerSample:
    import numpy as np
    import torch

    from nas_relucode.codes.relus import unwrapped
    from nas_relucode.qualities.samples import over_batches

    changed = [_changed(unwrapped(network), change, strength) for strength in strengths]

    def correct(batch: Batch) -> Tensor:
        outcomes = [replace(batch, network=other).correct(batch.inputs) for other in changed]
        return torch.stack(outcomes).float().mean(dim=0)

    return PerSample(np.mean, over_batches(network, data, correct, forward=forward))


def _changed(network: nn.Module, change: Callable[[Tensor, float], Tensor], strength: float) -> nn.Module:
    """A copy of the network in evaluation mode whose weights are changed."""
    import torch

    changed = copy.deepcopy(network).eval()
    weights = [parameter for parameter in changed.parameters() if parameter.ndim >= 2]
    if not weights:
        raise InputError("the network has no weights (parameters of two or more dimensions) to prune or to round.")
    with torch.no_grad():
        for parameter in weights:
            parameter.copy_(change(parameter, strength))
    return changed


QUALITIES = (
    Quality(
        "pruned_accuracy",
        "share",
        "maximize",
        "Accuracy after the smallest 60 % of each layer's weights are set to 0.",
        pruned_accuracy,
        needs_labels=True,
        held_out=True,
    ),
    Quality(
        "rounded_accuracy",
        "share",
        "maximize",
        "Accuracy after the weights are rounded to 4 bits.",
        rounded_accuracy,
        needs_labels=True,
        held_out=True,
    ),
)
