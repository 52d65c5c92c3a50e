"""Figures of slices: every cell as its exact polygon, coloured by predicted class or by area, with its samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nas_relucode.errors import InputError
from nas_relucode.geometry.slices import Slice
from nas_relucode.plots.style import without_formulas
from nas_relucode.texts import plain

COLOURS = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
BY = ("class", "area")


def slice_figure(
    part: Slice, *, by: str = "class", classes: list[str] | None = None, labels: list[int] | list[str] | None = None
) -> Figure:
    """A slice, ``part``, coloured ``by`` "class" (of the largest output, exact within cells) or "area" of its cells.

    ``classes`` are the names of the classes; ``labels`` are the labels of the samples, which are marked.
    """
    if by not in BY:
        raise InputError(f"slices are coloured by {' or '.join(BY)}, not by {by!r}.")
    if by == "class" and part.outputs is None:
        raise InputError("the network's outputs are not piecewise linear in the input. Colour by area.")
    if not part.complex.complete:
        raise InputError("the slice has more cells than were asked for. Give a smaller reach or a larger max_cells.")
    figure = Figure(figsize=(7, 6.4 if by == "area" else 7), layout="constrained")
    axes = figure.add_subplot()
    if by == "class":
        _fill_by_class(axes, part, classes)
    else:
        _fill_by_area(axes, part)
    width = float(np.clip(20 / np.sqrt(len(part.complex)), 0.05, 0.8))
    axes.add_collection(
        PolyCollection(part.complex.outlines, facecolors="none", edgecolors="#00000090", linewidths=width)
    )
    _mark_samples(axes, part, labels)
    axes.set(xlim=(-part.reach, part.reach), ylim=(-part.reach, part.reach), aspect="equal")
    axes.set(xlabel="along the slice (units of the input)", title=f"{len(part.complex):,} cells")
    return figure


def _fill_by_class(axes: Any, part: Slice, classes: list[str] | None) -> None:
    assert part.outputs is not None
    pieces = list(class_pieces(part))
    names = [plain(name) for name in classes or []] or [str(number) for number in range(part.outputs.shape[2])]
    colours = {label: to_rgba(COLOURS[label % len(COLOURS)], 0.55) for _, label in pieces}
    shades = [colours[label] for _, label in pieces]
    axes.add_collection(PolyCollection([piece for piece, _ in pieces], facecolors=shades, edgecolors="none"))
    patches = [Line2D([], [], marker="s", ls="", ms=9, color=colours[k], label=names[k]) for k in sorted(colours)]
    legend = axes.figure.legend(handles=patches, title="predicted", loc="outside right upper", frameon=False)
    without_formulas(legend)


def _fill_by_area(axes: Any, part: Slice) -> None:
    areas = np.array([area(outline) for outline in part.complex.outlines])
    smallest = np.quantile(areas, 0.02)  # some cells are almost points
    norm = LogNorm(vmin=smallest, vmax=areas.max(), clip=True)
    filled = PolyCollection(part.complex.outlines, array=areas, norm=norm, cmap="viridis", edgecolors="none")
    axes.add_collection(filled)
    axes.figure.colorbar(filled, ax=axes, label="area of the cell in the slice", shrink=0.8)


def _mark_samples(axes: Any, part: Slice, labels: list[int] | list[str] | None) -> None:
    axes.scatter(*part.samples.T, s=60, marker="o", c="white", edgecolors="black", linewidths=1.5, zorder=3)
    for number, at in enumerate(part.samples):
        name = f"sample {number + 1}" + (f": {plain(str(labels[number]))}" if labels else "")
        right = at[0] > 0.5 * part.reach
        axes.annotate(
            name,
            at,
            xytext=(-7 if right else 7, 7),
            textcoords="offset points",
            ha="right" if right else "left",
            zorder=4,
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8},
        )


def area(outline: np.ndarray) -> float:
    """The area of a polygon, (corners, 2), whose corners run counterclockwise."""
    x, y = outline.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def class_pieces(part: Slice) -> Iterator[tuple[np.ndarray, int]]:
    """Polygons of one predicted class each: the cells, cut along the borders where several classes are predicted."""
    assert part.outputs is not None
    for outline, point, (value, *slopes) in zip(part.complex.outlines, part.complex.points, part.outputs, strict=True):
        outputs = value + (outline - point) @ np.array(slopes)  # at the corners: (corners, classes)
        winners = outputs.argmax(axis=1)
        if (winners == winners[0]).all():  # then in the whole cell: the region of a class is convex
            yield outline, int(winners[0])
            continue
        for label in range(outputs.shape[1]):
            piece, left = outline, outputs
            for other in range(outputs.shape[1]):
                if other != label and len(piece):
                    piece, left = _kept(piece, left, left[:, label] - left[:, other])
            if len(piece) > 2:
                yield piece, label


def _kept(piece: np.ndarray, outputs: np.ndarray, lead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a convex polygon where ``lead``, given at its corners and linear in between, is at least 0."""
    after = np.roll(lead, -1)
    crossed = (lead >= 0) != (after >= 0)
    share = np.where(crossed, lead / np.where(crossed, lead - after, 1), 0)[:, None]
    both = [np.stack([part, part + share * (np.roll(part, -1, axis=0) - part)], axis=1) for part in (piece, outputs)]
    kept = np.stack([lead >= 0, crossed], axis=1).flatten()
    return both[0].reshape(-1, piece.shape[1])[kept], both[1].reshape(-1, outputs.shape[1])[kept]
