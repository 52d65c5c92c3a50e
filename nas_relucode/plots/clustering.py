"""Figures of the cells' clusters over theta and the epochs: their number, sizes and purity (section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from nas_relucode.errors import InputError
from nas_relucode.plots.style import COLOURS, MARKERS, WIDTH, check_columns, epoch_styles, joint_last

PROFILE = {  # column -> the name beside its row of panels
    "components": "components",
    "largest_component_share": "largest component's\nshare of the cells",
    "purity": "purity of the clusters",
}
DASHES = ["-", "--", ":", "-."]


def clustering_figures(frame: pd.DataFrame) -> dict[str, Figure]:
    """Components and purity over theta, a line for each epoch and a column for each layer; dendrogram purity below.

    ``frame`` is `clustering_frame`'s with a column epoch, and a column label where there are several. The labels get
    different dashes, and are spread evenly over figures of at most four, in the order of the frame; the keys are "" for
    the first figure, then "_2", "_3", ... All figures have the same colours for the epochs and the same scale for
    theta, a share of the layer's neurons, so that all columns have the same axes. Of several seeds (column seed) the
    smallest of each label is drawn, and the legend says so.
    """
    labels = list(dict.fromkeys(_checked(frame)["label"]))
    parts = np.array_split(np.array(labels, object), -(-len(labels) // len(DASHES)))
    epochs, end = sorted(frame["epoch"].unique()), _end(frame)
    return {
        "" if number == 1 else f"_{number}": _figure(frame, list(part), epochs, end)
        for number, part in enumerate(parts, start=1)
    }


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, with the columns label and seed added where they are missing."""
    check_columns(frame, ["epoch", "layer", "neurons", "theta", *PROFILE, "dendrogram_purity"])
    frame = frame.assign(**{name: value for name, value in (("label", ""), ("seed", 0)) if name not in frame})
    if frame.duplicated(["label", "seed", "layer", "epoch", "theta"]).any():
        raise InputError(
            "a label, layer, epoch and theta occurs twice. Add a column seed, or give the clusters of one seed."
        )
    return frame


def _end(frame: pd.DataFrame) -> float:
    """The right end of the axis of theta / neurons."""
    return float((frame["theta"] / frame["neurons"]).max()) * 1.05 or 1.0


def _figure(frame: pd.DataFrame, labels: list[str], epochs: list[int], end: float) -> Figure:
    frame = _checked(frame)
    frame = frame[frame["label"].isin(labels)]
    seeds = frame.groupby("label")["seed"].nunique().max()
    firsts = frame.groupby("label")["seed"].transform("min")
    first = ", ".join(map(str, sorted(firsts.unique())))
    frame = frame[frame["seed"] == firsts]
    layers, measures = joint_last(frame["layer"]), [name for name in PROFILE if frame[name].notna().any()]
    labelled = bool(frame["dendrogram_purity"].notna().any())
    styles = epoch_styles(epochs)
    figure = Figure(
        figsize=(max(WIDTH, 1.9 * len(layers)), 1.9 * (len(measures) + labelled) + 0.8), layout="constrained"
    )
    parts: Any = figure.subfigures(2, 1, height_ratios=[len(measures), 1.1]) if labelled else [figure]
    grid = parts[0].subplots(len(measures), len(layers), sharex=True, sharey="row", squeeze=False)
    for (label, layer, epoch), rows in frame.groupby(["label", "layer", "epoch"], sort=False):
        rows = rows.sort_values("theta")
        theta = np.append(rows["theta"] / rows["neurons"], end)
        style = {"color": styles[epoch]["color"], "linestyle": DASHES[labels.index(label)], "linewidth": 1.5}
        for measure, line in zip(measures, grid, strict=True):
            values = rows[measure].to_numpy(float)
            line[layers.index(layer)].plot(theta, np.append(values, values[-1]), drawstyle="steps-post", **style)
    for measure, line in zip(measures, grid, strict=True):
        line[0].set_ylabel(PROFILE[measure], fontsize=9)
        if measure == "components":
            line[0].set_yscale("log")
            line[0].yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for column, layer in enumerate(layers):
        grid[0, column].set_title(layer, fontsize=10)
        grid[-1, column].set_xlabel("theta / neurons", fontsize=9)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    if labelled:
        _over_epochs(parts[1].subplots(), frame, layers, labels)
    _legend(parts[0], styles, labels, f"the first of {seeds} seeds ({first})" if seeds > 1 else None)
    return figure


def _legend(part: Any, styles: Mapping[int, dict[str, Any]], labels: list[str], title: str | None) -> None:
    handles = [Line2D([], [], color=style["color"], label=f"epoch {epoch}") for epoch, style in styles.items()]
    if len(labels) > 1:
        dashes = zip(labels, DASHES, strict=False)
        handles += [Line2D([], [], color="black", ls=dash, label=label) for label, dash in dashes]
    style = {"ncols": 6 if len(labels) == 1 else 4, "frameon": False, "fontsize": 9, "title_fontsize": 9}
    part.legend(handles=handles, loc="outside upper center", title=title, **style)


def _over_epochs(axes: Any, frame: pd.DataFrame, layers: list[str], labels: list[str]) -> None:
    by_epoch = frame.groupby(["layer", "label", "epoch"])["dendrogram_purity"].first()
    for place, layer in enumerate(layers):
        style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        for label, values in by_epoch[layer].groupby("label", sort=False):
            dash = DASHES[labels.index(label)]
            axes.plot(values.index.get_level_values("epoch"), values, linestyle=dash, **style)
        axes.plot([], [], label=layer, **style)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel("dendrogram purity", fontsize=9)
    axes.set_xticks(sorted(frame["epoch"].unique()))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
