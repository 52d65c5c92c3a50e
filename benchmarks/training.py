"""Samples a second against a plain PyTorch loop; a frozen backbone that runs once; learning rates trained together."""

from __future__ import annotations

import measure

# isort: split
import copy
import gc
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from codes_to_measure import source
from measure import Bench, Claim
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

import nas_relucode as rc
from nas_relucode.training.frozen import frozen_features
from nas_relucode.training.loop import Epoch
from nas_relucode.training.networks import build_backbone
from nas_relucode.training.together import train_together

LOOP = "a loop over a DataLoader with ToTensor of {}, torch.optim.SGD"
ARRAYS, DATASET = LOOP.format("uint8 arrays"), LOOP.format("torchvision's data set")
CONV = "head 64-32-16 behind two small convolutions"  # the network of studies/digits.toml
TOGETHER = "8 learning rates of head {} on {{cells}} digits, batch 64"
ALONE = "one after the other"
CLAIMS = {
    "digits": Claim(f"{{cells}} digits, {CONV}, batch 32", ARRAYS, 1.4, 1_437, 1_437, 1.2),
    "digits, head alone": Claim("{cells} digits, head 64-32-16, batch 64", ARRAYS, 2.5, 1_437, 1_437, 2),
    "autoencoder": Claim("{cells} images of 28x28, autoencoder 128-64-32, batch 256", DATASET, 1.5, 10_000, 1_437, 1),
    "autoencoder, arrays": Claim("the same", ARRAYS, None, 10_000, 1_437),
    "vgg16": Claim("{cells} images of 32x32, VGG16 of 1/8 the width, batch 32", ARRAYS, 1, 1_024, 64, 0.5),
    "frozen": Claim(
        "9 candidates, 5 epochs, frozen VGG16, {cells} images of 32x32", "the backbone run each epoch", 10, 256, 32, 3
    ),
    "together": Claim(TOGETHER.format("32-32"), ALONE, 2.2, 1_437, 1_437, 1.8),
    "together, own orders": Claim("the same, with a seed each", ALONE, None, 1_437, 1_437),
    "together, convolutions": Claim(
        f"8 learning rates of {CONV}, {{cells}} digits, batch 64", ALONE, None, 1_437, 1_437
    ),
    "together, 64": Claim(TOGETHER.format("64"), ALONE, None, 1_437, 1_437),
    "together, 256-128-128": Claim(TOGETHER.format("256-128-128"), ALONE, None, 1_437, 1_437),
    "together, 512": Claim(TOGETHER.format("512"), ALONE, None, 1_437, 1_437),
}
RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05]
HEADS = ["512", "256-256", "256-128-128"]
EPOCHS = 5  # of the candidates on a frozen backbone


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    digits = rc.load_data("digits")
    loop(bench, "digits", digits, rc.build_network("64-32-16", (1, 8, 8), 10, backbone="small_conv"), 32)
    loop(bench, "digits, head alone", digits, rc.build_network("64-32-16", (1, 8, 8), 10, backbone="none"), 64)
    name = source(bench.data_root)
    large = rc.load_data(name, data_root=bench.data_root, image_size=28)
    for claim in ("autoencoder", "autoencoder, arrays"):
        loop(bench, claim, large, rc.training.build_autoencoder((1, 28, 28)), 256, "sigmoid")
    padded = rc.load_data(name, data_root=bench.data_root, image_size=32)
    loop(bench, "vgg16", padded, rc.build_network("256-128-128", (1, 32, 32), 10, width=1 / 8), 32)
    frozen(bench, padded)
    for name, head in {"together": "32-32", "together, own orders": "32-32"}.items():
        together(bench, name, digits, head, own=name.endswith("orders"))
    together(bench, "together, convolutions", digits, "64-32-16", backbone="small_conv")
    for head in ("64", "256-128-128", "512"):
        together(bench, f"together, {head}", digits, head)
    bench.finish()


def loop(
    bench: Bench, name: str, data: rc.ImageData, network: nn.Module, batch: int, loss: str = "cross_entropy"
) -> None:
    """An epoch by `train` and by a plain loop over the same images in the same order."""
    levels = (data.train.inputs[: bench.cells(name)] * 255).round().byte()
    labels = data.train.labels[: len(levels)]
    ours, plain = copy.deepcopy(network), copy.deepcopy(network)
    recipe = rc.Recipe(epochs=1, batch_size=batch, loss=loss)
    split = rc.Split(levels.float() / 255, labels)
    images: Dataset = Images(levels.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist())
    if bench.claims[name].peer == DATASET and data.name == "mnist":
        images = Subset(MNIST(str(bench.data_root), train=True, transform=ToTensor()), range(len(levels)))

    def by_us() -> list[float]:
        ours.load_state_dict(network.state_dict())
        return losses_of(ours, split, 0.01, recipe)

    def by_loop() -> list[float]:
        plain.load_state_dict(network.state_dict())
        return plain_loop(plain, images, 0.01, recipe)

    compare(bench, name, by_us, by_loop, samples=len(levels))


def frozen(bench: Bench, data: rc.ImageData) -> None:
    """Three heads at three learning rates: heads on the outputs of a backbone that ran once, or whole networks."""
    width = 1 / 8 if bench.quick else 1.0
    count = bench.cells("frozen")
    split = rc.Split(data.train.inputs[:count], data.train.labels[:count])
    empty = rc.Split(split.inputs[:0], split.labels[:0])
    images = rc.ImageData(data.name, data.classes, split, empty, empty)
    recipe = rc.Recipe(epochs=EPOCHS, batch_size=32, momentum=0.9)
    shape = data.image_shape

    def once() -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            backbone = build_backbone(shape, width=width, seed=7)
            features = frozen_features(backbone, images, Path(folder))
            return [
                losses_of(
                    rc.build_network(head, features.image_shape, 10, backbone="none"), features.train, rate, recipe
                )
                for head in HEADS
                for rate in (0.01, 0.02, 0.05)
            ]

    def each_epoch() -> list[float]:
        losses = []
        for head in HEADS:
            for rate in (0.01, 0.02, 0.05):
                network = rc.build_network(head, shape, 10, width=width, backbone_seed=7)
                network.backbone.requires_grad_(False)
                losses.append(losses_of(network, split, rate, recipe))
        return losses

    compare(bench, "frozen", once, each_epoch, samples=count * 9 * EPOCHS, turns=1)


def together(bench: Bench, name: str, data: rc.ImageData, head: str, own: bool = False, backbone: str = "none") -> None:
    """Eight networks of one head, each at a learning rate of its own: at once, and one after the other."""
    seeds = list(range(8)) if own else [1234] * 8
    start = [rc.build_network(head, data.image_shape, 10, backbone=backbone, seed=seed) for seed in range(8)]
    recipe = rc.Recipe(epochs=5, batch_size=64)

    def at_once() -> list[list[float]]:
        networks = copy.deepcopy(start)
        return train_together(networks, data.train, learning_rates=RATES, seeds=seeds, recipe=recipe).losses.T.tolist()

    def one_by_one() -> list[list[float]]:
        networks = copy.deepcopy(start)
        return [
            losses_of(network, data.train, rate, recipe, seed)
            for network, rate, seed in zip(networks, RATES, seeds, strict=True)
        ]

    compare(bench, name, at_once, one_by_one, samples=8 * recipe.epochs * len(data.train))


def compare(
    bench: Bench,
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    samples: int,
    turns: int = 7,
) -> None:
    """Prints a row of samples a second. Ends the script before timing if losses differ by more than 1e-4."""
    difference = np.abs(np.array(ours()) - np.array(peer())).max()
    if not difference <= 1e-4:
        raise SystemExit(f"{bench.claims[name]}: losses are {difference:g} apart. No time was taken.")
    seconds: list[list[float]] = [[], []]
    turns = min(turns, 2) if bench.quick else turns
    for _ in range(turns):
        for run, taken in zip((ours, peer), seconds, strict=True):
            gc.collect()
            taken.append(measure.processor_seconds(run))
    note = f"losses {difference:.0e} apart; {turns} run{'s' * (turns > 1)}"
    our_median, peer_median = map(statistics.median, seconds)
    bench.row(name, our_median, peer_median, note, lambda taken: f"{samples / taken:,.0f}/s")


def losses_of(network: nn.Module, data: rc.Split, rate: float, recipe: rc.Recipe, seed: int = 1234) -> list[float]:
    epochs: list[Epoch] = []
    rc.train(network, data, learning_rate=rate, recipe=recipe, seed=seed, on_epoch=epochs.append)
    return [epoch.loss for epoch in epochs[1:]]


class Images(Dataset):
    """Images (height, width, channels) of uint8 and labels, one at a time."""

    def __init__(self, images: np.ndarray, labels: list[int]) -> None:
        self.images = images
        self.labels = labels
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[number]), self.labels[number]


def plain_loop(network: nn.Module, images: Dataset, rate: float, recipe: rc.Recipe) -> list[float]:
    """The mean loss of one epoch of the loop that everybody writes."""
    sampler = RandomSampler(images, generator=torch.Generator().manual_seed(1234))
    loader = DataLoader(images, recipe.batch_size, sampler=sampler)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=recipe.momentum)
    network.train()
    total = 0.0
    for inputs, labels in loader:
        optimizer.zero_grad()
        outputs = network(inputs)
        if recipe.loss == "cross_entropy":
            loss = functional.cross_entropy(outputs, labels)
        else:
            loss = functional.binary_cross_entropy_with_logits(outputs, inputs)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return [total / len(images)]


if __name__ == "__main__":
    main()
