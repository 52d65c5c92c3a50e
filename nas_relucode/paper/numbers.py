"""The numbers behind the paper's figures: separability and clusters of the code spaces that a study kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nas_relucode.cells.classes import separability
from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.graph import connectivity, root
from nas_relucode.codes.words import compiled
from nas_relucode.errors import InputError
from nas_relucode.study.curves import KeptSpace, layer_names


@dataclass(frozen=True, eq=False)
class Numbers:
    """Tables of the kept code spaces; each begins with label, head, learning_rate, seed and epoch.

    ``separability``: a row for each layer ("joint" last), with depth (1, 2, ...; NaN for joint), neurons, knn_accuracy,
    class_silhouette, cells and samples. ``by_class``: a row for each layer and class, with the number of cells that
    hold a sample of the class, as the released code counts them. ``clustering``: the rows of `clustering_frame`.
    """

    separability: pd.DataFrame
    by_class: pd.DataFrame
    clustering: pd.DataFrame


def read_numbers(kept: list[KeptSpace], classes: list[str]) -> Numbers:
    """The tables of all kept code spaces, each read once. Raises InputError for codes without labels."""
    separable, by_class, clusters = [], [], []
    for kept_space in kept:
        space = load_labelled(kept_space)
        known = {name: getattr(kept_space, name) for name in ("label", "head", "learning_rate", "seed", "epoch")}
        values = separability(space)
        names = layer_names([layer.name for layer in space.codes.layers])
        parts = {layer: space.layer(layer) for layer in names} | {"joint": space}
        for depth, (layer, part) in enumerate(parts.items(), start=1):
            row = {**known, "layer": names.get(layer, layer), "depth": None if layer == "joint" else depth}
            row |= {"neurons": part.neurons, **values[layer], "cells": len(part.cells), "samples": part.samples}
            separable.append(row)
            if layer != "joint":
                for number, count in enumerate(part.cells_by_class()):
                    by_class.append({**known, "layer": names[layer], "class": classes[number], "cells": int(count)})
        frame = clustering_frame(space).replace({"layer": names})
        clusters.append(pd.concat([pd.DataFrame([known] * len(frame)), frame], axis=1))
    return Numbers(pd.DataFrame(separable), pd.DataFrame(by_class), pd.concat(clusters, ignore_index=True))


def load_labelled(kept: KeptSpace) -> CodeSpace:
    """The code space. Raises InputError if it has no labels."""
    space = kept.load()
    if space.class_counts is None:
        raise InputError(
            f"the codes in {kept.path} have no labels, but the figures are coloured by class. Use data with labels."
        )
    return space


def clustering_frame(space: CodeSpace, *, most: int = 100, threads: int | None = None) -> pd.DataFrame:
    """The single-linkage clusters of the cells (section 2): a row for each layer ("joint" first) and theta.

    Columns: layer, neurons, cells, theta, components, largest_component_share (of the cells), purity (fraction of the
    samples in the most frequent class of their cluster), dendrogram_purity (one value for each layer). The thetas are 0
    and those at which clusters merge; if there are more than ``most``, ``most`` of them at even steps, the first and
    the last included. Without labels the purities are NaN.

    >>> from nas_relucode.codes import pack
    >>> space = CodeSpace.of(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), labels=[0, 1, 1])
    >>> clustering_frame(space)[["theta", "components", "purity"]].round(3).values.tolist()[:3]
    [[0.0, 3.0, 1.0], [1.0, 2.0, 0.667], [2.0, 1.0, 0.667]]
    """
    if most < 2:
        raise InputError(f"most is {most}, too few for the first and the last theta. Give at least 2.")
    names = [layer.name for layer in space.codes.layers]
    spaces = {"joint": space, **{name: space.layer(name) for name in names}}
    rows: list[dict[str, Any]] = []
    for name, part in spaces.items():
        profile = connectivity(part.codes, threads=threads)
        cells, counts = len(part.cells), part.class_counts
        steps = np.arange(len(profile.thetas))
        if len(steps) > most:
            steps = np.unique(np.linspace(0, len(steps) - 1, most).round().astype(np.int64))
        dendrogram_purity = float("nan") if counts is None else profile.dendrogram_purity(counts)
        purities = np.full(len(profile.thetas), np.nan)
        if counts is not None:
            tree = profile.tree
            purities = _purities(counts, tree.first, tree.second, tree.distance, profile.thetas) / counts.sum()
        for step in steps:
            theta = int(profile.thetas[step])
            row = {"layer": name, "neurons": part.neurons, "cells": cells, "theta": theta}
            row["components"] = int(profile.component_counts[step])
            row["largest_component_share"] = float(profile.largest_components[step]) / cells
            rows.append(row | {"purity": float(purities[step]), "dendrogram_purity": dendrogram_purity})
    return pd.DataFrame(rows)


@compiled
def _purities(class_counts, first, second, distance, thetas):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The number of samples in the most frequent class of their cluster, at each theta, in one pass over the tree."""
    n = class_counts.shape[0]
    parent, counts = np.arange(n), class_counts.copy()
    result, majority, edge = np.empty(thetas.shape[0], np.int64), np.int64(0), 0
    for i in range(n):
        majority += counts[i].max()
    for step in range(thetas.shape[0]):
        while edge < distance.shape[0] and distance[edge] <= thetas[step]:
            a, b = root(parent, first[edge]), root(parent, second[edge])
            majority -= counts[a].max() + counts[b].max()
            parent[b] = a
            counts[a] += counts[b]
            majority += counts[a].max()
            edge += 1
        result[step] = majority
    return result
