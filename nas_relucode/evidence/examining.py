"""Sets indices beside qualities among equally accurate networks: what goes with what, and what choosing by it gains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.evidence.statistics import (
    adjusted_p,
    captured_gain,
    correlation_intervals,
    gain_interval,
    residual_ranks,
)

ACCURACY = "validation_accuracy"
MOST_UNDEFINED = 0.05  # of the networks of a stratum may lack an index
LEAST = 4  # networks of a stratum
FEWEST = 10  # networks of a stratum, below which an interval says next to nothing
CONTROLS = (ACCURACY, "parameters", "train_loss")


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks and everything that is known of them, a row each, averaged over seeds."""

    table: pd.DataFrame
    indices: tuple[str, ...]  # columns: of the code space
    baselines: tuple[str, ...]  # columns: what anybody would look at without codes
    qualities: Mapping[str, str]  # column -> "maximize" or "minimize"
    strata: Mapping[str, np.ndarray]  # name -> rows of networks of nearly equal accuracy
    seconds: Mapping[str, float] | None = None  # of computing a column for one network

    def __post_init__(self) -> None:
        if not self.qualities:
            raise InputError("there is no quality to set the indices beside. Measure at least one.")
        fewest = min(map(len, self.strata.values()))
        if fewest < LEAST:
            raise InputError(
                f"too few networks are equally accurate for any correlation: {fewest}. Train at least {LEAST}, better "
                f"{FEWEST}, within the margin."
            )
        varying = {name: direction for name, direction in self.qualities.items() if not self.unusable(name)}
        if not varying:
            raise InputError(
                f"{', '.join(self.qualities)} {'is' if len(self.qualities) == 1 else 'are'} the same for all networks "
                "of equal accuracy, so no index can say more of it. Measure another quality, or a stronger change."
            )
        object.__setattr__(self, "qualities", varying)

    @property
    def columns(self) -> list[str]:
        """The indices and baselines that are defined for all networks and vary within every stratum."""
        return [name for name in (*self.indices, *self.baselines) if not self.unusable(name)]

    def unusable(self, name: str) -> str:
        """Why a column cannot order the networks; empty if it can."""
        values = self.table[name].to_numpy(float)
        if any(np.mean(~np.isfinite(values[rows])) > MOST_UNDEFINED for rows in self.strata.values()):
            return "undefined for too many networks"
        constant = [rows for rows in self.strata.values() if np.nanmin(values[rows]) == np.nanmax(values[rows])]
        return "the same for all networks of a stratum" if constant else ""

    def values(self, name: str, rows: np.ndarray, sign: int) -> np.ndarray:
        """A column for some networks, times ``sign``: float64; those for which it is undefined are last."""
        values = sign * self.table[name].to_numpy(float)[rows]
        return np.where(np.isfinite(values), values, np.nanmin(values) - 1)

    def middling(self, names: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Columns for some networks, (networks, columns); those for which one is undefined are in its middle."""
        values = self.table[list(names)].iloc[rows].to_numpy(float)
        values = np.where(np.isfinite(values), values, np.nan)
        return np.where(np.isnan(values), np.nanmedian(values, axis=0), values)

    def beside(self, names: Sequence[str], qualities: Sequence[str]) -> list[tuple[Any, Any, list[np.ndarray]]]:
        """What is correlated in each stratum: columns, qualities (larger is better) and `CONTROLS`."""
        wanted = np.stack([self.quality(quality) for quality in qualities], axis=1)
        controls = [self.table[control].to_numpy(float) for control in CONTROLS if control in self.table]
        return [
            (self.middling(names, rows), wanted[rows], [control[rows] for control in controls])
            for rows in self.strata.values()
        ]

    def quality(self, name: str) -> np.ndarray:
        """The values of a quality, larger is better: float64, (networks,)."""
        sign = 1 if self.qualities[name] == "maximize" else -1
        return sign * self.table[name].to_numpy(float)

    def restricted(self, rows: Iterable[int]) -> Networks:
        """The same with strata that hold these rows alone."""
        kept = np.array(sorted(rows))
        return self.in_strata({name: np.intersect1d(own, kept) for name, own in self.strata.items()})

    def in_strata(self, strata: Mapping[str, np.ndarray]) -> Networks:
        """The same in other strata."""
        return replace(self, strata=strata)

    def permuted(self, generator: np.random.Generator) -> Networks:
        """The same with every index permuted among the networks of each stratum, independently of the others."""
        names = list(self.indices)
        table = self.table.astype(dict.fromkeys(names, float))
        for rows in self.strata.values():
            table.loc[table.index[rows], names] = generator.permuted(table[names].to_numpy(float)[rows], axis=0)
        return replace(self, table=table)


@dataclass(frozen=True, eq=False)
class Pair:
    """An index, or a baseline, beside a quality, stratum by stratum."""

    name: str
    quality: str
    bands: tuple[tuple[np.ndarray, np.ndarray], ...]  # index and quality of each stratum, larger is preferred
    sign: int  # 1: large values of the index are preferred, -1: small ones

    @classmethod
    def of(cls, networks: Networks, name: str, quality: str, sign: int) -> Pair:
        wanted = networks.quality(quality)
        bands = tuple((networks.values(name, rows, sign), wanted[rows]) for rows in networks.strata.values())
        return cls(name, quality, bands, sign)

    @property
    def direction(self) -> str:
        return "maximize" if self.sign > 0 else "minimize"

    @property
    def gains(self) -> list[float]:
        """The captured gain of each stratum."""
        return [captured_gain(index, quality) for index, quality in self.bands]

    @property
    def gain(self) -> float:
        """The mean captured gain."""
        return float(np.nanmean(self.gains))

    def row(self, *, draws: int = 2000) -> dict[str, Any]:
        """The mean captured gain with the ends of its interval, and that of the worst stratum."""
        low, high = gain_interval(self.bands, draws=draws)
        return {
            "column": self.name,
            "direction": self.direction,
            "quality": self.quality,
            "gain": self.gain,
            "gain_low": low,
            "gain_high": high,
            "worst_gain": float(np.nanmin(self.gains)),
        }


def partial_correlations(networks: Networks, names: Sequence[str], qualities: Sequence[str]) -> np.ndarray:
    """The partial Spearman correlations given accuracy, (strata, columns, qualities); 0 where nothing is left."""
    return np.stack([_partial(*band[:2], band[2][:1]) for band in networks.beside(names, qualities)])


def _partial(indices: np.ndarray, qualities: np.ndarray, controls: Sequence[np.ndarray]) -> np.ndarray:
    return np.nan_to_num(residual_ranks(indices, controls).T @ residual_ranks(qualities, controls))


def correlations(
    networks: Networks, names: Sequence[str], qualities: Sequence[str], *, draws: int = 2000
) -> dict[tuple[str, str], dict[str, float]]:
    """Kendall's tau-b and partial correlations of each column and quality, means over strata with 95 % intervals."""
    bands = networks.beside(names, qualities)
    given_accuracy = partial_correlations(networks, names, qualities)
    tau = np.mean(
        [
            [[stats.kendalltau(index, quality).statistic for quality in wanted.T] for index in indices.T]
            for indices, wanted, _ in bands
        ],
        axis=0,
    )
    means = {
        "tau_b": tau,
        "partial": given_accuracy.mean(axis=0),
        "partial_all_controls": np.mean([_partial(*band) for band in bands], axis=0),
    }
    ends = dict(zip(means, correlation_intervals(bands, draws=draws), strict=True))
    result = {}
    for a, name in enumerate(names):
        for b, quality in enumerate(qualities):
            values = {
                "worst_partial": float(given_accuracy[:, a, b].min()),
                "best_partial": float(given_accuracy[:, a, b].max()),
            }
            for key, mean in means.items():
                low, high = ends[key][:, a, b]
                values |= {key: float(mean[a, b]), f"{key}_low": float(low), f"{key}_high": float(high)}
            result[name, quality] = values
    return result


def with_correlations(pairs: Sequence[Pair], networks: Networks, *, draws: int = 2000) -> pd.DataFrame:
    """A row for each pair: `Pair.row`, and correlations, positive where preferred networks have more of the quality."""
    names, qualities = (list(dict.fromkeys(each)) for each in zip(*((p.name, p.quality) for p in pairs), strict=True))
    known = correlations(networks, names, qualities, draws=draws)
    return pd.DataFrame([pair.row(draws=draws) | _signed(known[pair.name, pair.quality], pair.sign) for pair in pairs])


def _signed(values: Mapping[str, float], sign: int) -> dict[str, float]:
    """Correlations of an index times 1 or -1."""
    if sign > 0:
        return {name: value for name, value in values.items() if name != "best_partial"}
    turned = {"low": "high", "high": "low"}
    result = {"worst_partial": -values["best_partial"]}
    for name in values:
        if not name.endswith("st_partial"):
            start, _, end = name.rpartition("_")
            result[name] = -values[f"{start}_{turned[end]}" if end in turned else name]
    return result


@dataclass(frozen=True, eq=False)
class Findings:
    """What goes with what among networks of nearly equal accuracy."""

    networks: Networks
    pairs: pd.DataFrame  # a row per column and quality, see Pair.row, with p adjusted for all pairs
    permuted_p: float  # the smallest adjusted p of all pairs after the indices were permuted within the strata
    left_out: Mapping[str, str]  # column -> why it cannot order these networks


def examine(
    networks: Networks,
    *,
    draws: int = 2000,
    permutations: int = 1000,
    seed: int = 0,
    signs: Mapping[tuple[str, str], int] | None = None,
) -> Findings:
    """Every index and baseline beside every quality, within the strata and then averaged over them.

    ``signs`` are the directions, 1 or -1, of columns for qualities; one that is not named goes with the quality among
    these very networks, so that its gain is optimistic.
    """
    columns = networks.columns
    if not columns:
        raise InputError("no index and no baseline varies among networks of equal accuracy, so none can be examined.")
    qualities = list(networks.qualities)
    here = np.where(partial_correlations(networks, columns, qualities).mean(axis=0) >= 0, 1, -1)
    pairs = [
        Pair.of(networks, name, quality, (signs or {}).get((name, quality), int(here[row, column])))
        for row, name in enumerate(columns)
        for column, quality in enumerate(qualities)
    ]
    rows = with_correlations(pairs, networks, draws=draws)
    rows["baseline"] = rows["column"].isin(networks.baselines)
    p = _adjusted(networks, columns, permutations, seed)
    rows["p"] = [p[columns.index(pair.name), qualities.index(pair.quality)] for pair in pairs]
    if networks.seconds is not None:
        rows["cost"] = [
            networks.seconds.get(pair.name, 0.0) / networks.seconds[pair.quality]
            if pair.quality in networks.seconds
            else np.nan
            for pair in pairs
        ]
    return Findings(
        networks,
        rows,
        permuted_p=float(_adjusted(networks, columns, permutations, seed, permuted=True).min()),
        left_out={name: why for name in (*networks.indices, *networks.baselines) if (why := networks.unusable(name))},
    )


def _adjusted(
    networks: Networks, columns: Sequence[str], permutations: int, seed: int, *, permuted: bool = False
) -> np.ndarray:
    """The p of each column and quality, adjusted for all pairs."""
    generator = np.random.default_rng(seed + 1)
    bands = []
    for indices, qualities, controls in networks.beside(columns, list(networks.qualities)):
        own = generator.permuted(indices, axis=0) if permuted else indices
        bands.append((own, qualities, controls[:1]))
    return adjusted_p(bands, permutations=permutations, seed=seed)[1]


def direct_gain(
    networks: Networks,
    quality: str,
    samples: int,
    measured: Callable[[np.ndarray, np.ndarray], np.ndarray],
    available: int,
    *,
    draws: int = 200,
    seed: int = 0,
) -> float:
    """The mean captured gain of choosing by the quality itself, measured on few of the samples, drawn at random.

    ``measured(rows, samples)`` is the quality of some networks on some samples, larger is better.
    """
    generator = np.random.default_rng(seed)
    wanted = networks.quality(quality)
    gains = []
    for rows in networks.strata.values():
        for _ in range(draws if samples < available else 1):
            drawn = generator.choice(available, size=samples, replace=False)
            gains.append(captured_gain(measured(rows, drawn), wanted[rows]))
    return float(np.nanmean(gains))
