"""Objective(trial): build a candidate, train it, score it, return accuracy beside the indices that a study asks for."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from optuna.trial import BaseTrial
from torch import nn

from nas_relucode.cells.code_spaces import save_code_space
from nas_relucode.codes.capturing import capture
from nas_relucode.errors import InputError, NonFiniteError, unknown
from nas_relucode.indices.registry import INDICES
from nas_relucode.plots.slices import draw_slices
from nas_relucode.scoring.code_curves import CodeCurve
from nas_relucode.scoring.scores import SEGMENTS, score
from nas_relucode.study.checkpoint_files import CheckpointFiles, digest
from nas_relucode.study.checks import (
    QUALITIES,
    check_accuracy_floor,
    check_kept_epochs,
    check_network,
    check_objectives,
)
from nas_relucode.study.predictions import file_store, predict
from nas_relucode.study.record import Outcome, write_outcome
from nas_relucode.study.search_space import Candidate, SearchSpace
from nas_relucode.training.data import ImageData
from nas_relucode.training.frozen import frozen_features
from nas_relucode.training.loop import Epoch, accuracy, evaluate, pick_device, train
from nas_relucode.training.names import parse_head
from nas_relucode.training.networks import Network, build_autoencoder, build_backbone, build_network
from nas_relucode.training.recipe import Recipe
from nas_relucode.training.together import train_together

PAPER_SEED = 1234  # of the training in B.1; a candidate's seed is added to it


@dataclass(frozen=True)
class Attempt:
    """One trial's way through the objective."""

    trial: BaseTrial
    candidate: Candidate
    network: nn.Module
    curve: CodeCurve
    found: dict[str, Any]  # what becomes the trial's attribute

    @property
    def number(self) -> int:
        """The trial's number; 0 for a FixedTrial."""
        return getattr(self.trial, "number", 0)


class Objective:
    """An objective for any Optuna study, also for `optuna.trial.FixedTrial`.

    ``objectives`` are returned in the order given: ``"accuracy"`` and ``"validation_loss"`` (on the validation split),
    the name of an index of the joint codes, or ``"layer:index"`` for one layer, e.g. ``"head.3:cell_count"``. The
    trial's parameters are ``head`` and ``learning_rate``, and ``seed`` if there are several ``seeds``: a seed draws the
    weights, and 1234 + seed orders the samples (0 is the paper's).

    The network is a classifier behind a ``backbone``, whose ``weights`` are "random" or torchvision's "imagenet"; with
    ``frozen`` it is not trained, runs once, and its features are kept. With ``decoder`` (widths, e.g. "128-256") it is
    an autoencoder, trained by the recipe's loss ``sigmoid`` or ``mse``, and has no accuracy.

    Codes are those of the ``split`` train, as in the paper, or validation; ``preset`` and ``while_training`` give the
    ways of the paper's released code (see `capture` and `CodeCurve`).

    All indices, the curve over the epochs and the test accuracy (for reports alone) go into one user attribute,
    ``"relucode"``. ``accuracy_floor`` becomes a constraint of the trial. A loss that stops being finite prunes the
    trial, and so does an index that is undefined for the candidate; the reason is kept. ``on_epoch`` is told the
    trial's number, the epoch and what was found after it. ``wanted_size`` is that of `score`; ``geometry`` adds the
    indices of the cells as polyhedra.

    ``folder`` is where files go: a checkpoint after every epoch of a trial, from which a candidate's next trial goes on
    if this one is interrupted or fails, and which is removed when it is complete;
    the code space after each of ``kept_epochs``; features of a frozen backbone; and with ``slices`` pictures of the
    cells in the plane through three training samples and around the first of them, for the first seed of each
    candidate, in the space of the head's inputs if ``layers`` is the head.

    ``artifacts`` is an artifact store of Optuna's for the predictions on the validation split, which `select` compares,
    and for copies of the checkpoints, where workers do not share a ``folder``; None stands for the folder
    ``artifacts`` in ``folder``, and no copies. Predictions are kept for trials of a study.
    """

    def __init__(
        self,
        data: ImageData,
        space: SearchSpace,
        *,
        objectives: Sequence[str] = ("accuracy", "cell_count"),
        backbone: str = "vgg16",
        width: float = 1.0,
        weights: str = "random",
        frozen: bool = False,
        decoder: str | None = None,
        recipe: Recipe | None = None,
        layers: str | Sequence[str] = "head",
        preset: str = "paper",
        split: str = "train",
        while_training: bool = False,
        graph_theta: int = 1,
        distance_theta: int | None = None,
        seeds: Sequence[int] = (0,),
        accuracy_floor: float | None = None,
        device: str | None = None,
        wanted_size: Sequence[float] | None = None,
        geometry: bool = False,
        folder: str | Path | None = None,
        artifacts: Any = None,
        kept_epochs: Sequence[int] = (),
        slices: bool = False,
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
        self.recipe = recipe or Recipe(loss="cross_entropy" if decoder is None else "sigmoid")
        check_network(decoder, frozen, weights, self.recipe, objectives, accuracy_floor)
        check_kept_epochs(kept_epochs, self.recipe.epochs)
        if folder is None and (slices or frozen or kept_epochs):
            raise InputError("slices, features of a frozen backbone and kept code spaces are files. Name a folder.")
        self.space = space
        self.objectives = list(objectives)
        self.backbone = backbone
        self.width = width
        self.weights = weights
        self.decoder = decoder
        self.layers = layers
        self.preset = preset
        self.split = split
        self.while_training = while_training
        self.graph_theta = graph_theta
        self.distance_theta = distance_theta
        self.seeds = list(seeds)
        self.accuracy_floor = accuracy_floor
        self.device = pick_device(device)
        self.wanted_size = None if wanted_size is None else (wanted_size[0], wanted_size[1])
        self.geometry = geometry or any("geometry" in INDICES[name].needs for name in objectives if name in INDICES)
        self.folder = None if folder is None else Path(folder)
        self.artifacts = artifacts
        self.checkpoints = CheckpointFiles(self.folder / "checkpoints", artifacts) if self.folder else None
        self.kept_epochs = tuple(kept_epochs)
        self.slices = slices
        self.module = "head" if list([layers] if isinstance(layers, str) else layers) == ["head"] else None
        self.on_epoch = on_epoch
        self.digest = data.digest() if folder is not None else None
        self.frozen: nn.Module | None = None
        if frozen:
            assert self.folder is not None
            shape = data.image_shape
            self.frozen = build_backbone(shape, backbone=backbone, width=width, weights=weights).to(self.device)
            data = frozen_features(self.frozen, data, self.folder / "features")
        self.data = data.to(self.device)
        self._check_layers()

    def __call__(self, trial: BaseTrial) -> tuple[float, ...]:
        self._check_directions(trial)
        outcome = self.outcome(trial)
        told = write_outcome(trial, outcome, self.store)
        self.forget(outcome.candidate)
        if isinstance(told, optuna.TrialPruned):
            raise told
        return told

    def outcome(self, trial: BaseTrial) -> Outcome:
        """Trains and scores the trial's candidate, from its checkpoint on if there is one; writes nothing into it.

        The checkpoint of the last epoch stays: `forget` removes it once the trial has been told.
        """
        attempt = self._begin(trial)
        try:
            self._train(attempt)
            return self._finish(attempt)
        except NonFiniteError as error:
            return self._pruned(attempt, str(error))

    @property
    def store(self) -> Any:
        """The artifact store for predictions; None if there is no folder either."""
        if self.artifacts is None and self.folder is not None:
            return file_store(self.folder)
        return self.artifacts

    def forget(self, candidate: Candidate) -> None:
        """Removes the candidate's checkpoint."""
        if self.checkpoints is not None:
            self.checkpoints.remove(file_name(candidate), self._made(candidate))

    def trained(self, candidate: Candidate) -> nn.Module:
        """The candidate's network, trained as in a trial of its own; with a frozen backbone, it and the head."""
        network = self._build(candidate.head, candidate.seed)
        train(
            network,
            self.data.train,
            learning_rate=candidate.learning_rate,
            recipe=self.recipe,
            seed=PAPER_SEED + candidate.seed,
        )
        if self.frozen is None:
            return network
        return Network(nn.Sequential(*self.frozen, nn.Flatten()), cast(Network, network).head)

    def together(self, trials: Sequence[optuna.Trial]) -> list[tuple[float, ...] | optuna.TrialPruned]:
        """The values of each trial, or why it is pruned: candidates of one head, trained as one batched network.

        They find what each would find alone, within rounding, and have no checkpoints (see `train_together`).
        Raises InputError for candidates of several heads, or where codes are taken while the weights move.
        """
        if self.while_training:
            raise InputError("codes are taken while the weights move of one candidate at a time. Train them alone.")
        for trial in trials:
            self._check_directions(trial)
        attempts = [self._begin(trial) for trial in trials]
        start, scoring = time.perf_counter(), 0.0

        def record(number: int, losses: np.ndarray) -> None:
            nonlocal scoring
            before = time.perf_counter()
            for attempt, loss in zip(attempts, losses, strict=True):
                if number == 0 or math.isfinite(loss):
                    with contextlib.suppress(NonFiniteError):  # of a loss that is finite yet; the end will tell
                        self._record(attempt, Epoch(number, float(loss)))
            scoring += time.perf_counter() - before

        result = train_together(
            [attempt.network for attempt in attempts],
            self.data.train,
            learning_rates=[attempt.candidate.learning_rate for attempt in attempts],
            seeds=[PAPER_SEED + attempt.candidate.seed for attempt in attempts],
            recipe=self.recipe,
            on_epoch=record,
        )
        seconds = round((time.perf_counter() - start - scoring) / len(attempts), 3)
        told = []
        for attempt, epoch in zip(attempts, result.diverged, strict=True):
            attempt.found["seconds"] = seconds
            try:
                if epoch is not None:
                    raise NonFiniteError(f"loss or weights stopped being finite in epoch {epoch}")
                outcome = self._finish(attempt)
            except NonFiniteError as error:
                outcome = self._pruned(attempt, str(error))
            told.append(write_outcome(attempt.trial, outcome, self.store))
        return told

    def _begin(self, trial: BaseTrial) -> Attempt:
        """The trial's candidate, its network before the training, and what is known of it."""
        candidate = self.space.suggest(trial, self.seeds)
        network = self._build(candidate.head, candidate.seed)
        curve = CodeCurve(
            network,
            self.data,
            loss=self.recipe.loss,
            layers=self.layers,
            preset=self.preset,
            split=self.split,
            while_training=self.while_training,
        )
        parts = [network] if self.frozen is None else [network, self.frozen]
        found: dict[str, Any] = {
            "objectives": self.objectives,
            "candidate": candidate.params,
            "parameters": sum(parameter.numel() for part in parts for parameter in part.parameters()),
            "validation_samples": len(self.data.validation),
            "device": str(self.device),
            "curve": curve.points,
            "seconds": 0.0,  # of the training alone
            "codes": {},
        }
        return Attempt(trial, candidate, network, curve, found)

    def _train(self, attempt: Attempt) -> None:
        """Trains, from the candidate's checkpoint on if there is one."""
        found, made, name = attempt.found, self._made(attempt.candidate), file_name(attempt.candidate)
        stored = self.checkpoints.load(name, made) if self.checkpoints else None
        if stored:
            earlier = stored[1]
            attempt.curve.points.extend(earlier.pop("curve"))
            found |= earlier
        start = time.perf_counter()

        def record(epoch: Epoch) -> None:
            nonlocal start
            found["seconds"] = round(found["seconds"] + time.perf_counter() - start, 3)
            point = self._record(attempt, epoch)
            if self.checkpoints:
                so_far = {key: found[key] for key in ("curve", "seconds", "codes")}
                self.checkpoints.save(name, epoch.state(), made=made, found=so_far)
            if self.on_epoch:
                self.on_epoch(attempt.number, epoch, point)
            start = time.perf_counter()

        train(
            attempt.network,
            self.data.train,
            learning_rate=attempt.candidate.learning_rate,
            recipe=self.recipe,
            seed=PAPER_SEED + attempt.candidate.seed,
            on_epoch=record,
            on_batch=attempt.curve.on_batch if self.while_training else None,
            resume=stored[0] if stored else None,
        )

    def _record(self, attempt: Attempt, epoch: Epoch) -> dict[str, Any]:
        """Adds an epoch to the curve and keeps its code space if that is wanted; the curve's new point."""
        space = attempt.curve.on_epoch(epoch)
        if epoch.number in self.kept_epochs:
            assert self.folder is not None
            made = digest(self._made(attempt.candidate))  # so that it is no other study's
            name = f"{file_name(attempt.candidate)}_{made}_epoch_{epoch.number}.npz"
            (self.folder / "codes").mkdir(parents=True, exist_ok=True)
            save_code_space(space, self.folder / "codes" / name)
            attempt.found["codes"][str(epoch.number)] = name
        return attempt.curve.points[-1]

    def _finish(self, attempt: Attempt) -> Outcome:
        """Scores the trained network. Raises NonFiniteError where it has no finite value for an objective."""
        found = attempt.found
        found |= self._found(attempt.network)
        if self.slices and attempt.candidate.seed == self.seeds[0]:
            found["slices"] = self._slices(attempt.network, f"trial_{attempt.number}")
        values = tuple(objective_value(found, name) for name in self.objectives)
        for name, value in zip(self.objectives, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteError(f"{name} is undefined for this candidate")
        floor, constraints = self.accuracy_floor, {}
        if floor is not None:
            constraints["accuracy_floor"] = floor - found["accuracy"]
        predictions = None
        if self.decoder is None and (self.artifacts or self.folder):
            predictions = predict(attempt.network, self.data.validation)
        return Outcome(attempt.candidate, found, values, constraints, predictions)

    def _pruned(self, attempt: Attempt, reason: str) -> Outcome:
        return Outcome(attempt.candidate, attempt.found | {"pruned": reason}, None)

    def _found(self, network: nn.Module) -> dict[str, Any]:
        """What there is to say of a trained network: its losses and accuracies, and every index."""
        result = score(
            network,
            self.data,
            layers=self.layers,
            segments=SEGMENTS if "segment_transitions" in self.objectives else 0,
            module=self.module if self.geometry else None,
            wanted_size=self.wanted_size,
            geometry=self.geometry,
            graph_theta=self.graph_theta,
            distance_theta=self.distance_theta,
            preset=self.preset,
            split=self.split,
        )
        validation = evaluate(network, self.data.validation, loss=self.recipe.loss)
        found = result.as_dict() | {"accuracy": validation.accuracy, "validation_loss": validation.loss}
        if self.decoder is not None:
            return found | {"train_accuracy": None, "test_accuracy": None}
        found["train_accuracy"] = result.accuracy if self.split == "train" else accuracy(network, self.data.train)
        found["test_accuracy"] = accuracy(network, self.data.test) if len(self.data.test) else None
        return found

    def _slices(self, network: nn.Module, name: str) -> list[str]:
        assert self.folder is not None
        classes = [str(name) for name in self.data.classes]
        return draw_slices(network, self.data.train, self.folder / "slices", name, module=self.module, classes=classes)

    def _made(self, candidate: Candidate) -> Mapping[str, Any]:
        """Everything that decides what is in the candidate's checkpoint."""
        return {
            "candidate": candidate.params,
            "data": self.digest,
            "network": [self.backbone, self.width, self.weights, self.frozen is not None, self.decoder],
            "recipe": asdict(self.recipe),
            "layers": [self.layers] if isinstance(self.layers, str) else list(self.layers),
            "codes": [self.preset, self.split, self.while_training, list(self.kept_epochs)],
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

    def _build(self, head: str, seed: int) -> nn.Module:
        shape = self.data.image_shape
        if self.decoder is not None:
            return build_autoencoder(shape, head=head, decoder=self.decoder, seed=seed).to(self.device)
        chosen: dict[str, Any] = {"backbone": self.backbone, "width": self.width, "weights": self.weights}
        if self.frozen is not None:
            chosen = {"backbone": "none"}
        return build_network(head, shape, len(self.data.classes), seed=seed, **chosen).to(self.device)

    def _check_directions(self, trial: BaseTrial) -> None:
        """A study of another number of objectives is told so before the training, not after it."""
        if isinstance(trial, optuna.Trial) and len(trial.study.directions) != len(self.objectives):
            raise InputError(
                f"the study has {len(trial.study.directions)} directions, but the objective returns "
                f"{len(self.objectives)} values ({', '.join(self.objectives)}). Create the study with one for each."
            )


def file_name(candidate: Candidate) -> str:
    """What the files of a candidate are called, but for their ends.

    >>> file_name(Candidate("32-16", 0.01, seed=3))
    '32-16_0.01_seed_3'
    """
    return f"{candidate.head}_{candidate.learning_rate!r}_seed_{candidate.seed}"


def objective_value(found: dict[str, Any], name: str) -> float:
    """The value of an objective in what a trial found; NaN if it is undefined."""
    layer, _, index = name.rpartition(":")
    where = found if name in QUALITIES else found["layers"][layer] if layer else found["joint"]
    value = where[index]
    return math.nan if value is None else float(value)
