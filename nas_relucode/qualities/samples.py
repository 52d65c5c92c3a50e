"""The samples of a quality, batch by batch, and a network's class scores on them or on changed copies of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes.batches import Parts, batches, needed_arguments, read_batch, samples_of
from nas_relucode.codes.class_scores import class_scores
from nas_relucode.codes.network_state import run, untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.codes.relus import unwrapped
from nas_relucode.errors import InputError, NonFiniteError, a_type
from nas_relucode.qualities.quality import PerSample

BATCH_SIZE = 256  # samples of a forward pass, unless the data are batches already
TOLERANCE = 1e-3  # of the pixel range, by which pixels may lie outside of it: resizing rounds

PixelRange = tuple[float | Sequence[float], float | Sequence[float]]


@dataclass(frozen=True)
class Batch:
    """Some samples on the network's device, and the network."""

    network: nn.Module
    parts: Parts
    labels: Tensor | None  # int64, (samples,)
    forward: Forward | None

    @property
    def inputs(self) -> Any:
        return self.parts.inputs

    def scores(self, inputs: Any) -> Tensor:
        """Class scores of other inputs with the labels of these: (samples, classes), finite."""
        outputs = run(self.network, self.parts.with_inputs(inputs), self.forward)
        scores = class_scores(outputs, samples_of(self.inputs))
        if scores is None:
            shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise InputError(
                f"the network returns {shape}, not class scores (samples, classes) nor one logit per sample. "
                "Give forward=, a function of the network and a batch that returns them."
            )
        if not bool(torch.isfinite(scores).all()):
            raise NonFiniteError("the network's outputs are not finite. Check the weights and the inputs.")
        return scores

    def correct(self, inputs: Any) -> Tensor:
        """Which of these inputs are classified as the labels say: bool, (samples,)."""
        return self.right(self.scores(inputs))

    def right(self, scores: Tensor) -> Tensor:
        """Which of these scores are largest at the label: bool, (samples,)."""
        labels = self.labels
        assert labels is not None
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
            raise InputError(
                f"labels lie in {int(labels.min())}..{int(labels.max())}, but the network has scores for "
                f"{scores.shape[1]} classes. Give labels in 0..{scores.shape[1] - 1}."
            )
        return scores.argmax(dim=1) == labels


@dataclass(frozen=True)
class Pixels:
    """Images, and the values of a black and of a white pixel, which broadcast with them."""

    images: Tensor  # floats, (samples, ...)
    low: Tensor
    high: Tensor

    @property
    def span(self) -> Tensor:
        """The length of the pixel range."""
        return self.high - self.low

    def clipped(self, images: Tensor) -> Tensor:
        """The images with every pixel in the range."""
        return torch.minimum(torch.maximum(images, self.low), self.high)


def over_batches(
    network: nn.Module,
    data: Any,
    measured: Callable[[Batch], Tensor],
    *,
    forward: Forward | None = None,
    labelled: bool = True,
) -> np.ndarray:
    """What ``measured`` returns of each sample, (samples, ...), in float64; the network is left as it was.

    Raises InputError where there are no samples, where they have no labels though they are to be ``labelled``, and
    where a label has no class score.
    """
    network = unwrapped(network)
    borrowed = untouched(network)
    needed = None if forward else needed_arguments(network)
    results = []
    for batch in batches(data, BATCH_SIZE):
        parts = read_batch(batch, needed)
        if parts.labels is None and labelled:
            raise InputError(
                f"accuracy needs labels, and the samples ({a_type(batch)}) have none. "
                "Give (inputs, labels), labels as whole numbers, or a DataLoader of such pairs."
            )
        with borrowed:
            parts = parts.moved(borrowed.device, borrowed.floats)
            labels = None if parts.labels is None else torch.from_numpy(parts.labels).to(borrowed.device)
            results.append(measured(Batch(network, parts, labels, forward)).double().cpu().numpy())
    if not sum(map(len, results)):
        raise InputError("there are no samples to measure the quality on. Give at least one.")
    return np.concatenate(results)


def pixels_of(inputs: Any, pixel_range: PixelRange, *, images: bool = False) -> Pixels:
    """The inputs as pixels in a range; ``images`` says whether they must be (samples, channels, height, width)."""
    tensor = isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim >= 2
    if not tensor or (images and inputs.ndim != 4):
        shape = f"{inputs.dtype} {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
        needed = "(samples, channels, height, width)" if images else "(samples, ...)"
        raise InputError(f"the inputs are {shape}. This quality changes images: one tensor of floats, {needed}.")
    check_pixel_range(pixel_range)
    low, high = (_bound(bound, inputs) for bound in pixel_range)
    if not bool((low < high).all()):
        raise InputError(f"pixel range {pixel_range} is empty. Give the values of a black and of a white pixel.")
    slack = TOLERANCE * (high - low)
    if not bool(((inputs >= low - slack) & (inputs <= high + slack)).all()):
        raise InputError(
            f"pixels from {inputs.min():.3g} to {inputs.max():.3g} are not in the pixel range {pixel_range}. "
            "Give pixel_range=(black, white), the values of such pixels, numbers or one per channel."
        )
    return Pixels(inputs, low, high)


def check_pixel_range(pixel_range: Any) -> None:
    """Raises InputError unless it is a pair of finite numbers, or of one number per channel each."""
    try:
        bounds = [np.asarray(bound, float) for bound in (() if isinstance(pixel_range, str) else pixel_range)]
    except (TypeError, ValueError):
        bounds = []
    if len(bounds) != 2 or any(bound.ndim > 1 or not np.isfinite(bound).all() for bound in bounds):
        raise InputError(
            f"pixel_range is {pixel_range!r:.80}. Give (black, white), the values of such pixels, numbers or one per "
            "channel."
        )


def _bound(bound: float | Sequence[float], inputs: Tensor) -> Tensor:
    values = torch.as_tensor(bound, dtype=inputs.dtype, device=inputs.device).reshape(-1)
    if len(values) not in (1, inputs.shape[1]):
        raise InputError(
            f"the pixel range has {len(values)} channels and the images have {inputs.shape[1]}. "
            "Give numbers, or one per channel."
        )
    return values.reshape(1, -1, *[1] * (inputs.ndim - 2))


def changed_accuracy(
    network: nn.Module,
    data: Any,
    versions: Callable[[Batch, Pixels], Iterator[Tensor]],
    pixel_range: PixelRange,
    *,
    forward: Forward | None = None,
    images: bool = False,
    unchanged_too: bool = False,
) -> PerSample:
    """How often each sample is classified correctly among the changed ``versions`` of it; the mean is the accuracy.

    ``unchanged_too``: a version counts only if the sample itself is classified correctly as well.
    """

    def correct(batch: Batch) -> Tensor:
        pixels = pixels_of(batch.inputs, pixel_range, images=images)
        # Before the first version: a label without a score is an error, which an attack would meet first.
        before = batch.correct(pixels.images) if unchanged_too else True
        outcomes = torch.stack([batch.correct(version) for version in versions(batch, pixels)])
        return (outcomes & before).float().mean(dim=0)

    return PerSample(np.mean, over_batches(network, data, correct, forward=forward))


def strengths(
    name: str, values: float | Iterable[float], *, least: float = 0, most: float = math.inf, whole: bool = False
) -> tuple[float, ...]:
    """The strengths of a change as a tuple; InputError unless there are some, all numbers from ``least`` to ``most``.

    >>> strengths("sigma", 0.5)
    (0.5,)
    """
    given: Any = values
    several = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    numbers = all(isinstance(value, int | float | np.number) for value in several)
    fit = numbers and all(
        least <= value <= most and math.isfinite(value) and not (whole and value % 1) for value in several
    )
    if not several or not fit:
        number = "a whole number" if whole else "a number"
        raise InputError(f"{name} is {values!r}. Give {number}, or several, from {least:g} to {most:g}.")
    return several
