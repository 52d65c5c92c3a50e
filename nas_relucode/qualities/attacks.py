"""Accuracy under attack: the worst change of every pixel by at most epsilon that one or several gradients show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError, seed_number, whole_number
from nas_relucode.qualities.quality import PerSample, Quality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_relucode.codes.reading import Forward
    from nas_relucode.qualities.samples import Batch, PixelRange, Pixels


def fgsm_accuracy(
    network: nn.Module,
    data: Any,
    *,
    epsilons: float | Iterable[float] = (0.05, 0.1),
    pixel_range: PixelRange = (0.0, 1.0),
    forward: Forward | None = None,
) -> PerSample:
    """Accuracy under the fast gradient sign method, the mean over ``epsilons``, fractions of the pixel range.

    Every pixel moves by epsilon along the sign of the cross entropy's gradient, within the pixel range (Goodfellow et
    al. 2015, arXiv:1412.6572). A sample counts if it is classified correctly before and after: the value is never
    above the accuracy. ``data`` are images with labels.
    """
    from nas_relucode.qualities.samples import changed_accuracy, strengths

    radii = strengths("epsilons", epsilons)

    def attacked(batch: Batch, pixels: Pixels) -> Iterator[Tensor]:
        step = pixels.span * _gradient(batch, pixels.images).sign()
        for epsilon in radii:
            yield pixels.clipped(pixels.images + epsilon * step)

    return changed_accuracy(network, data, attacked, pixel_range, forward=forward, unchanged_too=True)


def pgd_accuracy(
    network: nn.Module,
    data: Any,
    *,
    epsilons: float | Iterable[float] = (0.05, 0.1),
    steps: int = 10,
    step_size: float | None = None,
    random_start: bool = True,
    pixel_range: PixelRange = (0.0, 1.0),
    seed: int = 0,
    forward: Forward | None = None,
) -> PerSample:
    """Accuracy under projected gradient descent in the maximum norm (Madry et al. 2018, arXiv:1706.06083).

    The mean over ``epsilons``, fractions of the pixel range. With ``random_start`` the first point is drawn.

    From a random point at most epsilon away, or from the image itself, ``steps`` steps along the sign of the cross
    entropy's gradient, each projected to within epsilon and to the pixel range. ``step_size`` is a fraction of epsilon,
    2.5 / steps by default. Otherwise as `fgsm_accuracy`.
    """
    import torch

    from nas_relucode.qualities.samples import changed_accuracy, strengths

    radii = strengths("epsilons", epsilons)
    steps = whole_number("steps", steps, least=1)
    (share,) = strengths("step_size", 2.5 / steps if step_size is None else step_size)
    generator = torch.Generator().manual_seed(seed_number(seed))

    def attacked(batch: Batch, pixels: Pixels) -> Iterator[Tensor]:
        for radius in (epsilon * pixels.span for epsilon in radii):
            start = pixels.images
            if random_start:
                uniform = torch.rand(start.shape, generator=generator).to(start)
                start = pixels.clipped(start + radius * (2 * uniform - 1))
            yield _descended(batch, pixels, start, radius, share * radius, steps)

    return changed_accuracy(network, data, attacked, pixel_range, forward=forward, unchanged_too=True)


def _descended(batch: Batch, pixels: Pixels, images: Tensor, radius: Tensor, step: Tensor, steps: int) -> Tensor:
    """Where ``steps`` steps along the gradient's signs lead from ``images``, at most ``radius`` from the pixels."""
    import torch

    low, high = (pixels.clipped(pixels.images + sign * radius) for sign in (-1, 1))
    for _ in range(steps):
        images = torch.minimum(torch.maximum(images + step * _gradient(batch, images).sign(), low), high)
    return images


def _gradient(batch: Batch, images: Tensor) -> Tensor:
    """A gradient at the images whose signs are those of the cross entropy's.

    It is that of z, the logarithm of the summed exponentials of the other classes' scores less the score of the label.
    The cross entropy, log(1 + exp(z)), grows with z, but is flat in floating point where a sample is confident.
    """
    import torch

    variable = images.detach().requires_grad_()
    with torch.enable_grad():
        scores = batch.scores(variable)
        if not scores.requires_grad:
            raise InputError("the outputs have no gradient with regard to the images. Attacks need one.")
        is_label = torch.nn.functional.one_hot(batch.labels, scores.shape[1]).bool()
        z = scores.masked_fill(is_label, -torch.inf).logsumexp(dim=1) - scores[is_label]
        (gradient,) = torch.autograd.grad(z.sum(), variable)
    return gradient


QUALITIES = (
    Quality(
        "fgsm_accuracy",
        "share",
        "maximize",
        "Accuracy after one gradient step of 0.05 and 0.1 of the pixel range in each pixel (FGSM).",
        fgsm_accuracy,
        needs_labels=True,
        held_out=True,
    ),
    Quality(
        "pgd_accuracy",
        "share",
        "maximize",
        "Accuracy after ten gradient steps that end within 0.05 and 0.1 of the pixel range in each pixel (PGD).",
        pgd_accuracy,
        needs_labels=True,
        held_out=True,
    ),
)
