"""Whether the confidence of a network, its largest softmax probability, tells what it knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_relucode.errors import finite_number, seed_number, unknown, whole_number
from nas_relucode.qualities.quality import PerSample, Quality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_relucode.codes.reading import Forward
    from nas_relucode.qualities.samples import Batch, PixelRange


def calibration_error(network: nn.Module, data: Any, *, bins: int = 15, forward: Forward | None = None) -> PerSample:
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599); 0 is best.

    Samples with labels are put into ``bins`` of equal width by their confidence; the error is the mean distance between
    confidence and accuracy of a bin, by samples. It is not a mean over samples, and is larger on few of them.
    """
    bins = whole_number("bins", bins, least=1)
    confidence, correct = _confidence_and_correct(network, data, forward)
    return PerSample(partial(_calibration_error, bins=bins), confidence, correct)


def _calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int) -> float:
    number = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(number, confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def confident_accuracy(
    network: nn.Module, data: Any, *, share: float = 0.8, forward: Forward | None = None
) -> PerSample:
    """Accuracy on the ``share`` of the samples whose confidence is largest: the network may leave the others to us.

    Samples that tie at the limit count by their mean. ``data`` are samples with labels.
    """
    share = finite_number("share", share, most=1, above=True)
    confidence, correct = _confidence_and_correct(network, data, forward)
    return PerSample(partial(_confident_accuracy, share=share), confidence, correct)


def _confident_accuracy(confidence: np.ndarray, correct: np.ndarray, *, share: float) -> float:
    samples = max(1, round(share * len(confidence)))
    limit = np.sort(confidence)[-samples]
    above, tied = correct[confidence > limit], correct[confidence == limit]
    return float((above.sum() + (samples - len(above)) * tied.mean()) / samples)


def ood_auroc(
    network: nn.Module,
    data: Any,
    *,
    others: Any = None,
    detector: str = "probability",
    pixel_range: PixelRange = (0.0, 1.0),
    seed: int = 0,
    forward: Forward | None = None,
) -> PerSample:
    """How well a detector separates the samples from ``others``: the area under the ROC curve, 1 is best, 0.5 chance.

    That is the share of pairs of a sample and another in which the detector's value is larger for the sample.
    ``detector`` is ``probability``, the largest softmax probability (Hendrycks and Gimpel 2017, arXiv:1610.02136);
    ``logit``, the largest class score (Hendrycks et al. 2022, arXiv:1911.11132); ``energy``, the log of the sum of the
    exponentials of the class scores (Liu et al. 2020, arXiv:2010.03759); or ``entropy``, minus the entropy of the
    softmax probabilities. ``others`` are samples of the same shape from elsewhere; by default uniform noise in the
    pixel range, which ``seed`` draws. As many are used of each as there are of both. Labels are not needed. It is no
    mean over samples.
    """
    from nas_relucode.qualities.samples import over_batches

    if detector not in DETECTORS:
        raise unknown("detector", detector, DETECTORS)

    def value(batch: Batch, inputs: Any = None) -> Tensor:
        return DETECTORS[detector](batch.scores(batch.inputs if inputs is None else inputs).double())

    inside = over_batches(network, data, value, forward=forward, labelled=False)
    if others is None:
        measured = _on_noise(value, pixel_range, seed)
        outside = over_batches(network, data, measured, forward=forward, labelled=False)
    else:
        outside = over_batches(network, others, value, forward=forward, labelled=False)
    samples = min(len(inside), len(outside))
    return PerSample(_auroc, inside[:samples], outside[:samples])


def _auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    from scipy.stats import mannwhitneyu

    pairs = mannwhitneyu(inside, outside, method="asymptotic").statistic  # that are in order; ties count half
    return float(pairs / (len(inside) * len(outside)))


def _largest_probability(scores: Tensor) -> Tensor:
    return scores.double().softmax(dim=1).amax(dim=1)  # float32 rounds high ones to 1, where all would tie


def _negative_entropy(scores: Tensor) -> Tensor:
    logarithms = scores.log_softmax(dim=1)
    return (logarithms.exp() * logarithms).sum(dim=1)


DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {  # class scores (samples, classes) -> larger for what is known
    "probability": _largest_probability,
    "logit": lambda scores: scores.amax(dim=1),
    "energy": lambda scores: scores.logsumexp(dim=1),
    "entropy": _negative_entropy,
}


def _on_noise(value: Callable[[Batch, Any], Tensor], pixel_range: PixelRange, seed: int) -> Any:
    import torch

    from nas_relucode.qualities.samples import pixels_of

    generator = torch.Generator().manual_seed(seed_number(seed))

    def measured(batch: Batch) -> Tensor:
        pixels = pixels_of(batch.inputs, pixel_range)
        uniform = torch.rand(pixels.images.shape, generator=generator).to(pixels.images)
        return value(batch, pixels.low + pixels.span * uniform)

    return measured


def _confidence_and_correct(network: nn.Module, data: Any, forward: Forward | None) -> tuple[np.ndarray, np.ndarray]:
    import torch

    from nas_relucode.qualities.samples import over_batches

    def measured(batch: Batch) -> Tensor:
        scores = batch.scores(batch.inputs)
        return torch.stack([_largest_probability(scores), batch.right(scores)], dim=1)

    confidence, correct = over_batches(network, data, measured, forward=forward).T
    return confidence, correct


STATISTICS: dict[str, Callable[..., float]] = {  # of the columns of those qualities that are not means over samples
    "calibration_error": partial(_calibration_error, bins=15),
    "confident_accuracy": partial(_confident_accuracy, share=0.8),
    "ood_auroc": _auroc,
}

QUALITIES = (
    Quality(
        "calibration_error",
        "share",
        "minimize",
        "Expected calibration error: distance between confidence and accuracy, in 15 bins.",
        calibration_error,
        needs_labels=True,
        held_out=True,
    ),
    Quality(
        "confident_accuracy",
        "share",
        "maximize",
        "Accuracy on the 80 % of the samples whose confidence is largest.",
        confident_accuracy,
        needs_labels=True,
        held_out=True,
    ),
    Quality(
        "ood_auroc",
        "share",
        "maximize",
        "Area under the ROC curve that separates the samples from uniform noise by confidence.",
        ood_auroc,
        held_out=True,
    ),
)
