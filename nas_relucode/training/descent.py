"""Gradient descent with momentum and weight decay: the steps of torch.optim.SGD with fewer words a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nas_relucode.errors import InputError


class Descent:
    """Plain gradient descent on ``weights`` in place; small networks spend more time in an optimizer than in numbers.

    ``rate`` may be a tensor (networks,) for weights that are stacked (networks, ...): a learning rate for each network.
    """

    def __init__(
        self, weights: Sequence[Tensor], rate: float | Tensor, *, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        self.weights = list(weights)
        if not self.weights:
            raise InputError("the network has nothing to train. Give one with parameters that require gradients.")
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocities = [torch.zeros_like(values) for values in self.weights] if momentum else []
        self.rate = rate if isinstance(rate, float) else 1.0
        self.rates = [] if isinstance(rate, float) else [_beside(rate, values) for values in self.weights]

    def step(self, found: Sequence[Tensor | None], factor: float = 1.0) -> None:
        """One step down the gradients (None: no part); ``factor`` is what a schedule makes of the rate."""
        used = [place for place, gradient in enumerate(found) if gradient is not None]
        gradients, weights = [found[place] for place in used], [self.weights[place] for place in used]
        with torch.no_grad():
            if self.weight_decay:
                gradients = torch._foreach_add(gradients, weights, alpha=self.weight_decay)
            if self.momentum:
                velocities = [self.velocities[place] for place in used]
                torch._foreach_mul_(velocities, self.momentum)
                torch._foreach_add_(velocities, gradients)
                gradients = velocities
            if self.rates:
                for values, gradient, place in zip(weights, gradients, used, strict=True):
                    values.addcmul_(gradient, self.rates[place], value=-factor)
            else:
                torch._foreach_add_(weights, gradients, alpha=-factor * self.rate)


def _beside(rate: Tensor, values: Tensor) -> Tensor:
    return rate.to(values).view(-1, *[1] * (values.ndim - 1))
