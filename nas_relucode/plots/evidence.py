"""Indices beside qualities as pictures: a heat map of all pairs, and each quality against what goes with it best.

``pairs`` is a table with the columns column, quality, direction, baseline, partial, gain, gain_low, gain_high and p.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nas_relucode.plots.style import MARKERS

FIRM = 0.05  # of p adjusted for all pairs: from here on a cell of the heat map has a star
MOST_ROWS = 40


def save_heat_map(path: Path, pairs: pd.DataFrame, title: str) -> None:
    """Saves the mean partial correlation of columns and qualities; those that chance does not explain have a star."""
    signed = pairs.assign(signed=pairs["partial"].where(pairs["direction"] == "maximize", -pairs["partial"]))
    values = signed.pivot_table(index="column", columns="quality", values="signed")
    strongest = values.abs().max(axis=1).sort_values(ascending=False).index[:MOST_ROWS]
    values = values.loc[strongest, list(dict.fromkeys(pairs["quality"]))]
    p = pairs.pivot_table(index="column", columns="quality", values="p").loc[values.index, values.columns]
    baselines = set(pairs.loc[pairs["baseline"], "column"])
    figure = Figure(figsize=(2.8 + 0.62 * values.shape[1], 1.9 + 0.21 * len(values)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values.to_numpy(float), cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    for row, column in np.argwhere(p.to_numpy(float) < FIRM):
        axes.text(column, row, "*", ha="center", va="center", fontsize=9)
    names = [f"{name} (baseline)" if name in baselines else name for name in values.index]
    axes.set_yticks(range(len(values)), names, fontsize=7)
    words = [name.replace("_", " ") for name in values.columns]
    axes.set_xticks(range(values.shape[1]), words, rotation=50, ha="right", fontsize=7)
    axes.set_title(title, fontsize=9)
    label = "rank correlation with how good the network is, at equal accuracy"
    figure.colorbar(image, ax=axes, shrink=0.6, label=label)
    figure.savefig(path, dpi=130)


def save_best_pairs(
    path: Path, table: pd.DataFrame, strata: Mapping[str, np.ndarray], pairs: pd.DataFrame, title: str
) -> None:
    """Saves a scatter plot for each quality: its values against the column that captures most of it, by stratum."""
    best = pairs.sort_values("gain", ascending=False).drop_duplicates("quality")
    best = best.set_index("quality").loc[list(dict.fromkeys(pairs["quality"]))].reset_index()
    columns = min(3, len(best))
    rows = -(-len(best) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.4), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes, (_, pair) in zip(grid, best.iterrows(), strict=False):
        for number, (stratum, members) in enumerate(strata.items()):
            x, y = table[pair["column"]].iloc[members], table[pair["quality"]].iloc[members]
            axes.scatter(
                x, y, s=14, marker=MARKERS[number % len(MARKERS)], color=_shade(number, len(strata)), label=stratum
            )
        axes.set_xlabel(f"{pair['column']} ({pair['direction']})", fontsize=7)
        axes.set_ylabel(pair["quality"].replace("_", " "), fontsize=7)
        axes.set_title(f"gain {pair['gain']:+.2f} [{pair['gain_low']:+.2f}, {pair['gain_high']:+.2f}]", fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in grid[len(best) :]:
        axes.set_axis_off()
    grid[0].legend(title="accuracy", fontsize=6, title_fontsize=6)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=130)


def _shade(number: int, strata: int) -> Sequence[float]:
    return (0.0, 0.25 + 0.5 * number / max(1, strata - 1), 0.7 - 0.45 * number / max(1, strata - 1))
