"""What a record keeps of a trained network: its accuracies, which samples it classifies correctly, indices, costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes.batches import batches, in_words, needed_arguments, read_batch, samples_of
from nas_relucode.codes.capturing import capture
from nas_relucode.codes.class_scores import TwoClasses, class_scores
from nas_relucode.codes.network_state import device_of, run, untouched
from nas_relucode.codes.reading import Forward, Reading
from nas_relucode.codes.relus import unwrapped
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.indices.registry import Indices
from nas_relucode.qualities.quality import Quality
from nas_relucode.qualities.registry import measure
from nas_relucode.qualities.samples import PixelRange
from nas_relucode.scoring.scores import Score, score
from nas_relucode.study.predictions import kept_predictions
from nas_relucode.study.samples import BATCH_SIZE, OrderedSamples, ordered_samples, readable
from nas_relucode.training.data import ImageData
from nas_relucode.training.losses import batch_loss

ONLY_MAPS = (
    "the network has no fully connected layer with ReLU, so the codes are those of all layers. In the maps of "
    "convolutions nearly each sample has a cell of its own, and indices saturate. Name the layers to read, layers=..., "
    "or count a channel as one neuron, maps='channel'."
)
FEW = 2  # samples that show which layers there are


@dataclass(frozen=True, eq=False)
class Splits:
    """The samples that networks of one study are measured on, each in one order."""

    train: Any | None  # what functions that read codes take; labels are optional
    validation: OrderedSamples
    test: OrderedSamples | None

    @classmethod
    def of(cls, *, train: Any = None, validation: Any, test: Any = None, labelled: bool = True) -> Splits:
        """From tensors, arrays, (inputs, labels), Split, Dataset, DataLoader or an iterable of batches for each.

        The random state of torch is left as it was. Raises InputError for validation or test samples that are empty,
        that have no labels though they are to be ``labelled``, or that come in another order in each pass.
        """
        with torch.random.fork_rng(devices=[]):
            return cls(
                None if train is None else readable(train, "train"),
                ordered_samples(validation, "validation", labelled=labelled),
                None if test is None else ordered_samples(test, "test", labelled=labelled),
            )

    @classmethod
    def of_images(cls, data: ImageData, *, labelled: bool = True) -> Splits:
        """From the splits of a data set; an empty test split is left out."""
        test = data.test if len(data.test) else None
        return cls.of(train=data.train, validation=data.validation, test=test, labelled=labelled)

    @property
    def other_name(self) -> dict[str, str]:
        """What a record keeps of the name of the validation samples if they are those of another split."""
        return {} if self.validation.split == "validation" else {"split": self.validation.split}

    def sample(self, split: str) -> Any:
        """The samples of ``train`` or ``validation`` as functions that read codes take them."""
        return self.train if split == "train" else self.validation.data


def measure_network(
    network: nn.Module,
    splits: Splits,
    *,
    indices: Indices = None,
    qualities: Iterable[str | Quality] = ("parameters",),
    pixel_range: PixelRange | None = None,
    split: str = "train",
    reading: Reading | None = None,
    forward: Forward | None = None,
    loss: str = "cross_entropy",
    accuracy: float | None = None,
    test_accuracy: float | None = None,
) -> dict[str, Any]:
    """The part of a record that is read off a trained network (see `study.record`), as plain values.

    Accuracy, loss and which samples are classified correctly come from one pass over the validation samples, and one
    over the test samples; codes of ``split``, ``"train"`` or ``"validation"``, are read by ``reading`` for the
    ``indices`` (see `score`). ``qualities`` are measured on the validation samples, so that networks may be ranked by
    them, in ``pixel_range`` (see `measure`). The outputs are rows of class scores, or one logit per sample for two
    classes. The loss is the cross entropy, or that of a reconstruction, ``"sigmoid"`` or ``"mse"``, which has no
    accuracy.

    ``accuracy`` and ``test_accuracy`` are the user's own: they replace those measured here, and which samples are
    correct is then kept only if it agrees with them. Raises NonFiniteError if outputs or activations are not finite.
    """
    reading = reading or Reading()
    with torch.random.fork_rng(devices=[]):  # data sets may draw random numbers
        validation = _evaluate_ordered(network, splits.validation, forward, loss)
        test = None if splits.test is None else _evaluate_ordered(network, splits.test, forward, loss)
        if loss == "cross_entropy" and validation.classes is None and accuracy is None:
            raise InputError(
                f"{type(network).__name__} returns {validation.outputs}, but accuracy is measured by class scores "
                "(samples, classes), or one logit per sample for two classes. Give forward=, a function of the network "
                "and a batch that returns them, or accuracy=, your own."
            )
        scored = _score(network, splits, indices, split, reading, forward, validation.one_logit)
        train_accuracy = scored.accuracy if split == "train" else None
        if split != "train" and splits.train is not None and loss == "cross_entropy":
            train_accuracy = _evaluate(network, splits.train, forward, loss).accuracy
    return {
        "accuracy": validation.accuracy if accuracy is None else accuracy,
        "validation_loss": validation.loss,
        "train_accuracy": train_accuracy if loss == "cross_entropy" else None,
        "test_accuracy": (None if test is None else test.accuracy) if test_accuracy is None else test_accuracy,
        "validation": validation.kept(splits.validation, accuracy) | splits.other_name,
        "test": None if splits.test is None or test is None else test.kept(splits.test, test_accuracy),
        "classes": validation.classes,
        "qualities": measure(network, splits.validation.data, qualities, forward=forward, pixel_range=pixel_range),
        **{name: value for name, value in scored.as_dict().items() if name in _SCORED},
        "split": split,
        "device": str(device_of(network)),
    }


_SCORED = ("joint", "layers", "saturated", "samples")


def default_layers(network: nn.Module, splits: Splits, *, forward: Forward | None = None) -> str:
    """``"fc"`` if the network has a layer whose activation is one vector per sample, otherwise ``"all"``.

    Each image of a data set has a cell of its own in the codes of most convolution maps, which no index can tell apart.
    """
    first = next(iter(batches(splits.validation.data, FEW)))
    codes = capture(network, [first], layers="all", forward=forward)
    return "fc" if any(len(layer.shape) == 1 for layer in codes.layers) else "all"


@dataclass(frozen=True)
class _Evaluation:
    """How a network does on the samples of a split."""

    loss: float | None
    correct: np.ndarray | None = None  # bool, (samples,); None where the outputs are not class scores
    labels: np.ndarray | None = None  # int64, (samples,), in the order of this pass
    classes: int | None = None
    one_logit: bool = False  # for two classes
    outputs: str = ""  # what they are, in words, where they are not class scores

    @property
    def accuracy(self) -> float | None:
        return None if self.correct is None else int(self.correct.sum()) / len(self.correct)

    def kept(self, samples: OrderedSamples, own_accuracy: float | None) -> dict[str, Any]:
        """Which samples are correct, for a record; without it if it does not agree with the user's own accuracy."""
        accuracy = self.accuracy
        agrees = own_accuracy is None or (accuracy is not None and _same(own_accuracy, accuracy, samples.samples))
        if self.correct is None or not agrees:
            return {"samples": samples.samples, "digest": samples.digest}
        return kept_predictions(self.correct, samples.digest)


def _same(own: float, measured: float, samples: int) -> bool:
    """Whether both accuracies are those of the same number of correct samples, one rounded to three digits or more."""
    return abs(own - measured) <= max(0.5 / samples, 0.0005)


def _evaluate_ordered(network: nn.Module, samples: OrderedSamples, forward: Forward | None, loss: str) -> _Evaluation:
    """The evaluation on samples whose order is known."""
    try:
        evaluation = _evaluate(network, samples.data, forward, loss)
    except NonFiniteError as error:
        raise NonFiniteError(f"on the {samples.split} samples {error}") from error
    known = samples.labels
    if evaluation.labels is not None and known is not None and not np.array_equal(evaluation.labels, known):
        raise InputError(
            f"the {samples.split} samples came in another order than before. Give the data set itself, or a loader "
            "that does not shuffle."
        )
    return evaluation


def _evaluate(network: nn.Module, data: Any, forward: Forward | None, loss: str) -> _Evaluation:
    """One pass over the samples in evaluation mode; the network is left as it was."""
    network = unwrapped(network)
    borrowed, needed = untouched(network), None if forward else needed_arguments(network)
    losses: list[Tensor] = []  # the mean of each batch
    sizes: list[int] = []
    correct: list[Tensor] = []
    labels: list[Tensor] = []
    classes, one_logit = 0, False
    for batch in batches(data, BATCH_SIZE):
        parts = read_batch(batch, needed)
        with borrowed:
            parts = parts.moved(borrowed.device, borrowed.floats)
            sizes.append(samples_of(parts.inputs))
            outputs = run(network, parts.passed, forward)
            if loss != "cross_entropy":
                losses.append(batch_loss(outputs, parts.inputs, loss))
                continue
            scores = class_scores(outputs, sizes[-1])
            if scores is None or parts.labels is None:
                return _Evaluation(None, outputs=in_words(outputs))
            targets = torch.from_numpy(parts.labels).to(borrowed.device)
            _check_labels(scores, targets)
            losses.append(batch_loss(scores, targets, loss))
            correct.append(scores.argmax(dim=1) == targets)
            labels.append(targets)
            classes, one_logit = scores.shape[1], scores.shape != outputs.shape
    if not sizes:
        raise InputError("there are no samples to evaluate the network on. Give at least one.")
    mean = math.fsum(float(value) * size for value, size in zip(losses, sizes, strict=True)) / sum(sizes)
    if not math.isfinite(mean):
        raise NonFiniteError(f"the loss is not finite ({mean:g}). Check the weights and the inputs.")
    if not labels:
        return _Evaluation(mean)
    return _Evaluation(mean, torch.cat(correct).cpu().numpy(), torch.cat(labels).cpu().numpy(), classes, one_logit)


def _check_labels(scores: Tensor, labels: Tensor) -> None:
    largest, classes = int(labels.max()), scores.shape[1]
    if largest >= classes:
        raise InputError(
            f"a label is {largest}, but the network has scores for {classes} classes. Give labels in 0..{classes - 1}."
        )


def _score(
    network: nn.Module,
    splits: Splits,
    indices: Indices,
    split: str,
    reading: Reading,
    forward: Forward | None,
    one_logit: bool,
) -> Score:
    """The indices of the codes of a split; the validation samples are the ones held out from the training samples."""
    data = splits.sample(split)
    if data is None:
        raise InputError("there are no training samples to read codes of. Give train=.")
    held_out = splits.validation.data if split == "train" else None
    options = reading.options | {"forward": TwoClasses(forward) if one_logit else forward}
    return score(network, data, indices=indices, held_out=held_out, **options)
