"""The protocol of docs/evidence.md: indices are chosen on one half of the networks and judged on all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from nas_relucode.evidence.bodies import weights_file
from nas_relucode.evidence.examining import ACCURACY, Networks, Pair, direct_gain
from nas_relucode.evidence.families import FAMILIES, Family
from nas_relucode.evidence.measuring import BASELINES, Measured, measured_file, of_samples, read_costs, read_measured
from nas_relucode.evidence.statistics import bands_of
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.trials import PARAMS

HALVES = 1  # seed of the generator that divides candidates into halves
ENOUGH = 0.4  # captured gain that counts as evidence
SHIFT = ("rotation_accuracy", "translation_accuracy", "blur_accuracy")  # their mean is shift_accuracy
DIRECT = "the quality itself"


@dataclass(frozen=True)
class Body:
    """The measured networks of a family: one row a candidate, averaged over its seeds."""

    family: Family
    networks: Networks
    measured: Mapping[int, Sequence[Measured]]  # candidate -> its seeds
    diverged: int  # candidates of which a seed ended with a loss that is not finite

    @cached_property
    def halves(self) -> tuple[Networks, Networks]:
        """The development half and the held-out half."""
        order = np.random.default_rng(HALVES).permutation(self.family.candidates)
        chosen = set(order[: self.family.candidates // 2].tolist())
        development = [row for row, candidate in enumerate(self.networks.table.index) if candidate in chosen]
        others = [row for row, candidate in enumerate(self.networks.table.index) if candidate not in chosen]
        return self.networks.restricted(development), self.networks.restricted(others)

    def direct(self, networks: Networks, quality: str, share: float) -> float:
        """The captured gain of measuring a quality directly on this share of its samples (see `direct_gain`)."""
        parts = [name for name in SHIFT if name in self.columns_of(0)] if quality == "shift_accuracy" else [quality]
        if any(part not in self.columns_of(0) for part in parts):
            return np.nan
        available = self.columns_of(0)[parts[0]].shape[1]
        sign = 1 if networks.qualities[quality] == "maximize" else -1

        def on_samples(row: int, rows: np.ndarray) -> float:
            seeds = self.measured[self.networks.table.index[row]]
            values = [of_samples(part, seed.samples[part], rows) for seed in seeds for part in parts]
            return sign * float(np.mean(values))

        samples = int(np.clip(round(share * available), 1, available))
        return direct_gain(networks, quality, samples, on_samples, available)

    def columns_of(self, row: int) -> Mapping[str, np.ndarray]:
        """What was measured at each sample for the first seed of a row."""
        return self.measured[self.networks.table.index[row]][0].samples


def read_body(name: str, folder: Path) -> Body:
    """The candidates of a family of which every seed was measured."""
    family, measured, diverged = FAMILIES[name], {}, 0
    for number in range(family.candidates):
        files = [measured_file(folder, number, seed) for seed in family.seeds]
        if all(file.exists() for file in files):
            measured[number] = [read_measured(folder, number, seed) for seed in family.seeds]
        elif all(weights_file(folder, number, seed).exists() for seed in family.seeds):
            diverged += 1
    rows = {number: _mean(seeds) for number, seeds in measured.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    designs = family.designs()
    for parameter in designs[0]:
        table[PARAMS + parameter] = [designs[number][parameter] for number in table.index]
    names = list(next(iter(rows.values())))
    qualities = {column: QUALITIES[column].direction for column in names if _is_quality(column)}
    bands = bands_of(table[ACCURACY].to_numpy())
    strata = {f"{table[ACCURACY].iloc[b].min():.3f}-{table[ACCURACY].iloc[b].max():.3f}": b for b in bands}
    others = {*BASELINES, *QUALITIES, "test_accuracy", "shift_accuracy"}
    indices = [name for name in names if name not in others and not name.startswith(PARAMS)]
    networks = Networks(
        table,
        tuple(indices),
        BASELINES,
        {**qualities, "shift_accuracy": "maximize", "test_accuracy": "maximize"},
        strata,
        _with_shift(read_costs(folder)),
    )
    return Body(family, networks, measured, diverged)


def _is_quality(column: str) -> bool:
    return column in QUALITIES and QUALITIES[column].held_out and column not in SHIFT


def _mean(seeds: Sequence[Measured]) -> dict[str, float]:
    values = pd.DataFrame([seed.numbers for seed in seeds]).mean(skipna=False).to_dict()
    return values | {"shift_accuracy": float(np.mean([values[name] for name in SHIFT if name in values]))}


def _with_shift(seconds: Mapping[str, float] | None) -> dict[str, float] | None:
    if seconds is None:
        return None
    return dict(seconds) | {"shift_accuracy": sum(seconds[name] for name in SHIFT if name in seconds)}


@dataclass(frozen=True)
class Choice:
    """What goes first with a quality on the development half."""

    quality: str
    column: str
    sign: int  # 1: large values are preferred
    gain: float  # on the development half


def choices(development: Networks, *, baselines: bool = False) -> dict[str, Choice]:
    """For each quality the index, or the baseline, and its direction whose mean captured gain is largest.

    Only those take part whose partial Spearman correlation given accuracy has the sign of the direction in every band;
    a quality for which there is none has no choice.
    """
    found = {}
    for quality in development.qualities:
        pairs = [
            Pair.of(development, name, quality)
            for name in development.columns
            if (name in development.baselines) == baselines
        ]
        steady = [pair for pair in pairs if pair.steady]
        if steady:
            best = max(steady, key=lambda pair: np.nanmean(pair.gains))
            found[quality] = Choice(quality, best.name, best.sign, float(np.nanmean(best.gains)))
    return found


def judged(choices: Mapping[str, Choice], development: Networks, body: Body, held_out: Networks) -> pd.DataFrame:
    """A row for each choice on networks that took no part in it, beside all baselines that cost no more.

    The baselines have the directions of the development half; measuring the quality directly takes as many samples as
    take the time of the index.
    """
    rows = []
    for choice in choices.values():
        if choice.quality not in held_out.qualities or held_out.unusable(choice.column):
            continue
        row = Pair.of(held_out, choice.column, choice.quality, choice.sign).row()
        row["development_gain"] = choice.gain
        gains = {}
        for name in held_out.baselines:
            if (
                not held_out.unusable(name)
                and not development.unusable(name)
                and _no_dearer(held_out, name, choice.column)
            ):
                sign = Pair.of(development, name, choice.quality).sign
                gains[name] = float(np.nanmean(Pair.of(held_out, name, choice.quality, sign).gains))
        if held_out.seconds and choice.quality in held_out.seconds and choice.column in held_out.seconds:
            row["cost"] = held_out.seconds[choice.column] / held_out.seconds[choice.quality]
            gains[DIRECT] = body.direct(held_out, choice.quality, row["cost"])
            row["direct_gain"] = gains[DIRECT]
        gains = {name: gain for name, gain in gains.items() if np.isfinite(gain)}
        row["best_baseline"] = max(gains, key=lambda name: gains[name])
        row["baseline_gain"] = gains[row["best_baseline"]]
        row["evidence"] = bool(
            row["gain"] >= ENOUGH
            and row["gain_low"] > 0
            and row["worst_gain"] > 0
            and row["gain"] > row["baseline_gain"]
        )
        rows.append(row)
    return pd.DataFrame(rows)


def _no_dearer(networks: Networks, baseline: str, index: str) -> bool:
    seconds = networks.seconds or {}
    return seconds.get(baseline, 0.0) <= seconds.get(index, np.inf)


def comparable_pairs(body: Body, column: str, quality: str, sign: int) -> tuple[int, int]:
    """Pairs of candidates that differ in one hyper-parameter alone, and how many of them the index orders wrongly.

    Learning rates within a factor of 1.5 and epochs within 1 count as equal; pairs whose index or quality ties are left
    out.
    """
    table, networks = body.networks.table, body.networks
    designs = body.family.designs()
    values, wanted = sign * table[column].to_numpy(float), networks.quality(quality)
    pairs = wrong = 0
    for a, first in enumerate(table.index):
        for b, second in enumerate(table.index[:a]):
            if _differences(designs[first], designs[second]) == 1:
                product = (values[a] - values[b]) * (wanted[a] - wanted[b])
                pairs += product != 0
                wrong += product < 0
    return int(pairs), int(wrong)


def _differences(one: Mapping[str, object], other: Mapping[str, object]) -> int:
    def equal(name: str) -> bool:
        a, b = one[name], other[name]
        if name == "learning_rate":
            assert isinstance(a, float)
            assert isinstance(b, float)
            return max(a, b) / min(a, b) <= 1.5
        if name == "epochs":
            assert isinstance(a, int)
            assert isinstance(b, int)
            return abs(a - b) <= 1
        return a == b

    return sum(not equal(name) for name in one)
