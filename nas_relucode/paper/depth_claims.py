"""Section 3's claim: the separability of classes falls or rises with depth, and more so with training (Figures 2-6)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nas_relucode.errors import InputError, unknown
from nas_relucode.plots.style import MEASURES, check_columns
from nas_relucode.ranking.paired_differences import paired

EXPECTATIONS = {"falls": -1, "rises": 1}
ROUNDING = 1e-9  # a change up to this counts as rounding


@dataclass(frozen=True, eq=False)
class Claim:
    """Whether the classes' separability changes with depth as expected, by each measure of `MEASURES`.

    A verdict is None where it is not defined: where the measure is NaN for a label and the claim fails for no other,
    and for the growth if there is one epoch only.
    """

    holds: dict[str, bool | None]  # measure -> whether it does so at the last epoch, for every label
    grows: dict[str, bool | None]  # measure -> whether the effect of depth is also stronger than at the first epoch
    sentences: tuple[str, ...]
    frame: pd.DataFrame  # a row for each label and measure: see `separability_claim`


def separability_claim(frame: pd.DataFrame, *, expect: str = "falls") -> Claim:
    """Whether separability is as ``expect``: it "falls" (the paper on autoencoders) or "rises" with depth.

    ``frame`` has a row for each label, layer, depth (1 is the first layer) and epoch, with the measures and the number
    of samples, and a seed where there are several; the layer "joint" has no depth and is left out. The effect of depth
    is the deepest layer's value minus the first layer's. The claim holds if the effect has the expected sign and
    exceeds its noise; the effect grows if, moreover, its change from the first epoch to the last has this sign and
    exceeds its own noise. Noise is half of the 95 % t interval over the seeds, paired by seed. With one seed it comes
    from the samples: two standard errors of the vote's accuracy (those of independent samples, which is conservative,
    since all layers and epochs share the samples), and none for the silhouette.

    Columns of the claim's ``frame``: label, measure, seeds, first_layer, last_layer, first, last (means at the last
    epoch), effect, noise (NaN where the seeds do not vary: then nothing holds), every_step (whether each layer is
    below, or above, the one before), early_effect (at the first epoch), change, change_noise, holds, grows.

    Raises InputError if no label has two layers.
    """
    if expect not in EXPECTATIONS:
        raise unknown("expectation", expect, EXPECTATIONS)
    check_columns(frame, ["label", "layer", "depth", "epoch", "samples", *MEASURES])
    layers = frame[frame["layer"] != "joint"]
    layers = layers if "seed" in layers else layers.assign(seed=0)
    rows, sentences = [], []
    for label, label_rows in layers.groupby("label", sort=False):
        epochs = sorted(label_rows["epoch"].unique())
        last = label_rows[label_rows["epoch"] == epochs[-1]].groupby("depth")["layer"].first()
        if len(last) < 2:
            sentences.append(f"{label}: there is one layer, so the effect of depth is not defined.")
            continue
        for measure, name in MEASURES.items():
            row = {"label": label, "measure": measure} | _by_depth(
                label_rows, measure, epochs, last, EXPECTATIONS[expect]
            )
            rows.append(row)
            sentences.append(_depth_sentence(row, name, epochs, expect))
    if not rows:
        raise InputError("no label has two layers to compare. Give the layers of a deeper head, or of an autoencoder.")
    table = pd.DataFrame(rows).astype({"holds": object, "grows": object})
    by_measure = {measure: table[table["measure"] == measure] for measure in MEASURES}
    holds, grows = ({measure: _all(rows[key]) for measure, rows in by_measure.items()} for key in ("holds", "grows"))
    verdict = (
        f"The claim that the classes' separability {expect} with depth {_by_measure(holds)}; "
        f"that the effect grows with training {_by_measure(grows)}."
    )
    return Claim(holds, grows, (verdict, *sentences), table.drop(columns="samples"))


def _by_depth(rows: pd.DataFrame, measure: str, epochs: list[int], layers: pd.Series, sign: int) -> dict[str, Any]:
    """A label's measure from its first layer to its deepest: a row of the claim's frame, with the number of samples."""
    values = rows.pivot_table(values=measure, index="seed", columns=["epoch", "depth"], dropna=False)
    ends = [layers.index[0], layers.index[-1]]
    late = values[epochs[-1]].dropna(subset=ends)  # a row for each seed
    early = late[ends].iloc[:0]
    if len(epochs) > 1:
        early = values[epochs[0]].reindex(index=late.index, columns=ends).dropna()
    samples = int(rows["samples"].min())
    noise_samples = samples if measure == "knn_accuracy" else math.inf
    first, last, paired_last = (part[ends].to_numpy(float).T for part in (early, late, late.loc[early.index]))
    effect, noise = _change(last[0], last[1], last, noise_samples)
    shares = np.concatenate([first, paired_last])
    change, change_noise = _change(first[1] - first[0], paired_last[1] - paired_last[0], shares, noise_samples)
    holds = None if math.isnan(effect) else bool(sign * effect > noise)
    grows = None if holds is None or math.isnan(change) else bool(holds and sign * change > change_noise)
    means = late[layers.index].mean()
    return {
        "seeds": len(late),
        "first_layer": layers.iloc[0],
        "last_layer": layers.iloc[-1],
        "first": means[ends[0]],
        "last": means[ends[1]],
        "effect": effect,
        "noise": noise,
        "every_step": bool((sign * np.diff(means) > 0).all()),
        "early_effect": float((early[ends[1]] - early[ends[0]]).mean()),
        "change": change,
        "change_noise": change_noise,
        "holds": holds,
        "grows": grows,
        "samples": samples,
    }


def _change(first: np.ndarray, second: np.ndarray, shares: np.ndarray, samples: float) -> tuple[float, float]:
    """The mean of second - first over the seeds, and its noise: with one seed that of ``shares`` of ``samples``."""
    if len(first) > 1:
        difference = paired(first, second)
        return difference.mean, difference.high - difference.mean
    if not len(first):
        return math.nan, math.nan
    error = math.sqrt(float((shares * (1 - shares)).sum()) / samples) if samples < math.inf else 0.0
    return float(second[0] - first[0]), max(2 * error, ROUNDING)


def _all(values: Iterable[bool | None]) -> bool | None:
    """False if one value is False, else None if one is None, else True."""
    verdicts = list(values)
    return False if False in verdicts else None if None in verdicts else True


def _by_measure(verdicts: dict[str, bool | None]) -> str:
    words = {True: "holds", False: "does not hold", None: "is not defined"}
    return ", ".join(f"{words[verdict]} by the {MEASURES[measure]}" for measure, verdict in verdicts.items())


def _depth_sentence(row: dict[str, Any], name: str, epochs: list[int], expect: str) -> str:
    effect, noise, seeds = row["effect"], row["noise"], row["seeds"]
    if math.isnan(effect):
        return f"{row['label']}, {name}: not defined at epoch {epochs[-1]}."
    moves = "rises" if effect > 0 else "falls" if effect < 0 else "stays"
    step = "at every step" if row["every_step"] else "as a whole"
    chance = ", within its noise" if abs(effect) <= noise else ""
    sentence = (
        f"{row['label']}, {name}, epoch {epochs[-1]}: {moves} from {row['first']:.3f} ({row['first_layer']}) to "
        f"{row['last']:.3f} ({row['last_layer']}){f' {step}' if moves == expect else ''}{chance} ("
    )
    if math.isnan(noise):
        sentence += f"the same for all {seeds} seeds, so that nothing is tested)"
    elif seeds > 1:
        sentence += f"{seeds} seeds, 95 % interval of the effect {effect - noise:+.3f} to {effect + noise:+.3f})"
    elif row["measure"] == "knn_accuracy":
        sentence += f"one seed; two standard errors, those of the {row['samples']:,} samples: {noise:.3f})"
    else:
        sentence += "one seed; its noise is unknown)"
    if len(epochs) == 1:
        return f"{sentence}; there is one epoch, so the effect of training is not defined."
    if math.isnan(row["change"]):
        return f"{sentence}; it was not defined at epoch {epochs[0]}."
    sentence += f"; the effect of depth was {row['early_effect']:+.3f} at epoch {epochs[0]} and has changed by "
    margin = row["change_noise"]
    if math.isnan(margin):
        return f"{sentence}{row['change']:+.3f}, the same for all seeds."
    known = seeds > 1 or row["measure"] == "knn_accuracy"
    return f"{sentence}{row['change']:+.3f}{f', plus or minus {margin:.3f}' if known else ''}."
