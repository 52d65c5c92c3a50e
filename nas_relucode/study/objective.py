"""The objective of a study: builds a candidate, trains and scores it, and returns accuracy beside indices."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import BaseTrial, FixedTrial
from torch import nn

from nas_relucode.codes.capturing import capture
from nas_relucode.errors import InputError, NonFiniteError, a_type, listed_items, unknown
from nas_relucode.indices.geometric import GeometricIndex
from nas_relucode.indices.index import Index
from nas_relucode.indices.registry import INDICES, configured
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.scoring.code_curves import CodeCurve
from nas_relucode.study.attempts import Attempt, Fit, OnEpoch, Trainer
from nas_relucode.study.building import BuiltIn, Factory, FactoryNetworks, NetworkSource, OwnNetworks
from nas_relucode.study.candidates import SEED, Candidate, check_seeds
from nas_relucode.study.checkpoint_files import CheckpointFiles
from nas_relucode.study.defaults import MARGIN
from nas_relucode.study.measuring import ONLY_MAPS, Splits, default_layers, measure_network
from nas_relucode.study.objectives import accuracy_constraint, best_accuracy, check_directions, new_record
from nas_relucode.study.record import MEASURED, Outcome, objective_values, saturated_objectives, write_outcome
from nas_relucode.study.search_space import LEARNING_RATE, SearchSpace
from nas_relucode.study.settings import DEFAULT_LAYERS, CodeSettings, NetworkSettings, check_fit, check_parameters
from nas_relucode.training.data import ImageData
from nas_relucode.training.frozen import frozen_features
from nas_relucode.training.loop import load_optimizer, pick_device
from nas_relucode.training.networks import Network, build_backbone
from nas_relucode.training.recipe import Recipe


class Objective:
    """An objective for any Optuna study, also for `optuna.trial.FixedTrial`.

    The networks come from one of two sources. A search ``space`` has their parameters, of which the built-in networks
    have ``head`` and ``learning_rate``, and ``factory(**parameters)`` others (see `FactoryNetworks`). Or
    ``build(trial)`` returns a network and suggests what parameters it wants, also conditional ones. Its weights are
    then drawn from torch's own random state, which is that of the seed.

    The recipe trains the network with the parameter ``learning_rate``, or with the argument where there is no such
    parameter. ``fit(network, data, *, trial, seed)`` replaces the recipe: it trains the network in place on
    `ImageData`, which lies on the objective's device, and there are no checkpoints and no curve. The seed is a
    parameter if there are several ``seeds``, or is given to the call: it draws the weights, and 1234 + seed orders the
    samples (0 is the paper's).

    ``objectives`` are returned in the order given: ``"accuracy"`` and ``"validation_loss"`` (on the validation split),
    the name of an index of the joint codes, or ``"layer:index"`` for one layer, e.g. ``"head.3:cell_count"``, or of a
    quality (`QUALITIES`).

    ``network``, ``codes`` and ``recipe`` are those of a study's file: what is trained behind which backbone
    (`NetworkSettings`), how codes are read and which indices are computed (`CodeSettings`), how it is trained
    (`Recipe`). None stands for the defaults; an autoencoder's recipe then has the loss ``sigmoid``. A frozen backbone
    runs once, and its features are kept. An autoencoder has no accuracy. By default the codes are those of the head of
    a built-in network, and of your own the fully connected layers, or all layers where there are none: convolution
    maps, in which nearly every image has a cell of its own.

    Which samples are classified correctly, all indices, the curve over the epochs and the test accuracy (for reports
    only) go into one user attribute, ``"relucode"``. ``margin`` is the difference of accuracies that does not matter,
    by which `select` compares the networks. A network is feasible, by a constraint of the trial, if it reaches the
    ``accuracy_floor``; where none is given, the floor is 10 times ``margin`` below the most accurate complete trial at
    the time. A trial is pruned if its loss stops being finite or an objective is undefined for the candidate; the
    reason is kept. ``on_epoch`` is called with the trial's number, the epoch and the curve's point after it.

    ``folder`` is where files go: a checkpoint after every epoch of a trial, from which a candidate's next trial goes on
    if this one is interrupted or fails, and which is removed when it is complete; the code space after each of
    ``codes.kept_epochs``; features of a frozen backbone; and with ``codes.slices`` pictures of the cells in the plane
    through three training samples and around the first of them, for the first seed of each candidate, in the space of
    the head's inputs if ``codes.layers`` is the head. ``artifacts`` is an artifact store of Optuna's for copies of the
    checkpoints, where workers do not share a ``folder``.
    """

    def __init__(
        self,
        data: ImageData,
        space: SearchSpace | None = None,
        *,
        factory: Factory | None = None,
        build: Callable[[Any], nn.Module] | None = None,
        fit: Fit | None = None,
        learning_rate: float | None = None,
        objectives: Sequence[str] = ("accuracy", "cell_count"),
        network: NetworkSettings | None = None,
        codes: CodeSettings | None = None,
        recipe: Recipe | None = None,
        seeds: Sequence[int] = (0,),
        accuracy_floor: float | None = None,
        margin: float = MARGIN,
        device: str | None = None,
        folder: str | Path | None = None,
        artifacts: Any = None,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        self.space, self.network = space, network or NetworkSettings()
        self.is_built_in = factory is None and build is None
        self.codes = codes or CodeSettings()
        if self.is_built_in:
            self.codes = self.codes.with_layers_of(self.network)
        self.fit, self.learning_rate = fit, learning_rate
        self.recipe = recipe or Recipe(loss="cross_entropy" if self.network.decoder is None else "sigmoid")
        self.objectives = listed_items("objectives", objectives)
        self.seeds = check_seeds(seeds)
        self.accuracy_floor, self.margin = accuracy_floor, margin
        self.folder = None if folder is None else Path(folder)
        self.on_epoch = on_epoch
        self.has_warned = self.has_finished = False
        self._check(data, factory, build)
        self.device = pick_device(device)
        digest = data.digest() if self.folder else None
        self.module = "head" if self.is_built_in and self.codes.layers == ("head",) else None
        self.frozen: nn.Module | None = None
        if self.network.frozen:
            assert self.folder is not None
            self.frozen = build_backbone(data.image_shape, **self.network.backbone_arguments).to(self.device)
            data = frozen_features(self.frozen, data, self.folder / "features")
        self.data = data.to(self.device)
        self.splits = Splits.of_images(self.data, labelled=self.network.decoder is None)
        self.networks = self._networks(factory, build)
        self.trainer = self._trainer(digest, artifacts)
        for candidate in self.networks.examples():
            self._check_layers(candidate, self.networks.build(candidate).to(self.device))
        load_optimizer()

    def __call__(self, trial: BaseTrial, seed: int | None = None) -> tuple[float, ...]:
        """Trains and scores the trial's network; with ``seed`` as it is, otherwise with one of the objective's."""
        self._check_directions(trial)  # before the training, not after it
        outcome = self.outcome(trial, seed)
        if outcome.values is not None and not self.has_finished:
            self.has_finished = True
            for sentence in saturated_objectives(outcome.record):
                warnings.warn(sentence, stacklevel=2)
        result = self._write(trial, outcome)
        self.forget(outcome.candidate)
        if isinstance(result, optuna.TrialPruned):
            raise result
        return result

    def outcome(self, trial: BaseTrial, seed: int | None = None) -> Outcome:
        """Trains and scores the trial's candidate, resuming from its checkpoint; writes nothing into the trial.

        The checkpoint of the last epoch stays until `forget` removes it, once the trial has its result.
        """
        attempt = self._begin(trial, seed)
        try:
            self.trainer.train(attempt, self.on_epoch)
            return self._finish(attempt)
        except NonFiniteError as error:
            return attempt.pruned(str(error))

    def constrained(self, outcome: Outcome, best: float | None) -> Outcome:
        """The outcome with its constraint; ``best`` is the highest accuracy among the study's complete trials."""
        accuracy = None if outcome.values is None else outcome.record["accuracy"]
        constraints = accuracy_constraint(accuracy, best, margin=self.margin, floor=self.accuracy_floor)
        return dataclasses.replace(outcome, constraints=constraints)

    def forget(self, candidate: Candidate) -> None:
        """Removes the candidate's checkpoint."""
        self.trainer.forget(candidate)

    def trained(self, candidate: Candidate) -> nn.Module:
        """The candidate's network, trained as in its trial, with the frozen backbone if there is one."""
        network = self.networks.build(candidate).to(self.device)
        self.trainer.run(network, candidate, FixedTrial(dict(candidate.params)))
        if self.frozen is None:
            return network
        return Network(nn.Sequential(*self.frozen, nn.Flatten()), cast(Network, network).head)

    def together(self, trials: Sequence[optuna.Trial]) -> list[tuple[float, ...] | optuna.TrialPruned]:
        """The values of each trial, or the reason why it is pruned: candidates that are trained as one network.

        They differ in learning rate and seed only. The results are those of training each candidate by itself, within
        rounding; there are no checkpoints (see `train_together`). Raises InputError for networks of several structures,
        for an objective with its own ``fit``, or if codes are read while weights change.
        """
        if self.fit is not None:
            raise InputError("fit trains one network at a time. Train each candidate by itself.")
        if self.codes.while_training:
            raise InputError("with while_training, codes are read from one candidate at a time. Train each by itself.")
        for trial in trials:
            self._check_directions(trial)
        attempts = [self._begin(trial, trial.user_attrs.get(SEED)) for trial in trials]
        results = []
        for attempt, epoch in zip(attempts, self.trainer.train_together(attempts), strict=True):
            try:
                if epoch is not None:
                    raise NonFiniteError(f"loss or weights stopped being finite in epoch {epoch}")
                outcome = self._finish(attempt)
            except NonFiniteError as error:
                outcome = attempt.pruned(str(error))
            results.append(self._write(attempt.trial, outcome))
        return results

    def _begin(self, trial: BaseTrial, seed: int | None) -> Attempt:
        """The trial's candidate, its untrained network, and the record with what is known before the training."""
        candidate, network = self.networks.begin(trial, self.seeds, seed)
        network = network.to(self.device)
        codes = self._reading(network)
        if self.space is None:  # there were no examples to check
            self._check_layers(candidate, network)
        curve = CodeCurve(
            network,
            self.data,
            loss=self.recipe.loss,
            reading=codes,
            split=codes.split,
            while_training=codes.while_training,
        )
        parts = [network] if self.frozen is None else [network, self.frozen]
        record = new_record(candidate, self.objectives, self.margin, self.accuracy_floor) | {
            "device": str(self.device),
            "curve": curve.points,
            "qualities": {
                "parameters": sum(parameter.numel() for part in parts for parameter in part.parameters()),
                "seconds": 0.0,  # of the training only
            },
            "codes": {},
        }
        return Attempt(trial, candidate, network, codes, curve, record)

    def _finish(self, attempt: Attempt) -> Outcome:
        """Measures the trained network. Raises NonFiniteError if an objective has no finite value."""
        record = attempt.record
        measured = measure_network(
            attempt.network,
            self.splits,
            indices=self._indices(),
            qualities=["parameters", *(name for name in self.objectives if name in QUALITIES)],
            split=self.codes.split,
            reading=attempt.codes,
            loss=self.recipe.loss,
        )
        record |= measured | {"qualities": measured["qualities"] | record["qualities"]}
        if self.codes.slices and attempt.candidate.seed == self.seeds[0]:
            record["slices"] = self._slices(attempt.network, f"trial_{attempt.number}")
        return Outcome(attempt.suggested, record, objective_values(record))

    def _write(self, trial: BaseTrial, outcome: Outcome) -> tuple[float, ...] | optuna.TrialPruned:
        best = best_accuracy(trial.study) if isinstance(trial, optuna.Trial) else None
        return write_outcome(trial, self.constrained(outcome, best))

    def _reading(self, network: nn.Module) -> CodeSettings:
        """How codes are read off a network, with the layers that the default stands for."""
        if self.codes.layers != DEFAULT_LAYERS:
            return self.codes
        layers = default_layers(network, self.splits)
        if layers == "all" and not self.has_warned:
            self.has_warned = True
            warnings.warn(ONLY_MAPS, stacklevel=4)
        return dataclasses.replace(self.codes, layers=(layers,))

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
        from nas_relucode.study.slice_pictures import draw_slices  # loads matplotlib, which takes a second

        assert self.folder is not None
        classes = [str(name) for name in self.data.classes]
        return draw_slices(network, self.data.train, self.folder / "slices", name, module=self.module, classes=classes)

    def _networks(self, factory: Factory | None, build: Callable[[Any], nn.Module] | None) -> NetworkSource:
        if build is not None:
            return OwnNetworks(build)
        assert self.space is not None
        arguments = {"image_shape": self.data.image_shape, "classes": len(self.data.classes)}
        return FactoryNetworks(self.space, factory or BuiltIn(self.network), arguments)

    def _trainer(self, data_digest: str | None, artifacts: Any) -> Trainer:
        return Trainer(
            self.data,
            self.recipe,
            self.codes,
            fit=self.fit,
            learning_rate=self.learning_rate,
            folder=self.folder,
            checkpoints=CheckpointFiles(self.folder / "checkpoints", artifacts) if self.folder else None,
            origin={"data": data_digest, "network": self.networks.key()},
        )

    def _check(self, data: ImageData, factory: Factory | None, build: Callable[[Any], nn.Module] | None) -> None:
        """Refuses data and settings that cannot be trained or judged."""
        if not isinstance(data, ImageData):
            raise InputError(f"the data are {a_type(data)}. Give ImageData, as nas_relucode.load_data returns them.")
        if self.space is not None and not isinstance(self.space, SearchSpace):
            raise InputError(
                f"the search space is {a_type(self.space)}. Give a SearchSpace; "
                "study.search_space.load_search_space reads one from a file."
            )
        check_fit(self.objectives, self.network, self.codes, self.recipe, self.accuracy_floor, self.margin)
        if (self.space is None) == (build is None) or (build is not None and factory is not None):
            raise InputError("networks come from a search space or from build. Give one: a factory needs a space.")
        if self.is_built_in:
            assert self.space is not None
            check_parameters(self.space, self.network)
        elif dataclasses.replace(self.network, factory=None) != NetworkSettings():
            raise InputError("network describes a built-in network, but your own are given. Leave it out.")
        names = [LEARNING_RATE] if self.space is None else list(self.space.parameters)
        if self.fit is None and self.learning_rate is None and LEARNING_RATE not in names:
            raise InputError(
                f"the search space has {', '.join(names)}, but no learning_rate. Add one, even a list of one: "
                "learning_rate = [0.01]."
            )
        if not len(data.validation):
            raise InputError(
                "the validation split is empty, but accuracy is measured on it. "
                "Set validation to the fraction of the training images to hold out, e.g. 0.2."
            )
        if self.folder is None and (self.codes.slices or self.network.frozen or self.codes.kept_epochs):
            raise InputError("slices, features of a frozen backbone and kept code spaces are files. Name a folder.")
        if self.fit is not None and (self.codes.kept_epochs or self.codes.while_training):
            raise InputError("fit shows no epochs. Leave out kept_epochs and while_training, or fit.")

    def _check_directions(self, trial: BaseTrial) -> None:
        """Refuses a study that minimizes accuracy, say; the directions of indices are the study's own."""
        check_directions(trial, {name: MEASURED.get(name) for name in self.objectives})

    def _check_layers(self, candidate: Candidate, network: nn.Module) -> None:
        """Refuses a network that lacks a layer of the objectives."""
        codes = capture(network, self.data.train.inputs[:1], **self._reading(network).options)
        names = [layer.name for layer in codes.layers]
        for layer in (name.rpartition(":")[0] for name in self.objectives):
            if layer and layer not in names:
                raise InputError(f"{candidate.label}: {unknown('layer', layer, names)}")
