"""Whether the paper's claims hold: cells differ where accuracies do not (Figure 1), classes by depth (Figures 2-6)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nas_relucode.errors import InputError, unknown
from nas_relucode.paired_differences import LEVEL, Difference, holm, paired

COUNTS = {"cell_count": "occupied cells", "correct_cell_count": "cells with a correctly classified sample"}
MEASURES = {"knn_accuracy": "accuracy of the nearest neighbours' vote", "class_silhouette": "silhouette of the classes"}
EXPECTATIONS = {"falls": -1, "rises": 1}


@dataclass(frozen=True)
class Comparison:
    """Two learning rates side by side: final accuracies, and cells over the epochs."""

    learning_rates: tuple[float, float]  # the smaller first
    epochs: tuple[int, ...]
    accuracy: Difference  # at the last epoch
    counts: dict[tuple[str, str], Difference]  # (layer, count) -> the mean over the epochs: area between the curves
    frame: pd.DataFrame  # every difference: what `compare_curves` says
    margin: float  # accuracies this close are equal for all that matters
    left_out: tuple[int, ...]  # seeds that only one learning rate has

    @property
    def equal(self) -> bool:
        """Whether the final accuracies do not differ significantly, which few seeds alone can bring about."""
        return not self.accuracy.significant

    @property
    def equivalent(self) -> bool:
        """Whether the final accuracies are shown to be less than the margin apart."""
        return self.accuracy.equivalence_p(self.margin) < LEVEL

    def differing_epochs(self, layer: str, count: str) -> list[int]:
        """The epochs at which a count differs, Holm's correction over the epochs applied."""
        rows = self.frame[(self.frame["measure"] == count) & (self.frame["layer"] == layer)]
        return [int(epoch) for epoch in rows.loc[(rows["over"] == "epoch") & (rows["p_holm"] < LEVEL), "epoch"]]

    @property
    def verdict(self) -> str:
        """What became of "accuracies do not differ, cells over the epochs do", read off the joint code space."""
        layers = {layer for layer, _ in self.counts}
        decisive = [key for key in self.counts if key[0] == "joint" or "joint" not in layers]
        if not self.equal:
            return "does not hold: the accuracies differ"
        if all(self.counts[key].significant for key in decisive):
            return "holds"
        if all(self.counts[key].significant or self.differing_epochs(*key) for key in decisive):
            return "holds at single epochs only"
        return "does not hold: the cells over the epochs do not differ"

    @property
    def holds(self) -> bool:
        return self.verdict == "holds"

    def sentences(self) -> list[str]:
        """The verdict in words, the accuracies, then each layer's counts; every difference with its interval."""
        low, high = self.learning_rates
        of = self.accuracy
        said = [
            f"Figure 1's claim, that the final accuracies of two learning rates do not differ while the occupied "
            f"cells over the epochs do, {self.verdict} (joint code space, {of.seeds} seeds, tests at {LEVEL}).",
            f"Final accuracy is {of.first:.4f} at {low:g} and {of.second:.4f} at {high:g}: a difference of "
            f"{of.mean:+.4f}, 95 % interval {of.low:+.4f} to {of.high:+.4f}, p = {of.p:.2g}: "
            f"{'no significant difference' if self.equal else 'a significant difference'}. That it is below "
            f"{self.margin:g} is {'shown' if self.equivalent else 'not shown'} (two one-sided tests, "
            f"p = {of.equivalence_p(self.margin):.2g}).",
        ]
        for (layer, count), cells in self.counts.items():
            epochs = self.differing_epochs(layer, count)
            said.append(
                f"{layer}, {COUNTS[count]}: on average over the epochs {cells.first:,.1f} at {low:g} and "
                f"{cells.second:,.1f} at {high:g}, a difference of {cells.mean:+,.1f}, 95 % interval {cells.low:+,.1f} "
                f"to {cells.high:+,.1f}, p = {cells.p:.2g}: "
                + ("they differ" if cells.significant else "they do not differ significantly")
                + f"; single epochs that differ (Holm): {', '.join(map(str, epochs)) or 'none'}."
            )
        if self.left_out:
            said.append(f"Seeds that only one learning rate has are left out: {', '.join(map(str, self.left_out))}.")
        return said


def compare_curves(
    curves: pd.DataFrame, *, learning_rates: tuple[float, float] | None = None, margin: float = 0.01
) -> Comparison:
    """Two learning rates of one head against each other, paired by seed.

    ``curves`` has a row a learning_rate, seed, epoch and layer, with accuracy, cell_count and correct_cell_count (all
    NaN where nothing is classified). ``learning_rates`` chooses two where there are more. Differences are the larger
    learning rate's minus the smaller one's.

    Columns of ``frame``: measure, layer, ``over`` ("last epoch" for accuracy, "epoch", "all epochs": the area between
    the curves / the epochs that they span), epoch, first, second, difference, low, high, p, p_holm (over the epochs of
    a layer's count), seeds.

    Raises InputError unless there is one head, two learning rates, two common seeds, and each point once.
    """
    need(curves, ["head", "learning_rate", "seed", "epoch", "layer", "accuracy", *COUNTS])
    if learning_rates is not None:
        curves = curves[curves["learning_rate"].isin(learning_rates)]
    rates = sorted(float(rate) for rate in curves["learning_rate"].unique())
    heads = list(curves["head"].unique())
    if len(rates) != 2 or len(heads) != 1:
        raise InputError(f"there are heads {heads} and learning rates {rates}. Give one head and two learning rates.")
    if curves.duplicated(["learning_rate", "seed", "epoch", "layer"]).any():
        raise InputError("a point is there twice. Give one row a learning rate, seed, epoch and layer.")
    seeds = [set(curves.loc[curves["learning_rate"] == rate, "seed"]) for rate in rates]
    both, left_out = sorted(seeds[0] & seeds[1]), sorted(seeds[0] ^ seeds[1])
    if len(both) < 2:
        raise InputError(f"learning rates {rates} have seeds {both} in common. Train both with the same two and more.")
    curves = curves[curves["seed"].isin(both)]
    epochs = sorted(int(epoch) for epoch in curves["epoch"].unique())

    def tables(measure: str, rows: pd.DataFrame) -> list[pd.DataFrame]:
        """A table (seeds, epochs) a learning rate."""
        both_rates = rows.pivot_table(values=measure, index=["learning_rate", "seed"], columns="epoch")
        index = pd.MultiIndex.from_product([rates, both], names=["learning_rate", "seed"])
        both_rates = both_rates.reindex(index=index, columns=epochs)
        if both_rates.isna().any(axis=None):
            rate, seed = index[int(both_rates.isna().any(axis=1).argmax())]
            raise InputError(
                f"seed {seed} at learning rate {rate:g} lacks {measure} at an epoch that others have. "
                f"Compare runs of the same epochs ({epochs[0]} to {epochs[-1]}), or leave out this seed."
            )
        return [both_rates.loc[rate] for rate in rates]

    accuracy = paired(*(table[epochs[-1]] for table in tables("accuracy", curves)))
    rows = [_row("accuracy", "", "last epoch", epochs[-1], accuracy, accuracy.p)]
    counts = {}
    for layer in dict.fromkeys(curves["layer"]):
        of_layer = curves[curves["layer"] == layer]
        for count in (name for name in COUNTS if of_layer[name].notna().any()):
            first, second = tables(count, of_layer)
            single = [paired(first[epoch], second[epoch]) for epoch in epochs]
            adjusted = holm([found.p for found in single])
            rows += [_row(count, layer, "epoch", *each) for each in zip(epochs, single, adjusted, strict=True)]
            whole = paired(_mean_over(first), _mean_over(second))
            rows.append(_row(count, layer, "all epochs", None, whole, whole.p))
            counts[layer, count] = whole
    frame = pd.DataFrame(rows).astype({"epoch": "Int64"})
    return Comparison((rates[0], rates[1]), tuple(epochs), accuracy, counts, frame, margin, tuple(map(int, left_out)))


def _mean_over(table: pd.DataFrame) -> np.ndarray:
    """The mean height of each seed's curve: the area under it / the epochs that it spans."""
    epochs, values = table.columns.to_numpy(float), table.to_numpy(float)
    return np.trapezoid(values, epochs, axis=1) / np.ptp(epochs) if len(epochs) > 1 else values[:, 0]


def _row(
    measure: str, layer: str, over: str, epoch: int | None, of: Difference, p_holm: float
) -> dict[str, str | float | int | None]:
    where = {"measure": measure, "layer": layer, "over": over, "epoch": epoch}
    means = {"first": of.first, "second": of.second, "difference": of.mean, "low": of.low, "high": of.high}
    return {**where, **means, "p": of.p, "p_holm": float(p_holm), "seeds": of.seeds}


@dataclass(frozen=True)
class Claim:
    """Whether the classes' separability goes with depth as expected; measures are those of `MEASURES`."""

    holds: dict[str, bool]  # measure -> whether it does at the last epoch, for every label
    grows: dict[str, bool]  # measure -> whether the effect of depth is stronger at the last epoch than at the first
    sentences: tuple[str, ...]
    frame: pd.DataFrame  # a row a label and measure: what `separability_claim` says


def separability_claim(frame: pd.DataFrame, *, expect: str = "falls") -> Claim:
    """Whether separability "falls" (the paper on autoencoders) or "rises" (on classifiers) with depth.

    ``frame`` has a row a label, layer, depth (1 is the first layer) and epoch, with the measures and the samples. Rows
    of several seeds are averaged; the layer "joint" has no depth and takes no part. The effect is the deepest layer's
    value less the first one's. It holds with the sign expected; the vote's must be more than two standard errors too
    (of two independent samples, which is careful, for all layers see the same ones).

    Columns of the claim's ``frame``: label, measure, first_layer, last_layer, first, last (values at the last epoch),
    effect, every_step (each layer less, or more, than the one before), early_effect (at the first epoch), holds, grows.

    Raises InputError if no label has two layers.
    """
    if expect not in EXPECTATIONS:
        raise unknown("expectation", expect, EXPECTATIONS)
    need(frame, ["label", "layer", "depth", "epoch", "samples", *MEASURES])
    sign = EXPECTATIONS[expect]
    layers = frame[frame["layer"] != "joint"]
    means = layers.groupby(["label", "epoch", "depth", "layer"], sort=False)[[*MEASURES, "samples"]].mean()
    rows, said = [], []
    for label in dict.fromkeys(layers["label"]):
        of_label = means.loc[label].sort_index(level=["epoch", "depth"])
        epochs = list(dict.fromkeys(of_label.index.get_level_values("epoch")))
        last = of_label.loc[epochs[-1]].reset_index()
        if len(last) < 2:
            said.append(f"{label}: a single layer, so that nothing can be said of depth.")
            continue
        for measure, name in MEASURES.items():
            values = last[measure].to_numpy(float)
            effect = values[-1] - values[0]
            early = of_label.loc[epochs[0], measure].to_numpy(float)
            early_effect = early[-1] - early[0] if len(epochs) > 1 else math.nan
            noise = 0.0
            if measure == "knn_accuracy":
                noise = 2 * math.sqrt(sum(values[[0, -1]] * (1 - values[[0, -1]])) / last["samples"].min())
            row = {"label": label, "measure": measure, "first_layer": last["layer"].iloc[0]}
            row |= {"last_layer": last["layer"].iloc[-1], "first": values[0], "last": values[-1], "effect": effect}
            row |= {"every_step": bool((sign * np.diff(values) > 0).all()), "early_effect": early_effect}
            rows.append(
                row | {"holds": bool(sign * effect > noise), "grows": bool(sign * (effect - early_effect) > 1e-9)}
            )
            said.append(_depth_sentence(rows[-1], name, epochs, last["layer"], abs(effect) <= noise, expect))
    if not rows:
        raise InputError("no label has two layers to compare. Give the layers of a deeper head, or of an autoencoder.")
    found = pd.DataFrame(rows)
    verdicts = {key: found.groupby("measure")[key].all() for key in ("holds", "grows")}
    holds, grows = ({measure: bool(of[measure]) for measure in MEASURES} for of in verdicts.values())
    head = (
        f"The claim that the classes' separability {expect} with depth "
        + ", ".join(f"{'holds' if holds[measure] else 'does not hold'} by the {MEASURES[measure]}" for measure in holds)
        + "; that this grows stronger with training "
        + ", ".join(f"{'holds' if grows[measure] else 'does not hold'} by the {MEASURES[measure]}" for measure in grows)
        + "."
    )
    return Claim(holds, grows, (head, *said), found)


def _depth_sentence(
    row: dict[str, object], name: str, epochs: list[int], layers: Iterable[str], noise: bool, expect: str
) -> str:
    first, last, effect, early = (float(row[key]) for key in ("first", "last", "effect", "early_effect"))  # type: ignore[arg-type]
    if math.isnan(effect):
        return f"{row['label']}, {name}: not defined at epoch {epochs[-1]}."
    moves = "rises" if effect > 0 else "falls" if effect < 0 else "stays"
    step = "at every step" if row["every_step"] else "as a whole"
    chance = ", within what chance does (two standard errors)" if noise else ""
    said = (
        f"{row['label']}, {name}, epoch {epochs[-1]}: {moves} from {first:.3f} ({row['first_layer']}) to {last:.3f} "
        f"({row['last_layer']}){f' {step}' if moves == expect else ''}{chance}"
    )
    if len(epochs) == 1:
        return f"{said}; one epoch, so that nothing can be said of training."
    return f"{said}; the effect of depth was {early:+.3f} at epoch {epochs[0]} and is {effect:+.3f} now."


def need(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise InputError unless ``frame`` has rows and all of ``columns``."""
    missing = [name for name in columns if name not in frame.columns]
    if missing or frame.empty:
        lacks = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise InputError(f"the frame {lacks}. Give a row a point with {', '.join(columns)}.")
