"""Figure 1's claim: two learning rates give equal accuracies, but different numbers of occupied cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nas_relucode.errors import InputError
from nas_relucode.plots.style import COUNTS, check_columns
from nas_relucode.ranking.choices import LEVEL
from nas_relucode.ranking.paired_differences import Difference, holm, paired


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two learning rates compared by their final accuracies and by their cells over the epochs."""

    learning_rates: tuple[float, float]  # the smaller first
    epochs: tuple[int, ...]
    accuracy: Difference  # at the last epoch
    counts: dict[tuple[str, str], Difference]  # (layer, count) -> mean over the epochs: the area between curves
    frame: pd.DataFrame  # every difference: see `compare_curves`
    margin: float  # a difference of accuracies below it does not matter
    left_out: tuple[int, ...]  # seeds of only one of the learning rates

    @property
    def equal(self) -> bool:
        """Whether the final accuracies do not differ significantly; with few seeds, large differences do not either."""
        return not self.accuracy.significant

    @property
    def equivalent(self) -> bool:
        """Whether the final accuracies are shown to be less than the margin apart."""
        return self.accuracy.equivalence_p(self.margin) < LEVEL

    def differing_epochs(self, layer: str, count: str) -> list[int]:
        """The epochs at which a count differs significantly, with Holm's correction over the epochs."""
        rows = self.frame[(self.frame["measure"] == count) & (self.frame["layer"] == layer)]
        return [int(epoch) for epoch in rows.loc[(rows["over"] == "epoch") & (rows["p_holm"] < LEVEL), "epoch"]]

    @property
    def verdict(self) -> str:
        """Whether "accuracies do not differ, cells over the epochs do" holds, by the joint code space if it is there.

        A difference that is not significant is not shown to be absent: without equivalence the claim is half shown.
        """
        decisive = [self.counts[key] for key in self._decisive]
        if self.accuracy.significant:
            return "does not hold: the accuracies differ"
        if not self.accuracy.varies:
            return "is not tested: the accuracies do not vary over the seeds"
        over_all_epochs = all(cells.significant for cells in decisive)
        if over_all_epochs or all(
            self.counts[key].significant or self.differing_epochs(*key) for key in self._decisive
        ):
            where = "" if over_all_epochs else " at single epochs only"
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
        """Whether cells over the epochs are shown to differ, and accuracies to be equal within the margin."""
        return self.verdict == "holds"

    def sentences(self) -> list[str]:
        """The verdict, the accuracies, then each layer's counts in words, each difference with its interval."""
        low, high = self.learning_rates
        accuracy = self.accuracy
        space = "joint code space" if self._decisive[0][0] == "joint" else "every layer"
        tested = ""
        if accuracy.varies:
            tested = (
                f" {'No' if self.equal else 'A'} significant difference. That it is below {self.margin:g} is "
                f"{'shown' if self.equivalent else 'not shown'} (two one-sided tests, "
                f"p = {accuracy.equivalence_p(self.margin):.2g})."
            )
        sentences = [
            f"Figure 1's claim, that the final accuracies of two learning rates do not differ while the occupied "
            f"cells over the epochs do, {self.verdict} ({space}, {accuracy.seeds} seeds, tests at {LEVEL}).",
            f"Final accuracy is {accuracy.first:.4f} at {low:g} and {accuracy.second:.4f} at {high:g}: a difference of "
            f"{accuracy.mean:+.4f}, {_interval(accuracy, '+.4f')}.{tested}",
        ]
        for (layer, count), cells in self.counts.items():
            epochs = self.differing_epochs(layer, count)
            differ = "they differ" if cells.significant else "they do not differ significantly"
            sentences.append(
                f"{layer}, {COUNTS[count]}: on average over the epochs {cells.first:,.1f} at {low:g} and "
                f"{cells.second:,.1f} at {high:g}, a difference of {cells.mean:+,.1f}, {_interval(cells, '+,.1f')}"
                + f": {differ}" * cells.varies
                + f"; single epochs that differ (Holm): {', '.join(map(str, epochs)) or 'none'}."
            )
        if self.left_out:
            sentences.append(
                f"Seeds that only one learning rate has are left out: {', '.join(map(str, self.left_out))}."
            )
        return sentences


def _interval(difference: Difference, form: str) -> str:
    if not difference.varies:
        return f"the same for all {difference.seeds} seeds, so that nothing is tested"
    return f"95 % interval {difference.low:{form}} to {difference.high:{form}}, p = {difference.p:.2g}"


def compare_curves(
    curves: pd.DataFrame, *, learning_rates: tuple[float, float] | None = None, margin: float = 0.01
) -> Comparison:
    """Compares two learning rates of one head, paired by seed.

    ``curves`` has one row for each learning_rate, seed, epoch and layer, with accuracy, cell_count and
    correct_cell_count (NaN for an autoencoder). ``learning_rates`` selects two where there are more. A difference is
    the larger learning rate's value minus the smaller one's; differences of accuracies below ``margin`` do not matter.

    Columns of ``frame``: measure, layer, ``over`` ("last epoch" for accuracy, "epoch", "all epochs": the area between
    the curves / the epochs that they span), epoch, first, second, difference, low, high, p, p_holm (over the epochs of
    a layer's count), seeds.

    Raises InputError unless there is one head, two learning rates, two common seeds, and each point once.
    """
    check_columns(curves, ["head", "learning_rate", "seed", "epoch", "layer", "accuracy", *COUNTS])
    if learning_rates is not None:
        curves = curves[curves["learning_rate"].isin(learning_rates)]
    rates, common, left_out = _rates_and_seeds(curves)
    curves = curves[curves["seed"].isin(common)]
    epochs = sorted(int(epoch) for epoch in curves["epoch"].unique())

    def tables(measure: str, rows: pd.DataFrame) -> list[pd.DataFrame]:
        """One table (seeds, epochs) for each learning rate."""
        both_rates = rows.pivot_table(values=measure, index=["learning_rate", "seed"], columns="epoch")
        index = pd.MultiIndex.from_product([rates, common], names=["learning_rate", "seed"])
        both_rates = both_rates.reindex(index=index, columns=epochs)
        if both_rates.isna().any(axis=None):
            rate, seed = index[int(both_rates.isna().any(axis=1).argmax())]
            raise InputError(
                f"seed {seed} at learning rate {rate:g} lacks {measure} at an epoch that other seeds have. "
                f"Give the same epochs for all seeds ({epochs[0]} to {epochs[-1]}), or leave this seed out."
            )
        return [both_rates.loc[rate] for rate in rates]

    accuracy = paired(*(table[epochs[-1]] for table in tables("accuracy", curves)))
    rows = [_row("accuracy", "", "last epoch", epochs[-1], accuracy, accuracy.p)]
    counts = {}
    for layer in dict.fromkeys(curves["layer"]):
        layer_rows = curves[curves["layer"] == layer]
        for count in (name for name in COUNTS if layer_rows[name].notna().any()):
            first, second = tables(count, layer_rows)
            single = [paired(first[epoch], second[epoch]) for epoch in epochs]
            adjusted = holm([difference.p for difference in single])
            rows += [_row(count, layer, "epoch", *each) for each in zip(epochs, single, adjusted, strict=True)]
            mean = paired(_mean_over_epochs(first), _mean_over_epochs(second))
            rows.append(_row(count, layer, "all epochs", None, mean, mean.p))
            counts[layer, count] = mean
    frame = pd.DataFrame(rows).astype({"epoch": "Int64"})
    return Comparison((rates[0], rates[1]), tuple(epochs), accuracy, counts, frame, margin, tuple(map(int, left_out)))


def _rates_and_seeds(curves: pd.DataFrame) -> tuple[list[float], list[int], list[int]]:
    """The two learning rates, the seeds that both have, and those that one has. Raises InputError without pairs."""
    rates = sorted(float(rate) for rate in curves["learning_rate"].unique())
    heads = list(curves["head"].unique())
    if len(rates) != 2 or len(heads) != 1:
        raise InputError(f"curves has heads {heads} and learning rates {rates}. Give one head and two learning rates.")
    if curves.duplicated(["learning_rate", "seed", "epoch", "layer"]).any():
        raise InputError("a point occurs twice. Give one row for each learning rate, seed, epoch and layer.")
    first, second = (set(curves.loc[curves["learning_rate"] == rate, "seed"]) for rate in rates)
    common = sorted(first & second)
    if len(common) < 2:
        raise InputError(
            f"learning rates {rates} have seeds {common} in common. Train both with at least two common seeds."
        )
    return rates, common, sorted(first ^ second)


def _mean_over_epochs(table: pd.DataFrame) -> np.ndarray:
    """The mean of each seed's curve: the area under it / the epochs that it spans."""
    epochs, values = table.columns.to_numpy(float), table.to_numpy(float)
    return np.trapezoid(values, epochs, axis=1) / np.ptp(epochs) if len(epochs) > 1 else values[:, 0]


def _row(
    measure: str, layer: str, over: str, epoch: int | None, difference: Difference, p_holm: float
) -> dict[str, str | float | int | None]:
    where = {"measure": measure, "layer": layer, "over": over, "epoch": epoch}
    means = {"first": difference.first, "second": difference.second, "difference": difference.mean}
    interval = {"low": difference.low, "high": difference.high}
    return {**where, **means, **interval, "p": difference.p, "p_holm": float(p_holm), "seeds": difference.seeds}
