"""Families of small networks whose architecture and recipe are drawn at random, and their training."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_relucode.errors import NonFiniteError
from nas_relucode.training.data import ImageData, Split, load_data
from nas_relucode.training.names import parse_head
from nas_relucode.training.networks import initialise

MOMENTUM = 0.9


@dataclass(frozen=True)
class Family:
    """What varies among the networks of a body of evidence, and its data."""

    name: str  # of the body of networks
    data: dict[str, Any]  # arguments of `load_data`
    validated: int  # samples of the validation split
    candidates: int  # how many are drawn
    seeds: tuple[int, ...]
    choices: Mapping[str, tuple[Any, ...]]  # parameter -> its values
    learning_rate: tuple[float, float]  # drawn on a logarithmic scale
    shift: int  # pixels, of the augmentation
    flip: bool = False  # images are mirrored at random
    draw: int = 0  # seed of the generator that draws the designs

    def digest(self, number: int, seed: int) -> str:
        """Identifies the training of candidate ``number`` with ``seed`` among those of all families.

        Nine digits of a number, of which another processor may round the last ones otherwise.
        """
        design = {
            key: f"{value:.9g}" if isinstance(value, float) else value for key, value in self.designs()[number].items()
        }
        return hashlib.sha256(json.dumps([self.name, design, seed], sort_keys=True).encode()).hexdigest()

    def designs(self) -> list[dict[str, Any]]:
        """The parameters of all candidates, in the order in which they are drawn; always the same."""
        return self._designs

    @cached_property
    def _designs(self) -> list[dict[str, Any]]:
        generator = np.random.default_rng(self.draw)
        low, high = map(math.log, self.learning_rate)
        designs = []
        for _ in range(self.candidates):
            design = {name: values[generator.integers(len(values))] for name, values in self.choices.items()}
            designs.append(design | {"learning_rate": float(np.exp(generator.uniform(low, high)))})
        return designs


MNIST = Family(
    name="mnist",
    data={"source": "mnist", "train_samples": 6000, "test_samples": 2000, "validation": 1 / 3},
    validated=2000,
    candidates=160,
    seeds=(0, 1),
    choices={
        "channels": (4, 8, 16),
        "convolutions": (1, 2),
        "head": ("16", "32", "64", "16-16", "32-32", "64-32"),
        "batch_size": (16, 32, 64),
        "weight_decay": (0.0, 0.0001, 0.001),
        "augment": (False, True),
        "epochs": tuple(range(2, 9)),
    },
    learning_rate=(0.005, 0.1),
    shift=1,
)
FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="digits",
            data={"source": "digits", "validation": 1 / 3},
            validated=479,
            candidates=40,
            seeds=(0, 1),
            choices={
                "channels": (4, 8),
                "convolutions": (1, 2),
                "head": ("16", "32", "16-16", "32-16"),
                "batch_size": (16, 32),
                "weight_decay": (0.0, 0.001),
                "augment": (False, True),
                "epochs": tuple(range(5, 21)),
            },
            learning_rate=(0.01, 0.1),
            shift=1,
        ),
        MNIST,
        # Candidates and images drawn again, for a question stated after the first body (docs/evidence.md).
        replace(MNIST, name="mnist_again", data=MNIST.data | {"seed": 1}, candidates=60, draw=1),
        Family(
            name="cifar10",
            data={"source": "cifar10_small", "validation": 0.2},
            validated=2000,
            candidates=160,
            seeds=(0, 1),
            choices={
                "channels": (8, 16, 32),
                "convolutions": (2, 3),
                "head": ("32", "64", "128", "32-32", "64-32", "128-64"),
                "batch_size": (32, 64),
                "weight_decay": (0.0, 0.0001, 0.001),
                "augment": (False, True),
                "epochs": tuple(range(4, 13)),
            },
            learning_rate=(0.005, 0.1),
            shift=2,
            flip=True,
        ),
    )
}


def load_family(family: Family, **options: Any) -> ImageData:
    """The data of a family; ``options`` (data_root, download) are those of `load_data`.

    Colour images lie in memory pixel by pixel (channels last), with which convolutions and pooling are faster.
    """
    data = load_data(**family.data, **options)
    if data.image_shape[0] == 1:
        return data

    def channels_last(split: Split) -> Split:
        return replace(split, inputs=split.inputs.contiguous(memory_format=torch.channels_last))

    train, validation, test = map(channels_last, (data.train, data.validation, data.test))
    return replace(data, train=train, validation=validation, test=test)


class SmallNetwork(nn.Module):
    """Convolutions of 3 x 3, each with a ReLU and pooling and twice the channels of the one before; then an FC head."""

    def __init__(self, design: Mapping[str, Any], image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for number in range(design["convolutions"]):
            after = design["channels"] * 2**number
            layers += [nn.Conv2d(channels, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, height, width = after, height // 2, width // 2
        self.features = nn.Sequential(*layers, nn.Flatten())
        widths = [channels * height * width, *parse_head(design["head"])]
        hidden: list[nn.Module] = []
        for before, after in pairwise(widths):
            hidden += [nn.Linear(before, after), nn.ReLU()]
        self.head = nn.Sequential(*hidden, nn.Linear(widths[-1], classes))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(images))
        return scores


def build(design: Mapping[str, Any], data: ImageData, seed: int) -> SmallNetwork:
    """The untrained network of a design, channels last as its data (see `load_family`); ``seed`` draws its weights."""
    network = SmallNetwork(design, data.image_shape, len(data.classes))
    initialise(network, seed)
    return network if data.image_shape[0] == 1 else network.to(memory_format=torch.channels_last)


def fit(network: nn.Module, design: Mapping[str, Any], data: Split, family: Family, seed: int) -> float:
    """Trains the network by the design's recipe and returns the mean loss of the last epoch.

    Raises NonFiniteError if it stops being finite.
    """
    assert data.labels is not None
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        network.parameters(), design["learning_rate"], MOMENTUM, weight_decay=design["weight_decay"], fused=True
    )
    network.train()
    loss = math.nan
    for _ in range(design["epochs"]):
        losses = []
        for rows in torch.randperm(len(data), generator=generator).split(design["batch_size"]):
            images = data.inputs[rows]
            if design["augment"]:
                images = augmented(images, family.shift, family.flip, generator)
            optimizer.zero_grad()
            batch_loss = functional.cross_entropy(network(images), data.labels[rows])
            batch_loss.backward()
            optimizer.step()
            losses.append(batch_loss.detach() * len(rows))
        loss = float(torch.stack(losses).sum()) / len(data)
        if not math.isfinite(loss):
            raise NonFiniteError("the loss stopped being finite")
    network.eval()
    return loss


def augmented(images: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Images (samples, channels, height, width), each moved by up to ``shift`` pixels, half of them mirrored."""
    samples, _, height, width = images.shape
    padded = functional.pad(images, [shift] * 4)
    down, right = torch.randint(2 * shift + 1, (2, samples, 1, 1), generator=generator)
    rows = (down + torch.arange(height)[:, None]).expand(samples, height, width)
    columns = (right + torch.arange(width)).expand(samples, height, width)
    if flip:
        mirrored = torch.rand(samples, 1, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(2), columns)
    sample = torch.arange(samples)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows, columns].permute(0, 3, 1, 2)
