"""What a trial keeps: one user attribute, written and read here.

The record of a complete trial, version 2, is a dict of plain values for JSON:

    version                       2
    params, seed                  the candidate: the parameters of the network (without the seed), and the seed
    objectives                    the names of the trial's values, in their order
    accuracy, validation_loss     on the validation split; accuracy is None for an autoencoder
    train_accuracy, test_accuracy the test split is for reports only; None without one
    validation, test              which samples the two accuracies are of, and which of them are classified
                                  correctly, see `study.predictions`; None where it is not known. The former has a
                                  ``split`` where accuracy was measured on another one than the validation split
    classes                       the number of classes; None where it is not known
    qualities                     name -> number: parameters, seconds (of the training only), and other costs
    joint, layers, saturated      what `Score.as_dict` gives: the indices of all chosen layers, and of each
    split, samples                of which samples the codes are
    curve                         one point per epoch, from `CodeCurve`; epoch 0 is before the training
    device
    margin                        the difference of accuracies that does not matter, by which `select` compares
    floor_below_best              how far below the best mean accuracy samplers avoid a network, if no floor is named
    directions                    the directions of indices and qualities of the user's own, if they have one
    codes                         epoch -> file of the code space kept after it
    slices                        files of the pictures of cells, if any were drawn

A trial without a result has the reason instead: ``pruned`` (beside what was known until then), ``failed`` or
``interrupted``. Version 1 (written before 0.1.0) had ``candidate`` (head, learning_rate, seed), ``parameters``,
``seconds`` and ``validation_samples``, and kept predictions apart; it is read as version 2 without predictions.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from nas_relucode.errors import InputError, NonFiniteError, a_type
from nas_relucode.study.candidates import Candidate

ATTRIBUTE = "relucode"  # the user attribute that holds the record
VERSION = 2
FLOOR_BELOW_BEST = "floor_below_best"
DIRECTIONS = "directions"
FLOOR = "accuracy_floor"  # the constraint of a trial where a floor is named
RELATIVE_FLOOR = "relative_accuracy_floor"  # the constraint of a trial where no floor is named
MEASURED = {"accuracy": "maximize", "validation_loss": "minimize"}  # objectives that are neither indices nor qualities
ACCURACIES = ("accuracy", "train_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Outcome:
    """How a training ended, apart from its trial, to which it may be written later and by another process."""

    candidate: Candidate
    record: dict[str, Any]  # with the reason if there are no values
    values: tuple[float, ...] | None  # of the objectives; None if the trial is to be pruned
    constraints: Mapping[str, float] = field(default_factory=dict)  # feasible up to 0


def write_outcome(trial: BaseTrial, outcome: Outcome) -> tuple[float, ...] | optuna.TrialPruned:
    """Writes an outcome into its trial and returns the values to tell, or the exception that prunes the trial.

    Beside the record stand plain values that optuna-dashboard shows: network, seed, accuracy and the objectives.
    """
    trial.set_user_attr(ATTRIBUTE, outcome.record)
    shown: dict[str, Any] = {"network": outcome.candidate.label, "seed": outcome.candidate.seed}
    if outcome.values is not None:
        shown |= {"accuracy": outcome.record["accuracy"]}
        shown |= dict(zip(outcome.record["objectives"], outcome.values, strict=True))
    for name, value in shown.items():
        trial.set_user_attr(name, value)
    for name, value in outcome.constraints.items():
        trial.set_constraint(name, value)
    return optuna.TrialPruned(outcome.record["pruned"]) if outcome.values is None else outcome.values


def check_params(params: Mapping[str, Any]) -> None:
    """Raises InputError for parameters whose values a record cannot hold, such as lists and tuples."""
    for name, value in params.items():
        if not _is_plain(value):
            raise InputError(
                f"the parameter {name} has the value {value!r:.80}, {a_type(value)}, and networks are told apart by "
                "numbers, texts, booleans and None. Let the trial suggest one of these, for example '32-16', and make "
                "what you need of it."
            )


def write_failed(trial: optuna.Trial, error: BaseException) -> None:
    """Keeps the reason of a failure, as text that any file can hold: a path in it need not be UTF-8.

    What the system did (OSError: a full disk, a missing permission) is an interruption, no failure of the candidate.
    """
    reason = f"{type(error).__name__}: {error}"[:1000].encode("utf-8", "backslashreplace").decode()
    trial.set_user_attr(ATTRIBUTE, {"interrupted" if isinstance(error, OSError) else "failed": reason})


def write_interrupted(trial: optuna.Trial, reason: str) -> None:
    """Keeps the reason why a trial was stopped before its end."""
    trial.set_user_attr(ATTRIBUTE, {"interrupted": reason})


def record_of(trial: BaseTrial | FrozenTrial) -> dict[str, Any]:
    """The record of a trial, as version 2, without the values that cannot be read; empty if it has none."""
    record = trial.user_attrs.get(ATTRIBUTE)
    if not isinstance(record, dict):
        return {}
    return {name: item for name, item in _as_version_2(record).items() if name not in _CHECKS or _CHECKS[name](item)}


def accuracy_of(trial: FrozenTrial) -> float | None:
    """The accuracy in a trial's record of any version, of which nothing else is looked at; None if there is none."""
    record = trial.user_attrs.get(ATTRIBUTE)
    accuracy = record.get("accuracy") if isinstance(record, dict) else None
    return accuracy if _is_accuracy(accuracy) else None


def checked_record(trial: FrozenTrial, study: str) -> dict[str, Any]:
    """The record of a complete trial. Raises InputError, naming the trial and the keys, if it cannot be ranked."""
    subject = f"trial {trial.number} of study {study!r} is complete, but its attribute {ATTRIBUTE!r}"
    advice = "Set what nas_relucode.Recorder and nas_relucode.Objective set."
    stored = trial.user_attrs.get(ATTRIBUTE)
    if not isinstance(stored, dict):
        raise InputError(f"{subject} is not a table of values. {advice}")
    version = stored.get("version", 1)
    if isinstance(version, bool) or version not in (1, VERSION):
        raise InputError(
            f"{subject} has version {repr(version)[:100]}, which this nas-relucode cannot read (it reads 1 and "
            f"{VERSION}). Install the version that wrote it."
        )
    record = _as_version_2(stored)
    missing = [name for name in NEEDED if name not in record]
    if missing:
        raise InputError(f"{subject} lacks {', '.join(missing)}. {advice}")
    invalid = [name for name, valid in _CHECKS.items() if name in record and not valid(record[name])]
    if invalid:
        raise InputError(f"{subject} has values of {', '.join(invalid)} that cannot be read. {advice}")
    return record


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials that have a record, by their numbers."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return [trial for trial in trials if ATTRIBUTE in trial.user_attrs]


def complete_records(study: optuna.Study) -> Iterator[tuple[FrozenTrial, dict[str, Any]]]:
    """The complete trials that have a record, each with it. Raises InputError for one that cannot be read."""
    for trial in complete_trials(study):
        yield trial, checked_record(trial, study.study_name)


def candidate_of(record: Mapping[str, Any]) -> Candidate:
    """The candidate of a checked record."""
    return Candidate(record["params"], int(record["seed"]))


def objective_value(record: Mapping[str, Any], name: str) -> float:
    """The value of an objective in a record; NaN if it is undefined.

    >>> objective_value({"layers": {"head.1": {"cell_count": 5.0}}, "qualities": {}}, "head.1:cell_count")
    5.0
    """
    layer, _, index = name.rpartition(":")
    qualities = record["qualities"]
    values = (
        record
        if name in MEASURED
        else qualities
        if name in qualities
        else record["layers"][layer]
        if layer
        else record["joint"]
    )
    return math.nan if values[index] is None else float(values[index])


def objective_values(record: Mapping[str, Any]) -> tuple[float, ...]:
    """The values of a record's objectives, in their order. Raises NonFiniteError if one is not finite."""
    values = {name: objective_value(record, name) for name in record["objectives"]}
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"{name} is undefined for this network")
    return tuple(values.values())


def saturated_objectives(record: Mapping[str, Any]) -> list[str]:
    """A sentence for each objective of a record that lies at an end of its range, with what to do."""
    sentences = []
    for name in record["objectives"]:
        layer, _, index = name.rpartition(":")
        if index in record.get("saturated", {}).get(layer or "joint", ()):
            sentences.append(
                f"the objective {name} is {objective_value(record, name):g} in the first trial, at an end of its "
                "range, where it cannot tell networks apart. Read fewer or narrower layers (layers=...), count a "
                "channel as one neuron (maps='channel'), take more training samples, or another objective."
            )
    return sentences


def _as_version_2(record: dict[str, Any]) -> dict[str, Any]:
    """A record of any version in the form of version 2; damaged ones stay damaged."""
    candidate = record.get("candidate")
    if "version" in record or not isinstance(candidate, dict):
        return record
    moved = ("candidate", "parameters", "seconds", "validation_samples", "predictions")
    converted = {name: value for name, value in record.items() if name not in moved}
    converted |= {"version": VERSION, "params": {name: value for name, value in candidate.items() if name != "seed"}}
    converted |= {"seed": candidate["seed"]} if "seed" in candidate else {}
    converted["qualities"] = {name: record[name] for name in ("parameters", "seconds") if name in record}
    if "validation_samples" in record:
        converted["validation"] = {"samples": record["validation_samples"]}
    return converted


def _is_real(value: Any) -> bool:
    """Whether a value is a number, NaN and infinities among them, or None for one that is undefined."""
    if value is None or isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_number(value: Any) -> bool:
    return value is not None and _is_real(value) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and value == int(value) and abs(value) < 2**63


def _is_accuracy(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value <= 1)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_params(value: Any) -> bool:
    plain = isinstance(value, dict) and "seed" not in value
    return plain and all(map(_is_plain, value.values()))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_real(value)


def _are_real(values: Iterable[Any]) -> bool:
    for value in values:  # noqa: SIM110 - of a million numbers in curves `all` takes twice as long
        if type(value) is not float and not _is_real(value):
            return False
    return True


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and _are_real(value.values())


def _are_layers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_are_numbers, value.values()))


def _is_point(value: Any) -> bool:
    """Whether a value is a point of a curve: an epoch, counts of all layers and of each, and other numbers."""
    if not isinstance(value, dict) or not value.keys() >= {"epoch", "joint", "layers"}:
        return False
    rest = dict(value)
    whole = _is_whole(rest.pop("epoch")) and _are_numbers(rest.pop("joint")) and _are_layers(rest.pop("layers"))
    return whole and _are_real(rest.values())


def _are_points(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_point, value))


def _are_codes(value: Any) -> bool:
    """Whether a value names a file for some epochs."""
    return isinstance(value, dict) and all(
        re.fullmatch("[0-9]{1,18}", epoch) and isinstance(name, str) for epoch, name in value.items()
    )


def _are_samples(value: Any) -> bool:
    """Whether a value says which samples an accuracy is of."""
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("samples"), int) or not 0 < value["samples"] < 2**31:
        return False
    return all(_is_text(value.get(name)) for name in ("digest", "correct", "split"))


NEEDED = ("params", "seed", "objectives", "accuracy", "validation", "qualities", "joint")
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "params": _are_params,
    "seed": _is_whole,
    "objectives": lambda value: bool(value) and _are_names(value),
    **dict.fromkeys(ACCURACIES, _is_accuracy),
    "validation_loss": _is_real,
    "validation": lambda value: value is not None and _are_samples(value),
    "test": _are_samples,
    "classes": lambda value: value is None or _is_whole(value),
    "qualities": _are_numbers,
    "joint": _are_numbers,
    "layers": _are_layers,
    "saturated": lambda value: isinstance(value, dict) and all(map(_are_names, value.values())),
    "split": _is_text,
    "samples": lambda value: value is None or _is_whole(value),
    "curve": _are_points,
    "device": _is_text,
    "codes": _are_codes,
    "slices": _are_names,
    "margin": lambda value: _is_number(value) and 0 < value < 1,
    FLOOR_BELOW_BEST: _is_number,
    DIRECTIONS: lambda value: isinstance(value, dict) and set(value.values()) <= {"minimize", "maximize"},
    **dict.fromkeys(("pruned", "failed", "interrupted"), _is_text),
}
