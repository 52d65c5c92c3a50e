"""Accuracy on images with Gaussian noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import seed_number
from nas_relucode.qualities.quality import PerSample, Quality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_relucode.codes.reading import Forward
    from nas_relucode.qualities.samples import Batch, PixelRange, Pixels


def noise_accuracy(
    network: nn.Module,
    data: Any,
    *,
    deviations: float | Iterable[float] = (0.1, 0.2, 0.3),
    pixel_range: PixelRange = (0.0, 1.0),
    seed: int = 0,
    forward: Forward | None = None,
) -> PerSample:
    """Accuracy under Gaussian noise, the mean over ``deviations``, fractions of the pixel range.

    Noisy pixels are clipped to the range. ``data`` are images with labels; ``seed`` draws the noise, the same for every
    network.
    """
    import torch

    from nas_relucode.qualities.samples import changed_accuracy, strengths

    sigmas = strengths("deviations", deviations)
    generator = torch.Generator().manual_seed(seed_number(seed))

    def noisy(batch: Batch, pixels: Pixels) -> Iterator[Tensor]:
        for sigma in sigmas:
            noise = torch.randn(pixels.images.shape, generator=generator).to(pixels.images)
            yield pixels.clipped(pixels.images + sigma * pixels.span * noise)

    return changed_accuracy(network, data, noisy, pixel_range, forward=forward)


QUALITIES = (
    Quality(
        "noise_accuracy",
        "share",
        "maximize",
        "Accuracy under Gaussian noise of 0.1, 0.2 and 0.3 of the pixel range.",
        noise_accuracy,
        needs_labels=True,
        held_out=True,
    ),
)
