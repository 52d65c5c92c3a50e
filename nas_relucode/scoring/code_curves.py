"""The code space after each epoch of a training (Figure 1), read in the same pass as accuracy and loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from nas_relucode.cells.code_spaces import CodeSpace, code_space
from nas_relucode.codes.bits import Codes
from nas_relucode.codes.capturing import CodeBatch, capture
from nas_relucode.codes.reading import Reading
from nas_relucode.errors import InputError
from nas_relucode.indices.registry import compute_indices
from nas_relucode.texts import finite_or_none
from nas_relucode.training.data import ImageData
from nas_relucode.training.loop import Epoch, Evaluation, evaluate
from nas_relucode.training.losses import batch_loss

INDICES_OF_A_CURVE = ("cell_count", "correct_cell_count")


@dataclass
class CodeCurve:
    """The curve of indices over the epochs of a training: one point per epoch, from the codes of one split of the data.

    Codes are read at the end of an epoch, while the weights are fixed. With ``while_training`` the codes of each
    training batch are read before its step instead, as the paper's released code does: a cell count then mixes the
    networks of all steps of the epoch, and it is unknown which samples are classified correctly.
    """

    network: nn.Module
    data: ImageData
    loss: str = "cross_entropy"
    reading: Reading = field(default_factory=lambda: Reading(layers=("head",)))
    split: str = "train"
    while_training: bool = False
    points: list[dict[str, Any]] = field(default_factory=list, init=False)  # plain values, one point per epoch
    _batches: list[tuple[Codes, np.ndarray]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.while_training and self.split != "train":
            raise InputError(f"split {self.split!r} has no codes while training. Set split to 'train'.")

    def on_batch(self, rows: Tensor) -> None:
        """For `train`: reads the codes of the rows of a training batch before its step."""
        split = self.data.train
        codes = capture(self.network, split.inputs[rows], **self.reading.options)
        labels = rows.cpu().numpy() if split.labels is None else split.labels[rows].cpu().numpy()
        self._batches.append((codes, labels))

    def on_epoch(self, epoch: Epoch) -> CodeSpace:
        """For `train`: adds the epoch's point to ``points`` and returns its code space."""
        losses: list[float] = []
        space = self._space(losses)
        spaces = {"joint": space} | {layer.name: space.layer(layer.name) for layer in space.codes.layers}
        indices = {where: _indices(part) for where, part in spaces.items()}
        accuracy = None if space.correct_counts is None else float(space.correct_counts.sum()) / space.samples
        if self.split == "validation":  # measured in the same pass as the codes
            validation: Evaluation | None = Evaluation(math.fsum(losses) / space.samples, accuracy)
        else:
            held = self.data.validation
            validation = evaluate(self.network, held, loss=self.loss) if len(held) else None
        self.points.append(
            {
                "epoch": epoch.number,
                "loss": finite_or_none(epoch.loss),
                "validation_loss": None if validation is None else finite_or_none(validation.loss),
                "accuracy": None if validation is None else validation.accuracy,
                "train_accuracy": accuracy if self.split == "train" else None,
                "joint": indices.pop("joint"),
                "layers": indices,
            }
        )
        return space

    def _space(self, losses: list[float]) -> CodeSpace:
        """The epoch's code space; for the validation split, ``losses`` is filled with the total loss of each batch."""
        if self._batches:
            codes = Codes(np.concatenate([codes.words for codes, _ in self._batches]), self._batches[0][0].layers)
            labels = np.concatenate([labels for _, labels in self._batches])
            self._batches.clear()
            return CodeSpace.of(codes, None if self.data.train.labels is None else labels)
        split = self.data.split(self.split)
        inputs = split.inputs if split.labels is None else (split.inputs, split.labels)

        def add(batch: CodeBatch) -> None:
            rows = slice(batch.start, batch.start + batch.codes.samples)
            targets = split.labels if self.loss == "cross_entropy" else split.inputs
            assert targets is not None
            assert batch.outputs is not None
            loss = batch_loss(batch.outputs.to(targets.device), targets[rows], self.loss)
            losses.append(float(loss) * len(targets[rows]))

        on_batch = add if self.split == "validation" else None
        space = code_space(self.network, inputs, **self.reading.options, on_batch=on_batch)
        return replace(space, correct_counts=None) if self.while_training else space


def _indices(space: CodeSpace) -> dict[str, float | None]:
    names = [name for name in INDICES_OF_A_CURVE if name != "correct_cell_count" or space.correct_counts is not None]
    values = compute_indices(space, names)
    return {name: finite_or_none(values[name]) if name in values else None for name in INDICES_OF_A_CURVE}
