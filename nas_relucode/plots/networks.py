"""The figures of a report: the Pareto front, as a picture and for plotly, and the cells over the epochs."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from optuna.trial import TrialState

from nas_relucode.ranking.ranking import Ranking
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.search_space import Candidate
from nas_relucode.texts import plain

# Okabe and Ito's colours, which colour-blind readers can tell apart; each line has a marker of its own too.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["circle", "square", "diamond", "cross", "x", "triangle-up", "star"]
GREY = "#9AA0A6"


def network_label(row: Any) -> str:
    """How a network is called in tables and figures: its head and its learning rate."""
    return Candidate(row["head"], row["learning_rate"]).label


def marks(ranking: Ranking) -> pd.Series:
    """How each network is marked in tables and figures, by its row.

    Its place among the equally accurate ones, a letter if it is on the front and less accurate, else nothing.
    """
    letters = iter("abcdefghijklmnopqrstuvwxyz" + " " * len(ranking.networks))
    values = [
        f"{row['place']:.0f}" if row["equal"] else next(letters) if row["front"] else ""
        for _, row in ranking.networks.iterrows()
    ]
    return pd.Series(values, index=ranking.networks.index, dtype=str)


def x_objective(ranking: Ranking) -> str:
    """What a figure shows against accuracy: the first other objective that has a value, else the parameters."""
    known = (name for name in ranking.objectives if name != "accuracy" and ranking.networks[name].notna().any())
    return next(known, "parameters")


def pareto_plotly(ranking: Ranking) -> go.Figure:
    """Accuracy against the first index, a point a network; everything else on hover."""
    x, mark = x_objective(ranking), marks(ranking)
    figure = go.Figure()
    for (name, part), colour, marker in zip(_groups(ranking).items(), _GROUP_COLOURS, MARKERS, strict=False):
        spread = ranking.spread.loc[part.index]
        numeric = part.select_dtypes("number")
        hover = [
            "<br>".join(
                [f"<b>{_shown(network_label(row))}</b>", *(f"{_shown(k)}: {numeric.loc[i, k]:.4g}" for k in numeric)]
            )
            for i, row in part.iterrows()
        ]
        figure.add_scatter(
            x=part[x],
            y=part["accuracy"],
            error_x={"array": spread[x].fillna(0), "thickness": 1},
            error_y={"array": spread["accuracy"].fillna(0), "thickness": 1},
            mode="markers+text",
            text=mark[part.index],
            textposition="top right",
            marker={"color": colour, "symbol": marker, "size": 11},
            hovertext=hover,
            hoverinfo="text",
            name=name,
        )
    if np.isfinite(ranking.threshold):
        figure.add_hline(
            ranking.threshold,
            line_dash="dot",
            annotation_text="one standard error below the best",
            annotation_position="bottom left",
        )
    low, high = _accuracy_range(ranking)
    shown = ranking.networks[ranking.networks["accuracy"] >= low]
    bars = ranking.spread.loc[shown.index, x].fillna(0)
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
    """As plotly shows it, which reads tags in its texts."""
    return html.escape(text, quote=False)


def save_pareto(ranking: Ranking, path: Path) -> None:
    """The same picture without hover, as a PNG or SVG by the end of ``path``; the marks are explained beside it."""
    svg = path.suffix == ".svg"
    with matplotlib.rc_context({"savefig.dpi": 150, "svg.hashsalt": "nas-relucode"}):  # the same study, the same file
        _pareto(ranking).savefig(path, metadata={"Date": None} if svg else None)


def _pareto(ranking: Ranking) -> Figure:
    x, mark = x_objective(ranking), marks(ranking)
    low, high = _accuracy_range(ranking)
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for (name, part), colour, marker in zip(_groups(ranking).items(), _GROUP_COLOURS, "osD", strict=False):
        part = part[part["accuracy"] >= low]
        if part.empty:
            continue
        spread = ranking.spread.loc[part.index]
        bars = {"xerr": spread[x].fillna(0), "yerr": spread["accuracy"].fillna(0)}
        axes.errorbar(part[x], part["accuracy"], **bars, fmt=marker, color=colour, elinewidth=0.8, label=name)
        for i, row in part.iterrows():
            at = (row[x], row["accuracy"])
            axes.annotate(mark[i], at, (6, 5), textcoords="offset points", fontweight="bold")
    if np.isfinite(ranking.threshold):
        axes.axhline(ranking.threshold, color="black", linestyle=":", linewidth=1, label="best - 1 standard error")
    axes.set_xlabel(f"{plain(x)} (mean over seeds, bar: standard deviation)", parse_math=False)
    axes.set_ylabel("validation accuracy")
    axes.set_ylim(low, high)
    below = int((ranking.networks["accuracy"] < low).sum())
    if below:
        axes.set_title(f"{below} of {len(ranking.networks)} networks lie below", fontsize=9, loc="left")
    axes.grid(alpha=0.3)
    named = [f"{mark[i]}  {plain(network_label(row))}" for i, row in ranking.networks.iterrows() if mark[i]]
    named = [*named[:20], f"and {len(named) - 20} more"] if len(named) > 20 else named
    handles, labels = axes.get_legend_handles_labels()
    handles += [Line2D([], [], linestyle="none")] * len(named)
    legend = figure.legend(handles, labels + named, loc="outside right upper", frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


_GROUP_COLOURS = [*COLOURS[:2], GREY]


def _groups(ranking: Ranking) -> dict[str, pd.DataFrame]:
    networks = ranking.networks
    return {
        "Pareto front": networks[networks["front"]],
        "equally accurate, not on it": networks[networks["equal"] & ~networks["front"]],
        "others": networks[~networks["equal"] & ~networks["front"]],
    }


def _accuracy_range(ranking: Ranking) -> tuple[float, float]:
    """The accuracies of the marked networks with room around them: far worse ones would press them together."""
    networks = ranking.networks
    marked = networks["front"] | networks["equal"]
    rows = networks.index[marked] if marked.any() else networks.index
    accuracy, bars = networks.loc[rows, "accuracy"], ranking.spread.loc[rows, "accuracy"].fillna(0)
    low, high = float((accuracy - bars).min()), float((accuracy + bars).max())
    room = max(0.3 * (high - low), 0.005)
    return low - room, high + room


def chosen_labels(ranking: Ranking) -> list[str]:
    """The networks that are equally accurate, in their order, and then those on the front."""
    networks = ranking.networks
    rows = [*ranking.equal.index, *networks.index[networks["front"] & ~networks["equal"]]]
    return [network_label(networks.loc[row]) for row in rows]


def curves(study: optuna.Study, labels: Iterable[str]) -> pd.DataFrame:
    """Cells over the epochs of these networks, in their order, a row a point.

    Columns: network, seed, epoch, layer ("joint" or a layer's name), cell_count, correct_cell_count, accuracy.
    """
    places = {label: place for place, label in enumerate(labels)}
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    findings = [trial.user_attrs[ATTRIBUTE] for trial in trials if ATTRIBUTE in trial.user_attrs]
    findings = [found for found in findings if network_label(found["candidate"]) in places]
    rows = []
    for found in sorted(findings, key=lambda found: places[network_label(found["candidate"])]):
        for point in found.get("curve", []):
            for layer, values in {"joint": point["joint"], **point["layers"]}.items():
                row = {"network": network_label(found["candidate"]), "seed": found["candidate"]["seed"]}
                rows.append(row | {"epoch": point["epoch"], "layer": layer, "accuracy": point["accuracy"]} | values)
    return pd.DataFrame(rows)
