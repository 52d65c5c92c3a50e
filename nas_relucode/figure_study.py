"""The figures of a study that has a [figure]: PNG, SVG, the CSV behind them, and whether the paper's claim holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from nas_relucode.claims import compare_curves, separability_claim
from nas_relucode.clustering import clustering_figure
from nas_relucode.embedding import Embedding, embed
from nas_relucode.errors import InputError
from nas_relucode.figure_frames import (
    KeptSpace,
    chosen_epochs,
    class_counts_frame,
    clustering_frames,
    curves_frame,
    kept_spaces,
    layer_names,
    separability_frame,
)
from nas_relucode.files import write_atomically
from nas_relucode.paper_figures import Panel, curves_figure, embedding_grid, save_figure, separability_figure
from nas_relucode.study_settings import FigureSettings

Progress = Callable[[str], None]


@dataclass
class Drawn:
    """The files of a figure by name, and what its numbers say of the paper's claim."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def figure(self, name: str, figure: Any) -> None:
        """A figure as NAME.png and NAME.svg."""
        self.files += [save_figure(figure, self.folder / f"{name}{end}") for end in (".png", ".svg")]

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """A frame as NAME.csv."""
        path = self.folder / f"{name}.csv"
        self.files.append(write_atomically(path, lambda file: frame.to_csv(file, index=False)))

    def claim(self) -> None:
        """The sentences as claim.txt."""
        text = "".join(f"{sentence}\n" for sentence in self.sentences)
        self.files.append(write_atomically(self.folder / "claim.txt", lambda file: file.write_text(text, "utf-8")))


def draw_figure(
    study: optuna.Study,
    figure: FigureSettings,
    folder: str | Path,
    *,
    classes: list[str],
    on_panel: Progress | None = None,
) -> Drawn:
    """Draws the figure of a study into ``folder``, which also holds the code spaces that its trials kept.

    "curves": accuracy and cells over the epochs and, of one head at two learning rates, whether these differ.
    "embeddings": a grid of embedded codes a learning rate (rows epochs, columns layers), the separability of the
    classes over layers and epochs, the clusters of the cells over theta. Pictures are of the first seed, numbers of
    all. Embeddings are kept in ``folder`` and not computed twice. ``on_panel`` is told what is embedded.

    Raises InputError for an epoch that was not trained or kept, and for codes without labels.
    """
    drawn = Drawn(Path(folder))
    drawn.folder.mkdir(parents=True, exist_ok=True)
    if figure.kind == "curves":
        _draw_curves(study, drawn)
    else:
        _draw_embeddings(study, figure, drawn, classes, on_panel or (lambda what: None))
    drawn.claim()
    return drawn


def _draw_curves(study: optuna.Study, drawn: Drawn) -> None:
    curves = curves_frame(study)
    drawn.table("curves", curves)
    drawn.figure("curves", curves_figure(curves))
    heads, rates, seeds = (len(set(curves[name])) for name in ("head", "learning_rate", "seed"))
    if heads == 1 and rates == 2 and seeds > 1:
        comparison = compare_curves(curves)
        drawn.table("comparison", comparison.frame)
        drawn.sentences += comparison.sentences()
    else:
        drawn.sentences.append("Curves of one head at two learning rates with several seeds would be compared.")


def _draw_embeddings(
    study: optuna.Study, figure: FigureSettings, drawn: Drawn, classes: list[str], on_panel: Progress
) -> None:
    kept = kept_spaces(study, drawn.folder)
    epochs = chosen_epochs(kept, figure.epochs)
    numbers = separability_frame(kept)
    drawn.table("separability", numbers)
    drawn.figure("separability", separability_figure(numbers))
    drawn.table("cells_by_class", class_counts_frame(kept, classes))
    if figure.expect:
        drawn.sentences += separability_claim(numbers, expect=figure.expect).sentences
    shown = [of for of in kept if of.epoch in epochs and of.seed == kept[0].seed]
    rates = sorted({of.learning_rate for of in shown}, reverse=True)
    points = []
    for rate in rates:
        part = [of for of in shown if of.learning_rate == rate]
        panels, frames = _panels(part, figure, drawn.folder, numbers, on_panel)
        points += frames
        title = f"{study.study_name}, learning rate {rate:g}"
        end = f"_{rate:g}" if len(rates) > 1 else ""
        drawn.figure(f"embedding{end}", embedding_grid(panels, title=title, classes=classes, epochs=epochs))
    drawn.table("embedding", pd.concat(points, ignore_index=True))
    clusters = clustering_frames(kept)
    drawn.table("clustering", clusters)
    for rate in rates:
        of_rate = clusters[(clusters["learning_rate"] == rate) & (clusters["seed"] == kept[0].seed)]
        end = f"_{rate:g}" if len(rates) > 1 else ""
        drawn.figure(f"clustering{end}", clustering_figure(of_rate))


def _panels(
    kept: list[KeptSpace], figure: FigureSettings, folder: Path, numbers: pd.DataFrame, on_panel: Progress
) -> tuple[dict[tuple[int, str], Panel], list[pd.DataFrame]]:
    """The pictures of one learning rate by epoch and layer, and their points as frames."""
    several = len({of.head for of in kept}) > 1
    panels, frames = {}, []
    for of in kept:
        space = of.load()
        for layer, name in layer_names([layer.name for layer in space.codes.layers]).items():
            on_panel(f"{of.label}, epoch {of.epoch}, {name}")
            embedding = _embedded(of, layer, figure, folder)
            row = numbers.query(
                "label == @of.label and seed == @of.seed and epoch == @of.epoch and layer == @name"
            ).iloc[0]
            cells = "1 cell" if row["cells"] == 1 else f"{row['cells']} cells"
            note = f"kNN {row['knn_accuracy']:.2f}, silhouette {row['class_silhouette']:.2f}, {cells}"
            column = f"{of.head}\n{name}" if several else f"{name} ({row['neurons']})"
            panels[of.epoch, column] = Panel(embedding.points, embedding.labels, embedding.sizes, note)
            frame = pd.DataFrame(embedding.points, columns=["x", "y"])
            frame["class"], frame["size"] = embedding.labels, embedding.sizes
            frames.append(frame.assign(label=of.label, seed=of.seed, epoch=of.epoch, layer=name))
    return panels, frames


def _embedded(of: KeptSpace, layer: str, figure: FigureSettings, folder: Path) -> Embedding:
    """The embedding of a layer's codes, from ``folder`` if the same codes were embedded in the same way before."""
    settings = {
        "points": figure.points,
        "preset": figure.preset,
        "neighbours": figure.neighbours,
        "min_dist": figure.min_dist,
        "most": figure.most_points,
        "seed": figure.seed,
    }
    key = hashlib.sha256(of.path.read_bytes() + json.dumps([layer, settings]).encode()).hexdigest()[:32]
    path = folder / "embeddings" / f"{key}.npz"
    names = ("points", "sizes", "labels", "cells")
    if path.is_file():
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return Embedding(**{name: file[name] for name in names}, made=settings)
        except Exception:  # cut short or altered: numpy and zipfile raise half a dozen kinds; it is made again
            path.unlink()
    found = embed(of.load(), layer=layer, **settings)  # type: ignore[arg-type]
    if found.labels is None:
        raise InputError(f"the codes in {of.path} have no labels, but pictures are coloured by class. Label the data.")
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(found, name) for name in names}
    write_atomically(path, lambda file: np.savez(file, **arrays))
    return found
