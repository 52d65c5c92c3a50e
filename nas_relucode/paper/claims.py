"""Whether cells differ where accuracies do not, as the paper claims of two learning rates (Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import LEVEL
from nas_relucode.ranking.paired_differences import Difference, holm, paired

COUNTS = {"cell_count": "occupied cells", "correct_cell_count": "cells with a correctly classified sample"}
MEASURES = {"knn_accuracy": "accuracy of the nearest neighbours' vote", "class_silhouette": "silhouette of the classes"}
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


def need(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise InputError unless ``frame`` has rows and all of ``columns``."""
    missing = [name for name in columns if name not in frame.columns]
    if missing or frame.empty:
        lacks = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise InputError(f"the frame {lacks}. Give a row a point with {', '.join(columns)}.")
