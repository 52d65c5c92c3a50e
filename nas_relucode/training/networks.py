"""The networks of Table 1 and B.1 (a backbone and an FC head; the dense autoencoder), and networks by name."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError, a_type, finite_number, first_line, unknown, whole_number
from nas_relucode.training.names import BACKBONES, WEIGHTS, check_seed, parse_head
from nas_relucode.training.weights import load_weights

ImageShape = tuple[int, int, int]  # channels, height, width
Module = TypeVar("Module", bound=nn.Module)


class Network(nn.Module):
    """A classifier: a backbone that ends in a vector, and an FC head whose ReLUs are ``head.1``, ``head.3``, ..."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(self.backbone(images))
        return output


class Autoencoder(nn.Module):
    """An autoencoder of images: FC layers with ReLU (``head``, Table 1: 128-64-32) and a dense decoder.

    The paper does not describe its decoder; 128-256-output is that of its released code. The last layer is linear:
    the sigmoid belongs to the loss.
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

    ``image_shape`` is (channels, height, width). ``width`` multiplies the number of channels of the backbone; a
    fraction makes a network that trains on a CPU. With a ``backbone_seed``, or with ``weights="imagenet"``, the
    backbone is that of `build_backbone` and ``seed`` draws only the head. The head is then the same as the one that
    ``backbone="none"`` builds for the backbone's outputs, taken as images.

    >>> network = build_network("256-128-128", (3, 32, 32), 10, width=1 / 8)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    widths = parse_head(head)
    whole_number("classes", classes, least=1)
    has_own_backbone = weights != "random" or backbone_seed is not None
    backbone_layers = build_backbone(
        image_shape,
        backbone=backbone,
        width=width,
        seed=seed if backbone_seed is None else backbone_seed,
        weights=weights,
    )
    with torch.random.fork_rng(devices=[]):  # new layers draw random weights, which initialise replaces
        _, features = LAYERS[backbone](image_shape, width)
        network = Network(
            nn.Sequential(*backbone_layers, nn.Flatten()), nn.Sequential(*_dense(features, widths, classes))
        )
    if has_own_backbone:
        initialise(network.head, seed)
        return network
    return initialise(network, seed)


def check_image_shape(shape: ImageShape) -> None:
    """Raises InputError for what is not the shape (channels, height, width) of an image."""
    sizes = list(shape) if isinstance(shape, tuple | list) else []
    if len(sizes) != 3:
        raise InputError(f"image_shape is {shape!r:.80}. Give (channels, height, width).")
    for size in sizes:
        whole_number("a size of image_shape", size, least=1)


def build_backbone(
    image_shape: ImageShape, *, backbone: str = "vgg16", width: float = 1.0, seed: int = 0, weights: str = "random"
) -> nn.Sequential:
    """The backbone, with outputs (samples, channels, height, width) and Xavier weights drawn from ``seed``.

    ``width`` is the number of its channels as a multiple of the usual ones.

    ``weights="imagenet"`` takes torchvision's weights of VGG16 (width 1, three channels) instead; they expect images
    normalised channel by channel. torchvision keeps them in the folder of torch.hub, and downloads them (528 MB) if
    they are missing.

    >>> build_backbone((1, 8, 8), backbone="small_conv")(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 16, 2, 2])
    """
    if backbone not in BACKBONES:
        raise unknown("backbone", backbone, BACKBONES)
    check_image_shape(image_shape)
    width = finite_number("width", width, above=True)  # a factor of the backbone's channels
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
    check_image_shape(image_shape)
    with torch.random.fork_rng(devices=[]):
        network = Autoencoder(image_shape, head, decoder)
    return initialise(network, seed)


def initialise(network: Module, seed: int = 0) -> Module:
    """Gives Linear and Conv2d layers Xavier (Glorot) uniform weights, drawn from ``seed``, and zero biases."""
    check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def torchvision_names() -> list[str]:
    """The names of torchvision's classifiers, as `network_by_name` takes them.

    >>> {"resnet18", "vgg16_bn", "mobilenet_v3_small"} <= set(torchvision_names())
    True
    """
    from torchvision import models  # imports torch's compiler, which takes seconds

    return list(models.list_models(module=models))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context with torch's random state drawn from ``seed``; it is afterwards as it was before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def network_by_name(model: str, weights: str | None = None, *, classes: int | None = None, seed: int = 0) -> nn.Module:
    """The network that ``model`` names, as its factory returns it, with ``weights`` loaded if they are given.

    ``model`` is ``package.module:factory``, called without arguments, or the name of one of torchvision's classifiers,
    which then has ``classes`` outputs (None: 1000). ``weights`` is a file of them (see `load_weights`), or
    ``"imagenet"`` for torchvision's default weights of its networks, which it downloads if they are missing and which
    have 1000 outputs; None leaves the weights random, drawn from ``seed``.

    The module is also looked for in the current folder; what it prints goes to standard error. Raises InputError with
    the reason if there is no such network, or the weights do not fit.
    """
    check_seed(seed)
    if not isinstance(model, str):
        raise InputError(f"model is {a_type(model)}. Give package.module:factory, or the name of a classifier.")
    if classes is not None:
        classes = whole_number("the number of outputs", classes, least=1)
    module, colon, factory = model.partition(":")
    pretrained = weights == "imagenet"
    if colon and module and factory:
        if pretrained:
            raise InputError(f"imagenet weights are torchvision's: model {model!r} needs a file of its own.")
        with seeded(seed):
            network = NamedFactory(model)()
    elif not colon and model in torchvision_names():
        with seeded(seed):
            network = _torchvision_network(model, pretrained, classes)
    else:
        similar = difflib.get_close_matches(model, torchvision_names(), n=3)
        raise InputError(
            f"model {model!r} is neither package.module:factory, e.g. torchvision.models:resnet18, nor one of "
            f"torchvision's classifiers, e.g. {', '.join(similar) or 'resnet18, vgg16'}."
        )
    if weights is not None and not pretrained:
        load_weights(network, weights, model)
    return network


class NamedFactory:
    """The function that ``package.module:function`` names, which returns a network; it is imported now.

    The module is also looked for in ``folder`` and in the current one. Raises InputError with the reason if there
    is no such function, and whenever it fails or returns something else.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name, self.folder = name, (folder or Path()).resolve()
        module_name, _, function = name.partition(":")
        try:
            with _importable(self.folder):
                module = importlib.import_module(module_name)
                self._check_file(module)
                self.function: Callable[..., Any] = getattr(module, function)
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # the user's own code may raise anything
            raise InputError(
                f"{name!r} cannot be imported ({first_line(error)}). Give package.module:function, of a module that "
                f"is installed or lies in {self.folder}."
            ) from error
        if not callable(self.function):
            raise InputError(f"{name!r} is {a_type(self.function)}. Name a function that returns a network.")
        with contextlib.suppress(ValueError):  # some of Python's own have none
            self.__signature__ = inspect.signature(self.function)
        self.__module__, self.__qualname__ = module_name, function

    def __call__(self, **arguments: Any) -> nn.Module:
        try:
            with _importable(self.folder):
                network = self.function(**arguments)
        except (Exception, SystemExit) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise InputError(f"{self.name}({given}) could not be built ({first_line(error)}).") from error
        if not isinstance(network, nn.Module):
            raise InputError(f"{self.name!r} returns {a_type(network)}. It must return a torch.nn.Module.")
        return network

    def _check_file(self, module: Any) -> None:
        """Refuses a module of the same name that was imported from elsewhere before."""
        own = self.folder / f"{module.__name__.replace('.', '/')}.py"
        imported = getattr(module, "__file__", None)
        if own.is_file() and (imported is None or not own.samefile(imported)):
            raise InputError(
                f"the module {module.__name__} was imported from {imported or 'Python itself'} before, not from {own}. "
                "Rename the file."
            )


def _hidden(features: int, widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in zip([features, *widths], widths, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
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
            f"backbone vgg16 halves an image five times and cannot take {height}x{columns}. "
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
    except (OSError, RuntimeError) as error:  # no connection, a full disk, a wrong hash
        raise InputError(
            f"the ImageNet weights of VGG16 cannot be downloaded ({error}). Put {VGG16_Weights.IMAGENET1K_V1.url} into "
            f"{torch.hub.get_dir()}/checkpoints by hand, try again with a network connection, or take random weights."
        ) from error
    return {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}


def _channels(channels: int, width: float) -> int:
    return max(1, round(channels * width))


LAYERS: dict[str, Callable[[ImageShape, float], tuple[list[nn.Module], int]]] = {
    "none": _none,
    "small_conv": _small_conv,
    "vgg16": _vgg16,
}


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """A context in which modules in ``folder`` and here can be imported; what they print goes to standard error."""
    folders = [str(folder), os.getcwd()]
    sys.path[:0] = folders
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            yield
    finally:
        for added in folders:
            sys.path.remove(added)


def _torchvision_network(model: str, pretrained: bool, classes: int | None) -> nn.Module:
    settings: dict[str, Any] = {"progress": False}
    if classes is not None and not pretrained:
        settings["num_classes"] = classes
    from torchvision import models

    weights = models.get_model_weights(model).DEFAULT if pretrained else None
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            # googlenet and inception_v3 warn of a coming change of their random weights
            warnings.filterwarnings("ignore", "The default weight initialization of", FutureWarning)
            return models.get_model(model, weights=weights, **settings)
    except (OSError, RuntimeError) as error:  # no connection, a full disk, a wrong hash
        if weights is None:
            raise
        raise InputError(
            f"the ImageNet weights of {model} cannot be downloaded ({error}). Put {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints by hand, try again with a network connection, or give a file."
        ) from error
