"""What a study's TOML file says: the data, the network, the recipe, the search, the codes, the objectives."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from nas_relucode.cells.embedding import POINTS, PRESETS, check_layout
from nas_relucode.errors import InputError, unknown
from nas_relucode.study.checks import check_accuracy_floor, check_kept_epochs, check_network, check_objectives
from nas_relucode.study.search_space import SearchSpace, load_search_space
from nas_relucode.toml_files import parse, read_toml
from nas_relucode.training.names import SOURCES, check_seed
from nas_relucode.training.recipe import Recipe

EXPECTATIONS = ("falls", "rises")  # of separability with depth

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The arguments of `load_data`, but for the machine's own: data_root and download."""

    source: str
    classes: tuple[int | str, ...] | None = None
    image_size: int | None = None
    train_samples: int | None = None
    test_samples: int | None = None
    validation: float = 0.2
    normalise: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """A classifier behind a backbone, or with ``decoder`` an autoencoder."""

    backbone: str = "vgg16"
    width: float = 1.0
    weights: str = "random"  # of the backbone, or "imagenet": torchvision's
    frozen: bool = False  # the backbone is not trained; it runs once, and its features are kept
    decoder: str | None = None  # layer widths between the head and the reconstruction, e.g. "128-256"


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """A finite space is enumerated. With ``trials`` a sampler draws that many candidates instead."""

    space: str | SearchSpace  # a built-in name, a path ending in .toml, or a table with heads and learning_rates
    seeds: tuple[int, ...] = (0,)
    trials: int | None = None
    sampler: str = "tpe"
    together: int = 1  # so many candidates of one head are trained as one batched network, without checkpoints

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"seeds {list(self.seeds)} must be different whole numbers of at least 0.")
        for seed in self.seeds:
            check_seed(seed)
        for name in ("trials", "together"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is too small. Give at least 1.")


@dataclass(frozen=True, kw_only=True)
class CodeSettings:
    layers: tuple[str, ...] = ("head",)
    preset: str = "paper"  # or "released_code": a bit where the activation is at least 1
    split: str = "train"  # or "validation"
    while_training: bool = False  # the curve's codes are taken from moving weights, as the released code does
    kept_epochs: tuple[int, ...] = ()  # the code spaces after these epochs are kept on disk, 0 is before the training
    graph_theta: int = 1
    distance_theta: int | None = None
    wanted_size: tuple[float, ...] | None = None  # mu and sigma of regularised_patterns, in thousands of parameters
    geometry: bool = False  # the indices of the cells as polyhedra as well, also where they are no objectives
    slices: bool = False  # pictures of the cells around and between samples, of each candidate's first seed


@dataclass(frozen=True, kw_only=True)
class FigureSettings:
    """What `nas-relucode figure` draws: curves over the epochs (Figure 1), or embeddings (Figures 2 to 6)."""

    kind: str = "embeddings"  # or "curves"
    epochs: tuple[int, ...] = ()  # the rows of a grid; none stands for all that are kept
    expect: str | None = None  # of separability with depth: "falls" (an autoencoder's), "rises" (a classifier's)
    points: str = "cells"  # or "samples"
    preset: str = "paper"  # or "released_code": UMAP as the released code fits it
    neighbours: int = 15
    min_dist: float = 0.1
    most_points: int | None = None  # at most so many points a picture, drawn at random
    seed: int = 0

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
            raise InputError("preset 'released_code' has a point a class and code. Set points to 'cells'.")

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
                    f"epoch {epoch} is not trained, or its codes are not kept. kept_epochs in [codes] says which are: "
                    f"{', '.join(map(str, kept))}."
                )


def _default_objectives() -> dict[str, str]:
    return {"accuracy": "maximize", "cell_count": "minimize"}


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Everything that decides the numbers of a study; stored with it, and compared when it is resumed."""

    data: DataSettings
    search: SearchSettings
    description: str = ""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: Recipe = field(default_factory=Recipe)
    codes: CodeSettings = field(default_factory=CodeSettings)
    figure: FigureSettings | None = None
    objectives: dict[str, str] = field(default_factory=_default_objectives)  # name -> "maximize" or "minimize"
    accuracy_floor: float | None = None  # networks below it are infeasible

    def __post_init__(self) -> None:
        check_objectives(self.objectives)
        for name, direction in self.objectives.items():
            if direction not in ("maximize", "minimize"):
                raise unknown(f"direction of {name}", direction, ["maximize", "minimize"])
        check_accuracy_floor(self.accuracy_floor)
        network = self.network
        check_network(
            network.decoder, network.frozen, network.weights, self.training, self.objectives, self.accuracy_floor
        )
        check_kept_epochs(self.codes.kept_epochs, self.training.epochs)
        if self.figure is not None:
            self.figure.check_epochs(self.codes.kept_epochs)
        if self.search.together > 1 and self.codes.while_training:
            raise InputError("codes of moving weights are taken of one candidate at a time. Set together to 1.")

    @property
    def search_space(self) -> SearchSpace:
        space = self.search.space
        return load_search_space(space) if isinstance(space, str) else space

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, with the search space itself in the place of its name."""
        search = dataclasses.replace(self.search, space=self.search_space)
        table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(self, search=search))))
        return table


def load_settings(name: str) -> StudySettings:
    """A built-in study by name, or the user's own by a path that ends in .toml.

    >>> load_settings("digits").data.source
    'digits'
    """
    settings = parse(StudySettings, read_toml("studies", name), f"study {name}")
    if name.endswith(".toml"):  # files are named from the study's own folder
        space, source = settings.search.space, settings.data.source
        if isinstance(space, str) and space.endswith(".toml"):
            search = dataclasses.replace(settings.search, space=str(Path(name).parent / space))
            settings = dataclasses.replace(settings, search=search)
        if source not in SOURCES:
            data = dataclasses.replace(settings.data, source=str(Path(name).parent / source))
            settings = dataclasses.replace(settings, data=data)
    return settings
