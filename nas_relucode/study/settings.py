"""The settings in a study's TOML file: data, network, recipe, search, codes, objectives."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_relucode.cells.layouts import POINTS, check_layout
from nas_relucode.codes.reading import PRESETS, Reading
from nas_relucode.errors import InputError, unknown
from nas_relucode.study.defaults import MARGIN
from nas_relucode.study.objectives import check_floor, read_objectives
from nas_relucode.study.search_space import LEARNING_RATE, SearchSettings, SearchSpace
from nas_relucode.toml_files import parse, read_toml
from nas_relucode.training.names import SOURCES, parse_head
from nas_relucode.training.recipe import Recipe

BUILT_IN_PARAMETERS = ("head", LEARNING_RATE)  # of the built-in networks
DEFAULT_LAYERS = ("default",)  # the head of a built-in network; of others the fully connected layers, or all
EXPECTATIONS = ("falls", "rises")  # of separability with depth


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The arguments of `load_data`, except data_root and download, which belong to the machine."""

    source: str  # a data set by name, an .npz file, or a folder of images
    classes: tuple[int | str, ...] | None = None  # the classes to keep, by number or name; left out: all
    image_size: int | None = None  # pixels; images are resized to squares of this size
    train_samples: int | None = None  # training images to draw, before the validation split; left out: all
    test_samples: int | None = None  # test images to draw; left out: all
    validation: float = 0.2  # share of the training images that validates
    normalise: bool = False  # subtract the mean and divide by the standard deviation of the training images
    seed: int = 0  # of the validation split and of the images that are drawn


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """A classifier behind a backbone, or with ``decoder`` an autoencoder, whose head is searched; or your own networks.

    ``factory``, ``"package.module:function"``, is called with the parameters of a candidate except its learning rate,
    and with ``image_shape``, ``classes`` and ``seed`` if it names them.
    """

    factory: str | None = None  # "package.module:function" of your own networks, in the place of the other keys
    backbone: str = "vgg16"  # before the head: see `nas-relucode list backbones`
    width: float = 1.0  # the backbone's channels as a multiple of the usual ones
    weights: str = "random"  # of the backbone; "imagenet" for torchvision's
    frozen: bool = False  # the backbone is not trained: it runs once, and its features are kept
    decoder: str | None = None  # layer widths between the head and the reconstruction, e.g. "128-256"

    def __post_init__(self) -> None:
        if self.decoder is not None:
            parse_head(self.decoder)
            if self.frozen or self.weights != "random":
                raise InputError("an autoencoder has no backbone. Leave out frozen and weights.")
        if self.factory is not None:
            module, _, function = self.factory.partition(":")
            if not module or not function.isidentifier():
                raise InputError(f"factory {self.factory!r} must name a function: package.module:function.")
            if dataclasses.replace(self, factory=None) != NetworkSettings():
                raise InputError(
                    "backbone, width, weights, frozen and decoder are of built-in networks. Leave them out, or factory."
                )

    @property
    def backbone_arguments(self) -> dict[str, Any]:
        """The arguments of `build_backbone`."""
        return {"backbone": self.backbone, "width": self.width, "weights": self.weights}


@dataclass(frozen=True, kw_only=True)
class CodeSettings(Reading):
    """How a study reads codes (`Reading`), of which samples and when, and what it computes from them."""

    layers: tuple[str, ...] = DEFAULT_LAYERS  # names, prefixes, globs, "all", "fc", "head"; default: head or fc
    split: str = "train"  # whose codes are read: "train" or "validation"
    while_training: bool = False  # the curve's codes are read while the weights move, as the released code does
    kept_epochs: tuple[int, ...] = ()  # the code spaces after these epochs are kept on disk; 0 is before the training
    graph_theta: int = 1  # cells up to this distance apart are joined in the graph
    distance_theta: int | None = None  # distances are truncated at this value; left out: not truncated
    wanted_size: tuple[float, ...] | None = None  # mu and sigma of regularised_patterns, in thousands of parameters
    geometry: bool = False  # the indices of the cells as polyhedra too, also where they are not objectives
    slices: bool = False  # pictures of the cells around and between samples, of each candidate's first seed

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "kept_epochs", tuple(self.kept_epochs))
        for name in ("graph_theta", "distance_theta"):
            theta = getattr(self, name)
            if theta is not None and theta < 0:
                raise InputError(f"{name} {theta} is negative. Give a whole number of at least 0.")
        if self.wanted_size is not None and len(self.wanted_size) != 2:
            raise InputError(f"wanted_size has {len(self.wanted_size)} numbers. Give two, mu and sigma.")

    def with_layers_of(self, network: NetworkSettings) -> CodeSettings:
        """The settings, with the head as the layers to read where they are the default of a built-in network."""
        is_default = self.layers == DEFAULT_LAYERS and network.factory is None
        return dataclasses.replace(self, layers=("head",)) if is_default else self


@dataclass(frozen=True, kw_only=True)
class FigureSettings:
    """The figure of a study: curves over the epochs (Figure 1), or embeddings (Figures 2 to 6)."""

    kind: str = "embeddings"  # or "curves"
    epochs: tuple[int, ...] = ()  # the rows of a grid; empty: all epochs whose codes are kept
    expect: str | None = None  # of separability with depth: "falls" (an autoencoder's), "rises" (a classifier's)
    points: str = "cells"  # or "samples"
    preset: str = "paper"  # or "released_code": UMAP as the released code fits it
    neighbours: int = 15  # UMAP's number of nearest neighbours
    min_dist: float = 0.1  # UMAP's least distance of points in the picture
    most_points: int | None = None  # in a picture; more are sampled at random
    seed: int = 0  # of UMAP and of the sampled points

    def __post_init__(self) -> None:
        for name, known in {
            "kind": ("curves", "embeddings"),
            "expect": (None, *EXPECTATIONS),
            "points": POINTS,
            "preset": PRESETS,
        }.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), [item for item in known if item])
        check_layout(self.neighbours, self.min_dist, self.seed, None, self.most_points)
        if self.preset == "released_code" and self.points != "cells":
            raise InputError("preset 'released_code' draws a point for each class and code. Set points to 'cells'.")

    def check_epochs(self, kept: tuple[int, ...]) -> None:
        """Raises InputError unless the study keeps the codes that are to be drawn."""
        if self.kind == "curves":
            if self.epochs:
                raise InputError("curves show every epoch. Leave out epochs.")
            return
        if not kept:
            raise InputError("a figure of embeddings needs code spaces. Set kept_epochs in [codes], e.g. [1, 5, 10].")
        for epoch in self.epochs:
            if epoch not in kept:
                raise InputError(
                    f"epoch {epoch} is not trained, or its codes are not kept. kept_epochs in [codes] has: "
                    f"{', '.join(map(str, kept))}."
                )


def _default_objectives() -> dict[str, str]:
    return {"accuracy": "maximize", "cell_count": "minimize"}


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Everything that decides the numbers of a study; stored with it, and compared when it is resumed."""

    data: DataSettings  # the images
    search: SearchSettings  # which networks are trained, and with which seeds
    description: str = ""  # one line for `nas-relucode list studies` and the report
    network: NetworkSettings = field(default_factory=NetworkSettings)  # what is trained
    training: Recipe = field(default_factory=Recipe)  # how each network is trained
    codes: CodeSettings = field(default_factory=CodeSettings)  # how codes are read, and which indices are computed
    figure: FigureSettings | None = None  # for `nas-relucode figure`; left out: no figure
    objectives: dict[str, str] = field(default_factory=_default_objectives)  # name = "maximize" or "minimize"
    accuracy_floor: float | None = None  # networks below it are infeasible; left out: 10 margins below the best so far
    margin: float = MARGIN  # a difference of accuracies that does not matter
    folder: str | None = field(default=None, compare=False)  # of the file, where a factory's module may be

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", self.codes.with_layers_of(self.network))
        check_fit(self.objectives, self.network, self.codes, self.training, self.accuracy_floor, self.margin)
        read_objectives(self.objectives.items())
        if self.figure is not None:
            self.figure.check_epochs(self.codes.kept_epochs)
        if self.search.together > 1 and self.codes.while_training:
            raise InputError("with while_training, codes are read from one candidate at a time. Set together to 1.")
        if self.search.finalist_seeds is not None and self.network.decoder is not None:
            raise InputError("an autoencoder has no accuracy, so there are no finalists. Leave out finalist_seeds.")

    @property
    def search_space(self) -> SearchSpace:
        return self.search.search_space

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, with the search space itself in the place of its name."""
        named = dataclasses.replace(self, search=dataclasses.replace(self.search, space="its table"))
        table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(named)))
        del table["folder"]
        del table["search"]["parameters"]  # they are in the space
        table["search"]["space"] = self.search_space.table()
        return table


def check_fit(
    objectives: Iterable[str],
    network: NetworkSettings,
    codes: CodeSettings,
    recipe: Recipe,
    accuracy_floor: float | None,
    margin: float,
) -> None:
    """Raises InputError unless these parts of a study fit together, before anything is trained."""
    names = list(objectives)
    read_objectives([(name, "maximize") for name in names])  # the direction does not matter here
    if codes.wanted_size is None and "regularised_patterns" in names:
        raise InputError("regularised_patterns needs wanted_size: mu and sigma, in thousands of parameters.")
    check_floor(margin, accuracy_floor)
    for epoch in codes.kept_epochs:
        if not 0 <= epoch <= recipe.epochs:
            raise InputError(
                f"epoch {epoch} is not trained: there are {recipe.epochs}. Give epochs from 0 to {recipe.epochs}."
            )
    if network.decoder is None:
        if recipe.loss != "cross_entropy":
            raise InputError(f"the loss {recipe.loss} is for autoencoders. Name a decoder, e.g. 128-256.")
    else:
        _check_autoencoder(names, recipe, accuracy_floor)


def check_parameters(space: SearchSpace, network: NetworkSettings) -> None:
    """Raises InputError unless a search space has the parameters of the built-in networks, where those are trained."""
    if network.factory is not None:
        return
    others = [name for name in space.parameters if name not in BUILT_IN_PARAMETERS]
    if others or "head" not in space.parameters:
        raise InputError(
            f"the search space has {', '.join(space.parameters)}, but the built-in networks have the parameters head "
            "and learning_rate. Name the factory of your own networks: factory = 'package.module:function' in "
            "[network]."
        )


def _check_autoencoder(objectives: list[str], recipe: Recipe, accuracy_floor: float | None) -> None:
    if recipe.loss == "cross_entropy":
        raise InputError("an autoencoder is trained by the loss sigmoid or mse, not by cross_entropy. Set one.")
    for name in objectives:
        if name.rpartition(":")[2] in ("accuracy", "correct_cell_count"):
            raise InputError(f"an autoencoder has no {name}. Choose other objectives, e.g. validation_loss.")
    if accuracy_floor is not None:
        raise InputError("an autoencoder has no accuracy. Leave out accuracy_floor.")


def load_settings(name: str | Path) -> StudySettings:
    """A built-in study by ``name``, or the user's own by a path that ends in .toml.

    >>> load_settings("digits").data.source
    'digits'
    """
    name = str(name)
    settings = parse(StudySettings, read_toml("studies", name), f"study {name}")
    if not name.endswith(".toml"):
        return settings
    folder, search, data = Path(name).parent, settings.search, settings.data  # files are named from the study's folder
    if isinstance(search.space, str) and search.space.endswith(".toml"):
        search = dataclasses.replace(search, space=str(folder / search.space))
    if data.source not in SOURCES:
        data = dataclasses.replace(data, source=str(folder / data.source))
    return dataclasses.replace(settings, search=search, data=data, folder=str(folder))
