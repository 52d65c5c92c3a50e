"""Draws the figure of a study with a [figure]: PNG and SVG, the numbers as CSV, and whether the paper's claim holds."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.embedding import MOST_ROWS, Embedding, embed
from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.paper.claims import compare_curves
from nas_relucode.paper.depth_claims import separability_claim
from nas_relucode.paper.numbers import load_labelled, read_numbers
from nas_relucode.plots.clustering import clustering_figures
from nas_relucode.plots.paper_figures import Panel, curves_figure, embedding_grid, save_figure, separability_figure
from nas_relucode.study.curves import KeptSpace, curves_frame, kept_spaces, layer_names, pruned
from nas_relucode.study.settings import FigureSettings

Progress = Callable[[str], None]


@dataclass
class Drawn:
    """The files of a figure, and sentences on whether its numbers support the paper's claim."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def add_figure(self, name: str, figure: Any) -> None:
        """Writes a figure to NAME.png and NAME.svg."""
        self.files += [save_figure(figure, self.folder / f"{name}{end}") for end in (".png", ".svg")]

    def add_table(self, name: str, frame: pd.DataFrame) -> None:
        """Writes a frame to NAME.csv."""
        path = self.folder / f"{name}.csv"
        self.files.append(write_atomically(path, lambda file: frame.to_csv(file, index=False)))

    def write_sentences(self) -> None:
        """Writes the sentences to claim.txt."""
        text = "".join(f"{sentence}\n" for sentence in self.sentences)
        self.files.append(write_atomically(self.folder / "claim.txt", lambda file: file.write_text(text, "utf-8")))


def draw_figure(
    study: optuna.Study, figure: FigureSettings, folder: str | Path, *, on_panel: Progress | None = None
) -> Drawn:
    """Draws the figure of a study into ``folder``, which also holds the code spaces that its trials kept.

    The kind "curves" shows accuracy and cells over the epochs and, for one head at two learning rates, compares them.
    "embeddings" shows for each learning rate a grid of embedded codes (a row for each epoch, a column for each layer),
    the separability of the classes over layers and epochs, and the clusters of the cells over theta. Pictures show the
    first seed, tables all seeds. Embeddings are stored in ``folder`` and reused. ``on_panel`` is called with the name
    of each panel before it is embedded.

    Raises InputError for an epoch whose codes were not kept, and for codes without labels.
    """
    drawn = Drawn(Path(folder))
    drawn.folder.mkdir(parents=True, exist_ok=True)
    if figure.kind == "curves":
        _draw_curves(study, drawn)
    else:
        _draw_embeddings(study, figure, drawn, on_panel or (lambda panel: None))
    return drawn


def _draw_curves(study: optuna.Study, drawn: Drawn) -> None:
    curves = curves_frame(study)
    drawn.add_table("curves", curves)
    drawn.add_figure("curves", curves_figure(curves))
    seeds = curves.groupby("learning_rate")["seed"].agg(set)
    common_seeds = set.intersection(*seeds)
    if len(set(curves["head"])) == 1 and len(seeds) == 2 and len(common_seeds) > 1 and curves["accuracy"].notna().all():
        comparison = compare_curves(curves)
        drawn.add_table("comparison", comparison.frame)
        drawn.sentences += comparison.sentences()
    else:
        drawn.sentences.append(
            "Nothing is compared: that needs classifiers of one head at two learning rates with two common seeds."
        )
    drawn.sentences += pruned(study)
    drawn.write_sentences()


def _draw_embeddings(study: optuna.Study, figure: FigureSettings, drawn: Drawn, on_panel: Progress) -> None:
    kept = kept_spaces(study, drawn.folder)
    epochs = _drawn_epochs(kept, figure.epochs)
    classes = list(study.user_attrs["classes"])
    numbers = read_numbers(kept, classes)
    drawn.add_table("separability", numbers.separability)
    drawn.add_table("cells_by_class", numbers.by_class)
    drawn.add_table("clustering", numbers.clustering)
    if figure.expect:
        drawn.sentences += separability_claim(numbers.separability, expect=figure.expect).sentences
    drawn.sentences += pruned(study)
    drawn.write_sentences()
    chart = separability_figure(numbers.separability)
    if figure.expect:  # the chart shows the verdict
        chart.suptitle(textwrap.fill(drawn.sentences[0], 110), fontsize=9)
    drawn.add_figure("separability", chart)
    shown = [space for space in kept if space.seed == kept[0].seed]
    rates = sorted({space.learning_rate for space in shown}, reverse=True)
    points = []
    for rate in rates:
        suffix = f"_{rate:g}" if len(rates) > 1 else ""
        part = [space for space in shown if space.learning_rate == rate and space.epoch in epochs]
        panels, frames = _panels(part, figure, drawn.folder, numbers.separability, on_panel)
        points += frames
        title = f"{study.study_name}, learning rate {rate:g}"
        drawn.add_figure(f"embedding{suffix}", embedding_grid(panels, title=title, classes=classes, epochs=epochs))
        clusters = numbers.clustering
        clusters = clusters[(clusters["learning_rate"] == rate) & (clusters["seed"] == kept[0].seed)]
        for name, drawing in clustering_figures(clusters).items():
            drawn.add_figure(f"clustering{suffix}{name}", drawing)
    drawn.add_table("embedding", pd.concat(points, ignore_index=True))


def _drawn_epochs(kept: list[KeptSpace], epochs: tuple[int, ...]) -> list[int]:
    """``epochs``, by default all kept ones. Raises InputError for an epoch whose codes were not kept."""
    known = sorted({space.epoch for space in kept})
    for epoch in epochs:
        if epoch not in known:
            raise InputError(f"there are no codes after epoch {epoch}. Give some of: {', '.join(map(str, known))}.")
    return list(epochs) or known


def _panels(
    kept: list[KeptSpace], figure: FigureSettings, folder: Path, numbers: pd.DataFrame, on_panel: Progress
) -> tuple[dict[tuple[int, str], Panel], list[pd.DataFrame]]:
    """The panels of one learning rate by epoch and layer, and their points as tables."""
    several = len({space.head for space in kept}) > 1
    by_panel = numbers.set_index(["head", "learning_rate", "seed", "epoch", "layer"])
    panels, frames = {}, []
    for kept_space in kept:
        space = load_labelled(kept_space)
        for layer, name in layer_names([layer.name for layer in space.codes.layers]).items():
            on_panel(f"{kept_space.label}, epoch {kept_space.epoch}, {name}")
            embedding = _embedding(kept_space, space, layer, figure, folder)
            row = by_panel.loc[kept_space.head, kept_space.learning_rate, kept_space.seed, kept_space.epoch, name]
            cells = "1 cell" if row["cells"] == 1 else f"{row['cells']:.0f} cells"
            if embedding.settings["of"] > len(embedding):
                cells += f" ({len(embedding)} of {embedding.settings['of']} points shown)"
            note = f"kNN {row['knn_accuracy']:.2f}, silhouette {row['class_silhouette']:.2f}, {cells}"
            column = f"{kept_space.head}\n{name}" if several else f"{name} ({row['neurons']:.0f})"
            panels[kept_space.epoch, column] = Panel(embedding.points, embedding.labels, embedding.sizes, note)
            frame = pd.DataFrame(embedding.points, columns=["x", "y"])
            frame["class"], frame["size"] = embedding.labels, embedding.sizes
            frames.append(
                frame.assign(label=kept_space.label, seed=kept_space.seed, epoch=kept_space.epoch, layer=name)
            )
    return panels, frames


def _embedding(kept: KeptSpace, space: CodeSpace, layer: str, figure: FigureSettings, folder: Path) -> Embedding:
    """The embedding of a layer's codes, from ``folder`` if they were embedded with the same settings before."""
    most = figure.most_points
    if figure.preset == "released_code":  # it computes a dense matrix of distances
        most = min(most or MOST_ROWS, MOST_ROWS)
    settings = {
        "points": figure.points,
        "preset": figure.preset,
        "neighbours": figure.neighbours,
        "min_dist": figure.min_dist,
        "most": most,
        "seed": figure.seed,
    }
    key = hashlib.sha256(kept.path.read_bytes() + json.dumps([layer, settings]).encode()).hexdigest()[:32]
    path = folder / "embeddings" / f"{key}.npz"
    names = ("points", "sizes", "labels", "cells")
    if path.is_file():
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                stored_settings = json.loads(str(file["made"]))
                return Embedding(**{name: file[name] for name in names}, settings=stored_settings)
        except Exception:  # numpy and zipfile raise half a dozen types for a damaged file; it is computed again
            path.unlink()
    embedding = embed(space, layer=layer, **settings)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(embedding, name) for name in names} | {"made": np.array(json.dumps(embedding.settings))}
    write_atomically(path, lambda file: np.savez(file, **arrays))
    return embedding
