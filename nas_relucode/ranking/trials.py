"""The trials of a study as a table, and how accurate each of its networks is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from nas_relucode.errors import InputError, unknown
from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.study.predictions import Predictions, read_predictions
from nas_relucode.study.record import ATTRIBUTE, complete_trials, record_of

NETWORK = ["head", "learning_rate"]  # a candidate's parameters less the seed
NEEDED = ("objectives", "candidate", "accuracy", "parameters", "validation_samples", "joint")  # in a record
ACCURACIES = ("accuracy", "train_accuracy", "test_accuracy")


def trials_frame(study: optuna.Study, *, also: Iterable[str] = ()) -> pd.DataFrame:
    """A row per trial: number, state, candidate, objectives, accuracies, every joint index, and why it ended early.

    ``also`` names more columns: indices of a layer, or other values of the trials' record.
    Raises InputError if no trial carries our record, or if that of a complete trial lacks what ranking needs.
    """
    rows = []
    trials = study.get_trials(deepcopy=False)
    _check_study(study, trials)
    for trial in trials:
        record = _record(trial)
        complete = trial.state == TrialState.COMPLETE and ATTRIBUTE in trial.user_attrs
        if complete:
            _check(trial, study.study_name)
        candidate = trial.params | record.get("candidate", {})
        row: dict[str, Any] = {"number": trial.number, "state": trial.state.name}
        row |= {name: candidate.get(name) for name in [*NETWORK, "seed"]}
        if complete:
            row |= {name: _value(record, name) for name in ACCURACIES}
            row |= {name: _value(record, name) for name in record["objectives"]}
            row |= {name: _value(record, name) for name in ("parameters", "seconds")}
            row |= {name: _value(record, name) for name in record["joint"] if name != "parameter_count"}
            row |= {name: _value(record, name) for name in also}
            row["validation_samples"] = record["validation_samples"]
            row["infeasibility"] = max(trial.constraints.values(), default=0.0)
        row["ranked"] = complete
        row["pruned"] = "pruned" in record
        row["retry_of"] = trial.user_attrs.get("retry_of")
        row["reason"] = record.get("pruned") or record.get("failed")
        if "same_as" in trial.user_attrs:
            row["reason"] = f"the same candidate as trial {trial.user_attrs['same_as']}"
        rows.append(row)
    with pd.option_context("mode.string_storage", "python"):  # Arrow's strings take no lone surrogate
        return pd.DataFrame(rows).astype({"seed": "Int64", "retry_of": "Int64"})


def objectives_of(study: optuna.Study) -> dict[str, str]:
    """The names of the study's objectives, from the records of its complete trials, with their directions.

    Raises InputError for a study without such a trial: it cannot be ranked.
    """
    trials = study.get_trials(deepcopy=False)
    _check_study(study, trials)
    complete = complete_trials(study)
    if not complete:
        states = Counter(trial.state.name.lower() for trial in trials)
        records = [_record(trial) for trial in trials]
        reasons = [str(why) for record in records if (why := record.get("failed") or record.get("pruned"))]
        raise InputError(
            f"no trial of study {study.study_name!r} is complete, so there is nothing to rank: "
            + ", ".join(f"{count} {state}" for state, count in states.items())
            + (f"; the last one's reason: {reasons[-1]}." if reasons else ".")
            + " Train its candidates first."
        )
    _check(complete[0], study.study_name)
    names = record_of(complete[0])["objectives"]
    directions = [direction.name.lower() for direction in study.directions]
    if len(names) != len(directions):
        raise InputError(
            f"study {study.study_name!r} has {len(directions)} directions, but its trials name {len(names)} objectives "
            f"({', '.join(names)}). Name one for each direction."
        )
    return dict(zip(names, directions, strict=True))


def check_layers(study: optuna.Study, names: Iterable[str]) -> None:
    """Raises InputError if a name, ``layer:index``, is of a layer that no complete trial has."""
    layers = {layer for trial in complete_trials(study) for layer in record_of(trial).get("layers", {})}
    for layer in (name.rpartition(":")[0] for name in names):
        if layer and layer not in layers:
            raise unknown("layer", layer, sorted(layers) or ["none, the trials hold no indices of layers"])


def saturated(study: optuna.Study) -> dict[str, set[tuple[str, float]]]:
    """Index -> the networks for which it lies at an end of its range for every seed; ``layer:index`` for layers."""
    at_an_end: Counter[tuple[str, tuple[str, float]]] = Counter()
    trials: Counter[tuple[str, float]] = Counter()
    for trial in complete_trials(study):
        network = network_of(trial)
        trials[network] += 1
        for layer, names in record_of(trial).get("saturated", {}).items():
            at_an_end.update((name if layer == "joint" else f"{layer}:{name}", network) for name in set(names))
    networks: dict[str, set[tuple[str, float]]] = {}
    for (name, network), count in at_an_end.items():
        if count == trials[network]:
            networks.setdefault(name, set()).add(network)
    return networks


def network_of(trial: FrozenTrial) -> tuple[str, float]:
    """The head and the learning rate of a complete trial."""
    candidate = record_of(trial)["candidate"]
    return candidate["head"], candidate["learning_rate"]


def accuracies(
    study: optuna.Study, by_seed: pd.DataFrame, networks: Sequence[tuple[str, float]], store: Any = None
) -> list[Accuracies]:
    """The accuracies of these networks, from a table with a row per network and seed, and their predictions.

    Predictions are read from ``store``, the artifact store (Optuna's) that the study was run with; None reads none. A
    network has none if they are missing for one of its trials.
    """
    kept: dict[tuple[str, float], dict[int, list[Predictions | None]]] = {network: {} for network in networks}
    for trial in complete_trials(study):
        record = record_of(trial)
        if network_of(trial) in kept:
            artifact = record.get("predictions") if store is not None else None
            where = f"trial {trial.number} of study {study.study_name!r}"
            predictions = read_predictions(artifact, store, where) if artifact else None
            kept[network_of(trial)].setdefault(record["candidate"]["seed"], []).append(predictions)
    rows = {network: part.sort_values("seed") for network, part in by_seed.groupby(NETWORK)}
    return [_accuracies(rows[network], kept[network]) for network in networks]


def _accuracies(rows: pd.DataFrame, kept: dict[int, list[Predictions | None]]) -> Accuracies:
    values = rows["accuracy"].to_numpy(float)
    samples = math.fsum(rows["validation_samples"]) / len(rows)
    of_all_trials = [predictions for seed in sorted(kept) for predictions in kept[seed]]
    first = of_all_trials[0]
    if first is None or any(other is None or other.labels != first.labels for other in of_all_trials):
        return Accuracies(values, samples)
    correct = [np.mean([p.correct for p in kept[seed] if p is not None], axis=0) for seed in sorted(kept)]
    return Accuracies(values, samples, np.array(correct), first.labels)


def _check_study(study: optuna.Study, trials: Iterable[FrozenTrial]) -> None:
    if not any(ATTRIBUTE in trial.user_attrs for trial in trials):
        raise InputError(
            f"no trial of study {study.study_name!r} carries the attribute {ATTRIBUTE!r} (with {', '.join(NEEDED)}). "
            "Reports need trials of nas_relucode.Objective, at least one of them finished."
        )


def _record(trial: FrozenTrial) -> dict[str, Any]:
    """Our record of a trial; empty if it is missing or not a table."""
    record = record_of(trial)
    return record if isinstance(record, dict) else {}


def _check(trial: FrozenTrial, study: str) -> None:
    record = record_of(trial)
    subject = f"trial {trial.number} of study {study!r} is complete, but its attribute {ATTRIBUTE!r}"
    if not isinstance(record, dict):
        raise InputError(
            f"{subject} is not a table of values. It needs {', '.join(NEEDED)}, as nas_relucode.Objective does."
        )
    missing = [name for name in NEEDED if name not in record]
    candidate = record.get("candidate")
    if isinstance(candidate, dict):
        missing += [f"candidate.{name}" for name in [*NETWORK, "seed"] if name not in candidate]
    if missing:
        raise InputError(f"{subject} lacks {', '.join(missing)}. Set what nas_relucode.Objective sets.")
    layers = record.get("layers", {})
    checks = {
        "objectives": isinstance(record["objectives"], list) and all(isinstance(n, str) for n in record["objectives"]),
        "candidate": isinstance(candidate, dict),
        "accuracy": record["accuracy"] is None or _is_number(record["accuracy"]),
        "parameters": _is_number(record["parameters"]),
        "validation_samples": _is_number(record["validation_samples"]) and record["validation_samples"] > 0,
        "joint": _are_indices(record["joint"]),
        "layers": isinstance(layers, dict) and all(map(_are_indices, layers.values())),
        "saturated": isinstance(record.get("saturated", {}), dict),
        "curve": isinstance(record.get("curve", []), list),
    }
    if isinstance(candidate, dict):
        seed = candidate["seed"]
        checks |= {
            "candidate.head": isinstance(candidate["head"], str),
            "candidate.learning_rate": _is_number(candidate["learning_rate"]),
            "candidate.seed": _is_number(seed) and seed == int(seed),
        }
    invalid = [name for name, valid in checks.items() if not valid]
    if invalid:
        raise InputError(
            f"{subject} has values of {', '.join(invalid)} that cannot be read. Set what nas_relucode.Objective sets."
        )


def _are_indices(values: Any) -> bool:
    return isinstance(values, dict) and all(v is None or isinstance(v, int | float) for v in values.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _value(record: dict[str, Any], name: str) -> float:
    """A number of the record; NaN if it is missing, undefined or infinite, so that it cannot be compared."""
    layer, _, index = name.rpartition(":")
    values = record.get("layers", {}).get(layer, {}) if layer else record | record["joint"]
    value = values.get(index)
    return float(value) if value is not None and math.isfinite(value) else math.nan
