"""Cell-level clustering over theta and the epochs: how cells hang together, how pure their clusters are (section 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.graph import connectivity, root
from nas_relucode.codes.words import compiled
from nas_relucode.errors import InputError
from nas_relucode.paper.claims import need
from nas_relucode.plots.style import COLOURS, MARKERS, WIDTH, epoch_styles, joint_last

PROFILE = {  # column -> what it is called beside its row of panels
    "components": "components",
    "largest_component_share": "largest component's\nshare of the cells",
    "purity": "purity of the clusters",
}
DASHES = ["-", "--", ":", "-."]


def clustering_frame(space: CodeSpace, *, most: int = 100, threads: int | None = None) -> pd.DataFrame:
    """The single-linkage clusters of the cells, a row a layer ("joint" comes first) and theta.

    Columns: layer, neurons, cells, theta, components, largest_component_share (of the cells), purity (fraction of the
    samples in the most frequent class of their cluster), dendrogram_purity (one value a layer). Thetas are 0 and those
    at which clusters come together; of more than ``most`` the first, the last and some evenly between. Without labels
    purities are NaN.

    >>> from nas_relucode.codes import pack
    >>> space = CodeSpace.of(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), labels=[0, 1, 1])
    >>> clustering_frame(space)[["theta", "components", "purity"]].round(3).values.tolist()[:3]
    [[0.0, 3.0, 1.0], [1.0, 2.0, 0.667], [2.0, 1.0, 0.667]]
    """
    if most < 2:
        raise InputError(f"most {most} leaves out the first or the last theta. Give at least 2.")
    names = [layer.name for layer in space.codes.layers]
    spaces = {"joint": space, **{name: space.layer(name) for name in names}}
    rows: list[dict[str, Any]] = []
    for name, of in spaces.items():
        profile = connectivity(of.codes, threads=threads)
        cells, counts = len(of.cells), of.class_counts
        steps = np.arange(len(profile.thetas))
        if len(steps) > most:
            steps = np.unique(np.linspace(0, len(steps) - 1, most).round().astype(np.int64))
        whole = float("nan") if counts is None else profile.dendrogram_purity(counts)
        purities = np.full(len(profile.thetas), np.nan)
        if counts is not None:
            tree = profile.tree
            purities = _purities(counts, tree.first, tree.second, tree.distance, profile.thetas) / counts.sum()
        for step in steps:
            theta = int(profile.thetas[step])
            row = {"layer": name, "neurons": of.neurons, "cells": cells, "theta": theta}
            row["components"] = int(profile.component_counts[step])
            row["largest_component_share"] = float(profile.largest_components[step]) / cells
            rows.append(row | {"purity": float(purities[step]), "dendrogram_purity": whole})
    return pd.DataFrame(rows)


@compiled
def _purities(class_counts, first, second, distance, thetas):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The samples in the most frequent class of their cluster at each theta: all thetas in one pass over the tree."""
    n = class_counts.shape[0]
    parent, counts = np.arange(n), class_counts.copy()
    result, right, edge = np.empty(thetas.shape[0], np.int64), np.int64(0), 0
    for i in range(n):
        right += counts[i].max()
    for step in range(thetas.shape[0]):
        while edge < distance.shape[0] and distance[edge] <= thetas[step]:
            a, b = root(parent, first[edge]), root(parent, second[edge])
            right -= counts[a].max() + counts[b].max()
            parent[b] = a
            counts[a] += counts[b]
            right += counts[a].max()
            edge += 1
        result[step] = right
    return result


def clustering_figures(frame: pd.DataFrame) -> dict[str, Figure]:
    """`clustering_figure` of any number of labels; the key is "" for the first figure, then "_2", "_3", ...

    Each has at most four labels, in the order of the frame and about as many as the others, and all have the same
    colours of epochs and the same scale of theta.
    """
    labels = list(dict.fromkeys(_checked(frame)["label"]))
    parts = np.array_split(np.array(labels, object), -(-len(labels) // len(DASHES)))
    epochs, end = sorted(frame["epoch"].unique()), _end(frame)
    return {
        "" if number == 1 else f"_{number}": _figure(frame, list(part), epochs, end)
        for number, part in enumerate(parts, start=1)
    }


def clustering_figure(frame: pd.DataFrame) -> Figure:
    """The profile and the purity over theta, a line an epoch and a column a layer; dendrogram purity over the epochs.

    ``frame`` is `clustering_frame`'s with a column epoch, and label where there is more than one (up to four, told
    apart by dashes; for more see `clustering_figures`). Of several seeds (column seed) each label's first, the
    smallest, is drawn, which the legend says. Theta is drawn as a share of the layer's neurons, so that all columns
    have the same axes.
    """
    labels = list(dict.fromkeys(_checked(frame)["label"]))
    if len(labels) > len(DASHES):
        raise InputError(
            f"{len(labels)} labels cannot be told apart. Draw at most {len(DASHES)} in one figure: clustering_figures."
        )
    return _figure(frame, labels, sorted(frame["epoch"].unique()), _end(frame))


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a label and a seed in any case."""
    need(frame, ["epoch", "layer", "neurons", "theta", *PROFILE, "dendrogram_purity"])
    frame = frame.assign(**{name: value for name, value in (("label", ""), ("seed", 0)) if name not in frame})
    if frame.duplicated(["label", "seed", "layer", "epoch", "theta"]).any():
        raise InputError("a label, layer, epoch and theta is there twice. Name the seed, or give the clusters of one.")
    return frame


def _end(frame: pd.DataFrame) -> float:
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
    handles = [Line2D([], [], color=style["color"], label=f"epoch {epoch}") for epoch, style in styles.items()]
    if len(labels) > 1:
        dashes = zip(labels, DASHES, strict=False)
        handles += [Line2D([], [], color="black", ls=dash, label=label) for label, dash in dashes]
    style = {"ncols": 6 if len(labels) == 1 else 4, "frameon": False, "fontsize": 9, "title_fontsize": 9}
    title = f"the first of {seeds} seeds ({first})" if seeds > 1 else None
    parts[0].legend(handles=handles, loc="outside upper center", title=title, **style)
    return figure


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
