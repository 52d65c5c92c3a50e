"""The table of a study's networks: the means of every number over the seeds of each, and how far the seeds differ."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from nas_relucode.errors import InputError
from nas_relucode.ranking.trials import StudyTrials
from nas_relucode.study.columns import FIXED, PARAMS


def averaged(every_trial: pd.DataFrame, trials: StudyTrials) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A row per network and seed; a row per network with the means over its seeds; the same with their deviations."""
    ranked = every_trial[every_trial["ranked"]]
    if ranked["accuracy"].isna().all():
        raise InputError(f"the networks of study {trials.study!r} have no accuracy to rank by: they are autoencoders.")
    params = [name for name in ranked.columns if name.startswith(PARAMS)]
    left_out = {*FIXED[:4], *params, "violated", "ranked", "pruned", "retry_of", "reason"}
    numeric = [name for name in ranked.columns if name not in left_out]
    keys, means, _ = _grouped(ranked, ["network", "seed"], numeric)  # a training that was repeated counts once
    trainings = pd.concat([keys.drop(columns="size"), means], axis=1)
    keys, means, spread = _grouped(trainings, ["network"], numeric)
    networks = pd.concat([keys.rename(columns={"size": "seeds"}), means], axis=1)
    firsts = ranked.drop_duplicates("network").set_index("network").loc[networks["network"]]
    for position, name in enumerate(params, start=1):
        networks.insert(position, name, firsts[name].to_numpy())
    networks["parameters"] = networks.get("parameters", math.nan)
    networks["trial"] = firsts["number"].to_numpy()  # trials are in the order of their numbers
    complete = pd.MultiIndex.from_frame(ranked[["network", "seed"]])
    pruned = every_trial.loc[every_trial["pruned"], ["network", "seed"]].dropna().drop_duplicates()
    pruned = pruned[~pd.MultiIndex.from_frame(pruned).isin(complete)].groupby("network").size()
    networks["pruned"] = pruned.reindex(networks["network"], fill_value=0).to_numpy()
    violated = ranked.loc[ranked["violated"] != "", ["network", "violated"]].drop_duplicates()
    violated = violated.groupby("network")["violated"].agg(", ".join)
    networks["violated"] = violated.reindex(networks["network"], fill_value="").to_numpy()
    reaches_floor = networks.pop("infeasibility") <= 0
    networks["feasible"] = reaches_floor & (networks["pruned"] == 0) & (networks["violated"] == "")
    return trainings, networks, spread.drop(columns="infeasibility")


def _grouped(frame: pd.DataFrame, by: list[str], numeric: list[str]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The groups with their sizes, the means of the numeric columns, and their sample standard deviations.

    A mean is NaN if a value is. It does not depend on the order of the rows, and that of equal values is exactly their
    value, so that networks with the same values tie.
    """
    groups, keys = frame.groupby(by).ngroup().to_numpy(), frame.groupby(by).size().rename("size").reset_index()
    sizes, values = keys["size"].to_numpy(), frame[numeric].to_numpy(float)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    means, squares = np.empty((2, len(sizes), len(numeric)))
    for column in range(len(numeric)):
        in_order = values[np.lexsort((values[:, column], groups)), column]
        first = in_order[starts]
        means[:, column] = first + np.add.reduceat(in_order - np.repeat(first, sizes), starts) / sizes
        squares[:, column] = np.add.reduceat((in_order - np.repeat(means[:, column], sizes)) ** 2, starts)
    freedom = np.where(sizes > 1, sizes - 1.0, math.nan)[:, None]
    return keys, pd.DataFrame(means, columns=numeric), pd.DataFrame(np.sqrt(squares / freedom), columns=numeric)
