"""Names of data sets and backbones, and checks of heads and seeds: what a command line needs before torch."""

from __future__ import annotations

import re

from nas_relucode.errors import LARGEST_SEED as LARGEST_SEED
from nas_relucode.errors import InputError, seed_number

SOURCES = {
    "digits": "scikit-learn's 8x8 digits, embedded; nothing is downloaded",
    "mnist": "torchvision's MNIST",
    "cifar10": "torchvision's CIFAR-10",
    "cifar10_small": "1,000 training and 200 test images of each class of CIFAR-10",
}
BACKBONES = {
    "none": "the pixels themselves",
    "small_conv": "two 3x3 convolutions of stride 2 with 8 and 16 channels",
    "vgg16": "torchvision's VGG16 features (configuration D, no BatchNorm)",
}
WEIGHTS = ("random", "imagenet")


def parse_head(head: str) -> list[int]:
    """The layer widths of a head. Raises InputError for text that is not a list of widths.

    >>> parse_head("256-128-128")
    [256, 128, 128]
    """
    if not isinstance(head, str) or not re.fullmatch(r"[1-9][0-9]{0,5}(-[1-9][0-9]{0,5})*", head):
        raise InputError(
            f"head {head!r} is not a list of layer widths. "
            "Write widths joined by '-', each from 1 to 999999, e.g. '256-128-128'."
        )
    return [int(width) for width in head.split("-")]


def check_seed(seed: int) -> None:
    """Raises InputError for a seed that is no whole number, or out of the range of torch's generators."""
    seed_number(seed)
