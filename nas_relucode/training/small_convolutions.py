"""Small convolutions as matrix products of gathered patches, which start in less time than oneDNN's convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_relucode.training.products import LARGE


@dataclass(frozen=True)
class Patches:
    """Where the patches under a kernel lie in images (features, samples), whose samples come last.

    The kernel's product with them is (channels, positions * samples), which is in memory what a Linear behind a Flatten
    is given: (features, samples).
    """

    places: Tensor  # int64, (patch * positions,): rows of the images, and ``features`` for zeros around them
    patch: int  # numbers under the kernel: channels * height * width
    features: int

    def gather(self, images: Tensor) -> Tensor:
        """The patches ([networks,] patch, positions * samples) of images ([networks,] features, samples)."""
        rows = functional.pad(images, (0, 0, 0, 1)).index_select(-2, self.places)
        return rows.view(*images.shape[:-2], self.patch, -1)

    def spread(self, slope: Tensor) -> Tensor:
        """The gradient by the images (networks, features, samples) of that by the patches: `gather` turned round."""
        rows = slope.view(len(slope), len(self.places), -1)
        sums = rows.new_zeros(len(rows), self.features + 1, rows.shape[2])
        return sums.index_add_(1, self.places, rows)[:, :-1]


def patches_of(
    layer: nn.Conv2d, shape: tuple[int, ...], batch_size: int
) -> tuple[Patches, tuple[int, int, int]] | None:
    """The patches of a small convolution on images of ``shape``, and the shape of its outputs; None of any other.

    Small is one that takes fewer than `LARGE` multiplications for a batch. Padding with zeros and a single group are
    what is known here, on a CPU: elsewhere a convolution starts like any operation.

    >>> patches, shape = patches_of(nn.Conv2d(1, 4, 2, padding=(0, 1)), (1, 2, 1), batch_size=32)
    >>> shape, patches.places.view(4, 2).tolist()  # the image is the rows 0 and 1; 2 stands for a zero
    ((4, 1, 2), [[2, 0], [0, 2], [2, 1], [1, 2]])
    """
    plain = type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"
    if not plain or isinstance(layer.padding, str) or len(shape) != 3 or shape[0] != layer.in_channels:
        return None
    height, width = (
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, padding, dilation, kernel, stride in zip(
            shape[1:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    )
    if min(height, width) < 1 or layer.weight.device.type != "cpu":
        return None
    if layer.weight.numel() * height * width * batch_size >= LARGE:
        return None
    features = math.prod(shape)
    numbers = torch.arange(1.0, features + 1, dtype=torch.float64).view(1, *shape)  # the padding is 0 among them
    found = functional.unfold(numbers, layer.kernel_size, layer.dilation, layer.padding, layer.stride)[0].long()
    places = torch.where(found > 0, found - 1, features)
    return Patches(places.flatten(), len(places), features), (layer.out_channels, height, width)
