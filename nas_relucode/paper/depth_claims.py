"""Whether classes separate less, or better, with depth, and more so with training (section 3, Figures 2 to 6)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nas_relucode.errors import InputError, unknown
from nas_relucode.paper.claims import MEASURES, ROUNDING, need
from nas_relucode.ranking.paired_differences import paired

EXPECTATIONS = {"falls": -1, "rises": 1}


@dataclass(frozen=True)
class Claim:
    """Whether the classes' separability goes with depth as expected; measures are those of `MEASURES`.

    None where it is not defined: of a measure that is NaN for a label and fails for none, of the growth over one epoch.
    """

    holds: dict[str, bool | None]  # measure -> whether it does at the last epoch, for every label
    grows: dict[str, bool | None]  # measure -> whether it holds and depth has a stronger effect than at the first epoch
    sentences: tuple[str, ...]
    frame: pd.DataFrame  # a row a label and measure: what `separability_claim` says


def separability_claim(frame: pd.DataFrame, *, expect: str = "falls") -> Claim:
    """Whether separability "falls" (the paper on autoencoders) or "rises" (on classifiers) with depth.

    ``frame`` has a row a label, layer, depth (1 is the first layer) and epoch, with the measures and the samples, and a
    seed where there are several; the layer "joint" has no depth and takes no part. The effect is the deepest layer's
    value less the first one's. It holds with the sign expected, beyond its noise; it grows if it holds and its change
    from the first epoch to the last goes the same way beyond the noise of that. Noise is the half width of the 95 % t
    interval over the seeds, paired by seed. Of one seed it is that of the samples: two standard errors of the vote (as
    of independent samples, which is careful, for all layers and epochs see the same ones), nothing of the silhouette.

    Columns of the claim's ``frame``: label, measure, seeds, first_layer, last_layer, first, last (means at the last
    epoch), effect, noise (NaN where several seeds do not vary: then nothing holds), every_step (each layer less, or
    more, than the one before), early_effect (at the first epoch), change, change_noise, holds, grows.

    Raises InputError if no label has two layers.
    """
    if expect not in EXPECTATIONS:
        raise unknown("expectation", expect, EXPECTATIONS)
    need(frame, ["label", "layer", "depth", "epoch", "samples", *MEASURES])
    layers = frame[frame["layer"] != "joint"]
    layers = layers if "seed" in layers else layers.assign(seed=0)
    rows, said = [], []
    for label, of_label in layers.groupby("label", sort=False):
        epochs = sorted(of_label["epoch"].unique())
        last = of_label[of_label["epoch"] == epochs[-1]].groupby("depth")["layer"].first()
        if len(last) < 2:
            said.append(f"{label}: a single layer, so that nothing can be said of depth.")
            continue
        for measure, name in MEASURES.items():
            row = {"label": label, "measure": measure} | _by_depth(
                of_label, measure, epochs, last, EXPECTATIONS[expect]
            )
            rows.append(row)
            said.append(_depth_sentence(row, name, epochs, expect))
    if not rows:
        raise InputError("no label has two layers to compare. Give the layers of a deeper head, or of an autoencoder.")
    found = pd.DataFrame(rows).astype({"holds": object, "grows": object})
    of_measure = {measure: found[found["measure"] == measure] for measure in MEASURES}
    holds, grows = ({measure: _all(rows[key]) for measure, rows in of_measure.items()} for key in ("holds", "grows"))
    head = (
        f"The claim that the classes' separability {expect} with depth {_by_measure(holds)}; "
        f"that this grows stronger with training {_by_measure(grows)}."
    )
    return Claim(holds, grows, (head, *said), found.drop(columns="samples"))


def _by_depth(rows: pd.DataFrame, measure: str, epochs: list[int], layers: pd.Series, sign: int) -> dict[str, Any]:
    """What a label's measure does from its first layer to its deepest: a row of the claim's frame, and the samples."""
    values = rows.pivot_table(values=measure, index="seed", columns=["epoch", "depth"], dropna=False)
    ends = [layers.index[0], layers.index[-1]]
    now = values[epochs[-1]].dropna(subset=ends)  # a row a seed
    before = now[ends].iloc[:0]
    if len(epochs) > 1:
        before = values[epochs[0]].reindex(index=now.index, columns=ends).dropna()
    samples = int(rows["samples"].min())
    shared = samples if measure == "knn_accuracy" else math.inf
    then, last, both = (of[ends].to_numpy(float).T for of in (before, now, now.loc[before.index]))
    effect, noise = _moved(last[0], last[1], last, shared)
    change, change_noise = _moved(then[1] - then[0], both[1] - both[0], np.concatenate([then, both]), shared)
    holds = None if math.isnan(effect) else bool(sign * effect > noise)
    grows = None if holds is None or math.isnan(change) else bool(holds and sign * change > change_noise)
    means = now[layers.index].mean()
    return {
        "seeds": len(now),
        "first_layer": layers.iloc[0],
        "last_layer": layers.iloc[-1],
        "first": means[ends[0]],
        "last": means[ends[1]],
        "effect": effect,
        "noise": noise,
        "every_step": bool((sign * np.diff(means) > 0).all()),
        "early_effect": float((before[ends[1]] - before[ends[0]]).mean()),
        "change": change,
        "change_noise": change_noise,
        "holds": holds,
        "grows": grows,
        "samples": samples,
    }


def _moved(first: np.ndarray, second: np.ndarray, shares: np.ndarray, samples: float) -> tuple[float, float]:
    """How much more the second is, as a mean over the seeds; and its noise, of one seed that of the ``shares``."""
    if len(first) > 1:
        found = paired(first, second)
        return found.mean, found.high - found.mean
    if not len(first):
        return math.nan, math.nan
    error = math.sqrt(float((shares * (1 - shares)).sum()) / samples) if samples < math.inf else 0.0
    return float(second[0] - first[0]), max(2 * error, ROUNDING)


def _all(values: Iterable[bool | None]) -> bool | None:
    """Whether all are true: False where one is not, None where none fails but one is not defined."""
    found = list(values)
    return False if False in found else None if None in found else True


def _by_measure(verdicts: dict[str, bool | None]) -> str:
    words = {True: "holds", False: "does not hold", None: "is not defined"}
    return ", ".join(f"{words[verdict]} by the {MEASURES[measure]}" for measure, verdict in verdicts.items())


def _depth_sentence(row: dict[str, Any], name: str, epochs: list[int], expect: str) -> str:
    effect, noise, seeds = row["effect"], row["noise"], row["seeds"]
    if math.isnan(effect):
        return f"{row['label']}, {name}: not defined at epoch {epochs[-1]}."
    moves = "rises" if effect > 0 else "falls" if effect < 0 else "stays"
    step = "at every step" if row["every_step"] else "as a whole"
    chance = ", within what chance does" if abs(effect) <= noise else ""
    said = (
        f"{row['label']}, {name}, epoch {epochs[-1]}: {moves} from {row['first']:.3f} ({row['first_layer']}) to "
        f"{row['last']:.3f} ({row['last_layer']}){f' {step}' if moves == expect else ''}{chance} ("
    )
    if math.isnan(noise):
        said += f"the same for all {seeds} seeds, so that nothing is tested)"
    elif seeds > 1:
        said += f"{seeds} seeds, 95 % interval of the effect {effect - noise:+.3f} to {effect + noise:+.3f})"
    elif row["measure"] == "knn_accuracy":
        said += f"one seed; two standard errors, those of the {row['samples']:,} samples: {noise:.3f})"
    else:
        said += "one seed; its noise is not known)"
    if len(epochs) == 1:
        return f"{said}; one epoch, so that nothing can be said of training."
    if math.isnan(row["change"]):
        return f"{said}; it was not defined at epoch {epochs[0]}."
    said += f"; the effect of depth was {row['early_effect']:+.3f} at epoch {epochs[0]} and has changed by "
    margin = row["change_noise"]
    if math.isnan(margin):
        return f"{said}{row['change']:+.3f}, the same for all seeds."
    known = seeds > 1 or row["measure"] == "knn_accuracy"
    return f"{said}{row['change']:+.3f}{f', give or take {margin:.3f}' if known else ''}."
