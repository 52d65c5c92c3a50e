"""The protocol of docs/evidence.md: indices are chosen on one half of the networks and judged on all others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from nas_relucode.evidence.bodies import diverged
from nas_relucode.evidence.examining import (
    ACCURACY,
    Networks,
    Pair,
    direct_gain,
    partial_correlations,
    with_correlations,
)
from nas_relucode.evidence.families import FAMILIES, Family
from nas_relucode.evidence.measuring import BASELINES, Measured, measured_file, of_samples, read_costs, read_measured
from nas_relucode.evidence.statistics import named_bands
from nas_relucode.qualities.calibration import STATISTICS
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.ranking.equality import judge
from nas_relucode.study.columns import PARAMS

HALVES = 1  # seed of the generator that divides candidates into halves
ENOUGH = 0.4  # captured gain that counts as evidence
SHIFT = ("rotation_accuracy", "translation_accuracy", "blur_accuracy")  # their mean is shift_accuracy
DIRECT = "the quality itself"


@dataclass(frozen=True, eq=False)
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

    @cached_property
    def finalists(self) -> np.ndarray:
        """The rows of the candidates within one standard error of the best (see `ranking.equality.judge`)."""
        accuracies = [
            Accuracies(np.array([seed.numbers[ACCURACY] for seed in self.measured[candidate]]), self.family.validated)
            for candidate in self.networks.table.index
        ]
        return np.flatnonzero(judge(accuracies).finalist)

    def direct(self, networks: Networks, quality: str, share: float) -> float:
        """The captured gain of measuring a quality directly on this share of its samples (see `direct_gain`)."""
        seeds = [self.measured[candidate] for candidate in self.networks.table.index]
        available = seeds[0][0].samples
        parts = [name for name in SHIFT if name in available] if quality == "shift_accuracy" else [quality]
        if any(part not in available for part in parts):
            return np.nan
        size = available[parts[0]].shape[1]
        samples = int(np.clip(round(share * size), 1, size))
        sign = 1 if networks.qualities[quality] == "maximize" else -1
        measured = _means(seeds, parts) if not any(part in STATISTICS for part in parts) else _statistics(seeds, parts)
        return direct_gain(networks, quality, samples, lambda rows, drawn: sign * measured(rows, drawn), size)


OnSamples: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]  # rows, samples -> a quality of these rows


def _means(seeds: Sequence[Sequence[Measured]], parts: Sequence[str]) -> OnSamples:
    """Qualities that are means over samples, and then over parts and seeds."""
    values = [np.mean([seed.samples[part].mean(axis=0) for seed in own for part in parts], axis=0) for own in seeds]
    table = np.stack(values)
    return lambda rows, drawn: np.asarray(table[np.ix_(rows, drawn)].mean(axis=1))


def _statistics(seeds: Sequence[Sequence[Measured]], parts: Sequence[str]) -> OnSamples:
    """Qualities that are other statistics of samples; their means over parts and seeds."""

    def on_samples(rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        values = [
            [of_samples(part, seed.samples[part], drawn) for seed in seeds[row] for part in parts] for row in rows
        ]
        return np.mean(values, axis=1)

    return on_samples


def read_body(name: str, folder: Path, *, without: Collection[int] = ()) -> Body:
    """The candidates of a family of which every seed was measured, less those of ``without``."""
    family, measured, lost = FAMILIES[name], {}, 0
    for number in range(family.candidates):
        if number in without:
            continue
        files = [measured_file(folder, number, seed) for seed in family.seeds]
        if all(file.exists() for file in files):
            measured[number] = [read_measured(family, folder, number, seed) for seed in family.seeds]
        elif any(diverged(family, folder, number, seed) for seed in family.seeds):
            lost += 1
    rows = {number: _mean(seeds) for number, seeds in measured.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    designs = family.designs()
    for parameter in designs[0]:
        table[PARAMS + parameter] = [designs[number][parameter] for number in table.index]
    names = list(next(iter(rows.values())))
    qualities = {column: QUALITIES[column].direction for column in names if _is_quality(column)}
    strata = named_bands(table[ACCURACY].to_numpy(float))
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
    return Body(family, networks, measured, lost)


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

    def on(self, networks: Networks) -> Pair:
        """The column beside the quality among some networks, in the direction chosen."""
        return Pair.of(networks, self.column, self.quality, self.sign)


def choices(development: Networks, *, baselines: bool = False) -> dict[str, Choice]:
    """For each quality the index, or the baseline, and its direction whose mean captured gain is largest.

    Only those take part whose partial Spearman correlation given accuracy has the sign of the direction in every band;
    a quality for which there is none has no choice.
    """
    names = [name for name in development.columns if (name in development.baselines) == baselines]
    qualities = list(development.qualities)
    partial = partial_correlations(development, names, qualities)
    best = {}
    for column, quality in enumerate(qualities):
        steady = np.flatnonzero(np.abs(np.sign(partial[:, :, column]).sum(axis=0)) == len(partial))
        tried = [Choice(quality, names[row], int(np.sign(partial[0, row, column])), np.nan) for row in steady]
        tried = [replace(choice, gain=choice.on(development).gain) for choice in tried]
        if tried:
            best[quality] = max(tried, key=lambda choice: choice.gain)
    return best


def judged(choices: Mapping[str, Choice], development: Networks, body: Body, held_out: Networks) -> pd.DataFrame:
    """A row for each choice on networks that took no part in it, beside all baselines that cost no more.

    The baselines have the directions of the development half; measuring the quality directly takes as many samples as
    take the time of the index.
    """
    usable = [c for c in choices.values() if c.quality in held_out.qualities and not held_out.unusable(c.column)]
    if not usable:
        return pd.DataFrame()
    table = with_correlations([choice.on(held_out) for choice in usable], held_out)
    table["development_gain"] = [choice.gain for choice in usable]
    return table.join(pd.DataFrame([_beside(choice, development, body, held_out) for choice in usable])).assign(
        evidence=lambda rows: passes(rows) & (rows["gain"] > rows["baseline_gain"])
    )


def passes(rows: pd.DataFrame) -> pd.Series:
    """Whether captured gains are large enough, clear of 0, and above 0 in the worst band."""
    return (rows["gain"] >= ENOUGH) & (rows["gain_low"] > 0) & (rows["worst_gain"] > 0)


def _beside(choice: Choice, development: Networks, body: Body, held_out: Networks) -> dict[str, Any]:
    """What the baselines that cost no more than a choice capture, and the pairs that it orders wrongly."""
    names = [name for name in development.columns if name in development.baselines and name != choice.column]
    names = [name for name in names if not held_out.unusable(name) and _no_dearer(held_out, name, choice.column)]
    signs = np.sign(partial_correlations(development, names, [choice.quality]).mean(axis=0)[:, 0])
    gains = {
        name: Pair.of(held_out, name, choice.quality, -1 if sign < 0 else 1).gain
        for name, sign in zip(names, signs, strict=True)
    }
    result: dict[str, Any] = {}
    seconds = held_out.seconds or {}
    if choice.quality in seconds and choice.column in seconds:
        result["cost"] = seconds[choice.column] / seconds[choice.quality]
        result["direct_gain"] = gains[DIRECT] = body.direct(held_out, choice.quality, result["cost"])
    gains = {name: gain for name, gain in gains.items() if np.isfinite(gain)}
    result["best_baseline"] = max(gains, key=lambda name: gains[name])
    result["baseline_gain"] = gains[result["best_baseline"]]
    pairs, wrong = comparable_pairs(body.family.designs(), held_out, choice)
    return result | {"pairs": pairs, "wrong_pairs": wrong}


def chosen_by_chance(development: Networks, held_out: Networks, *, times: int = 100, seed: int = 2) -> pd.DataFrame:
    """What the procedure of `choices` ends with if every index is permuted among the networks of each band.

    A row for each quality: how often an index was chosen (``chosen``), the mean captured gain of the choices on the
    held-out networks (``gain``), and the share of repetitions whose choice `passes` there, whatever the baselines
    capture (``passed``).
    """
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(times):
        chance = [networks.permuted(generator) for networks in (development, held_out)]
        chosen = [choice for choice in choices(chance[0]).values() if choice.quality in held_out.qualities]
        rows += [choice.on(chance[1]).row() for choice in chosen if not chance[1].unusable(choice.column)]
    table = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["quality", "gain", "gain_low", "worst_gain"])
    table["passed"] = passes(table)
    by_quality = table.groupby("quality", sort=False)
    return pd.DataFrame(
        {
            "chosen": by_quality.size() / times,
            "gain": by_quality["gain"].mean(),
            "passed": by_quality["passed"].sum() / times,
        }
    )


def _no_dearer(networks: Networks, baseline: str, index: str) -> bool:
    seconds = networks.seconds or {}
    return seconds.get(baseline, 0.0) <= seconds.get(index, np.inf)


def comparable_pairs(designs: Sequence[Mapping[str, object]], networks: Networks, choice: Choice) -> tuple[int, int]:
    """Pairs of candidates that differ in one hyper-parameter alone, and how many of them a choice orders wrongly.

    Of candidates in the strata of ``networks``. Learning rates within a factor of 1.5 and epochs within 1 count as
    equal; pairs whose index or quality ties are left out.
    """
    rows = np.sort(np.concatenate(list(networks.strata.values())))
    values, wanted = choice.sign * networks.table[choice.column].to_numpy(float), networks.quality(choice.quality)
    pairs = wrong = 0
    for a, b in itertools.combinations(rows, 2):
        if _differences(*(designs[candidate] for candidate in networks.table.index[[a, b]])) == 1:
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
