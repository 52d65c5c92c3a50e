"""Whether the paper's claims hold: cells differ where accuracies do not (Figure 1), classes by depth (Figures 2-6)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nas_relucode.errors import InputError, unknown
from nas_relucode.paired_differences import LEVEL, Difference, holm, paired

COUNTS = {"cell_count": "occupied cells", "correct_cell_count": "cells with a correctly classified sample"}
MEASURES = {"knn_accuracy": "accuracy of the nearest neighbours' vote", "class_silhouette": "silhouette of the classes"}
EXPECTATIONS = {"falls": -1, "rises": 1}
ROUNDING = 1e-9  # a move this small is none


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
        """What became of "accuracies do not differ, cells over the epochs do", read off the joint code space.

        That no difference was found proves none: without equivalence the claim is half shown at most.
        """
        decisive = [self.counts[key] for key in self._decisive]
        if self.accuracy.significant:
            return "does not hold: the accuracies differ"
        if not self.accuracy.varies:
            return "is not tested: the accuracies do not vary over the seeds"
        whole = all(cells.significant for cells in decisive)
        if whole or all(self.counts[key].significant or self.differing_epochs(*key) for key in self._decisive):
            where = "" if whole else " at single epochs only"
            if self.equivalent:
                return f"holds{where}"
            return (
                f"is half shown: the cells differ{where} and the accuracies do not significantly, but that they are "
                f"equal within {self.margin:g} is not shown"
            )
        if not all(cells.varies for cells in decisive):
            return "is not tested: the difference of the cells does not vary over the seeds"
        return "does not hold: the cells over the epochs do not differ significantly"

    @property
    def _decisive(self) -> list[tuple[str, str]]:
        layers = {layer for layer, _ in self.counts}
        return [key for key in self.counts if key[0] == "joint" or "joint" not in layers]

    @property
    def holds(self) -> bool:
        """Whether cells over the epochs differ, and accuracies are equal within the margin: both shown."""
        return self.verdict == "holds"

    def sentences(self) -> list[str]:
        """The verdict in words, the accuracies, then each layer's counts; every difference with its interval."""
        low, high = self.learning_rates
        of = self.accuracy
        space = "joint code space" if self._decisive[0][0] == "joint" else "every layer"
        tested = ""
        if of.varies:
            tested = (
                f" {'No' if self.equal else 'A'} significant difference. That it is below {self.margin:g} is "
                f"{'shown' if self.equivalent else 'not shown'} (two one-sided tests, "
                f"p = {of.equivalence_p(self.margin):.2g})."
            )
        said = [
            f"Figure 1's claim, that the final accuracies of two learning rates do not differ while the occupied "
            f"cells over the epochs do, {self.verdict} ({space}, {of.seeds} seeds, tests at {LEVEL}).",
            f"Final accuracy is {of.first:.4f} at {low:g} and {of.second:.4f} at {high:g}: a difference of "
            f"{of.mean:+.4f}, {_range(of, '+.4f')}.{tested}",
        ]
        for (layer, count), cells in self.counts.items():
            epochs = self.differing_epochs(layer, count)
            differ = "they differ" if cells.significant else "they do not differ significantly"
            said.append(
                f"{layer}, {COUNTS[count]}: on average over the epochs {cells.first:,.1f} at {low:g} and "
                f"{cells.second:,.1f} at {high:g}, a difference of {cells.mean:+,.1f}, {_range(cells, '+,.1f')}"
                + f": {differ}" * cells.varies
                + f"; single epochs that differ (Holm): {', '.join(map(str, epochs)) or 'none'}."
            )
        if self.left_out:
            said.append(f"Seeds that only one learning rate has are left out: {', '.join(map(str, self.left_out))}.")
        return said


def _range(of: Difference, form: str) -> str:
    if not of.varies:
        return f"the same for all {of.seeds} seeds, so that nothing is tested"
    return f"95 % interval {of.low:{form}} to {of.high:{form}}, p = {of.p:.2g}"


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
    effect, noise = _moved(*last, last, shared)
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


def need(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise InputError unless ``frame`` has rows and all of ``columns``."""
    missing = [name for name in columns if name not in frame.columns]
    if missing or frame.empty:
        lacks = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise InputError(f"the frame {lacks}. Give a row a point with {', '.join(columns)}.")
