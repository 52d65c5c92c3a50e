"""What the paper's figures show, read from a study: curves over the epochs, and the code spaces that were kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from nas_relucode.clustering import clustering_frame
from nas_relucode.code_spaces import CodeSpace
from nas_relucode.errors import InputError
from nas_relucode.figures import network_label
from nas_relucode.objective import ATTRIBUTE
from nas_relucode.separation import separability
from nas_relucode.stored_spaces import load_code_space


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
    """``epochs``, or all that were kept; an InputError for one that was not trained or not kept."""
    known = sorted({space.epoch for space in kept})
    for epoch in epochs:
        if epoch not in known:
            raise InputError(
                f"there are no codes after epoch {epoch}: it was not trained, or not kept. "
                f"Kept: {', '.join(map(str, known))}; kept_epochs in [codes] says which."
            )
    return list(epochs) or known


def layer_names(layers: list[str]) -> dict[str, str]:
    """How layers are called in figures: those of a head as in Table 1, others by their own name.

    >>> layer_names(["head.1", "head.3", "relu"])
    {'head.1': 'FC-0', 'head.3': 'FC-1', 'relu': 'relu'}
    """
    heads = [name for name in layers if name.startswith("head.")]
    return {name: f"FC-{heads.index(name)}" if name in heads else name for name in layers}


def separability_frame(kept: list[KeptSpace]) -> pd.DataFrame:
    """How far each layer's codes tell the classes apart, a row a candidate, seed, epoch and layer ("joint" last).

    Columns: label, head, learning_rate, seed, epoch, layer, depth (1, 2, ...; NaN for joint), neurons, knn_accuracy,
    class_silhouette, cells, samples. Raises InputError for codes without labels.
    """
    rows = []
    for of, space in _labelled(kept):
        values = separability(space)
        names = layer_names([layer.name for layer in space.codes.layers])
        for depth, layer in enumerate([*names, "joint"], start=1):
            part = space if layer == "joint" else space.layer(layer)
            row = {**_known(of), "layer": names.get(layer, layer), "depth": None if layer == "joint" else depth}
            row |= {"neurons": part.neurons, **values[layer], "cells": len(part.cells), "samples": part.samples}
            rows.append(row)
    return pd.DataFrame(rows)


def class_counts_frame(kept: list[KeptSpace], classes: list[str]) -> pd.DataFrame:
    """Cells that hold a sample of a class, as the released code counts them: by class and by layer, never joint.

    Columns: label, head, learning_rate, seed, epoch, layer, class, cells.
    """
    rows = []
    for of, space in _labelled(kept):
        for layer, name in layer_names([layer.name for layer in space.codes.layers]).items():
            counts = space.layer(layer).cells_by_class()
            rows += [
                {**_known(of), "layer": name, "class": classes[number], "cells": int(count)}
                for number, count in enumerate(counts)
            ]
    return pd.DataFrame(rows)


def clustering_frames(kept: list[KeptSpace]) -> pd.DataFrame:
    """`clustering_frame` of every kept code space, with the columns label, head, learning_rate, seed and epoch."""
    frames = []
    for of, space in _labelled(kept):
        frame = clustering_frame(space)
        names = layer_names([layer.name for layer in space.codes.layers])
        frame["layer"] = frame["layer"].map(lambda name: names.get(name, name))  # noqa: B023
        frames.append(frame.assign(**_known(of)))
    return pd.concat(frames, ignore_index=True)


def _findings(study: optuna.Study) -> Iterator[dict[str, Any]]:
    """What each complete candidate found: of repeated trainings the first."""
    seen = set()
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        found = trial.user_attrs.get(ATTRIBUTE)
        if found and "curve" in found and (key := tuple(found["candidate"].values())) not in seen:
            seen.add(key)
            yield found
    if not seen:
        raise InputError(f"study {study.study_name!r} has no complete trial of ours to draw. Run it first.")


def _labelled(kept: list[KeptSpace]) -> Iterator[tuple[KeptSpace, CodeSpace]]:
    for of in kept:
        space = of.load()
        if space.class_counts is None:
            raise InputError(
                f"the codes in {of.path} have no labels, but pictures are coloured by class. Label the data."
            )
        yield of, space


def _known(of: KeptSpace) -> dict[str, Any]:
    return {
        "label": of.label,
        "head": of.head,
        "learning_rate": of.learning_rate,
        "seed": of.seed,
        "epoch": of.epoch,
    }
