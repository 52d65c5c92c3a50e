"""Networks of NAS-Bench-201 (Dong and Yang, ICLR 2020), built from their architecture strings, and pink noise."""

import numpy as np
import torch
from torch import Tensor, nn


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


def pink_noise(samples: int, channels: int = 3, size: int = 32, seed: int = 0) -> Tensor:
    """Images whose power falls with the square of the frequency, as photographs' does; mean 0, deviation 1 each."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.normal(size=(samples, channels, size, size)))
    images = np.fft.irfft2(white / frequency, s=(size, size))
    images /= images.std(axis=(1, 2, 3), keepdims=True)
    return torch.from_numpy(images.astype(np.float32))
