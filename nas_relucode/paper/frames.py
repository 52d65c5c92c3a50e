"""The numbers behind the paper's figures, read from the code spaces that a study kept."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from nas_relucode.cells.classes import separability
from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.errors import InputError
from nas_relucode.paper.clustering import clustering_frame
from nas_relucode.study.curves import KeptSpace, layer_names


def chosen_epochs(kept: list[KeptSpace], epochs: tuple[int, ...]) -> list[int]:
    """``epochs``, or all that were kept; an InputError for one that was not."""
    known = sorted({space.epoch for space in kept})
    for epoch in epochs:
        if epoch not in known:
            raise InputError(f"there are no codes after epoch {epoch}. Kept: {', '.join(map(str, known))}.")
    return list(epochs) or known


@dataclass(frozen=True)
class Numbers:
    """What is read off the kept code spaces, as frames that begin with label, head, learning_rate, seed and epoch.

    ``separability``: a row a layer ("joint" last), with depth (1, 2, ...; NaN for joint), neurons, knn_accuracy,
    class_silhouette, cells and samples. ``by_class``: a row a layer and class, with the cells that hold a sample of
    the class, as the released code counts them. ``clustering``: `clustering_frame`'s rows.
    """

    separability: pd.DataFrame
    by_class: pd.DataFrame
    clustering: pd.DataFrame


def read_numbers(kept: list[KeptSpace], classes: list[str]) -> Numbers:
    """The numbers of every kept code space, each read once. Raises InputError for codes without labels."""
    separable, by_class, clusters = [], [], []
    for of in kept:
        space = labelled(of)
        known = {name: getattr(of, name) for name in ("label", "head", "learning_rate", "seed", "epoch")}
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


def labelled(of: KeptSpace) -> CodeSpace:
    """The code space; an InputError if it has no labels."""
    space = of.load()
    if space.class_counts is None:
        raise InputError(f"the codes in {of.path} have no labels, but pictures are coloured by class. Label the data.")
    return space
