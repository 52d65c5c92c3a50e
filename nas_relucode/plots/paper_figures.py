"""The paper's figures: accuracy and cells over the epochs (1), grids of embedded codes (2-6), separability by depth."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import StrMethodFormatter

from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.plots.style import (
    COLOURS,
    COUNTS,
    GREY,
    MARKERS,
    MEASURES,
    WIDTH,
    check_columns,
    class_mark,
    epoch_styles,
    joint_last,
    short,
    without_formulas,
)
from nas_relucode.texts import plain

SHORT = {"knn_accuracy": "accuracy of the vote", "class_silhouette": "silhouette"}
DPI = 150  # WIDTH is 1200 pixels
# A class is named in a panel if its points spread at most half as far as all points and are 2 % of the samples.
CONCENTRATED = 0.5
NAMED = 0.02
DRAWING_ROUNDS = 4  # points are drawn in rounds of all classes, so that no class is hidden by the others


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a figure atomically as PNG or SVG, by the suffix of ``path``; equal figures give equal bytes."""
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise InputError(f"{path.name} is neither PNG nor SVG. Give a path that ends in .png or .svg.")
    metadata = {"Date": None} if path.suffix == ".svg" else {}

    def write(file: Path) -> None:
        with matplotlib.rc_context({"svg.hashsalt": "nas-relucode"}):
            figure.savefig(file, dpi=DPI, metadata=metadata)

    return write_atomically(path, write)


def curves_figure(curves: pd.DataFrame) -> Figure:
    """Figure 1: the accuracy over the epochs, and the occupied cells of each layer and of the joint code space.

    ``curves`` has one row for each label, learning_rate, seed, epoch and layer, with accuracy, train_accuracy, loss,
    cell_count and correct_cell_count. Without accuracies the training loss is drawn. A line is the mean over the seeds;
    the band reaches from the smallest value to the largest.
    """
    check_columns(
        curves,
        ["label", "head", "learning_rate", "seed", "epoch", "layer", "accuracy", "train_accuracy", "loss", *COUNTS],
    )
    layers = joint_last(curves["layer"])
    labels = list(dict.fromkeys(curves.sort_values(["head", "learning_rate"])["label"]))
    single = len(set(curves["head"])) == 1
    rate = curves.groupby("label")["learning_rate"].first()
    names = {label: f"learning rate {rate[label]:g}" if single else label for label in labels}
    figure = Figure(figsize=(max(WIDTH, 2.0 * len(layers)), 5.6), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    above, below = halves
    top, legend = above.subplots(1, 2, width_ratios=[1.7, 1])
    panels = below.subplots(1, len(layers), sharey=True, sharex=True, squeeze=False)[0]
    measure = "accuracy" if curves["accuracy"].notna().any() else "loss"
    for number, label in enumerate(labels):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        rows = curves[curves["label"] == label]
        once = rows.drop_duplicates(["seed", "epoch"])
        _band(top, once, measure, color=colour, marker=marker)
        if measure == "accuracy":
            top.plot(once.groupby("epoch")["train_accuracy"].mean(), color=colour, linestyle=":", linewidth=1.5)
        for axes, layer in zip(panels, layers, strict=True):
            layer_rows = rows[rows["layer"] == layer]
            _band(axes, layer_rows, "cell_count", color=colour, marker=marker)
            _band(axes, layer_rows, "correct_cell_count", color=colour, linestyle="--", alpha=0.1)
    top.set(xlabel="epoch", ylabel="accuracy" if measure == "accuracy" else "training loss")
    for axes, layer in zip(panels, layers, strict=True):
        axes.set_title(layer, fontsize=10)
        axes.set_xlabel("epoch")
    _scale_counts(panels[0], curves)
    for axes in (top, *panels):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _curves_legend(legend, curves, names, measure)
    return figure


def _scale_counts(axes: Any, curves: pd.DataFrame) -> None:
    """The axis of the counts of cells: logarithmic where they lie far apart."""
    means = curves.groupby(["layer", "label", "epoch"])[list(COUNTS)].mean().to_numpy()
    means = means[means > 0]
    log = bool(means.size and means.max() > 20 * means.min())
    axes.set_ylabel("cells" + " (logarithmic)" * log)
    if log and (curves[list(COUNTS)] < 1).any(axis=None):
        axes.set_yscale("symlog", linthresh=1)  # counts of 0 are at the bottom
    elif log:
        axes.set_yscale("log")
    if axes.get_yscale() != "log":
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _curves_legend(axes: Any, curves: pd.DataFrame, names: Mapping[str, str], measure: str) -> None:
    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], label=name)
        for i, name in enumerate(names.values())
    ]
    if measure == "accuracy":
        handles.append(Line2D([], [], color="black", label="validation accuracy; occupied cells"))
        handles.append(Line2D([], [], color="black", ls=":", label="training accuracy"))
    if curves["correct_cell_count"].notna().any():
        handles.append(Line2D([], [], color="black", ls="--", label="cells with a correctly\nclassified sample"))
    seeds = curves.groupby("label")["seed"].nunique()
    if seeds.max() > 1:
        spread = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
        handles.append(Line2D([], [], color=GREY, lw=8, alpha=0.4, label=f"smallest to largest\nof {spread} seeds"))
    axes.axis("off")
    axes.legend(handles=handles, loc="center left", frameon=False, fontsize=9)


def _band(axes: Any, rows: pd.DataFrame, column: str, *, color: str, alpha: float = 0.18, **style: Any) -> None:
    """The mean over the seeds as a line, and the range of the seeds around it."""
    by_epoch = rows.dropna(subset=[column]).groupby("epoch")[column].agg(["mean", "min", "max"])
    if by_epoch.empty:
        return
    axes.fill_between(by_epoch.index, by_epoch["min"], by_epoch["max"], color=color, alpha=alpha, linewidth=0)
    axes.plot(by_epoch.index, by_epoch["mean"], color=color, linewidth=1.5, markersize=4, **style)


def separability_figure(frame: pd.DataFrame) -> Figure:
    """The measures of separability over the layers: a line for each epoch, a column for each label.

    ``frame`` is that of `separability_claim`; seeds are averaged. The joint code space stands beside the layers.
    """
    check_columns(frame, ["label", "layer", "depth", "epoch", *MEASURES])
    labels = list(dict.fromkeys(frame["label"]))
    columns = min(3, len(labels))
    bands = -(-len(labels) // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + 4.2 * bands), layout="constrained")
    grid = figure.subplots(2 * bands, columns, sharey=False, squeeze=False)
    styles = epoch_styles(sorted(frame["epoch"].unique()))
    for row, (measure, name) in enumerate([*SHORT.items()] * bands):
        low, high = frame[measure].min(), frame[measure].max()
        room = 0.08 * (high - low) or 0.05
        for column in range(columns):
            axes = grid[row, column]
            number = row // 2 * columns + column
            if number >= len(labels):
                axes.axis("off")
                continue
            rows = frame[frame["label"] == labels[number]]
            _by_depth(axes, rows, measure, styles)
            if np.isfinite(room):
                axes.set_ylim(low - room, high + room)
            axes.grid(alpha=0.3)
            if row % 2 == 0:
                axes.set_title(labels[number], fontsize=10)
            axes.set_ylabel(name) if column == 0 else axes.tick_params(labelleft=False)
    handles = [Line2D([], [], label=f"epoch {epoch}", **style) for epoch, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    return figure


def _by_depth(axes: Any, rows: pd.DataFrame, measure: str, styles: Mapping[int, dict[str, Any]]) -> None:
    layers = rows[rows["layer"] != "joint"].drop_duplicates("layer").sort_values("depth")["layer"].tolist()
    joint = bool((rows["layer"] == "joint").any())
    means = rows.groupby(["epoch", "layer"])[measure].mean()
    for epoch, style in styles.items():
        if epoch not in means.index:
            continue
        of_epoch = means.loc[epoch]
        axes.plot(range(len(layers)), of_epoch.reindex(layers), linewidth=1.5, **style)
        if joint and "joint" in of_epoch:
            axes.plot([len(layers) + 0.2], [of_epoch["joint"]], linestyle="none", **style)
    ticks = [*range(len(layers)), *[len(layers) + 0.2] * joint]
    if joint and layers:
        axes.axvline(len(layers) - 0.4, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xticks(ticks, [*layers, *["joint"] * joint], fontsize=9)
    axes.set_xlim(-0.4, ticks[-1] + 0.4)


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a grid: the embedded codes of a layer at an epoch."""

    points: np.ndarray  # float, (n, 2)
    labels: np.ndarray | None  # int64, (n,): the class of each point
    sizes: np.ndarray  # int64, (n,): the number of samples at each point
    note: str = ""  # written below the panel


def embedding_grid(
    panels: Mapping[tuple[int, str], Panel],
    *,
    title: str,
    classes: Sequence[str] | None,
    epochs: Sequence[int] | None = None,
    layers: Sequence[str] | None = None,
) -> Figure:
    """Figures 2 to 6: embedded codes coloured by class, a row for each epoch and a column for each layer.

    ``classes`` are the names of the labels; with None all points have one colour. ``epochs`` and ``layers`` select and
    order the rows and columns, by default all of them. The panels of a row have one scale, each about its own middle.
    A mark's colour is the most frequent class of its samples; its area grows with the square root of their number. The
    name of a class with at least 2 % of the samples is written at the median of its marks if their median distance from
    it is at most half of that of all marks from their own median. Missing panels are grey.

    Raises InputError for a panel without labels if there are classes, and for an epoch or layer that no panel has.
    """
    if not panels:
        raise InputError("panels is empty. Give at least one panel, by epoch and layer.")
    rows = _selected("epoch", epochs, sorted({epoch for epoch, _ in panels}))
    columns = _selected("layer", layers, joint_last([layer for _, layer in panels]))
    shown = {key: panels[key] for key in itertools.product(rows, columns) if key in panels}
    for key, panel in shown.items():
        _check(key, panel, classes)
    side = WIDTH / max(len(columns), 2)
    figure = Figure(figsize=(WIDTH, 0.9 + (side + 0.25) * len(rows)), layout="constrained")
    figure.suptitle(plain(title), fontsize=12, parse_math=False)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    most = max((int(panel.sizes.max(initial=1)) for panel in shown.values()), default=1)
    count = max((len(panel.points) for panel in shown.values()), default=1)
    unit = float(np.clip(6000 / count, 2, 20)) * (side / 2.7) ** 2  # the area of one sample, in square points
    unit = min(unit, 500 / most**0.5)  # so that the largest cell does not hide the others
    for axes, layer in zip(grid[0], columns, strict=True):
        axes.set_title(layer, fontsize=11)
    for epoch, line in zip(rows, grid, strict=True):
        line[0].set_ylabel(f"epoch {epoch}", fontsize=11)
        row_points = [shown[epoch, layer].points for layer in columns if (epoch, layer) in shown]
        widest = max((float(np.ptp(points, axis=0).max()) for points in row_points if len(points)), default=0)
        half = 0.54 * widest or 1.0
        for axes, layer in zip(line, columns, strict=True):
            axes.set(xticks=[], yticks=[], aspect="equal", xlim=(-half, half), ylim=(-half, half))
            if (epoch, layer) not in shown or not len(shown[epoch, layer].points):
                axes.set_facecolor("#F0F0F0")
                axes.text(0, 0, "not recorded", ha="center", va="center", color="#555555")
                continue
            panel = shown[epoch, layer]
            _scatter(axes, panel, classes, unit, min(8, 4 + 2 * side))
            note = panel.note or ("one cell" if len(panel.points) == 1 else "")
            axes.set_xlabel(textwrap.fill(note, int(130 / len(columns))), fontsize=8)
    if classes is not None:
        sizes = "colour: the most frequent class; area: square root of the samples behind a mark" if most > 1 else None
        present = sorted({int(label) for panel in shown.values() for label in panel.labels})  # type: ignore[union-attr]
        _class_legend(figure, present, classes, sizes)
    return figure


def _class_legend(figure: Figure, present: Sequence[int], classes: Sequence[str], title: str | None) -> None:
    names = {k: plain(classes[k]) if short(classes) else f"{k} {plain(classes[k])}" for k in present}
    handles = [Line2D([], [], ls="none", ms=6, label=names[k], **class_mark(k)) for k in present]
    style = {"ncols": 10 if short(classes) else 5, "frameon": False, "title_fontsize": 8}
    without_formulas(figure.legend(handles=handles, loc="outside lower center", title=title, **style))


def _selected(axis: str, names: Sequence[Any] | None, recorded: list[Any]) -> list[Any]:
    for name in names or []:
        if name not in recorded:
            raise InputError(f"{axis} {name!r} was not recorded. Give some of: {', '.join(map(str, recorded))}.")
    return recorded if names is None else list(dict.fromkeys(names))


def _check(key: tuple[int, str], panel: Panel, classes: Sequence[str] | None) -> None:
    where, count = f"epoch {key[0]}, layer {key[1]}", len(panel.points)
    if panel.points.shape != (count, 2) or panel.sizes.shape != (count,) or not np.isfinite(panel.points).all():
        raise InputError(
            f"{where}: points have shape {panel.points.shape} and sizes {panel.sizes.shape}, or points are not finite. "
            "Give finite points (n, 2) and sizes (n,)."
        )
    if classes is None:
        return
    if panel.labels is None:
        raise InputError(f"{where} has no labels to colour by. Give the codes with labels, or classes=None.")
    if panel.labels.shape != (count,) or (count and not 0 <= panel.labels.min() <= panel.labels.max() < len(classes)):
        raise InputError(
            f"{where}: the labels are not one of 0 to {len(classes) - 1} for each of {count} points. "
            "Give a name for every class."
        )


def _scatter(axes: Any, panel: Panel, classes: Sequence[str] | None, unit: float, type_size: float) -> None:
    """Draws the points about the middle of their bounding box, in rounds of all classes, and the names of classes."""
    points = panel.points - (panel.points.min(axis=0) + panel.points.max(axis=0)) / 2
    areas = unit * np.sqrt(panel.sizes)
    labels = np.zeros(len(points), np.int64) if panel.labels is None or classes is None else panel.labels
    order = np.random.default_rng(0).permutation(len(points))
    order = order[np.argsort(-areas[order], kind="stable")]  # small marks above large ones
    for part in np.array_split(order, DRAWING_ROUNDS if len(order) > 50 else 1):
        for label in np.unique(labels[part]):
            of_class = part[labels[part] == label]
            style = {"alpha": 0.75, "linewidths": 0, "rasterized": True, **class_mark(int(label))}
            axes.scatter(*points[of_class].T, s=areas[of_class], **style)
    if classes is not None and len(classes) > 2:
        reach = _spread(points)
        for label in np.unique(labels):
            if panel.sizes[labels == label].sum() < NAMED * panel.sizes.sum():
                continue  # its name would hide its few marks
            if _spread(points[labels == label]) > CONCENTRATED * reach:
                continue  # its name would stand among other classes
            x, y = np.median(points[labels == label], axis=0)
            halo = [withStroke(linewidth=2.5, foreground="white")]
            name = plain(classes[label]) if short(classes) else str(label)
            style = {"fontweight": "bold", "ha": "center", "va": "center", "parse_math": False}
            axes.text(x, y, name, fontsize=type_size, path_effects=halo, **style)


def _spread(points: np.ndarray) -> float:
    """The median distance of the points (n, 2) from their median."""
    return float(np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1)))
