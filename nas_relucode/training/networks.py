"""The networks of Table 1 and B.1: a backbone and an FC head, and the dense autoencoder; no dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError, unknown
from nas_relucode.training.names import BACKBONES, WEIGHTS, parse_head

ImageShape = tuple[int, int, int]  # channels, height, width
Module = TypeVar("Module", bound=nn.Module)


class Network(nn.Module):
    """Logits of images: a backbone that ends in a vector, and an FC head whose ReLUs are ``head.1``, ``head.3``, ..."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(self.backbone(images))
        return output


class Autoencoder(nn.Module):
    """Reconstructions of images: FC layers with ReLU (``head``, Table 1: 128-64-32) and a dense decoder.

    The paper does not say what the decoder is; 128-256-output is that of its released code.
    The reconstruction is linear: put the sigmoid into the loss.
    """

    def __init__(self, image_shape: ImageShape, head: str = "128-64-32", decoder: str = "128-256") -> None:
        super().__init__()
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        widths = parse_head(head)
        self.backbone = nn.Flatten()
        self.head = nn.Sequential(*_hidden(pixels, widths))
        self.decoder = nn.Sequential(*_dense(widths[-1], parse_head(decoder), pixels), nn.Unflatten(1, image_shape))

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.decoder(self.head(self.backbone(images)))
        return output


def build_network(
    head: str,
    image_shape: ImageShape,
    classes: int,
    *,
    backbone: str = "vgg16",
    width: float = 1.0,
    seed: int = 0,
    weights: str = "random",
    backbone_seed: int | None = None,
) -> Network:
    """A classifier with Xavier weights drawn from ``seed`` and zero biases.

    ``width`` multiplies the number of channels of the backbone, so that the same network runs on a CPU. With a
    ``backbone_seed``, or with ``weights`` of ``"imagenet"``, the backbone is that of `build_backbone` and ``seed``
    draws the head alone: the very head that ``backbone="none"`` gives behind the backbone's outputs as images.

    >>> network = build_network("256-128-128", (3, 32, 32), 10, width=1 / 8)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    widths = parse_head(head)
    if classes < 1:
        raise InputError(f"{classes} classes are too few. Give the number of outputs.")
    apart = weights != "random" or backbone_seed is not None
    first = build_backbone(
        image_shape,
        backbone=backbone,
        width=width,
        seed=seed if backbone_seed is None else backbone_seed,
        weights=weights,
    )
    with torch.random.fork_rng(devices=[]):  # new layers draw weights of their own, which initialise replaces
        _, features = LAYERS[backbone](image_shape, width)
        network = Network(nn.Sequential(*first, nn.Flatten()), nn.Sequential(*_dense(features, widths, classes)))
    if apart:
        initialise(network.head, seed)
        return network
    return initialise(network, seed)


def build_backbone(
    image_shape: ImageShape, *, backbone: str = "vgg16", width: float = 1.0, seed: int = 0, weights: str = "random"
) -> nn.Sequential:
    """The backbone alone, whose outputs are NCHW: with Xavier weights drawn from ``seed``, or with given ``weights``.

    ``"imagenet"`` are torchvision's weights of VGG16 (width 1, three channels), for which ``seed`` does not matter;
    torchvision keeps them where torch.hub keeps its files and fetches them (528 MB) if they are not there. They expect
    images normalised channel by channel.

    >>> build_backbone((1, 8, 8), backbone="small_conv")(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 16, 2, 2])
    """
    if backbone not in BACKBONES:
        raise unknown("backbone", backbone, BACKBONES)
    if not 0 < width < math.inf:
        raise InputError(
            f"width {width!r} is not a positive number. Give the factor of the backbone's channels, e.g. 0.125."
        )
    if weights not in WEIGHTS:
        raise unknown("weights", weights, WEIGHTS)
    if weights == "imagenet" and (backbone != "vgg16" or width != 1 or image_shape[0] != 3):
        raise InputError(
            f"there are no ImageNet weights for backbone {backbone} of width {width:g} on {image_shape[0]} channels. "
            "Take vgg16 of width 1 on images of three channels, or random weights."
        )
    with torch.random.fork_rng(devices=[]):
        layers = nn.Sequential(*LAYERS[backbone](image_shape, width)[0])
    if weights == "random":
        return initialise(layers, seed)
    layers.load_state_dict(_imagenet())
    return layers


def build_autoencoder(
    image_shape: ImageShape, *, head: str = "128-64-32", decoder: str = "128-256", seed: int = 0
) -> Autoencoder:
    """The autoencoder of Table 1 with Xavier weights drawn from ``seed`` and zero biases."""
    with torch.random.fork_rng(devices=[]):
        network = Autoencoder(image_shape, head, decoder)
    return initialise(network, seed)


def initialise(network: Module, seed: int = 0) -> Module:
    """Xavier (Glorot) uniform weights from a generator of their own, zero biases; for Linear and Conv2d layers."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _hidden(features: int, widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in zip([features, *widths], widths, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
    return layers


def _dense(features: int, widths: list[int], outputs: int) -> list[nn.Module]:
    return [*_hidden(features, widths), nn.Linear(widths[-1], outputs)]


def _none(image_shape: ImageShape, width: float) -> tuple[list[nn.Module], int]:
    channels, height, columns = image_shape
    return [], channels * height * columns


def _small_conv(image_shape: ImageShape, width: float) -> tuple[list[nn.Module], int]:
    """Two 3x3 convolutions of stride 2 with 8 and 16 channels."""
    channels, height, columns = image_shape
    first, second = _channels(8, width), _channels(16, width)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, first, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
    ]
    return layers, second * -(-height // 4) * -(-columns // 4)


def _vgg16(image_shape: ImageShape, width: float) -> tuple[list[nn.Module], int]:
    """torchvision's VGG16 features (configuration D, no BatchNorm), their channels times ``width``."""
    from torchvision.models.vgg import cfgs, make_layers

    channels, height, columns = image_shape
    if min(height, columns) < 32:
        raise InputError(
            f"backbone vgg16 halves an image five times and can't take {height}x{columns}. "
            "Set image_size to at least 32, or choose small_conv or none."
        )
    plan = [item if isinstance(item, str) else _channels(item, width) for item in cfgs["D"]]
    layers = list(make_layers(plan))
    if channels != 3:
        layers[0] = nn.Conv2d(channels, plan[0], 3, padding=1)
    return layers, _channels(512, width) * (height // 32) * (columns // 32)


def _imagenet() -> dict[str, Tensor]:
    """torchvision's ImageNet weights of VGG16's features."""
    from torchvision.models import VGG16_Weights

    try:
        state = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network, a full disk; a file that is not what its hash says
        raise InputError(
            f"the ImageNet weights of VGG16 can't be had ({error}). Put {VGG16_Weights.IMAGENET1K_V1.url} into "
            f"{torch.hub.get_dir()}/checkpoints by hand, try again with a network, or take random weights."
        ) from error
    return {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}


def _channels(channels: int, width: float) -> int:
    return max(1, round(channels * width))


LAYERS: dict[str, Callable[[ImageShape, float], tuple[list[nn.Module], int]]] = {
    "none": _none,
    "small_conv": _small_conv,
    "vgg16": _vgg16,
}
