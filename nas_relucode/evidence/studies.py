"""The networks of a user's own study, or of a comparison, as something whose indices and qualities can be examined."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nas_relucode.errors import InputError
from nas_relucode.evidence.examining import ACCURACY, FEWEST, Networks
from nas_relucode.evidence.statistics import accurate, named_bands
from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.selection import Selection

LAST_EPOCHS = 3  # over which the change of an index is taken
CHANGE = "_change"  # after the name of an index of the curve
BANDS = 3  # of accuracy, at most
EXAMPLE = 'Recorder(..., qualities=["noise_accuracy", "pgd_accuracy", "calibration_error"])'


def networks_of(selection: Selection) -> Networks:
    """The networks of a selection (see `select` and `compare`) near the best, in strata of nearly equal accuracy.

    These are two or three bands of accuracy without the 15 % of least accuracy, ten networks or more in each; with
    fewer networks, the finalists. Qualities are those that the study recorded, and accuracy on the test split. Beside
    the indices that it recorded stands the change of those of its curve, per epoch over the last three
    (``cell_count_change``).

    Raises InputError for a study without qualities, and for fewer than 4 networks of equal accuracy.
    """
    selection.require_feasible()
    table = selection.networks[selection.near_best].reset_index(drop=True).rename(columns={"accuracy": ACCURACY})
    measured = [name for name in table if name in QUALITIES and QUALITIES[name].held_out]
    qualities = {name: QUALITIES[name].direction for name in measured}
    if table["test_accuracy"].notna().all():
        qualities["test_accuracy"] = "maximize"
    qualities = {name: direction for name, direction in qualities.items() if np.isfinite(table[name]).all()}
    if not measured:
        raise InputError(
            f"study {selection.study!r} recorded no quality beside accuracy. Record what you want of the networks, "
            f"e.g. {EXAMPLE}, or give the networks' weights (--model)."
        )
    number = min(BANDS, len(accurate(table[ACCURACY])) // FEWEST)
    if number > 1:
        strata = named_bands(table[ACCURACY].to_numpy(float), bands=number)
    else:
        strata = {"finalists": np.flatnonzero(table["finalist"])}
    changes = _changes(selection)
    table = table.join(changes, on="network")
    indices = [name for name in table if name.rpartition(":")[2] in INDICES and name not in _SIZES]
    baselines = [name for name in (*_SIZES, "flops", "latency", "validation_loss", ACCURACY) if name in table]
    indices += [*changes]
    return Networks(table, tuple(indices), tuple(dict.fromkeys(baselines)), qualities, strata)


def _changes(selection: Selection) -> pd.DataFrame:
    """How much the indices of the curve changed per epoch over the last epochs: a row per network, seeds averaged."""
    networks, changes = [], []
    for network, record in zip(selection.source.networks, selection.source.records, strict=True):
        points = [point["joint"] for point in record.get("curve", [])[-1 - LAST_EPOCHS :]]
        if len(points) > 1:
            values = pd.DataFrame(points).astype(float)
            networks.append(network)
            changes.append((values.iloc[-1] - values.iloc[0]) / (len(points) - 1))
    return (
        pd.DataFrame(changes).groupby(np.array(networks, object)).mean().add_suffix(CHANGE)
        if changes
        else pd.DataFrame()
    )


_SIZES = ("parameters", "parameter_count")


def few(networks: Networks) -> str:
    """What limits the findings, where a stratum has few networks; empty otherwise."""
    fewest = min(len(rows) for rows in networks.strata.values())
    if fewest >= FEWEST:
        return ""
    return (
        f"Few networks are equally accurate ({fewest}): the intervals are too wide to conclude anything from fewer "
        f"than {FEWEST}."
    )
