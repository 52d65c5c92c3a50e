"""What the paper's figures show, read from a study: curves over the epochs, and the code spaces that were kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from nas_relucode.cells.classes import separability
from nas_relucode.cells.code_spaces import CodeSpace, load_code_space
from nas_relucode.errors import InputError
from nas_relucode.paper.clustering import clustering_frame
from nas_relucode.plots.networks import network_label
from nas_relucode.study.record import ATTRIBUTE


@dataclass(frozen=True)
class KeptSpace:
    """The code space of one candidate after one epoch."""

    head: str
    learning_rate: float
    seed: int
    epoch: int
    path: Path

    @property
    def label(self) -> str:
        return network_label({"head": self.head, "learning_rate": self.learning_rate})

    def load(self) -> CodeSpace:
        return load_code_space(self.path)


def curves_frame(study: optuna.Study) -> pd.DataFrame:
    """A row a candidate, seed, epoch and layer ("joint" too): the counts of cells, accuracies and losses.

    Columns: label, head, learning_rate, seed, epoch, layer, accuracy (validation), train_accuracy, loss (training),
    validation_loss, cell_count, correct_cell_count; NaN where there is nothing to count.
    """
    rows: list[dict[str, Any]] = []
    for found in _findings(study):
        candidate = found["candidate"]
        names = layer_names(list(found["curve"][0]["layers"]))
        for point in found["curve"]:
            known = {name: point[name] for name in ("epoch", "accuracy", "train_accuracy", "loss", "validation_loss")}
            for layer, counts in {**point["layers"], "joint": point["joint"]}.items():
                row = {"label": network_label(candidate), **candidate, **known, "layer": names.get(layer, layer)}
                rows.append(row | counts)
    frame = pd.DataFrame(rows)
    numbers = ["accuracy", "train_accuracy", "loss", "validation_loss", "cell_count", "correct_cell_count"]
    return frame.astype(dict.fromkeys(numbers, float))


def kept_spaces(study: optuna.Study, folder: Path) -> list[KeptSpace]:
    """The code spaces that the study's trials kept in ``folder``, by candidate and epoch.

    Raises InputError if none was kept, or a file is gone.
    """
    found = [
        KeptSpace(**values["candidate"], epoch=int(epoch), path=folder / "codes" / name)
        for values in _findings(study)
        for epoch, name in sorted(values.get("codes", {}).items(), key=lambda item: int(item[0]))
    ]
    if not found:
        raise InputError(
            f"study {study.study_name!r} kept no code spaces. Set kept_epochs in [codes], e.g. [1, 5, 10], "
            "and run it under another --study-name."
        )
    for kept in found:
        if not kept.path.is_file():
            raise InputError(
                f"{kept.path} is gone, the codes of {kept.label} after epoch {kept.epoch}. "
                f"Put it back, or run the study again under another --study-name."
            )
    return found


def chosen_epochs(kept: list[KeptSpace], epochs: tuple[int, ...]) -> list[int]:
    """``epochs``, or all that were kept; an InputError for one that was not."""
    known = sorted({space.epoch for space in kept})
    for epoch in epochs:
        if epoch not in known:
            raise InputError(f"there are no codes after epoch {epoch}. Kept: {', '.join(map(str, known))}.")
    return list(epochs) or known


def layer_names(layers: list[str]) -> dict[str, str]:
    """How layers are called in figures: those of a head as in Table 1, others by their own name.

    >>> layer_names(["head.1", "head.3", "relu"])
    {'head.1': 'FC-0', 'head.3': 'FC-1', 'relu': 'relu'}
    """
    heads = [name for name in layers if name.startswith("head.")]
    return {name: f"FC-{heads.index(name)}" if name in heads else name for name in layers}


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


def pruned(study: optuna.Study) -> list[str]:
    """A sentence for each candidate that was pruned, for example because it diverged: it is in no figure."""
    sentences = []
    for trial in study.get_trials(deepcopy=False, states=[TrialState.PRUNED]):
        found = trial.user_attrs.get(ATTRIBUTE, {})
        if "pruned" in found:
            what = f"{network_label(found['candidate'])}, seed {found['candidate']['seed']}"
            sentences.append(f"{what}, is not shown: {found['pruned']}.")
    return sentences


def _findings(study: optuna.Study) -> Iterator[dict[str, Any]]:
    """What each complete candidate found: of repeated trainings the first."""
    seen = set()
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        found = trial.user_attrs.get(ATTRIBUTE)
        if found and "curve" in found and (key := tuple(found["candidate"].values())) not in seen:
            seen.add(key)
            yield found
    if not seen:
        why = " ".join(pruned(study)) or "Run it first."
        raise InputError(f"study {study.study_name!r} has no complete trial of ours to draw. {why}")
