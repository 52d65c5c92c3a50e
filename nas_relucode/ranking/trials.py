"""The trials of a study as a table: what each trained, with which seed, and every number that its record holds."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from nas_relucode.errors import InputError, a_type, unknown
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.study.candidates import SEED, Candidate, as_seed, network_names
from nas_relucode.study.columns import AT_THE_END, FIXED, PARAMS, is_column
from nas_relucode.study.defaults import MARGIN
from nas_relucode.study.predictions import correct_samples
from nas_relucode.study.record import (
    ACCURACIES,
    ATTRIBUTE,
    DIRECTIONS,
    FLOOR,
    FLOOR_BELOW_BEST,
    RELATIVE_FLOOR,
    candidate_of,
    checked_record,
    record_of,
)
from nas_relucode.study.storage import all_trials
from nas_relucode.texts import listed


@dataclass(frozen=True)
class StudyTrials:
    """The trials of a study, and the records of those that can be ranked (complete, with our record) in their order."""

    study: str
    objectives: dict[str, str]  # name -> "maximize" or "minimize"
    trials: list[FrozenTrial]  # all
    ranked: list[FrozenTrial]
    records: list[dict[str, Any]]  # of the ranked trials
    candidates: list[Candidate]
    names: dict[str, str]  # key of a network -> its short name
    params: dict[str, Mapping[str, Any]]  # short name of a network -> its parameters

    @cached_property
    def networks(self) -> list[str]:
        """The short name of each ranked trial's network."""
        return [self.names[candidate.network] for candidate in self.candidates]

    @property
    def without_record(self) -> list[int]:
        """The numbers of complete trials that carry no record, and so are left out."""
        complete = (trial for trial in self.trials if trial.state == TrialState.COMPLETE)
        return [trial.number for trial in complete if ATTRIBUTE not in trial.user_attrs]

    @cached_property
    def split(self) -> str:
        """The split that accuracy was measured on: "validation", unless all trials say another."""
        splits = {record["validation"].get("split", "validation") for record in self.records}
        return splits.pop() if len(splits) == 1 else "validation"

    @property
    def floor_below_best(self) -> float | None:
        """How far below the best a network is infeasible for samplers; None if the study names an accuracy floor."""
        return max((record[FLOOR_BELOW_BEST] for record in self.records if FLOOR_BELOW_BEST in record), default=None)

    @property
    def margin(self) -> float:
        """The difference of accuracies that does not matter to whoever recorded the trials; MARGIN if none says."""
        return min(self.margins, default=MARGIN)

    @property
    def margins(self) -> list[float]:
        """The different margins with which the trials were recorded, the smallest first."""
        return sorted({record["margin"] for record in self.records if "margin" in record})

    @property
    def own_directions(self) -> dict[str, str]:
        """The directions of the user's own indices and qualities."""
        return {name: way for record in self.records for name, way in record.get(DIRECTIONS, {}).items()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row per trial, see `trials_frame`; not to be changed."""
        return _frame(self, ())

    @property
    def repeated_seeds(self) -> dict[tuple[str, int], list[int]]:
        """(network, seed) -> the numbers of its trials, where there are several."""
        numbers: dict[tuple[str, int], list[int]] = {}
        for trial, network, candidate in zip(self.ranked, self.networks, self.candidates, strict=True):
            numbers.setdefault((network, candidate.seed), []).append(trial.number)
        return {training: of_it for training, of_it in numbers.items() if len(of_it) > 1}

    @property
    def repetitions(self) -> list[int]:
        """The numbers of the trials that were ended because another trial is the same training."""
        return [trial.number for trial in self.trials if "same_as" in trial.user_attrs]

    @property
    def other_samples(self) -> list[int]:
        """The numbers of the trials whose validation samples are not those of most trials."""
        digests = [record["validation"].get("digest") for record in self.records]
        known = Counter(digest for digest in digests if digest is not None)
        if len(known) < 2:
            return []
        usual = known.most_common(1)[0][0]
        return [t.number for t, digest in zip(self.ranked, digests, strict=True) if digest not in (None, usual)]


class NothingCompleteError(InputError):
    """A study has no complete trial with our record yet."""


def read_trials(study: optuna.Study, *, some_ranked: bool = True) -> StudyTrials:
    """The trials of a study with their records.

    Raises NothingCompleteError for a study without our records, or if ``some_ranked`` without a complete one; another
    InputError for a record that cannot be read, and for trials that have other objectives or another number of classes
    than the rest.
    """
    if not isinstance(study, optuna.Study):
        raise InputError(
            f"the study is {a_type(study)}. Give an optuna.Study: optuna.load_study(study_name=..., storage=...)."
        )
    trials = all_trials(study)
    if not trials:
        raise NothingCompleteError(
            f"study {study.study_name!r} has no trials yet. Run it first: study.optimize(objective)."
        )
    if not any(ATTRIBUTE in trial.user_attrs for trial in trials):
        raise NothingCompleteError(
            f"no trial of study {study.study_name!r} carries our record (the user attribute {ATTRIBUTE!r}). Records "
            "cannot be added afterwards: compare trained networks with nas_relucode.compare, or run the study again "
            "with a nas_relucode.Recorder at the end of its objective, or nas_relucode.Objective."
        )
    ranked = [t for t in trials if t.state == TrialState.COMPLETE and ATTRIBUTE in t.user_attrs]
    if not ranked and some_ranked:
        raise NothingCompleteError(_nothing_complete(study.study_name, trials))
    records = [checked_record(trial, study.study_name) for trial in ranked]
    _check_same(study.study_name, ranked, records, "classes", "classes", "Rank networks of one task.")
    _check_same(study.study_name, ranked, records, "objectives", "objectives", "Start a new study for other ones.")
    candidates = [candidate_of(record) for record in records]
    params = {candidate.network: candidate.params for candidate in candidates}
    names = dict(zip(params, network_names(list(params.values())), strict=True))
    return StudyTrials(
        study.study_name,
        _directions(study, records[0]["objectives"]) if records else {},
        trials,
        ranked,
        records,
        candidates,
        names,
        {names[key]: values for key, values in params.items()},
    )


def trials_frame(study: optuna.Study, *, also: Iterable[str] = ()) -> pd.DataFrame:
    """A row per trial: number, state, network, parameters, seed, accuracies, qualities, indices, why it ended early.

    Columns of parameters are called ``params_NAME``, as in Optuna's own `trials_dataframe`; an index whose name is that
    of another column is called ``joint:NAME``. ``also`` names more columns: indices of a layer, as ``layer:index``.
    Raises InputError for a study without our records, see `read_trials`.
    """
    return frame_of(read_trials(study, some_ranked=False), also)


def frame_of(trials: StudyTrials, also: Iterable[str] = ()) -> pd.DataFrame:
    """`trials_frame` of trials that have been read; not to be changed."""
    further = [name for name in also if name not in trials.objectives]
    return _frame(trials, further) if further else trials.frame


def _frame(trials: StudyTrials, also: Iterable[str]) -> pd.DataFrame:
    also = [*trials.objectives, *also]
    ranked = zip(trials.ranked, trials.records, trials.candidates, strict=True)
    known = {trial.number: (record, candidate) for trial, record, candidate in ranked}
    rows = [_row(trial, known.get(trial.number), trials, also) for trial in trials.trials]
    names = list(dict.fromkeys(name for row in rows for name in row))
    params = [name for name in names if name.startswith(PARAMS)]
    values = [name for name in names if name not in (*FIXED, *AT_THE_END, *params)]
    with pd.option_context("mode.string_storage", "python"):  # Arrow's strings take no lone surrogate
        frame = pd.DataFrame(rows, columns=[*FIXED[:3], *params, *FIXED[3:], *values, *AT_THE_END])
        return frame.astype({"seed": "Int64", "retry_of": "Int64"})


def column_values(record: Mapping[str, Any], also: Iterable[str] = ()) -> dict[str, float]:
    """The numbers of a record by the names of their columns; NaN for one that is undefined or infinite."""
    values = {name: record.get(name) for name in (*ACCURACIES, "validation_loss")}
    values |= {name: value for name, value in record["qualities"].items() if not _is_taken(name, values)}
    joint = record["joint"]
    values |= {f"joint:{name}" if _is_taken(name, values) else name: value for name, value in joint.items()}
    for name in also:
        layer, _, index = name.rpartition(":")
        if name not in values:
            values[name] = record.get("layers", {}).get(layer, {}).get(index)
    return {
        name: math.nan if value is None or not math.isfinite(value) else float(value) for name, value in values.items()
    }


def check_layers(trials: StudyTrials, names: Iterable[str]) -> None:
    """Raises InputError if a name, ``layer:index``, is of a layer that no complete trial has."""
    layers = {layer for record in trials.records for layer in record.get("layers", {})} | {"joint"}
    for layer in (name.rpartition(":")[0] for name in names):
        if layer and layer not in layers:
            raise unknown("layer", layer, sorted(layers))


def check_recorded(trials: StudyTrials, names: Iterable[str]) -> None:
    """Raises InputError if no complete trial holds what a name stands for; its value may be undefined in all."""
    recorded = {*trials.objectives, "accuracy", "validation_loss"}
    for record in trials.records:
        recorded |= {*record["qualities"], *record["joint"]}
        for layer, indices in record.get("layers", {}).items():
            recorded |= {f"{layer}:{index}" for index in indices}
    for name in names:
        if name.removeprefix("joint:") not in recorded:
            index = name.rpartition(":")[2]
            argument = f"qualities=[{index!r}]" if index in QUALITIES else f"indices=['all', {index!r}]"
            there = listed(sorted(one for one in recorded if ":" not in one), 20)
            raise InputError(
                f"no trial of study {trials.study!r} recorded {name}, so that it cannot order the networks. There are "
                f"{there}. Record it: Recorder({argument}); compare takes the same argument."
            )


def saturated(trials: StudyTrials) -> dict[str, set[str]]:
    """Index -> the networks for which it lies at an end of its range for every seed; ``layer:index`` for layers."""
    at_an_end: Counter[tuple[str, str]] = Counter()
    count = Counter(trials.networks)
    for network, record in zip(trials.networks, trials.records, strict=True):
        for layer, names in record.get("saturated", {}).items():
            at_an_end.update((name if layer == "joint" else f"{layer}:{name}", network) for name in set(names))
    networks: dict[str, set[str]] = {}
    for (name, network), times in at_an_end.items():
        if times == count[network]:
            networks.setdefault(name, set()).add(network)
    return networks


def accuracies(trials: StudyTrials, networks: Sequence[str], *, split: str = "validation") -> list[Accuracies]:
    """The accuracies of these networks by seed, on the validation or the test split, with their predictions.

    A training that was repeated (a seed given twice) counts once, by its mean. A network has no predictions here
    if a trial of it has none, or has those of other samples.
    """
    by_seed: dict[str, dict[int, list[int]]] = {network: {} for network in networks}
    for place, (network, candidate) in enumerate(zip(trials.networks, trials.candidates, strict=True)):
        if network in by_seed:
            by_seed[network].setdefault(candidate.seed, []).append(place)
    return [_accuracies(trials, [by_seed[network][s] for s in sorted(by_seed[network])], split) for network in networks]


def _accuracies(trials: StudyTrials, seeds: Sequence[Sequence[int]], split: str) -> Accuracies:
    """The accuracies of one network; ``seeds`` are the places of its trials in the records, by seed."""
    name = "accuracy" if split == "validation" else f"{split}_accuracy"
    records = trials.records
    measured = [[records[place].get(name) for place in places] for places in seeds]
    values = np.array([_mean([math.nan if value is None else value for value in of_one]) for of_one in measured], float)
    kept = {place: records[place].get(split) or {} for places in seeds for place in places}
    sizes = [samples["samples"] for samples in kept.values() if "samples" in samples]
    samples = math.fsum(sizes) / len(sizes) if sizes else math.nan
    digests = {samples.get("digest") for samples in kept.values()}
    if len(digests) > 1 or digests == {None}:
        return Accuracies(values, samples)
    kept_bits = {place: _correct(trials, place, split) for place in kept}
    correct = {place: bits for place, bits in kept_bits.items() if bits is not None}
    if len(correct) < len(kept_bits):
        return Accuracies(values, samples)
    means = [_mean([correct[place] for place in places]) for places in seeds]
    return Accuracies(values, samples, np.array(means, float), digests.pop())


def _mean(repeated: Sequence[Any]) -> Any:
    """The mean of what repeated trainings gave; of one, which most are, itself."""
    return repeated[0] if len(repeated) == 1 else np.mean(repeated, axis=0)


def _correct(trials: StudyTrials, place: int, split: str) -> np.ndarray | None:
    try:
        return correct_samples(trials.records[place][split])
    except InputError as error:
        raise InputError(f"trial {trials.ranked[place].number} of study {trials.study!r}, {split}: {error}") from error


def _row(
    trial: FrozenTrial, known: tuple[dict[str, Any], Candidate] | None, trials: StudyTrials, also: Sequence[str]
) -> dict[str, Any]:
    record, candidate = known or (None, Candidate({name: v for name, v in trial.params.items() if name != SEED}))
    loose = record or record_of(trial)
    row: dict[str, Any] = {"number": trial.number, "state": trial.state.name}
    row["network"] = trials.names.get(candidate.network) or candidate.label
    row |= {f"{PARAMS}{name}": value for name, value in candidate.params.items()}
    row["seed"] = (
        candidate.seed if record else _seed_of(trial.params.get(SEED, loose.get(SEED, trial.user_attrs.get(SEED))))
    )
    if record:
        row |= column_values(record, also)
        row["validation_samples"] = record["validation"]["samples"]
        row["infeasibility"] = trial.constraints.get(FLOOR, 0.0)
        own = [name for name, value in trial.constraints.items() if name not in (FLOOR, RELATIVE_FLOOR) and value > 0]
        row["violated"] = ", ".join(own)
    row["ranked"], row["pruned"] = record is not None, trial.state == TrialState.PRUNED
    retry_of = trial.user_attrs.get("retry_of")
    row["retry_of"] = retry_of if type(retry_of) is int and 0 <= retry_of < 2**63 else None
    row["reason"] = loose.get("pruned") or loose.get("failed")
    if "same_as" in trial.user_attrs:
        row["reason"] = f"the same candidate as trial {trial.user_attrs['same_as']}"
    return row


def _seed_of(value: Any) -> int | None:
    """The seed of a trial without a result; None if it is none."""
    with contextlib.suppress(InputError):
        return as_seed(value)
    return None


def _is_taken(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a column has this name already, so that an index of the name must not replace it."""
    return name in values or is_column(name)


def _directions(study: optuna.Study, names: Sequence[str]) -> dict[str, str]:
    directions = [direction.name.lower() for direction in study.directions]
    if len(names) != len(directions):
        raise InputError(
            f"study {study.study_name!r} has {len(directions)} directions, but its trials name {len(names)} objectives "
            f"({', '.join(names)}). Name one for each direction."
        )
    return dict(zip(names, directions, strict=True))


def _check_same(
    study: str, ranked: Sequence[FrozenTrial], records: Sequence[Mapping[str, Any]], key: str, word: str, advice: str
) -> None:
    """Raises InputError, with the trials, unless ``key`` is the same in all records that have it."""
    numbers: dict[str, list[int]] = {}
    for trial, record in zip(ranked, records, strict=True):
        if record.get(key) is not None:
            numbers.setdefault(str(record[key]), []).append(trial.number)
    if len(numbers) > 1:
        groups = "; ".join(f"{value} in trial {listed(of_it)}" for value, of_it in numbers.items())
        raise InputError(f"the trials of study {study!r} have different {word}: {groups}. {advice}")


def _nothing_complete(study: str, trials: Iterable[FrozenTrial]) -> str:
    states = Counter(trial.state.name.lower() for trial in trials)
    records = [record_of(trial) for trial in trials]
    reasons = [str(why) for record in records if (why := record.get("failed") or record.get("pruned"))]
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    last = f"; the last one's reason: {reasons[-1]}." if reasons else "."
    return f"no trial of study {study!r} is complete, so there is nothing to rank: {counts}{last} Train some first."
