"""Objective(trial): build a candidate, train it, score it, return accuracy beside the indices that a study asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import optuna
from optuna.trial import BaseTrial
from torch import nn

from nas_relucode.capturing import capture
from nas_relucode.data import ImageData
from nas_relucode.errors import InputError, NonFiniteError, SolverError, unknown
from nas_relucode.files import write_atomically
from nas_relucode.indices import INDICES
from nas_relucode.networks import Network, build_network, parse_head
from nas_relucode.scoring import SEGMENTS, Score, score
from nas_relucode.search_space import SearchSpace
from nas_relucode.slice_figures import slice_figure
from nas_relucode.slices import neighbourhood, slice_through
from nas_relucode.training import Epoch, Recipe, accuracy, pick_device, train

ATTRIBUTE = "relucode"  # the one user attribute that holds everything found in a trial
CURVE = ("cell_count", "correct_cell_count")  # the indices taken after each epoch (Figure 1)
MOST_CELLS = 100_000  # of a slice: with more there is nothing to be seen
PAPER_SEED = 1234  # of the training in B.1; a candidate's seed is added to it


class Objective:
    """An objective for any Optuna study, also for `optuna.trial.FixedTrial`.

    ``objectives`` are returned in the order given: ``"accuracy"`` (on the validation split), the name of an index of
    the joint codes, or ``"layer:index"`` for one layer, e.g. ``"head.3:cell_count"``. Codes are those of the training
    samples, as in the paper. The trial's parameters are ``head`` and ``learning_rate``, and ``seed`` if there are
    several ``seeds``: a seed draws the weights, and 1234 + seed orders the samples (0 is the paper's).

    All indices, the curve over the epochs and the test accuracy (for reports alone) go into one user attribute,
    ``"relucode"``. ``accuracy_floor`` becomes a constraint of the trial. A loss that stops being finite prunes the
    trial, and so does an index that is undefined for the candidate; the reason is kept. ``on_epoch`` is told the
    trial's number, the epoch and what was found after it. ``wanted_size`` is that of `score`;
    ``geometry`` adds the indices of the cells as polyhedra.
    ``slices`` is a folder: the cells in the plane through three training samples and those around the first of them
    are drawn there for the first seed of each candidate. Both are taken in the space of the head's inputs if
    ``layers`` is the head.
    """

    def __init__(
        self,
        data: ImageData,
        space: SearchSpace,
        *,
        objectives: Sequence[str] = ("accuracy", "cell_count"),
        backbone: str = "vgg16",
        width: float = 1.0,
        recipe: Recipe | None = None,
        layers: str | Sequence[str] = "head",
        graph_theta: int = 1,
        distance_theta: int | None = None,
        seeds: Sequence[int] = (0,),
        accuracy_floor: float | None = None,
        device: str | None = None,
        wanted_size: Sequence[float] | None = None,
        geometry: bool = False,
        slices: str | Path | None = None,
        on_epoch: Callable[[int, Epoch, dict[str, Any]], None] | None = None,
    ) -> None:
        check_objectives(objectives)
        check_accuracy_floor(accuracy_floor)
        if wanted_size is None and "regularised_patterns" in objectives:
            raise InputError("regularised_patterns needs wanted_size: mu and sigma, in thousands of parameters.")
        if wanted_size is not None and len(wanted_size) != 2:
            raise InputError(f"wanted_size has {len(wanted_size)} numbers. Give two, mu and sigma.")
        if not seeds:
            raise InputError("seeds is empty. Give at least one, e.g. 0.")
        for key, theta in {"graph_theta": graph_theta, "distance_theta": distance_theta}.items():
            if theta is not None and theta < 0:
                raise InputError(f"{key} {theta} is negative. Give a whole number of at least 0.")
        if not len(data.validation):
            raise InputError(
                "the validation split is empty, but accuracy is measured on it. "
                "Set validation to the fraction of the training images to hold out, e.g. 0.2."
            )
        self.space = space
        self.objectives = list(objectives)
        self.backbone = backbone
        self.width = width
        self.recipe = recipe or Recipe()
        self.layers = layers
        self.graph_theta = graph_theta
        self.distance_theta = distance_theta
        self.seeds = list(seeds)
        self.accuracy_floor = accuracy_floor
        self.device = pick_device(device)
        self.wanted_size = None if wanted_size is None else (wanted_size[0], wanted_size[1])
        self.geometry = geometry or any("geometry" in INDICES[name].needs for name in objectives if name in INDICES)
        self.slices = None if slices is None else Path(slices)
        self.module = "head" if list([layers] if isinstance(layers, str) else layers) == ["head"] else None
        self.on_epoch = on_epoch
        self.data = data.to(self.device)
        self._check_layers()

    def __call__(self, trial: BaseTrial) -> tuple[float, ...]:
        self._check_directions(trial)
        candidate = self.space.suggest(trial, self.seeds)
        network = self._build(candidate.head, candidate.seed)
        found: dict[str, Any] = {
            "objectives": self.objectives,
            "candidate": candidate.params,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "validation_samples": len(self.data.validation),
            "device": str(self.device),
            "curve": [],
        }

        scoring = 0.0

        def record(epoch: Epoch) -> None:
            nonlocal scoring
            before = time.perf_counter()
            found["curve"].append(self._point(network, epoch))
            scoring += time.perf_counter() - before
            if self.on_epoch:
                self.on_epoch(getattr(trial, "number", 0), epoch, found["curve"][-1])

        start = time.perf_counter()
        try:
            train(
                network,
                self.data.train,
                learning_rate=candidate.learning_rate,
                recipe=self.recipe,
                seed=PAPER_SEED + candidate.seed,
                on_epoch=record,
            )
            found["seconds"] = round(time.perf_counter() - start - scoring, 3)  # of the training alone
            result = self._score(network)
        except NonFiniteError as error:
            self._prune(trial, found, str(error))
        found |= result.as_dict()
        found["train_accuracy"] = result.accuracy
        found["accuracy"] = accuracy(network, self.data.validation)
        found["test_accuracy"] = accuracy(network, self.data.test) if len(self.data.test) else None
        if self.slices is not None and candidate.seed == self.seeds[0]:
            found["slices"] = self._slices(network, f"trial_{getattr(trial, 'number', 0)}")
        values = tuple(objective_value(found, name) for name in self.objectives)
        for name, value in zip(self.objectives, values, strict=True):
            if not math.isfinite(value):
                self._prune(trial, found, f"{name} is undefined for this candidate")
        trial.set_user_attr(ATTRIBUTE, found)
        if self.accuracy_floor is not None:
            trial.set_constraint("accuracy_floor", self.accuracy_floor - found["accuracy"])
        return values

    def _score(self, network: nn.Module, indices: Sequence[str] | None = None) -> Score:
        return score(
            network,
            self.data,
            layers=self.layers,
            indices=indices,
            segments=SEGMENTS if indices is None and "segment_transitions" in self.objectives else 0,
            module=self.module,
            wanted_size=self.wanted_size,
            geometry=indices is None and self.geometry,
            graph_theta=self.graph_theta,
            distance_theta=self.distance_theta,
        )

    def _slices(self, network: nn.Module, name: str) -> list[str]:
        """Draws the slice through the first samples of three classes, and the neighbourhood of the first.

        The names of the files; what can't be drawn is left out: too many cells, samples that span no plane.
        """
        assert self.slices is not None
        data = self.data.train
        assert data.labels is not None
        firsts = [int((data.labels == label).nonzero()[0]) for label in data.labels.unique()]
        chosen = sorted({*firsts, *range(3)}, key=lambda number: (number not in firsts, number))[:3]
        classes = [str(name) for name in self.data.classes]
        labels = [classes[int(data.labels[number])] for number in chosen]
        inputs = data.inputs[chosen]
        drawn = []
        for file, draw, given in (
            (f"{name}.png", slice_through, inputs),
            (f"{name}_near.png", neighbourhood, inputs[:1]),
        ):
            try:
                part = draw(network, given, module=self.module, max_cells=MOST_CELLS)
                figure = slice_figure(part, classes=classes, labels=labels)
            except (InputError, SolverError):  # equal samples, a border in one direction only, too many cells
                continue
            self.slices.mkdir(parents=True, exist_ok=True)
            write_atomically(self.slices / file, lambda path: figure.savefig(path, dpi=100, format="png"))  # noqa: B023
            drawn.append(file)
        return drawn

    def _point(self, network: nn.Module, epoch: Epoch) -> dict[str, Any]:
        """One point of the curve over the epochs."""
        result = self._score(network, CURVE)
        return {
            "epoch": epoch.number,
            "loss": epoch.loss if math.isfinite(epoch.loss) else None,
            "accuracy": accuracy(network, self.data.validation),
            "train_accuracy": result.accuracy,
            "joint": result.joint,
            "layers": result.layers,
        }

    def _check_layers(self) -> None:
        """Builds the narrowest head of each depth: what can't be built or lacks a layer is an error before trial 0."""
        narrowest: dict[int, str] = {}
        for head in sorted(self.space.head_list, key=lambda head: max(parse_head(head)), reverse=True):
            narrowest[len(parse_head(head))] = head
        for head in narrowest.values():
            codes = capture(self._build(head, 0), self.data.train.inputs[:1], layers=self.layers)
            names = [layer.name for layer in codes.layers]
            for layer in (name.rpartition(":")[0] for name in self.objectives):
                if layer and layer not in names:
                    raise InputError(f"head {head!r}: {unknown('layer', layer, names)}")

    def _build(self, head: str, seed: int) -> Network:
        network = build_network(
            head,
            self.data.image_shape,
            len(self.data.classes),
            backbone=self.backbone,
            width=self.width,
            seed=seed,
        )
        return network.to(self.device)

    def _prune(self, trial: BaseTrial, found: dict[str, Any], reason: str) -> NoReturn:
        trial.set_user_attr(ATTRIBUTE, found | {"pruned": reason})
        raise optuna.TrialPruned(reason)

    def _check_directions(self, trial: BaseTrial) -> None:
        """A study of another number of objectives is told so before the training, not after it."""
        if isinstance(trial, optuna.Trial) and len(trial.study.directions) != len(self.objectives):
            raise InputError(
                f"the study has {len(trial.study.directions)} directions, but the objective returns "
                f"{len(self.objectives)} values ({', '.join(self.objectives)}). Create the study with one for each."
            )


def check_objectives(names: Iterable[str]) -> None:
    """Raises InputError unless each name is ``accuracy``, an index, or an index of a layer: ``layer:index``."""
    names = list(names)
    if not names:
        raise InputError("objectives is empty. Name at least one, e.g. accuracy.")
    for name in names:
        layer, colon, index = name.rpartition(":")
        of_a_layer = bool(layer) and index in INDICES and not INDICES[index].joint
        if name != "accuracy" and (index not in INDICES or (colon and not of_a_layer)):
            raise unknown("objective", name, ["accuracy", *INDICES, "LAYER:INDEX"])
    if len(set(names)) != len(names):
        raise InputError(f"objectives {names} name one twice. Name each once.")


def check_accuracy_floor(floor: float | None) -> None:
    """Raises InputError unless ``floor`` is None or a fraction."""
    if floor is not None and not 0 <= floor <= 1:
        raise InputError(f"accuracy_floor {floor!r} is out of range. Give a number from 0 to 1.")


def objective_value(found: dict[str, Any], name: str) -> float:
    """The value of an objective in what a trial found; NaN if it is undefined."""
    layer, _, index = name.rpartition(":")
    where = found if name == "accuracy" else found["layers"][layer] if layer else found["joint"]
    value = where[index]
    return math.nan if value is None else float(value)
