"""Curves of codes: what a point says is counted again by hand, with the weights at rest and while they move."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_relucode import ImageData, InputError, build_network, load_data, train
from nas_relucode.codes import Reading
from nas_relucode.scoring.code_curves import CodeCurve
from nas_relucode.training import build_autoencoder
from nas_relucode.training.loop import Epoch, evaluate
from nas_relucode.training.recipe import Recipe

CLASSIFY = Recipe(epochs=2, batch_size=32, momentum=0.9)
REBUILD = Recipe(epochs=2, batch_size=32, loss="sigmoid")


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", classes=[0, 1, 2], validation=0.25)


def classifier(data: ImageData) -> nn.Module:
    return build_network("8-4", data.image_shape, len(data.classes), backbone="none")


def activations(network: Any, inputs: Tensor) -> list[np.ndarray]:
    """The outputs of the head's ReLUs, a (samples, neurons) array a layer."""
    kept, values = [], network.backbone(inputs)
    with torch.no_grad():
        for module in network.head:
            values = module(values)
            if isinstance(module, nn.ReLU):
                kept.append(values.clone().numpy())
    return kept


def distinct(rows: np.ndarray) -> int:
    return len(np.unique(rows, axis=0))


def test_a_point_counts_the_codes_of_the_weights_at_rest(data: ImageData):
    network = classifier(data)
    curve = CodeCurve(network, data)
    counted = []

    def on_epoch(epoch: Epoch) -> None:
        curve.on_epoch(epoch)
        layers = [layer > 0 for layer in activations(network, data.train.inputs)]
        with torch.no_grad():
            right = (network(data.train.inputs).argmax(dim=1) == data.train.labels).numpy()
            held = (network(data.validation.inputs).argmax(dim=1) == data.validation.labels).double().mean()
        counted.append((layers, right, float(held)))

    train(network, data.train, learning_rate=0.1, recipe=CLASSIFY, on_epoch=on_epoch)
    assert [point["epoch"] for point in curve.points] == [0, 1, 2]
    for point, (layers, right, held) in zip(curve.points, counted, strict=True):
        joint = np.concatenate(layers, axis=1)
        assert point["joint"] == {"cell_count": distinct(joint), "correct_cell_count": distinct(joint[right])}
        assert [of["cell_count"] for of in point["layers"].values()] == [distinct(layer) for layer in layers]
        assert (point["train_accuracy"], point["accuracy"]) == (pytest.approx(right.mean()), pytest.approx(held))


@pytest.mark.parametrize("preset", ["paper", "released_code"])
def test_codes_taken_while_training_are_those_before_each_step(data: ImageData, preset: str):
    network = build_autoencoder(data.image_shape, head="16-8")
    curve = CodeCurve(network, data, loss="sigmoid", reading=Reading(layers="head", preset=preset), while_training=True)
    batches: list[list[np.ndarray]] = []
    counted: list[list[int]] = []

    def on_batch(rows: Tensor) -> None:
        curve.on_batch(rows)
        batches.append(activations(network, data.train.inputs[rows]))

    def on_epoch(epoch: Epoch) -> None:
        curve.on_epoch(epoch)
        if batches:
            layers = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
            bits = [layer > 0 if preset == "paper" else layer.astype(int) > 0 for layer in layers]
            counted.append([distinct(layer) for layer in bits])
        batches.clear()

    train(network, data.train, learning_rate=0.1, recipe=REBUILD, on_epoch=on_epoch, on_batch=on_batch)
    assert [[of["cell_count"] for of in point["layers"].values()] for point in curve.points[1:]] == counted
    assert all(point["train_accuracy"] is point["accuracy"] is None for point in curve.points)
    assert all(point["joint"]["correct_cell_count"] is None for point in curve.points)  # also before the training
    assert curve.points[2]["validation_loss"] < curve.points[0]["validation_loss"]


def test_codes_of_the_validation_split_come_with_its_accuracy(data: ImageData):
    network = classifier(data)
    curve = CodeCurve(network, data, split="validation")
    passed: list[int] = []
    network.register_forward_hook(lambda module, given, out: passed.append(len(out)))
    space = curve.on_epoch(Epoch(0, float("nan")))
    (point,) = curve.points
    assert space.samples == len(data.validation)
    assert space.correct_counts is not None
    assert point["accuracy"] == space.correct_counts.sum() / space.samples
    evaluation = evaluate(network, data.validation)
    assert (point["accuracy"], point["validation_loss"]) == (
        evaluation.accuracy,
        pytest.approx(evaluation.loss, rel=1e-6),
    )
    assert (point["train_accuracy"], point["loss"]) == (None, None)
    first, checks, last = passed[0], passed[1:4], passed[4:-1]  # the network is checked the first time
    assert max(checks) <= 8
    assert first + sum(last) == len(data.validation)  # one pass; the last of all is that of evaluate above


def test_only_the_train_split_is_seen_while_training(data: ImageData):
    with pytest.raises(InputError, match=r"'validation' .* Set split to 'train'"):
        CodeCurve(classifier(data), data, split="validation", while_training=True)
