"""How well the features before the last layer separate classes, including classes it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nas_relucode.errors import InputError, whole_number
from nas_relucode.qualities.quality import PerSample, Quality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_relucode.codes.reading import Forward
    from nas_relucode.qualities.samples import Batch

FEWEST = 2  # samples of a class: one for each half


def linear_probe_accuracy(
    network: nn.Module, data: Any, *, others: Any = None, seed: int = 0, forward: Forward | None = None
) -> PerSample:
    """Accuracy of a linear classifier on the network's features (Alain and Bengio 2016, arXiv:1610.01644).

    Features are the inputs of the last ``torch.nn.Linear`` that runs, scaled to unit variance. A logistic regression is
    fitted on one half of each class's samples and measured on the other half; ``seed`` draws the halves. ``others`` are
    labelled samples of the same shape to do this with instead of ``data``: of classes that the network was not trained
    on, they say how much of what it learned carries over. Labels may be any whole numbers.

    Raises InputError for a network without a Linear layer, for fewer than two classes, and for a class with one sample.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from nas_relucode.qualities.samples import over_batches

    seed = whole_number("seed", seed, most=2**32 - 1)  # of NumPy's older generator
    table = over_batches(network, data if others is None else others, _features_and_labels, forward=forward)
    features, labels = table[:, :-1], table[:, -1].astype(np.int64)
    classes, samples = np.unique(labels, return_counts=True)
    if len(classes) < 2 or samples.min() < FEWEST:
        few = classes[samples < FEWEST]
        given = f"class {few[0]} has one sample" if len(few) else f"there is one class, {classes[0]}"
        raise InputError(f"{given}. Give at least two classes, with at least {FEWEST} samples each.")
    known, unknown, known_labels, unknown_labels = train_test_split(
        features, labels, test_size=0.5, stratify=labels, random_state=seed
    )
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(known, known_labels)
    return PerSample(np.mean, (probe.predict(unknown) == unknown_labels).astype(float))


def _features_and_labels(batch: Batch) -> Tensor:
    """The features of each sample and its label: (samples, features + 1)."""
    import torch

    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen[:] = inputs[:1]

    hooks = [m.register_forward_pre_hook(keep) for m in batch.network.modules() if isinstance(m, torch.nn.Linear)]
    try:
        batch.scores(batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    assert batch.labels is not None
    if not seen or seen[0].ndim != 2 or len(seen[0]) != len(batch.labels):
        shape = tuple(seen[0].shape) if seen else "nothing"
        raise InputError(
            f"the last torch.nn.Linear of the network sees {shape}, not features (samples, features). "
            "Give a network that classifies by a Linear layer."
        )
    return torch.cat([seen[0].detach().double(), batch.labels[:, None].double()], dim=1)


QUALITIES = (
    Quality(
        "linear_probe_accuracy",
        "share",
        "maximize",
        "Accuracy of a logistic regression on the inputs of the last linear layer, fitted on half of the samples.",
        linear_probe_accuracy,
        needs_labels=True,
        held_out=True,
    ),
)
