"""Accuracy on images that are rotated, moved or blurred."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError
from nas_relucode.qualities.quality import PerSample, Quality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_relucode.codes.reading import Forward
    from nas_relucode.qualities.samples import Batch, PixelRange, Pixels


def rotation_accuracy(
    network: nn.Module,
    data: Any,
    *,
    degrees: float | Iterable[float] = (20.0,),
    pixel_range: PixelRange = (0.0, 1.0),
    forward: Forward | None = None,
) -> PerSample:
    """Accuracy on rotated images, the mean over ``degrees`` and both ways; bilinear, black outside of the image.

    ``data`` are images (samples, channels, height, width) with labels.
    """
    from nas_relucode.qualities.samples import changed_accuracy, strengths

    angles = strengths("degrees", degrees, most=180)

    def rotated(batch: Batch, pixels: Pixels) -> Iterator[Tensor]:
        from torchvision.transforms.functional import InterpolationMode, rotate

        for angle in angles:
            for signed in (angle, -angle):
                yield rotate(pixels.images, signed, InterpolationMode.BILINEAR, fill=_black(pixels))

    return changed_accuracy(network, data, rotated, pixel_range, forward=forward, images=True)


def translation_accuracy(
    network: nn.Module,
    data: Any,
    *,
    pixels: int | Iterable[int] = (2,),
    pixel_range: PixelRange = (0.0, 1.0),
    forward: Forward | None = None,
) -> PerSample:
    """Accuracy on images moved by whole pixels, the mean over ``pixels`` and four directions; black comes in.

    ``data`` are images (samples, channels, height, width) with labels.
    """
    from nas_relucode.qualities.samples import changed_accuracy, strengths

    lengths = strengths("pixels", pixels, whole=True)

    def moved(batch: Batch, images: Pixels) -> Iterator[Tensor]:
        from torchvision.transforms.functional import affine

        for length in map(int, lengths):
            for step in ([-length, 0], [length, 0], [0, -length], [0, length]):
                yield affine(images.images, 0.0, step, 1.0, [0.0, 0.0], fill=_black(images))

    return changed_accuracy(network, data, moved, pixel_range, forward=forward, images=True)


def blur_accuracy(
    network: nn.Module,
    data: Any,
    *,
    sigmas: float | Iterable[float] = (1.0,),
    pixel_range: PixelRange = (0.0, 1.0),
    forward: Forward | None = None,
) -> PerSample:
    """Accuracy on images under Gaussian blur, the mean over ``sigmas``, its standard deviations in pixels.

    ``data`` are images (samples, channels, height, width) with labels.
    """
    from nas_relucode.qualities.samples import changed_accuracy, strengths

    deviations = strengths("sigmas", sigmas, least=0.01)

    def blurred(batch: Batch, pixels: Pixels) -> Iterator[Tensor]:
        from torchvision.transforms.functional import gaussian_blur

        for sigma in deviations:
            reach = math.ceil(3 * sigma)
            if reach >= min(pixels.images.shape[2:]):
                raise InputError(
                    f"sigma {sigma:g} is too large for images {tuple(pixels.images.shape[2:])}. Give less."
                )
            yield gaussian_blur(pixels.images, [2 * reach + 1] * 2, [sigma] * 2)

    return changed_accuracy(network, data, blurred, pixel_range, forward=forward, images=True)


def _black(pixels: Pixels) -> list[float]:
    return [float(value) for value in pixels.low.expand(1, pixels.images.shape[1], 1, 1).flatten()]


QUALITIES = (
    Quality(
        "rotation_accuracy",
        "share",
        "maximize",
        "Accuracy on images rotated by 20 degrees to the left and to the right.",
        rotation_accuracy,
        needs_labels=True,
        needs_images=True,
        held_out=True,
    ),
    Quality(
        "translation_accuracy",
        "share",
        "maximize",
        "Accuracy on images moved by 2 pixels left, right, up and down.",
        translation_accuracy,
        needs_labels=True,
        needs_images=True,
        held_out=True,
    ),
    Quality(
        "blur_accuracy",
        "share",
        "maximize",
        "Accuracy on images under Gaussian blur with a standard deviation of one pixel.",
        blur_accuracy,
        needs_labels=True,
        needs_images=True,
        held_out=True,
    ),
)
