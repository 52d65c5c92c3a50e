"""A network that overwrites its input is measured like the same network written without that, and spoils no data."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn

import nas_relucode as rc
from nas_relucode.codes.reading import Reading
from nas_relucode.evidence.measuring import _baselines
from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.registry import QUALITIES, measure
from nas_relucode.study.measuring import Splits, measure_network
from nas_relucode.training.data import ImageData
from nas_relucode.training.frozen import frozen_features
from nas_relucode.training.loop import Epoch, accuracy, evaluate
from nas_relucode.training.together import train_together

INDICES_OF_ANY_SIZE = [name for name in INDICES if name != "regularised_patterns"]  # which needs a wanted size
ALL_BUT_TIMES = [name for name in QUALITIES if name != "latency"]
OTHERWISE = {"peak_memory"}  # which a write in place saves


class InPlace(nn.Module):
    """A usual normalisation, which saves memory."""

    def forward(self, images: Tensor) -> Tensor:
        return images.sub_(0.5)


class Apart(nn.Module):
    """The same without the write."""

    def forward(self, images: Tensor) -> Tensor:
        return images - 0.5


def network(first: nn.Module, outputs: int = 3, side: int = 4, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(side**2, 10), nn.ReLU(), nn.Linear(10, outputs)]
    return nn.Sequential(first, *layers, *([nn.Unflatten(1, (1, 4, 4))] if outputs == 16 else [])).to(dtype)


def images(samples: int = 40, seed: int = 1, side: int = 4, dtype: torch.dtype = torch.float32) -> rc.Split:
    """Images whose brightness says their class, roughly."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 3
    noise = torch.rand(samples, 1, side, side, generator=generator, dtype=torch.float64)
    return rc.Split((0.6 * noise + 0.2 * labels.view(-1, 1, 1, 1)).to(dtype), labels)


def image_data() -> ImageData:
    return ImageData("shades", ("dark", "grey", "light"), images(), images(30, 2), images(30, 3))


def plain(value: Any) -> Any:
    """The value with NaN as None, so that equal values are equal."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def same(compute: Any, *data: rc.Split, but_for: Any = frozenset(), **options: Any) -> None:
    """Asserts that ``compute(network)`` is the same for both networks, twice in a row, and leaves the data as given."""
    before = [part.inputs.clone() for part in data]
    expected = plain(compute(network(Apart(), **options)))
    in_place = network(InPlace(), **options)
    for _ in range(2):
        result = plain(compute(in_place))
        assert {name for name in expected if expected[name] != result[name]} <= set(but_for)
        assert [part.inputs.numpy().tobytes() for part in data] == [part.numpy().tobytes() for part in before]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_index_is_that_of_a_network_that_does_not_write(dtype):
    sample, held_out = images(dtype=dtype), images(30, 2, dtype=dtype)

    def indices(measured: nn.Module) -> Any:
        result = rc.score(measured, sample, indices=INDICES_OF_ANY_SIZE, held_out=held_out)
        return {**result.joint, "accuracy": result.accuracy}

    same(indices, sample, held_out, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_index_that_allows_a_forward_of_ones_own_is_so_too(dtype):
    sample = images(dtype=dtype)
    allowed = ["cell_count", "segment_transitions", "decision_margin", "affine_norm", "affine_deviation"]
    allowed += ["space_folding", "local_complexity", "code_stability"]
    same(
        lambda measured: rc.score(measured, sample, indices=allowed, forward=lambda net, batch: net(batch[0])).joint,
        sample,
        dtype=dtype,
    )


def test_every_quality_is_so_too():
    sample = images(12, side=32)
    same(lambda measured: measure(measured, sample, ALL_BUT_TIMES), sample, but_for=OTHERWISE, side=32)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_what_a_record_keeps_is_so_too(loss):
    data = image_data()
    splits = Splits.of_images(data, labelled=loss == "cross_entropy")

    def record(measured: nn.Module) -> Any:
        return measure_network(measured, splits, reading=Reading(), loss=loss)

    same(record, data.train, data.validation, data.test, outputs=3 if loss == "cross_entropy" else 16)


def test_every_trial_of_one_network_has_the_same_record():
    data = image_data()
    indices = ["all", "certified_radius", "margin_mean_correct"]
    given = {"train": data.train, "validation": data.validation, "test": data.test, "objectives": ["accuracy"]}
    record = rc.Recorder(**given, indices=indices, qualities=["calibration_error", "noise_accuracy"])

    def trial_record(measured: nn.Module) -> Any:
        trial = optuna.trial.FixedTrial({"width": 10})
        return {"value": record(trial, measured), "record": plain(trial.user_attrs)}

    same(trial_record, data.train, data.validation, data.test)


def test_the_loss_and_the_accuracy_are_so_too():
    sample = images()
    same(lambda measured: asdict(evaluate(measured, sample)), sample)
    same(lambda measured: asdict(evaluate(measured, sample, loss="mse")), sample, outputs=16)
    same(lambda measured: {"accuracy": accuracy(measured, sample)}, sample)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "sigmoid"])
def test_the_training_is_so_too(loss):
    sample, outputs = images(), 3 if loss == "cross_entropy" else 16
    recipe = rc.Recipe(epochs=3, batch_size=16, loss=loss)

    def trained(measured: nn.Module) -> Any:
        losses: list[Epoch] = []
        rc.train(
            network(type(measured[0])(), outputs), sample, learning_rate=0.1, recipe=recipe, on_epoch=losses.append
        )
        return {epoch.number: epoch.loss for epoch in losses}

    def trained_together(measured: nn.Module) -> Any:
        networks = [network(type(measured[0])(), outputs) for _ in range(2)]
        together = train_together(networks, sample, learning_rates=[0.1, 0.05], recipe=recipe, seeds=[0, 1])
        return {"losses": together.losses.tolist()}

    same(trained, sample, outputs=outputs)
    same(trained_together, sample, outputs=outputs)


def test_the_outputs_of_a_frozen_backbone_are_so_too(tmp_path):
    data = image_data()

    def features(backbone: nn.Module) -> Any:
        kept = frozen_features(backbone, data, tmp_path)
        return {name: kept.split(name).inputs.flatten().tolist() for name in ("train", "validation", "test")}

    same(features, data.train, data.validation, data.test)


def test_the_baselines_of_the_evidence_are_so_too():
    data = image_data()
    same(lambda measured: _baselines(measured, data), data.train, data.validation, data.test)
