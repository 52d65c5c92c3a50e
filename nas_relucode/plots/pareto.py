"""The Pareto front of a study's networks as a picture: accuracy against another objective, coloured by the answer.

It is drawn from a table with one row per network: network (its name), mark, accuracy, answer (how it compares with the
best network), low and high (the interval of its accuracy, NaN if there is none), front (whether it is on the Pareto
front of all objectives) and the column of the horizontal axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nas_relucode.plots.style import without_formulas
from nas_relucode.texts import plain

MOST_NAMED = 20  # networks that the legend names
MOST_DRAWN = 1000  # networks that an SVG draws one by one; the points and bars of more are a picture in it


@dataclass(frozen=True)
class AnswerStyle:
    """How every figure and table shows one answer; no other meaning has these colours."""

    words: str  # what a legend says
    light: str  # the colour on white; at least 3:1 against it
    dark: str  # the colour on a dark page
    marker: str  # matplotlib's
    symbol: str  # that of Observable Plot
    sign: str  # the shape as a character


ANSWERS: dict[str, AnswerStyle] = {
    "best": AnswerStyle("the most accurate", "#00805D", "#2EC49A", "*", "star", "★"),
    "equal": AnswerStyle("equal to it", "#0072B2", "#56B4E9", "o", "circle", "●"),
    "cannot be told": AnswerStyle("cannot be told from it", "#A66F00", "#E69F00", "D", "diamond", "◆"),
    "worse": AnswerStyle("worse", "#C2410C", "#FF8A50", "^", "triangle", "▲"),
    "": AnswerStyle("not compared", "#6B7075", "#9AA0A6", "x", "times", "✕"),
}


def save_pareto(path: Path, figure: Figure) -> None:
    """Saves the figure as PNG or SVG by the suffix of ``path``."""
    svg = path.suffix == ".svg"
    reproducible = {"savefig.dpi": 150, "svg.hashsalt": "nas-relucode"}  # the same study gives the same file
    for axes in figure.axes:
        place: Any = axes.get_subplotspec()
        axes.set_subplotspec(place)  # the layout starts here again, as if the figure had not been saved before
    with matplotlib.rc_context(reproducible):
        figure.savefig(path, metadata={"Date": None} if svg else None)


def accuracy_range(networks: pd.DataFrame) -> tuple[float, float]:
    """The range of accuracies of the marked networks, with a margin; much less accurate networks are not shown."""
    rows = networks[networks["mark"] != ""]
    rows = networks if rows.empty else rows
    ends = rows[["low", "accuracy", "high"]]
    low, high = float(ends.min(axis=None)), float(ends.max(axis=None))
    room = max(0.3 * (high - low), 0.005)
    return low - room, min(high + room, 1 + 0.02 * (high - low + room))  # a point at 1 is not cut


def pareto_picture(networks: pd.DataFrame, *, x: str, titles: tuple[str, str], margin: float) -> Figure:
    """The figure; ``titles`` name the axes, the horizontal one first."""
    low, high = accuracy_range(networks)
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    best = networks.loc[networks["answer"] == "best", "accuracy"].max()
    if np.isfinite(best):
        axes.axhspan(best - margin, best, color="black", alpha=0.06, label=f"less than {margin:g} below the best")
    for answer, style in ANSWERS.items():
        part = networks[(networks["answer"] == answer) & (networks["accuracy"] >= low)]
        if part.empty:
            continue
        bars = np.nan_to_num([part["accuracy"] - part["low"], part["high"] - part["accuracy"]])
        errorbars = axes.errorbar(
            part[x], part["accuracy"], bars.clip(0), fmt="none", color=style.light, elinewidth=0.8
        )
        edges = ["black" if front else style.light for front in part["front"]]
        size = 110 if style.marker == "*" else 45
        shown = {"c": style.light} if style.marker == "x" else {"c": style.light, "edgecolors": edges}
        points = axes.scatter(
            part[x], part["accuracy"], s=size, marker=style.marker, label=style.words, zorder=3, **shown
        )
        for drawn in (points, *errorbars.get_children()):
            drawn.set_rasterized(len(networks) > MOST_DRAWN)
        for _, row in part[part["mark"] != ""].iterrows():
            at = (row[x], row["accuracy"])
            axes.annotate(row["mark"], at, (6, 5), textcoords="offset points", fontweight="bold")
    axes.set_xlabel(plain(titles[0]), parse_math=False)
    axes.set_ylabel(titles[1])
    axes.set_ylim(low, high)
    below = int((networks["accuracy"] < low).sum())
    if below:
        axes.set_title(f"{below} of {len(networks)} networks lie below", fontsize=9, loc="left")
    axes.grid(alpha=0.3)
    _legend(figure, networks)
    return figure


def _legend(figure: Figure, networks: pd.DataFrame) -> None:
    """What colours, outlines and bars mean, and the names of the marked networks."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    handles.append(Line2D([], [], marker="o", markerfacecolor="none", markeredgecolor="black", linestyle="none"))
    labels.append("outlined: on the Pareto front")
    marked = networks[networks["mark"] != ""]
    named = [f"{mark}  {plain(name)}" for mark, name in zip(marked["mark"], marked["network"], strict=True)]
    named = [*named[:MOST_NAMED], f"and {len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else named
    handles += [Line2D([], [], linestyle="none")] * len(named)
    legend = figure.legend(handles, labels + named, loc="outside right upper", frameon=False, fontsize=9)
    without_formulas(legend)
