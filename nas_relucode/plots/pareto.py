"""The Pareto front of a study's networks, as a picture and for plotly.

Both figures are drawn from tables with one row per network: ``networks`` with the columns network (its name), mark,
accuracy, front, equal and ``x`` (means over seeds), ``spread`` with the standard deviations of accuracy and ``x``.
A line is drawn at ``threshold``, the smallest accuracy that counts as equal, unless it is NaN.
"""

from __future__ import annotations

import html
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nas_relucode.texts import plain

# Okabe and Ito's colours, which colour-blind readers can distinguish; each line also has a marker of its own.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["circle", "square", "diamond", "cross", "x", "triangle-up", "star"]
GREY = "#9AA0A6"


def pareto_plotly(networks: pd.DataFrame, spread: pd.DataFrame, *, x: str, threshold: float) -> go.Figure:
    """Accuracy against ``x``, one point per network; everything else is shown on hover."""
    figure = go.Figure()
    for (name, part), colour, marker in zip(_groups(networks).items(), _GROUP_COLOURS, MARKERS, strict=False):
        deviations = spread.loc[part.index]
        numeric = part.select_dtypes("number")
        hover = [
            "<br>".join(
                [f"<b>{_shown(row['network'])}</b>", *(f"{_shown(k)}: {numeric.loc[i, k]:.4g}" for k in numeric)]
            )
            for i, row in part.iterrows()
        ]
        figure.add_scatter(
            x=part[x],
            y=part["accuracy"],
            error_x={"array": deviations[x].fillna(0), "thickness": 1},
            error_y={"array": deviations["accuracy"].fillna(0), "thickness": 1},
            mode="markers+text",
            text=part["mark"],
            textposition="top right",
            marker={"color": colour, "symbol": marker, "size": 11},
            hovertext=hover,
            hoverinfo="text",
            name=name,
        )
    if np.isfinite(threshold):
        figure.add_hline(
            threshold,
            line_dash="dot",
            annotation_text="one standard error below the best",
            annotation_position="bottom left",
        )
    low, high = _accuracy_range(networks, spread)
    shown = networks[networks["accuracy"] >= low]
    bars = spread.loc[shown.index, x].fillna(0)
    left, right = float((shown[x] - bars).min()), float((shown[x] + bars).max())
    room = 0.05 * (right - left) or 1
    figure.update_layout(
        xaxis_title=f"{_shown(x)} (mean over seeds)",
        xaxis_range=[left - room, right + room],
        yaxis_title="validation accuracy (mean over seeds)",
        yaxis_range=[low, high],
        template="plotly_white",
        legend={"orientation": "h", "y": -0.2},
        margin={"t": 60, "r": 20},
        height=520,
    )
    return figure


def _shown(text: str) -> str:
    """The text escaped for plotly, which interprets tags."""
    return html.escape(text, quote=False)


def save_pareto(path: Path, networks: pd.DataFrame, spread: pd.DataFrame, *, x: str, threshold: float) -> None:
    """Saves the figure, without hover, as PNG or SVG by the suffix of ``path``; a legend explains the marks."""
    svg = path.suffix == ".svg"
    reproducible = {"savefig.dpi": 150, "svg.hashsalt": "nas-relucode"}  # the same study gives the same file
    with matplotlib.rc_context(reproducible):
        _pareto(networks, spread, x, threshold).savefig(path, metadata={"Date": None} if svg else None)


def _pareto(networks: pd.DataFrame, spread: pd.DataFrame, x: str, threshold: float) -> Figure:
    low, high = _accuracy_range(networks, spread)
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for (name, part), colour, marker in zip(_groups(networks).items(), _GROUP_COLOURS, "osD", strict=False):
        part = part[part["accuracy"] >= low]
        if part.empty:
            continue
        deviations = spread.loc[part.index]
        bars = {"xerr": deviations[x].fillna(0), "yerr": deviations["accuracy"].fillna(0)}
        axes.errorbar(part[x], part["accuracy"], **bars, fmt=marker, color=colour, elinewidth=0.8, label=name)
        for _, row in part.iterrows():
            at = (row[x], row["accuracy"])
            axes.annotate(row["mark"], at, (6, 5), textcoords="offset points", fontweight="bold")
    if np.isfinite(threshold):
        axes.axhline(threshold, color="black", linestyle=":", linewidth=1, label="best - 1 standard error")
    axes.set_xlabel(f"{plain(x)} (mean over seeds, bar: standard deviation)", parse_math=False)
    axes.set_ylabel("validation accuracy")
    axes.set_ylim(low, high)
    below = int((networks["accuracy"] < low).sum())
    if below:
        axes.set_title(f"{below} of {len(networks)} networks lie below", fontsize=9, loc="left")
    axes.grid(alpha=0.3)
    marked = networks[networks["mark"] != ""]
    named = [f"{mark}  {plain(name)}" for mark, name in zip(marked["mark"], marked["network"], strict=True)]
    named = [*named[:20], f"and {len(named) - 20} more"] if len(named) > 20 else named
    handles, labels = axes.get_legend_handles_labels()
    handles += [Line2D([], [], linestyle="none")] * len(named)
    legend = figure.legend(handles, labels + named, loc="outside right upper", frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


_GROUP_COLOURS = [*COLOURS[:2], GREY]


def _groups(networks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {
        "Pareto front": networks[networks["front"]],
        "equally accurate, not on it": networks[networks["equal"] & ~networks["front"]],
        "others": networks[~networks["equal"] & ~networks["front"]],
    }


def _accuracy_range(networks: pd.DataFrame, spread: pd.DataFrame) -> tuple[float, float]:
    """The range of accuracies of the marked networks, with a margin; much worse networks are not shown."""
    marked = networks["front"] | networks["equal"]
    rows = networks.index[marked] if marked.any() else networks.index
    accuracy, bars = networks.loc[rows, "accuracy"], spread.loc[rows, "accuracy"].fillna(0)
    low, high = float((accuracy - bars).min()), float((accuracy + bars).max())
    room = max(0.3 * (high - low), 0.005)
    return low - room, high + room
