"""Networks of NAS-Bench-201 (Dong and Yang, ICLR 2020) at initialisation, beside what is published of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError
from nas_relucode.evidence.examining import ACCURACY, Networks
from nas_relucode.files import write_atomically
from nas_relucode.npz_files import read_arrays
from nas_relucode.scoring.scores import score


def relu_conv_bn(before: int, after: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(after),
    )


OPERATIONS = {
    "skip_connect": lambda channels: nn.Identity(),
    "nor_conv_1x1": lambda channels: relu_conv_bn(channels, channels, 1),
    "nor_conv_3x3": lambda channels: relu_conv_bn(channels, channels, 3),
    "avg_pool_3x3": lambda channels: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
}


class Cell(nn.Module):
    """Nodes 0 .. 3, each the sum of its edges' operations on earlier nodes; ``none`` is no edge.

    In ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`` each part between the plus signs is a node, and ``op~i`` its edge from i.
    """

    def __init__(self, arch: str, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for target, node in enumerate(arch.split("+"), start=1):
            for edge in node.strip("|").split("|"):
                operation, source = edge.split("~")
                if operation != "none":
                    self.edges[f"{source}-{target}"] = OPERATIONS[operation](channels)

    def forward(self, images: Tensor) -> Tensor:
        nodes = [images]
        for target in range(1, 4):
            edges = [(nodes[source], f"{source}-{target}") for source in range(target)]
            terms = [self.edges[name](node) for node, name in edges if name in self.edges]
            nodes.append(sum(terms, start=torch.zeros_like(images)))
        return nodes[-1]


class Reduction(nn.Module):
    """A basic residual block that halves the image; its shortcut is an average pool and a 1x1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.path = nn.Sequential(relu_conv_bn(before, after, 3, stride=2), relu_conv_bn(after, after, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        return self.shortcut(images) + self.path(images)


def build(arch: str, cells: int = 5, classes: int = 10) -> nn.Module:
    """Stem, three stages of ``cells`` cells of 16, 32 and 64 channels, head; weights from torch's random state."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)]
    for channels in (16, 32, 64):
        if channels > 16:
            layers.append(Reduction(channels // 2, channels))
        layers += [Cell(arch, channels) for _ in range(cells)]
    head = [nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)]
    return nn.Sequential(*layers, *head)


BANDS = ((0.890, 0.895), (0.910, 0.915), (0.925, 0.930), (0.935, 0.946))  # of published clean accuracy
QUALITIES = ("fgsm_1", "pgd_0.5", "apgd-ce_0.5", "square_1", "corruptions_mean")
PUBLISHED = ("parameters", "flops", "nwot", "jacov", "zen", "synflow", "snip", "grad_norm", "l2_norm")
INDICES_READ = ("local_complexity", "logdet_kernel", "distinct_patterns")
IMAGES = 96
TABLE = "nb201_cifar10_robustness.csv"


def published(path: Path) -> pd.DataFrame:
    """The table of published accuracies and scores, a row per network; those outside of the bands are left out."""
    if not path.is_file():
        raise InputError(f"there is no {path}. Put the table of published accuracies of NAS-Bench-201 there.")
    table = pd.read_csv(path).rename(columns={"test_accuracy": ACCURACY, "params": "parameters"})
    kept = np.any([table[ACCURACY].between(*band) for band in BANDS], axis=0)
    return table[kept].reset_index(drop=True)


def read_images(path: Path) -> Tensor:
    """The first 96 training images of ``path`` (.npz with ``x_train``, uint8, NHWC): float32, NCHW, normalised.

    They are normalised by their own mean and standard deviation, channel by channel. Raises InputError for other files.
    """
    needed = f"Give an .npz file with x_train, at least {IMAGES} images (height, width, 3)."
    images = read_arrays(path, needed, ("x_train",)).get("x_train", np.empty(0))[:IMAGES] / 255
    if images.ndim != 4 or images.shape[0] < IMAGES or images.shape[3] != 3:
        raise InputError(f"x_train of {path} has the shape {images.shape}. {needed}")
    images = (images - images.mean(axis=(0, 1, 2))) / images.std(axis=(0, 1, 2))
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float()


def score_networks(
    table: pd.DataFrame, images: Tensor, file: Path, *, on_network: Callable[[int], None] | None = None
) -> None:
    """Adds the indices of each network that ``file`` lacks, one line each, in an order drawn at random.

    ``on_network`` is called with the number of networks scored so far.

    The networks are untrained (seed 0 each), in train mode, as zero-cost scores are published.
    """
    columns = ["architecture", *INDICES_READ]
    scored = pd.read_csv(file, dtype=str) if file.exists() else pd.DataFrame(columns=columns)
    rows, done = scored[columns].to_numpy(object).tolist(), set(scored["architecture"])
    for number in np.random.default_rng(0).permutation(len(table)):
        architecture = table["architecture"][number]
        if architecture in done:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build(architecture)
        values = score(network, images, indices=INDICES_READ, mode="train").joint
        rows.append([architecture, *(values[name] for name in INDICES_READ)])
        write_atomically(file, partial(pd.DataFrame(rows, columns=columns).to_csv, index=False))
        done.add(architecture)
        if on_network:
            on_network(len(done))


def networks_at_initialisation(table: pd.DataFrame, file: Path) -> Networks:
    """The scored networks in the bands of published accuracy, beside the published scores."""
    joined = table.merge(pd.read_csv(file), on="architecture")
    bands = {f"{low:.3f}-{high:.3f}": np.flatnonzero(joined[ACCURACY].between(low, high)) for low, high in BANDS}
    return Networks(joined, INDICES_READ, (*PUBLISHED, ACCURACY), dict.fromkeys(QUALITIES, "maximize"), bands)
