"""Objective(trial): build a candidate, train it, score it, return accuracy beside the indices that a study asks for."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from optuna.trial import BaseTrial
from torch import nn

from nas_relucode.cells.code_spaces import save_code_space
from nas_relucode.codes.capturing import capture
from nas_relucode.codes.reading import Reading
from nas_relucode.errors import InputError, NonFiniteError, unknown
from nas_relucode.indices.geometric import GeometricIndex
from nas_relucode.indices.index import Index
from nas_relucode.indices.registry import INDICES, configured
from nas_relucode.plots.slices import draw_slices
from nas_relucode.scoring.code_curves import CodeCurve
from nas_relucode.scoring.scores import score
from nas_relucode.study.checkpoint_files import CheckpointFiles, digest
from nas_relucode.study.predictions import file_store, predict
from nas_relucode.study.record import Outcome, objective_value, write_outcome
from nas_relucode.study.search_space import Candidate, SearchSpace
from nas_relucode.study.settings import CodeSettings, NetworkSettings, check_fit
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

    ``network``, ``codes`` and ``recipe`` are those of a study's file: what is trained behind which backbone
    (`NetworkSettings`), how codes are read and which indices are computed (`CodeSettings`), how it is trained
    (`Recipe`). None stands for the defaults, of an autoencoder's recipe with the loss ``sigmoid``. A frozen backbone
    runs once, and its features are kept. An autoencoder has no accuracy.

    All indices, the curve over the epochs and the test accuracy (for reports alone) go into one user attribute,
    ``"relucode"``. ``accuracy_floor`` becomes a constraint of the trial. A trial is pruned if its loss stops being
    finite or an objective is undefined for the candidate; the reason is kept. ``on_epoch`` is called with the trial's
    number, the epoch and the curve's point after it.

    ``folder`` is where files go: a checkpoint after every epoch of a trial, from which a candidate's next trial goes on
    if this one is interrupted or fails, and which is removed when it is complete; the code space after each of
    ``codes.kept_epochs``; features of a frozen backbone; and with ``codes.slices`` pictures of the cells in the plane
    through three training samples and around the first of them, for the first seed of each candidate, in the space of
    the head's inputs if ``codes.layers`` is the head.

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
        network: NetworkSettings | None = None,
        codes: CodeSettings | None = None,
        recipe: Recipe | None = None,
        seeds: Sequence[int] = (0,),
        accuracy_floor: float | None = None,
        device: str | None = None,
        folder: str | Path | None = None,
        artifacts: Any = None,
        on_epoch: Callable[[int, Epoch, dict[str, Any]], None] | None = None,
    ) -> None:
        self.space, self.network, self.codes = space, network or NetworkSettings(), codes or CodeSettings()
        self.recipe = recipe or Recipe(loss="cross_entropy" if self.network.decoder is None else "sigmoid")
        self.objectives, self.seeds, self.accuracy_floor = list(objectives), list(seeds), accuracy_floor
        self.folder = None if folder is None else Path(folder)
        self.artifacts, self.on_epoch = artifacts, on_epoch
        self._check(data)
        self.device = pick_device(device)
        self.checkpoints = CheckpointFiles(self.folder / "checkpoints", artifacts) if self.folder else None
        self.digest = data.digest() if self.folder else None
        self.module = "head" if self.codes.layers == ("head",) else None
        self.frozen: nn.Module | None = None
        if self.network.frozen:
            assert self.folder is not None
            self.frozen = build_backbone(data.image_shape, **self._backbone()).to(self.device)
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
            self.checkpoints.remove(candidate.name, self._made(candidate))

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
        if self.codes.while_training:
            raise InputError("with while_training, codes are read from one candidate at a time. Train them alone.")
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
            reading=self.codes,
            split=self.codes.split,
            while_training=self.codes.while_training,
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
        found, made, name = attempt.found, self._made(attempt.candidate), attempt.candidate.name
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
                self.checkpoints.save(name, epoch.state(), settings=made, results=so_far)
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
            on_batch=attempt.curve.on_batch if self.codes.while_training else None,
            resume=stored[0] if stored else None,
        )

    def _record(self, attempt: Attempt, epoch: Epoch) -> dict[str, Any]:
        """Adds an epoch to the curve and keeps its code space if that is wanted; the curve's new point."""
        space = attempt.curve.on_epoch(epoch)
        if epoch.number in self.codes.kept_epochs:
            assert self.folder is not None
            made = digest(self._made(attempt.candidate))  # so that it is no other study's
            name = f"{attempt.candidate.name}_{made}_epoch_{epoch.number}.npz"
            (self.folder / "codes").mkdir(parents=True, exist_ok=True)
            save_code_space(space, self.folder / "codes" / name)
            attempt.found["codes"][str(epoch.number)] = name
        return attempt.curve.points[-1]

    def _finish(self, attempt: Attempt) -> Outcome:
        """Scores the trained network. Raises NonFiniteError where it has no finite value for an objective."""
        found = attempt.found
        found |= self._found(attempt.network)
        if self.codes.slices and attempt.candidate.seed == self.seeds[0]:
            found["slices"] = self._slices(attempt.network, f"trial_{attempt.number}")
        values = tuple(objective_value(found, name) for name in self.objectives)
        for name, value in zip(self.objectives, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteError(f"{name} is undefined for this candidate")
        floor, constraints = self.accuracy_floor, {}
        if floor is not None:
            constraints["accuracy_floor"] = floor - found["accuracy"]
        predictions = None
        if self.network.decoder is None and (self.artifacts or self.folder):
            predictions = predict(attempt.network, self.data.validation)
        return Outcome(attempt.candidate, found, values, constraints, predictions)

    def _pruned(self, attempt: Attempt, reason: str) -> Outcome:
        return Outcome(attempt.candidate, attempt.found | {"pruned": reason}, None)

    def _found(self, network: nn.Module) -> dict[str, Any]:
        """What there is to say of a trained network: its losses and accuracies, and every index."""
        result = score(network, self.data, indices=self._indices(), split=self.codes.split, **self.codes.options)
        validation = evaluate(network, self.data.validation, loss=self.recipe.loss)
        found = result.as_dict() | {"accuracy": validation.accuracy, "validation_loss": validation.loss}
        if self.network.decoder is not None:
            return found | {"train_accuracy": None, "test_accuracy": None}
        found["train_accuracy"] = result.accuracy if self.codes.split == "train" else accuracy(network, self.data.train)
        found["test_accuracy"] = accuracy(network, self.data.test) if len(self.data.test) else None
        return found

    def _indices(self) -> list[str | Index]:
        """All that the data allow, and those that are objectives, with the settings of the codes."""
        codes = self.codes
        on_request = [name for name in self.objectives if name in INDICES and INDICES[name].on_request]
        geometry = codes.geometry or any(isinstance(INDICES[name], GeometricIndex) for name in on_request)
        indices = configured(
            graph_theta=codes.graph_theta,
            distance_theta=codes.distance_theta,
            wanted_size=codes.wanted_size,
            geometry=geometry,
            module=self.module if geometry else None,
            labels=self.data.train.labels is not None,
        )
        listed = {index.name for index in indices if isinstance(index, Index)}
        return [*indices, *(name for name in on_request if name not in listed)]

    def _slices(self, network: nn.Module, name: str) -> list[str]:
        assert self.folder is not None
        classes = [str(name) for name in self.data.classes]
        return draw_slices(network, self.data.train, self.folder / "slices", name, module=self.module, classes=classes)

    def _made(self, candidate: Candidate) -> Mapping[str, Any]:
        """Everything that decides what is in the candidate's checkpoint."""
        network, codes = self.network, self.codes
        made = {
            "candidate": candidate.params,
            "data": self.digest,
            "network": [network.backbone, network.width, network.weights, network.frozen, network.decoder],
            "recipe": self.recipe.as_dict(),
            "layers": list(codes.layers),
            "codes": [codes.preset, codes.split, codes.while_training, list(codes.kept_epochs)],
        }
        others = {name: codes.decisive[name] for name in ("mode", "maps", "also")}
        usual = others == {name: Reading().decisive[name] for name in others}
        return made if usual else made | {"reading": others}  # checkpoints made before these options keep their names

    def _check(self, data: ImageData) -> None:
        """Refuses what cannot be trained or judged."""
        check_fit(self.objectives, self.network, self.codes, self.recipe, self.accuracy_floor)
        if not self.seeds:
            raise InputError("seeds is empty. Give at least one, e.g. 0.")
        if not len(data.validation):
            raise InputError(
                "the validation split is empty, but accuracy is measured on it. "
                "Set validation to the fraction of the training images to hold out, e.g. 0.2."
            )
        if self.folder is None and (self.codes.slices or self.network.frozen or self.codes.kept_epochs):
            raise InputError("slices, features of a frozen backbone and kept code spaces are files. Name a folder.")

    def _check_layers(self) -> None:
        """Builds the narrowest head of each depth: what can't be built or lacks a layer is an error before trial 0."""
        narrowest: dict[int, str] = {}
        for head in sorted(self.space.head_list, key=lambda head: max(parse_head(head)), reverse=True):
            narrowest[len(parse_head(head))] = head
        for head in narrowest.values():
            codes = capture(self._build(head, 0), self.data.train.inputs[:1], **self.codes.options)
            names = [layer.name for layer in codes.layers]
            for layer in (name.rpartition(":")[0] for name in self.objectives):
                if layer and layer not in names:
                    raise InputError(f"head {head!r}: {unknown('layer', layer, names)}")

    def _build(self, head: str, seed: int) -> nn.Module:
        shape, settings = self.data.image_shape, self.network
        if settings.decoder is not None:
            return build_autoencoder(shape, head=head, decoder=settings.decoder, seed=seed).to(self.device)
        chosen = self._backbone() if self.frozen is None else {"backbone": "none"}
        return build_network(head, shape, len(self.data.classes), seed=seed, **chosen).to(self.device)

    def _backbone(self) -> dict[str, Any]:
        return {"backbone": self.network.backbone, "width": self.network.width, "weights": self.network.weights}

    def _check_directions(self, trial: BaseTrial) -> None:
        """A study of another number of objectives is told so before the training, not after it."""
        if isinstance(trial, optuna.Trial) and len(trial.study.directions) != len(self.objectives):
            raise InputError(
                f"the study has {len(trial.study.directions)} directions, but the objective returns "
                f"{len(self.objectives)} values ({', '.join(self.objectives)}). Create the study with one for each."
            )
