"""What figures share: columns and their names, colours with markers, the order of layers, the width, legends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.legend import Legend

from nas_relucode.errors import InputError

# Okabe and Ito's colours, which colour-blind readers can distinguish, and three more, for ten classes; further ones
# repeat colours with other markers.
GREY = "#9AA0A6"
COLOURS = [
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#999933", GREY, "#661100"),
]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p"]
WIDTH = 8.0  # inches of a figure
# Columns of the figures' tables and what they are called.
COUNTS = {"cell_count": "occupied cells", "correct_cell_count": "cells with a correctly classified sample"}
MEASURES = {"knn_accuracy": "accuracy of the nearest neighbours' vote", "class_silhouette": "silhouette of the classes"}


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raises InputError unless ``frame`` has rows and all of ``columns``."""
    missing = [name for name in columns if name not in frame.columns]
    if missing or frame.empty:
        problem = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise InputError(f"the frame {problem}. Give one row for each point, with {', '.join(columns)}.")


def epoch_styles(epochs: Sequence[int]) -> dict[int, dict[str, Any]]:
    """A colour, from dark to light, and a marker for each epoch, so that epochs differ without colours too."""
    map_ = matplotlib.colormaps["cividis"]
    shades = np.linspace(0, 0.8, len(epochs))
    return {
        epoch: {"color": map_(shade), "marker": MARKERS[i % len(MARKERS)], "markersize": 4.5}
        for i, (epoch, shade) in enumerate(zip(epochs, shades, strict=True))
    }


def without_formulas(legend: Legend) -> None:
    """Shows the texts of a legend as they are: a class may be called $x$."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def joint_last(layers: Iterable[str]) -> list[str]:
    """Each name once, in the given order, with "joint" last."""
    names = list(dict.fromkeys(layers))
    return [name for name in names if name != "joint"] + ["joint"] * ("joint" in names)


def short(classes: Sequence[str]) -> bool:
    """Whether the names of the classes fit beside their points; if not, their numbers are drawn."""
    return max(map(len, classes), default=0) <= 2


def class_mark(label: int) -> dict[str, Any]:
    """The colour and the marker of a class; no two of the first hundred classes share both."""
    turn, place = divmod(label, len(COLOURS))
    return {"color": COLOURS[place], "marker": MARKERS[(place + turn) % len(MARKERS)]}
