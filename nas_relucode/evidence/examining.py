"""Sets indices beside qualities among equally accurate networks: what goes with what, and what choosing by it gains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.evidence.statistics import (
    adjusted_p,
    captured_gain,
    gain_interval,
    partial_spearman,
)

ACCURACY = "validation_accuracy"
MOST_UNDEFINED = 0.05  # of the networks of a stratum may lack an index
LEAST = 4  # networks of a stratum
FEWEST = 10  # networks of a stratum, below which an interval says next to nothing
CONTROLS = (ACCURACY, "parameters", "train_loss")


@dataclass(frozen=True)
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
                f"only {fewest} networks are equally accurate, too few for any correlation. Train at least {LEAST}, "
                f"better {FEWEST}, within the margin."
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

    def quality(self, name: str) -> np.ndarray:
        """The values of a quality, larger is better: float64, (networks,)."""
        sign = 1 if self.qualities[name] == "maximize" else -1
        return sign * self.table[name].to_numpy(float)

    def restricted(self, rows: Iterable[int]) -> Networks:
        """The same with strata that hold these rows alone."""
        kept = np.array(sorted(rows))
        strata = {name: np.intersect1d(own, kept) for name, own in self.strata.items()}
        return Networks(self.table, self.indices, self.baselines, self.qualities, strata, self.seconds)


@dataclass(frozen=True)
class Pair:
    """An index, or a baseline, beside a quality, stratum by stratum."""

    name: str
    quality: str
    bands: tuple[tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]], ...]  # index, quality, controls
    sign: int  # 1: large values of the index are preferred, -1: small ones

    @classmethod
    def of(cls, networks: Networks, name: str, quality: str, sign: int = 0) -> Pair:
        """``sign`` 0 prefers what goes with the quality among these very networks."""
        if sign == 0:
            sign = 1 if np.mean(cls.of(networks, name, quality, 1).partial) >= 0 else -1
        wanted = networks.quality(quality)
        controls = [networks.table[control].to_numpy(float) for control in CONTROLS if control in networks.table]
        bands = tuple(
            (networks.values(name, rows, sign), wanted[rows], tuple(control[rows] for control in controls))
            for rows in networks.strata.values()
        )
        return cls(name, quality, bands, sign)

    @property
    def direction(self) -> str:
        return "maximize" if self.sign > 0 else "minimize"

    @property
    def gains(self) -> list[float]:
        """The captured gain of each stratum."""
        return [captured_gain(index, quality) for index, quality, _ in self.bands]

    @cached_property
    def partial(self) -> list[float]:
        """The partial Spearman correlation given accuracy of each stratum; 0 where nothing is left of one."""
        return [
            float(np.nan_to_num(partial_spearman(index, quality, controls[:1])))
            for index, quality, controls in self.bands
        ]

    @property
    def steady(self) -> bool:
        """Whether the partial correlation has the sign of the direction in every stratum."""
        return min(self.partial) > 0

    def row(self, *, draws: int = 2000) -> dict[str, Any]:
        """What is reported of the pair."""
        gains = self.gains
        taus = [float(stats.kendalltau(index, quality).statistic) for index, quality, _ in self.bands]
        every = [float(partial_spearman(index, quality, controls)) for index, quality, controls in self.bands]
        low, high = gain_interval([(index, quality) for index, quality, _ in self.bands], draws=draws)
        return {
            "column": self.name,
            "direction": self.direction,
            "quality": self.quality,
            "gain": float(np.nanmean(gains)),
            "gain_low": low,
            "gain_high": high,
            "worst_gain": float(np.nanmin(gains)),
            "tau_b": float(np.mean(taus)),
            "partial": float(np.mean(self.partial)),
            "worst_partial": min(self.partial),
            "partial_all_controls": float(np.mean(np.nan_to_num(every))),
        }


@dataclass(frozen=True)
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
    pairs = [
        Pair.of(networks, name, quality, (signs or {}).get((name, quality), 0))
        for name in columns
        for quality in networks.qualities
    ]
    rows = pd.DataFrame([pair.row(draws=draws) for pair in pairs])
    rows["baseline"] = rows["column"].isin(networks.baselines)
    p = _adjusted(networks, columns, permutations, seed)
    rows["p"] = [p[columns.index(pair.name), list(networks.qualities).index(pair.quality)] for pair in pairs]
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
    table = networks.table[list(columns)]
    values = table.where(np.isfinite(table), table.median(), axis="columns").to_numpy(float)
    qualities = np.stack([networks.quality(name) for name in networks.qualities], axis=1)
    accuracy = networks.table[ACCURACY].to_numpy(float)
    bands = []
    for rows in networks.strata.values():
        own = generator.permuted(values[rows], axis=0) if permuted else values[rows]
        bands.append((own, qualities[rows], [accuracy[rows]]))
    return adjusted_p(bands, permutations=permutations, seed=seed)[1]


def direct_gain(
    networks: Networks,
    quality: str,
    samples: int,
    measured: Callable[[int, np.ndarray], float],
    available: int,
    *,
    draws: int = 200,
    seed: int = 0,
) -> float:
    """The mean captured gain of choosing by the quality itself, measured on few of the samples, drawn at random.

    ``measured(row, samples)`` is the quality of a network on some samples, larger is better.
    """
    generator = np.random.default_rng(seed)
    wanted = networks.quality(quality)
    gains = []
    for rows in networks.strata.values():
        for _ in range(draws):
            drawn = generator.choice(available, size=samples, replace=False)
            few = np.array([measured(row, drawn) for row in rows])
            gains.append(captured_gain(few, wanted[rows]))
    return float(np.nanmean(gains))
