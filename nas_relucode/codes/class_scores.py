"""The outputs of a network as class scores; one logit per sample stands for two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_relucode.codes.batches import needed_arguments, read_batch, samples_of
from nas_relucode.codes.network_state import run
from nas_relucode.codes.reading import Forward


def class_scores(outputs: Any, samples: int) -> Tensor | None:
    """The outputs of a network as scores, (samples, classes): one logit per sample becomes the scores 0 and itself.

    None if they are something else.

    >>> class_scores(torch.tensor([2.0, -1.0]), 2).argmax(dim=1)
    tensor([1, 0])
    """
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or not outputs.ndim:
        return None
    if len(outputs) != samples or outputs.ndim > 2 or outputs.numel() < samples:
        return None
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return outputs.float()
    logits = outputs.reshape(samples).float()
    return torch.stack([torch.zeros_like(logits), logits], dim=1)


@dataclass(frozen=True)
class TwoClasses:
    """A forward pass of a network with one logit per sample, which returns the scores of its two classes."""

    forward: Forward | None  # the user's; None: the network is called with its inputs

    def __call__(self, network: nn.Module, batch: Any) -> Any:
        parts = read_batch(batch, None if self.forward else needed_arguments(network))
        outputs = run(network, parts.passed, self.forward)
        scores = class_scores(outputs, samples_of(parts.inputs))
        return outputs if scores is None else scores
