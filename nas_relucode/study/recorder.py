"""The recorder of a user's own objective: scores the network of a trial, keeps its record and returns its values."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Unpack

import optuna
from optuna.trial import BaseTrial
from torch import nn

from nas_relucode.codes.reading import Forward, Reading, ReadingOptions, read_options
from nas_relucode.errors import InputError, NonFiniteError, a_type, finite_number, listed_items
from nas_relucode.indices.index import Index
from nas_relucode.indices.registry import INDICES, Indices, named
from nas_relucode.qualities.quality import Quality
from nas_relucode.qualities.registry import QUALITIES, by_name, in_pixel_range
from nas_relucode.qualities.samples import PixelRange
from nas_relucode.study.candidates import SEED, Candidate, as_seed
from nas_relucode.study.columns import check_own_name
from nas_relucode.study.defaults import MARGIN
from nas_relucode.study.measuring import ONLY_MAPS, Splits, default_layers, measure_network
from nas_relucode.study.objectives import (
    Objectives,
    accuracy_constraint,
    best_accuracy,
    check_directions,
    check_floor,
    new_record,
    read_objectives,
)
from nas_relucode.study.record import (
    DIRECTIONS,
    Outcome,
    check_params,
    complete_trials,
    objective_values,
    record_of,
    saturated_objectives,
    write_outcome,
)


class Recorder:
    """Scores the networks of a study of your own, keeps what `select` needs, and returns the study's values.

    Make one for a study, and call it at the end of the objective::

        record = rc.Recorder(train=train, validation=validation, test=test, objectives=["accuracy", "cell_count"])

        def objective(trial, seed=0):
            network = fit(build(trial), seed)  # yours
            return record(trial, network, seed=seed)

        study = optuna.create_study(directions=record.directions)

    ``train``, ``validation`` and ``test`` are each a pair of inputs and labels (tensors or arrays), a Split, a Dataset,
    a DataLoader or an iterable of batches. Accuracy is measured on the validation samples; the codes are those of the
    training samples, or of the validation samples if there are no others; the test samples are for reports only.
    A DataLoader that shuffles is read in the order of its data set. Data whose order changes from pass to pass are
    refused, since `select` compares networks sample by sample.

    ``objectives`` are ``"accuracy"``, ``"validation_loss"``, names of indices (`INDICES`), ``"layer:index"`` and
    qualities (`QUALITIES`), each with a direction, ``("edge_count", "minimize")``, unless it has one of its own.
    ``indices`` and ``qualities`` are what else is kept of each network: names, or an Index or Quality of your own; None
    stands for every index that the data allow. ``pixel_range=(black, white)`` is that of qualities of changed images
    (accuracies under noise, corruptions, attacks, shift), numbers or one per channel: give it for normalised images.

    ``margin`` is the difference of accuracies that does not matter, by which `select` and `reseed` compare the
    networks. A network is feasible, by a constraint of the trial, if its accuracy lies at most 10 times ``margin``
    below the best so far, or reaches ``accuracy_floor`` if that is given. The options are those of `Reading`;
    ``layers`` are by default the fully connected ones, or all where there are none.

    Raises InputError for samples, objectives or options that cannot be used, before anything is trained.
    """

    def __init__(
        self,
        *,
        train: Any = None,
        validation: Any,
        test: Any = None,
        objectives: Objectives = ("accuracy", "cell_count"),
        indices: Indices = None,
        qualities: Iterable[str | Quality] = ("parameters",),
        pixel_range: PixelRange | None = None,
        margin: float = MARGIN,
        accuracy_floor: float | None = None,
        **options: Unpack[ReadingOptions],
    ) -> None:
        self.layers_given = options.get("layers") is not None
        given: Any = {name: value for name, value in options.items() if name != "layers" or value is not None}
        self.reading, self.forward = read_options(given)
        listed: list[str | Index] = ["all"]
        if indices is not None:
            listed = listed_items("indices", indices, Index)
        qualities = listed_items("qualities", qualities, Quality)
        _check_kinds(listed, qualities)
        for item in qualities:
            by_name(item)  # a wrong name is an error before anything is trained
        own = {item.name: item for item in qualities if isinstance(item, Quality)}
        chosen = named(listed)[0]
        self.own_directions = _own_directions(own.values(), chosen.values())
        self.objectives = read_objectives(objectives, indices=INDICES | chosen, qualities=QUALITIES | own)
        self.indices = _with_objectives(listed, self.objectives)
        wanted = [*qualities, *(name for name in self.objectives if name in QUALITIES)]
        self.qualities = list(dict.fromkeys(wanted))
        self.pixel_range = pixel_range
        in_pixel_range([by_name(item) for item in self.qualities], pixel_range)
        check_floor(margin, accuracy_floor)
        self.margin, self.accuracy_floor = margin, accuracy_floor
        self.split = "validation" if train is None else "train"
        self.splits = Splits.of(train=train, validation=validation, test=test)
        self.first: tuple[int, dict[str, Any]] | None = None  # the first complete trial's number and record

    @property
    def directions(self) -> list[Any]:
        """The directions of the objectives in their order, for ``optuna.create_study(directions=...)``."""
        return list(self.objectives.values())

    def __call__(
        self,
        trial: BaseTrial,
        network: nn.Module,
        *,
        seed: int | None = None,
        accuracy: float | None = None,
        test_accuracy: float | None = None,
        forward: Forward | None = None,
    ) -> float | tuple[float, ...]:
        """Scores the trial's trained network, keeps its record in the trial, and returns the values to return.

        ``trial`` is that of a study, or a FixedTrial. The parameters that it has suggested are the network; one called
        ``seed`` is not, it is the seed, and so is ``seed``. ``accuracy`` and ``test_accuracy`` are your own, fractions
        of 1, instead of those measured here. ``forward(network, batch)`` returns the class scores of a network that is
        called in another way than ``network(inputs)``.

        Raises TrialPruned, and keeps the reason, if outputs are not finite or an objective is undefined; InputError for
        a study with another number of directions, and for a network with another number of classes than the others.
        """
        accuracy, test_accuracy = self._checked(trial, accuracy, test_accuracy)
        candidate = Candidate.of_trial(trial.params, self._seed(trial, seed))
        record = new_record(candidate, self.objectives, self.margin, self.accuracy_floor)
        record |= {DIRECTIONS: self.own_directions} if self.own_directions else {}
        forward = forward or self.forward
        try:
            record |= measure_network(
                network,
                self.splits,
                indices=self.indices,
                qualities=self.qualities,
                pixel_range=self.pixel_range,
                split=self.split,
                reading=self._reading(network, forward),
                forward=forward,
                accuracy=accuracy,
                test_accuracy=test_accuracy,
            )
            outcome = self._outcome(trial, candidate, record)
        except NonFiniteError as error:
            outcome = Outcome(candidate, record | {"pruned": str(error)}, None)
        result = write_outcome(trial, outcome)
        if isinstance(result, optuna.TrialPruned):
            raise result
        return result if len(result) > 1 else result[0]

    def _outcome(self, trial: BaseTrial, candidate: Candidate, record: dict[str, Any]) -> Outcome:
        """The record with the trial's time and values. Raises NonFiniteError if an objective has no finite value."""
        study = getattr(trial, "study", None)
        if isinstance(trial, optuna.Trial) and trial.datetime_start is not None:
            record["qualities"]["seconds"] = round((datetime.now() - trial.datetime_start).total_seconds(), 3)
        number = getattr(trial, "number", 0)
        self._check_same(study, number, record)
        values = objective_values(record)
        if self.first is None:
            self._warn_saturated(record)
            self.first = number, record
        best = None if study is None else best_accuracy(study)
        constraint = accuracy_constraint(record["accuracy"], best, margin=self.margin, floor=self.accuracy_floor)
        return Outcome(candidate, record, values, constraint)

    def _reading(self, network: nn.Module, forward: Forward | None) -> Reading:
        """How codes are read: if no layers were named, the fully connected ones where there are any."""
        if self.layers_given:
            return self.reading
        layers = default_layers(network, self.splits, forward=forward)
        if layers == "all" and self.first is None:
            warnings.warn(ONLY_MAPS, stacklevel=3)
        return Reading(**{**self.reading.options, "layers": layers})  # type: ignore[arg-type]

    def _seed(self, trial: BaseTrial, seed: int | None) -> int:
        """The seed that was given, that of `reseed`, or 0; a parameter of the trial called seed must agree with it."""
        if seed is None:
            return as_seed(trial.params.get(SEED, trial.user_attrs.get(SEED, 0)))
        seed = as_seed(seed)
        if trial.params.get(SEED, seed) != seed:
            raise InputError(
                f"seed={seed} was given, but the trial has the parameter seed={trial.params[SEED]}. Give one of them."
            )
        return seed

    def _checked(
        self, trial: BaseTrial, accuracy: float | None, test_accuracy: float | None
    ) -> tuple[float | None, float | None]:
        """The user's own accuracies as floats. Raises InputError for them, and for a trial that cannot be ranked."""
        if not isinstance(trial, BaseTrial):
            raise InputError(f"the trial is {a_type(trial)}. Call the recorder as record(trial, network, seed=seed).")
        check_directions(trial, self.objectives, "directions=record.directions")
        check_params(trial.params)
        return _as_accuracy("accuracy", accuracy), _as_accuracy("test_accuracy", test_accuracy)

    def _check_same(self, study: optuna.Study | None, number: int, record: dict[str, Any]) -> None:
        """Raises InputError if the network has another number of classes, warns of other validation samples."""
        complete = [] if study is None else complete_trials(study)
        first = (complete[0].number, record_of(complete[0])) if complete else self.first
        if first is None:
            return
        earlier, classes = first[1], record["classes"]
        if None not in (classes, earlier.get("classes")) and classes != earlier["classes"]:
            raise InputError(
                f"the network of trial {number} has {classes} classes, but that of trial {first[0]} has "
                f"{earlier['classes']}. Networks of one study have the same classes: make another study."
            )
        if earlier.get("validation", {}).get("digest") not in (None, record["validation"]["digest"]):
            warnings.warn(
                f"trial {number} was measured on other validation samples than trial {first[0]}, so that select cannot "
                "compare them sample by sample. Give the recorder the same samples in every run of a study.",
                stacklevel=4,
            )

    def _warn_saturated(self, record: dict[str, Any]) -> None:
        for sentence in saturated_objectives(record):
            warnings.warn(sentence, stacklevel=4)


def _as_accuracy(name: str, value: Any) -> float | None:
    try:
        return None if value is None else finite_number(name, value, most=1)
    except InputError as error:
        raise InputError(f"{error} It is a fraction, for example 0.93.") from error


def _check_kinds(indices: Iterable[str | Index], qualities: Iterable[str | Quality]) -> None:
    """Raises InputError for an index among the qualities, and for a quality among the indices."""
    for name in indices:
        if isinstance(name, str) and name in QUALITIES and name not in INDICES:
            raise InputError(f"{name!r} is a quality, not an index. Give it in qualities=, or among the objectives.")
    for item in qualities:
        if isinstance(item, str) and item in INDICES and item not in QUALITIES:
            raise InputError(f"{item!r} is an index, not a quality. Give it in indices=, or among the objectives.")


def _own_directions(qualities: Iterable[Quality], indices: Iterable[Index]) -> dict[str, str]:
    """The directions of the user's own, whose names are checked."""
    own_qualities = [item for item in qualities if QUALITIES.get(item.name) is not item]
    own_indices = [item for item in indices if item.name not in INDICES]
    taken: dict[str, str] = dict.fromkeys(INDICES, "an index") | dict.fromkeys(("seconds", "parameters"), "a cost")
    for quality in own_qualities:
        if quality.name not in QUALITIES:
            check_own_name("quality", quality.name, taken)
    taken = {item.name: "a quality" for item in (*QUALITIES.values(), *own_qualities)} | {"seconds": "a cost"}
    for index in own_indices:
        check_own_name("index", index.name, taken)
    directions: dict[str, str | None] = {item.name: item.direction for item in own_qualities}
    directions |= {item.name: item.direction for item in own_indices}
    return {name: direction for name, direction in directions.items() if direction is not None}


def _with_objectives(indices: list[str | Index], objectives: Iterable[str]) -> list[str | Index]:
    """The indices, and those among the objectives that are not computed otherwise."""
    chosen = named(indices)[0]
    names = (name.rpartition(":")[2] for name in objectives)
    return [*indices, *dict.fromkeys(name for name in names if name in INDICES and name not in chosen)]
