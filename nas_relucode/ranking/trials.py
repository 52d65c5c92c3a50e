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
from nas_relucode.ranking.seed_variance import Accuracies
from nas_relucode.study.predictions import Predictions, read_predictions
from nas_relucode.study.record import ATTRIBUTE, complete_trials, record_of

NETWORK = ["head", "learning_rate"]  # what the trials of one network, trained with several seeds, have in common
NEEDED = ("objectives", "candidate", "accuracy", "parameters", "validation_samples", "joint")  # to be ranked
ACCURACIES = ("accuracy", "train_accuracy", "test_accuracy")


def trials_frame(study: optuna.Study, *, also: Iterable[str] = ()) -> pd.DataFrame:
    """A row a trial: number, state, candidate, objectives, accuracies, every joint index, and what went wrong.

    ``also`` names more columns, each an index of a layer or what else the trials' attribute holds.
    Raises InputError if no trial carries our attribute, or if a complete one does without what ranking needs.
    """
    rows = []
    trials = study.get_trials(deepcopy=False)
    _check_study(study, trials)
    for trial in trials:
        found = _told(trial)
        complete = trial.state == TrialState.COMPLETE and ATTRIBUTE in trial.user_attrs
        if complete:
            _check(trial, study.study_name)
        candidate = trial.params | found.get("candidate", {})
        row: dict[str, Any] = {"number": trial.number, "state": trial.state.name}
        row |= {name: candidate.get(name) for name in [*NETWORK, "seed"]}
        if complete:
            row |= {name: _value(found, name) for name in ACCURACIES}
            row |= {name: _value(found, name) for name in found["objectives"]}
            row |= {name: _value(found, name) for name in ("parameters", "seconds")}
            row |= {name: _value(found, name) for name in found["joint"] if name != "parameter_count"}
            row |= {name: _value(found, name) for name in also}
            row["validation_samples"] = found["validation_samples"]
            row["infeasibility"] = max(trial.constraints.values(), default=0.0)
        row["ranked"] = complete
        row["pruned"] = "pruned" in found
        row["retry_of"] = trial.user_attrs.get("retry_of")
        row["reason"] = found.get("pruned") or found.get("failed")
        if "same_as" in trial.user_attrs:
            row["reason"] = f"the same candidate as trial {trial.user_attrs['same_as']}"
        rows.append(row)
    with pd.option_context("mode.string_storage", "python"):  # Arrow's, where it is there, takes no lone surrogate
        return pd.DataFrame(rows).astype({"seed": "Int64", "retry_of": "Int64"})


def objectives_of(study: optuna.Study) -> dict[str, str]:
    """The names of the study's objectives, as its complete trials tell them, with their directions.

    Raises InputError for a study that can't be ranked, because it has no such trial.
    """
    trials = study.get_trials(deepcopy=False)
    _check_study(study, trials)
    complete = complete_trials(study)
    if not complete:
        states = Counter(trial.state.name.lower() for trial in trials)
        found = [_told(trial) for trial in trials]
        reasons = [str(reason) for told in found if (reason := told.get("failed") or told.get("pruned"))]
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
    """Raises InputError if one of these names is the index of a layer, ``layer:index``, that no complete trial has."""
    known = {layer for trial in complete_trials(study) for layer in record_of(trial).get("layers", {})}
    for layer in (name.rpartition(":")[0] for name in names):
        if layer and layer not in known:
            raise unknown("layer", layer, sorted(known) or ["none, the trials hold no layer's indices"])


def saturated(study: optuna.Study) -> dict[str, set[tuple[str, float]]]:
    """Index -> the networks for which it lies at an end of its range with every seed; ``layer:index`` for layers."""
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
    """How accurate each of these networks is, from a table with a row a network and seed, and from predictions.

    Those are read from ``store``, Optuna's artifact store that the study was run with; None leaves them alone. They
    are missing for a network if they are for one of its trials.
    """
    kept: dict[tuple[str, float], dict[int, list[Predictions | None]]] = {network: {} for network in networks}
    for trial in complete_trials(study):
        found = record_of(trial)
        if network_of(trial) in kept:
            artifact = found.get("predictions") if store is not None else None
            where = f"trial {trial.number} of study {study.study_name!r}"
            predictions = read_predictions(artifact, store, where) if artifact else None
            kept[network_of(trial)].setdefault(found["candidate"]["seed"], []).append(predictions)
    rows = {network: part.sort_values("seed") for network, part in by_seed.groupby(NETWORK)}
    return [_accuracies(rows[network], kept[network]) for network in networks]


def _accuracies(rows: pd.DataFrame, kept: dict[int, list[Predictions | None]]) -> Accuracies:
    values = rows["accuracy"].to_numpy(float)
    samples = math.fsum(rows["validation_samples"]) / len(rows)
    flat = [predictions for seed in sorted(kept) for predictions in kept[seed]]
    first = flat[0]
    if first is None or any(other is None or other.labels != first.labels for other in flat):
        return Accuracies(values, samples)
    correct = [np.mean([p.correct for p in kept[seed] if p is not None], axis=0) for seed in sorted(kept)]
    return Accuracies(values, samples, np.array(correct), first.labels)


def _check_study(study: optuna.Study, trials: Iterable[FrozenTrial]) -> None:
    if not any(ATTRIBUTE in trial.user_attrs for trial in trials):
        raise InputError(
            f"no trial of study {study.study_name!r} carries the attribute {ATTRIBUTE!r} (with {', '.join(NEEDED)}). "
            "Reports need trials of nas_relucode.Objective, at least one of them finished."
        )


def _told(trial: FrozenTrial) -> dict[str, Any]:
    """Our attribute of a trial; empty where it is missing or no table."""
    found = trial.user_attrs.get(ATTRIBUTE)
    return found if isinstance(found, dict) else {}


def _check(trial: FrozenTrial, study: str) -> None:
    found = record_of(trial)
    what = f"trial {trial.number} of study {study!r} is complete, but its attribute {ATTRIBUTE!r}"
    if not isinstance(found, dict):
        raise InputError(f"{what} is no table of values. It needs {', '.join(NEEDED)}, as nas_relucode.Objective does.")
    missing = [name for name in NEEDED if name not in found]
    candidate = found.get("candidate")
    if isinstance(candidate, dict):
        missing += [f"candidate.{name}" for name in [*NETWORK, "seed"] if name not in candidate]
    if missing:
        raise InputError(f"{what} lacks {', '.join(missing)}. Set what nas_relucode.Objective sets.")
    layers = found.get("layers", {})
    fits = {
        "objectives": isinstance(found["objectives"], list) and all(isinstance(n, str) for n in found["objectives"]),
        "candidate": isinstance(candidate, dict),
        "accuracy": found["accuracy"] is None or _is_number(found["accuracy"]),
        "parameters": _is_number(found["parameters"]),
        "validation_samples": _is_number(found["validation_samples"]) and found["validation_samples"] > 0,
        "joint": _are_indices(found["joint"]),
        "layers": isinstance(layers, dict) and all(map(_are_indices, layers.values())),
        "saturated": isinstance(found.get("saturated", {}), dict),
        "curve": isinstance(found.get("curve", []), list),
    }
    if isinstance(candidate, dict):
        seed = candidate["seed"]
        fits |= {
            "candidate.head": isinstance(candidate["head"], str),
            "candidate.learning_rate": _is_number(candidate["learning_rate"]),
            "candidate.seed": _is_number(seed) and seed == int(seed),
        }
    wrong = [name for name, fine in fits.items() if not fine]
    if wrong:
        raise InputError(f"{what} has values of {', '.join(wrong)} that can't be read. Set what Objective sets.")


def _are_indices(values: Any) -> bool:
    return isinstance(values, dict) and all(v is None or isinstance(v, int | float) for v in values.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _value(found: dict[str, Any], name: str) -> float:
    """NaN for what is missing, undefined or infinite: nothing of that can be compared."""
    layer, _, index = name.rpartition(":")
    where = found.get("layers", {}).get(layer, {}) if layer else found | found["joint"]
    value = where.get(index)
    return float(value) if value is not None and math.isfinite(value) else math.nan
