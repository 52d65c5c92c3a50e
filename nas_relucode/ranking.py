"""Which networks of a study are equally accurate, and their order by the indices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from nas_relucode.errors import InputError
from nas_relucode.indices import INDICES
from nas_relucode.objective import ATTRIBUTE, objective_value

NETWORK = ["head", "learning_rate"]  # what the trials of one network, trained with several seeds, have in common


@dataclass(frozen=True)
class Ranking:
    """The networks of a study: means over their seeds, and who is ahead."""

    objectives: dict[str, str]  # name -> "maximize" or "minimize", in the study's order
    networks: pd.DataFrame  # a row a network, the best first; the columns are described in `rank`
    spread: pd.DataFrame  # sample standard deviation over the seeds of the numeric columns; NaN for a single seed
    threshold: float  # networks of at least this accuracy are equally accurate with the best; NaN if none is feasible
    silent: dict[str, str]  # indices that tell the equally accurate networks nothing apart -> why

    @property
    def front(self) -> pd.DataFrame:
        """The networks that no other is better than in every objective."""
        return self.networks[self.networks["front"]]

    @property
    def equal(self) -> pd.DataFrame:
        """The networks that are equally accurate with the best, in their order by the indices."""
        return self.networks[self.networks["equal"]].sort_values("place", kind="stable")


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """A row a trial: number, state, candidate, objectives, accuracies, every joint index, and what went wrong.

    Raises InputError if no trial carries our attribute.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False):
        found = trial.user_attrs.get(ATTRIBUTE, {})
        row: dict[str, Any] = {"number": trial.number, "state": trial.state.name}
        row |= {name: trial.params.get(name) for name in NETWORK}
        row["seed"] = found.get("candidate", trial.params).get("seed")
        complete = trial.state == TrialState.COMPLETE and "joint" in found
        if complete:
            accuracies = {name: found[name] for name in ("accuracy", "train_accuracy", "test_accuracy")}
            row |= {name: math.nan if value is None else value for name, value in accuracies.items()}
            row |= {name: objective_value(found, name) for name in found["objectives"]}
            row |= {"parameters": found["parameters"], "seconds": found["seconds"]}
            row |= {name: objective_value(found, name) for name in found["joint"] if name != "parameter_count"}
            row["validation_samples"] = found["validation_samples"]
            row["infeasibility"] = max(trial.constraints.values(), default=0.0)
        row["ranked"] = complete
        row["diverged"] = "pruned" in found
        row["retry_of"] = trial.user_attrs.get("retry_of")
        row["reason"] = found.get("pruned") or found.get("failed")
        if "same_as" in trial.user_attrs:
            row["reason"] = f"the same candidate as trial {trial.user_attrs['same_as']}"
        rows.append(row)
    if not any(ATTRIBUTE in trial.user_attrs for trial in study.get_trials(deepcopy=False)):
        raise InputError(
            f"no trial of study {study.study_name!r} carries the attribute {ATTRIBUTE!r}. "
            "Reports need trials of nas_relucode.Objective, at least one of them finished."
        )
    return pd.DataFrame(rows).astype({"seed": "Int64", "retry_of": "Int64"})


def rank(study: optuna.Study) -> Ranking:
    """Who is equally accurate with the best, in which order, and who is on the Pareto front of all objectives.

    A network is a head and a learning rate; its seeds are averaged first. It is equally accurate with the most
    accurate feasible network if its mean accuracy is at least the best one's minus one standard error (the
    one-standard-error rule). The standard error adds the two ways in which the best could have come out otherwise: by
    other seeds (variance / seeds) and by another validation sample (q (1 - q) / samples, where q is the accuracy with
    two more samples right and two wrong, after Agresti and Coull 1998).

    Equally accurate networks are ordered by their Pareto rank over the study's other objectives, then by accuracy,
    then by fewer parameters. Objectives that are constant, undefined or saturated among them take no part.

    A network is feasible if it reaches the study's accuracy floor and none of its seeds was pruned (diverged).

    Columns of ``networks``: head, learning_rate, seeds, means of the numeric columns of `trials_frame`, ``diverged``
    (seeds pruned), ``feasible``,
    ``front``, ``equal`` (booleans) and ``place`` (1 for the first of the equally accurate ones, NaN for the others).
    """
    every_trial = trials_frame(study)
    trials = every_trial[every_trial["ranked"]]
    if trials.empty:
        raise InputError(f"no trial of study {study.study_name!r} is complete, so there is nothing to rank.")
    if trials["accuracy"].isna().all():
        raise InputError(
            f"the networks of study {study.study_name!r} have no accuracy to rank by: they are autoencoders."
        )
    objectives = _objectives(study)
    trials = trials.drop(columns=["number", "state", "ranked", "retry_of", "reason"])
    by_seed = trials.groupby([*NETWORK, "seed"]).agg(_mean).reset_index()  # a training that was repeated counts once
    groups = by_seed.drop(columns="seed").groupby(NETWORK)
    networks, spread = groups.agg(_mean).reset_index(), groups.agg(_deviation).reset_index()
    networks.insert(2, "seeds", groups.size().to_numpy())
    diverged = every_trial[every_trial["diverged"]].groupby(NETWORK)["seed"].nunique()
    networks["diverged"] = diverged.reindex(pd.MultiIndex.from_frame(networks[NETWORK]), fill_value=0).to_numpy()
    networks["feasible"] = (networks.pop("infeasibility") <= 0) & (networks["diverged"] == 0)
    networks["front"] = _front(networks, objectives)
    threshold = _threshold(networks, spread)
    networks["equal"] = networks["feasible"] & (networks["accuracy"] >= threshold)
    indices = [name for name in objectives if name != "accuracy"]
    silent = _silent(networks[networks["equal"]], _saturated(study))
    deciding = {name: objectives[name] for name in indices if name not in silent}
    networks["place"] = _places(networks, deciding)
    order = networks.sort_values(["place", "accuracy"], ascending=[True, False], kind="stable").index
    networks, spread = networks.loc[order].reset_index(drop=True), spread.loc[order].reset_index(drop=True)
    return Ranking(objectives, networks, spread, threshold, silent)


def _mean(values: pd.Series) -> float:
    """The mean, NaN if a value is; summed exactly, so that networks with the same values tie whatever their order."""
    return math.fsum(values) / len(values)


def _deviation(values: pd.Series) -> float:
    """The sample standard deviation; NaN for a single value."""
    mean = _mean(values)
    return math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1)) if len(values) > 1 else math.nan


def _objectives(study: optuna.Study) -> dict[str, str]:
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        names = trial.user_attrs.get(ATTRIBUTE, {}).get("objectives")
        if names:
            directions = [direction.name.lower() for direction in study.directions]
            return dict(zip(names, directions, strict=True))
    raise AssertionError("a ranked trial names its objectives")


def _front(networks: pd.DataFrame, objectives: dict[str, str]) -> np.ndarray:
    """Feasible networks that are not dominated; equal points stay together."""
    front = networks["feasible"].to_numpy().copy()
    if front.any():
        front[front] = moocore.is_nondominated(_costs(networks[front], objectives), keep_weakly=True)
    return front


def _costs(networks: pd.DataFrame, objectives: dict[str, str]) -> np.ndarray:
    """The objectives as numbers to minimise: moocore reads ``maximise=[False]``, of one column, as true."""
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in objectives.values()]
    return networks[list(objectives)].to_numpy(float) * signs


def _threshold(networks: pd.DataFrame, spread: pd.DataFrame) -> float:
    feasible = networks[networks["feasible"]]
    if feasible.empty:
        return math.nan
    best = feasible["accuracy"].idxmax()
    p, samples, seeds = (networks.loc[best, name] for name in ("accuracy", "validation_samples", "seeds"))
    by_seeds = spread.loc[best, "accuracy"] ** 2 / seeds if seeds > 1 else 0.0
    q = (p * samples + 2) / (samples + 4)  # so that a perfect validation is not taken for certainty
    return float(p - math.sqrt(by_seeds + q * (1 - q) / samples))


def _saturated(study: optuna.Study) -> dict[str, set[tuple[str, float]]]:
    """Joint index -> the networks for which it lies at an end of its range with some seed."""
    networks: dict[str, set[tuple[str, float]]] = {}
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        found = trial.user_attrs.get(ATTRIBUTE, {})
        for name in found.get("saturated", {}).get("joint", []):
            networks.setdefault(name, set()).add((trial.params["head"], trial.params["learning_rate"]))
    return networks


def _silent(equal: pd.DataFrame, saturated: dict[str, set[tuple[str, float]]]) -> dict[str, str]:
    """The index columns that can't order these networks, each with the reason."""
    reasons = {}
    everyone = set(zip(equal["head"], equal["learning_rate"], strict=True))
    for name in equal.columns:
        if name.rpartition(":")[2] in INDICES:
            values = equal[name]
            if values.isna().any():
                reasons[name] = "undefined for some"
            elif len(values) > 1 and (values == values.iloc[0]).all():
                reasons[name] = f"constant, {values.iloc[0]:.4g}"
            elif len(values) > 1 and everyone <= saturated.get(name, set()):
                reasons[name] = "saturated for all"
    return reasons


def _places(networks: pd.DataFrame, deciding: dict[str, str]) -> np.ndarray:
    equal = networks[networks["equal"]]
    places = np.full(len(networks), math.nan)
    if len(equal):
        pareto = np.ones(len(equal))
        if deciding:
            pareto = moocore.pareto_rank(_costs(equal, deciding))
        order = np.lexsort((equal["parameters"], -equal["accuracy"], pareto))
        places[equal.index[order]] = np.arange(1, len(equal) + 1)
    return places
