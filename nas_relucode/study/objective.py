"""The objective of a study: builds a candidate, trains and scores it, and returns accuracy beside indices."""

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
from nas_relucode.training.loop import Epoch, accuracy, evaluate, load_optimizer, pick_device, train
from nas_relucode.training.names import parse_head
from nas_relucode.training.networks import Network, build_autoencoder, build_backbone, build_network
from nas_relucode.training.recipe import Recipe
from nas_relucode.training.together import train_together

PAPER_SEED = 1234  # of the order of the samples (section B.1); a candidate's seed is added to it


@dataclass(frozen=True)
class Attempt:
    """A trial with its candidate, the network that is trained for it, and its record so far."""

    trial: BaseTrial
    candidate: Candidate
    network: nn.Module
    curve: CodeCurve
    record: dict[str, Any]  # see study/record

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
    (`Recipe`). None stands for the defaults; an autoencoder's recipe then has the loss ``sigmoid``. A frozen backbone
    runs once, and its features are kept. An autoencoder has no accuracy.

    All indices, the curve over the epochs and the test accuracy (for reports only) go into one user attribute,
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
        load_optimizer()

    def __call__(self, trial: BaseTrial) -> tuple[float, ...]:
        self._check_directions(trial)
        outcome = self.outcome(trial)
        result = write_outcome(trial, outcome, self.store)
        self.forget(outcome.candidate)
        if isinstance(result, optuna.TrialPruned):
            raise result
        return result

    def outcome(self, trial: BaseTrial) -> Outcome:
        """Trains and scores the trial's candidate, resuming from its checkpoint; writes nothing into the trial.

        The checkpoint of the last epoch stays until `forget` removes it, once the trial has its result.
        """
        attempt = self._begin(trial)
        try:
            self._train(attempt)
            return self._finish(attempt)
        except NonFiniteError as error:
            return self._pruned(attempt, str(error))

    @property
    def store(self) -> Any:
        """The artifact store for predictions; None if there is neither a store nor a folder."""
        if self.artifacts is None and self.folder is not None:
            return file_store(self.folder)
        return self.artifacts

    def forget(self, candidate: Candidate) -> None:
        """Removes the candidate's checkpoint."""
        if self.checkpoints is not None:
            self.checkpoints.remove(candidate.name, self._checkpoint_settings(candidate))

    def trained(self, candidate: Candidate) -> nn.Module:
        """The candidate's network, trained as in its trial, with the frozen backbone if there is one."""
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
        """The values of each trial, or the reason why it is pruned: candidates of one head, trained as one network.

        The results are those of training each candidate by itself, within rounding; there are no checkpoints (see
        `train_together`). Raises InputError for candidates of several heads, or if codes are read while weights change.
        """
        if self.codes.while_training:
            raise InputError("with while_training, codes are read from one candidate at a time. Train each by itself.")
        for trial in trials:
            self._check_directions(trial)
        attempts = [self._begin(trial) for trial in trials]
        results = []
        for attempt, epoch in zip(attempts, self._train_together(attempts), strict=True):
            try:
                if epoch is not None:
                    raise NonFiniteError(f"loss or weights stopped being finite in epoch {epoch}")
                outcome = self._finish(attempt)
            except NonFiniteError as error:
                outcome = self._pruned(attempt, str(error))
            results.append(write_outcome(attempt.trial, outcome, self.store))
        return results

    def _train_together(self, attempts: Sequence[Attempt]) -> list[int | None]:
        """Trains the candidates together; for each the epoch in which it diverged, or None."""
        start, scoring = time.perf_counter(), 0.0

        def record(number: int, losses: np.ndarray) -> None:
            nonlocal scoring
            scoring_since = time.perf_counter()
            for attempt, loss in zip(attempts, losses, strict=True):
                if number == 0 or math.isfinite(loss):
                    with contextlib.suppress(NonFiniteError):  # it has diverged, as its last epoch will show
                        self._record_epoch(attempt, Epoch(number, float(loss)))
            scoring += time.perf_counter() - scoring_since

        result = train_together(
            [attempt.network for attempt in attempts],
            self.data.train,
            learning_rates=[attempt.candidate.learning_rate for attempt in attempts],
            seeds=[PAPER_SEED + attempt.candidate.seed for attempt in attempts],
            recipe=self.recipe,
            on_epoch=record,
        )
        seconds = round((time.perf_counter() - start - scoring) / len(attempts), 3)
        for attempt in attempts:
            attempt.record["seconds"] = seconds
        return list(result.diverged)

    def _begin(self, trial: BaseTrial) -> Attempt:
        """The trial's candidate, its untrained network, and the record with what is known before the training."""
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
        record: dict[str, Any] = {
            "objectives": self.objectives,
            "candidate": candidate.params,
            "parameters": sum(parameter.numel() for part in parts for parameter in part.parameters()),
            "validation_samples": len(self.data.validation),
            "device": str(self.device),
            "curve": curve.points,
            "seconds": 0.0,  # of the training only
            "codes": {},
        }
        return Attempt(trial, candidate, network, curve, record)

    def _train(self, attempt: Attempt) -> None:
        """Trains the network, resuming from the candidate's checkpoint if there is one."""
        record, name = attempt.record, attempt.candidate.name
        settings = self._checkpoint_settings(attempt.candidate)
        stored = self.checkpoints.load(name, settings) if self.checkpoints else None
        if stored:
            earlier = stored[1]
            attempt.curve.points.extend(earlier.pop("curve"))
            record |= earlier
        start = time.perf_counter()

        def on_epoch(epoch: Epoch) -> None:
            nonlocal start
            record["seconds"] = round(record["seconds"] + time.perf_counter() - start, 3)
            point = self._record_epoch(attempt, epoch)
            if self.checkpoints:
                results = {key: record[key] for key in ("curve", "seconds", "codes")}
                self.checkpoints.save(name, epoch.state(), settings=settings, results=results)
            if self.on_epoch:
                self.on_epoch(attempt.number, epoch, point)
            start = time.perf_counter()

        train(
            attempt.network,
            self.data.train,
            learning_rate=attempt.candidate.learning_rate,
            recipe=self.recipe,
            seed=PAPER_SEED + attempt.candidate.seed,
            on_epoch=on_epoch,
            on_batch=attempt.curve.on_batch if self.codes.while_training else None,
            resume=stored[0] if stored else None,
        )

    def _record_epoch(self, attempt: Attempt, epoch: Epoch) -> dict[str, Any]:
        """Adds an epoch to the curve, saves its code space if it is to be kept, and returns the curve's new point."""
        space = attempt.curve.on_epoch(epoch)
        if epoch.number in self.codes.kept_epochs:
            assert self.folder is not None
            settings = digest(self._checkpoint_settings(attempt.candidate))  # the folder may hold another study's files
            name = f"{attempt.candidate.name}_{settings}_epoch_{epoch.number}.npz"
            (self.folder / "codes").mkdir(parents=True, exist_ok=True)
            save_code_space(space, self.folder / "codes" / name)
            attempt.record["codes"][str(epoch.number)] = name
        return attempt.curve.points[-1]

    def _finish(self, attempt: Attempt) -> Outcome:
        """Scores the trained network. Raises NonFiniteError if an objective has no finite value."""
        record = attempt.record
        record |= self._results(attempt.network)
        if self.codes.slices and attempt.candidate.seed == self.seeds[0]:
            record["slices"] = self._slices(attempt.network, f"trial_{attempt.number}")
        values = tuple(objective_value(record, name) for name in self.objectives)
        for name, value in zip(self.objectives, values, strict=True):
            if not math.isfinite(value):
                raise NonFiniteError(f"{name} is undefined for this candidate")
        floor, constraints = self.accuracy_floor, {}
        if floor is not None:
            constraints["accuracy_floor"] = floor - record["accuracy"]
        predictions = None
        if self.network.decoder is None and (self.artifacts or self.folder):
            predictions = predict(attempt.network, self.data.validation)
        return Outcome(attempt.candidate, record, values, constraints, predictions)

    def _pruned(self, attempt: Attempt, reason: str) -> Outcome:
        return Outcome(attempt.candidate, attempt.record | {"pruned": reason}, None)

    def _results(self, network: nn.Module) -> dict[str, Any]:
        """The losses, accuracies and indices of a trained network."""
        result = score(network, self.data, indices=self._indices(), split=self.codes.split, **self.codes.options)
        validation = evaluate(network, self.data.validation, loss=self.recipe.loss)
        results = result.as_dict() | {"accuracy": validation.accuracy, "validation_loss": validation.loss}
        if self.network.decoder is not None:
            return results | {"train_accuracy": None, "test_accuracy": None}
        train_accuracy = result.accuracy if self.codes.split == "train" else accuracy(network, self.data.train)
        test_accuracy = accuracy(network, self.data.test) if len(self.data.test) else None
        return results | {"train_accuracy": train_accuracy, "test_accuracy": test_accuracy}

    def _indices(self) -> list[str | Index]:
        """Every index that the data allow, and the objectives, with the settings of the codes."""
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

    def _checkpoint_settings(self, candidate: Candidate) -> Mapping[str, Any]:
        """The settings that decide the content of the candidate's checkpoint."""
        network, codes = self.network, self.codes
        settings = {
            "candidate": candidate.params,
            "data": self.digest,
            "network": [network.backbone, network.width, network.weights, network.frozen, network.decoder],
            "recipe": self.recipe.as_dict(),
            "layers": list(codes.layers),
            "codes": [codes.preset, codes.split, codes.while_training, list(codes.kept_epochs)],
        }
        reading = {name: codes.decisive[name] for name in ("mode", "maps", "also")}
        is_default = reading == {name: Reading().decisive[name] for name in reading}
        return settings if is_default else settings | {"reading": reading}  # older checkpoints have no such options

    def _check(self, data: ImageData) -> None:
        """Refuses data and settings that cannot be trained or judged."""
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
        """Builds the narrowest head of each depth, so that a wrong size or layer is an error before trial 0."""
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
        """Refuses a study with another number of directions before the training, not after it."""
        if isinstance(trial, optuna.Trial) and len(trial.study.directions) != len(self.objectives):
            raise InputError(
                f"the study has {len(trial.study.directions)} directions, but the objective returns "
                f"{len(self.objectives)} values ({', '.join(self.objectives)}). Create the study with one for each."
            )
