"""The figures of a study that has a [figure]: PNG, SVG, the CSV behind them, and whether the paper's claim holds."""

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
from nas_relucode.files import write_atomically
from nas_relucode.paper.claims import compare_curves
from nas_relucode.paper.clustering import clustering_figures
from nas_relucode.paper.depth_claims import separability_claim
from nas_relucode.paper.figures import Panel, curves_figure, embedding_grid, save_figure, separability_figure
from nas_relucode.paper.frames import chosen_epochs, labelled, read_numbers
from nas_relucode.study.curves import KeptSpace, curves_frame, kept_spaces, layer_names, pruned
from nas_relucode.study.settings import FigureSettings

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
    study: optuna.Study, figure: FigureSettings, folder: str | Path, *, on_panel: Progress | None = None
) -> Drawn:
    """Draws the figure of a study into ``folder``, which also holds the code spaces that its trials kept.

    "curves": accuracy and cells over the epochs and, of one head at two learning rates, whether these differ.
    "embeddings": a grid of embedded codes a learning rate (rows epochs, columns layers), the separability of the
    classes over layers and epochs, the clusters of the cells over theta. Pictures are of the first seed, numbers of
    all. Embeddings are kept in ``folder`` and not computed twice. ``on_panel`` is told what is embedded.

    Raises InputError for an epoch whose codes were not kept, and for codes without labels.
    """
    drawn = Drawn(Path(folder))
    drawn.folder.mkdir(parents=True, exist_ok=True)
    if figure.kind == "curves":
        _draw_curves(study, drawn)
    else:
        _draw_embeddings(study, figure, drawn, on_panel or (lambda what: None))
    return drawn


def _draw_curves(study: optuna.Study, drawn: Drawn) -> None:
    curves = curves_frame(study)
    drawn.table("curves", curves)
    drawn.figure("curves", curves_figure(curves))
    seeds = curves.groupby("learning_rate")["seed"].agg(set)
    both = set.intersection(*seeds)
    if len(set(curves["head"])) == 1 and len(seeds) == 2 and len(both) > 1 and curves["accuracy"].notna().all():
        comparison = compare_curves(curves)
        drawn.table("comparison", comparison.frame)
        drawn.sentences += comparison.sentences()
    else:
        drawn.sentences.append("Compared are classifiers of one head at two learning rates with two common seeds.")
    drawn.sentences += pruned(study)
    drawn.claim()


def _draw_embeddings(study: optuna.Study, figure: FigureSettings, drawn: Drawn, on_panel: Progress) -> None:
    kept = kept_spaces(study, drawn.folder)
    epochs = chosen_epochs(kept, figure.epochs)
    classes = list(study.user_attrs["classes"])
    numbers = read_numbers(kept, classes)
    drawn.table("separability", numbers.separability)
    drawn.table("cells_by_class", numbers.by_class)
    drawn.table("clustering", numbers.clustering)
    if figure.expect:
        drawn.sentences += separability_claim(numbers.separability, expect=figure.expect).sentences
    drawn.sentences += pruned(study)
    drawn.claim()
    chart = separability_figure(numbers.separability)
    if figure.expect:  # the verdict stands on the chart
        chart.suptitle(textwrap.fill(drawn.sentences[0], 110), fontsize=9)
    drawn.figure("separability", chart)
    shown = [of for of in kept if of.seed == kept[0].seed]
    rates = sorted({of.learning_rate for of in shown}, reverse=True)
    points = []
    for rate in rates:
        end = f"_{rate:g}" if len(rates) > 1 else ""
        part = [of for of in shown if of.learning_rate == rate and of.epoch in epochs]
        panels, frames = _panels(part, figure, drawn.folder, numbers.separability, on_panel)
        points += frames
        title = f"{study.study_name}, learning rate {rate:g}"
        drawn.figure(f"embedding{end}", embedding_grid(panels, title=title, classes=classes, epochs=epochs))
        clusters = numbers.clustering
        clusters = clusters[(clusters["learning_rate"] == rate) & (clusters["seed"] == kept[0].seed)]
        for name, drawing in clustering_figures(clusters).items():
            drawn.figure(f"clustering{end}{name}", drawing)
    drawn.table("embedding", pd.concat(points, ignore_index=True))


def _panels(
    kept: list[KeptSpace], figure: FigureSettings, folder: Path, numbers: pd.DataFrame, on_panel: Progress
) -> tuple[dict[tuple[int, str], Panel], list[pd.DataFrame]]:
    """The pictures of one learning rate by epoch and layer, and their points as frames."""
    several = len({of.head for of in kept}) > 1
    by_panel = numbers.set_index(["head", "learning_rate", "seed", "epoch", "layer"])
    panels, frames = {}, []
    for of in kept:
        space = labelled(of)
        for layer, name in layer_names([layer.name for layer in space.codes.layers]).items():
            on_panel(f"{of.label}, epoch {of.epoch}, {name}")
            embedding = _embedded(of, space, layer, figure, folder)
            row = by_panel.loc[of.head, of.learning_rate, of.seed, of.epoch, name]
            cells = "1 cell" if row["cells"] == 1 else f"{row['cells']:.0f} cells"
            if embedding.settings["of"] > len(embedding):
                cells += f" ({len(embedding)} of {embedding.settings['of']} points shown)"
            note = f"kNN {row['knn_accuracy']:.2f}, silhouette {row['class_silhouette']:.2f}, {cells}"
            column = f"{of.head}\n{name}" if several else f"{name} ({row['neurons']:.0f})"
            panels[of.epoch, column] = Panel(embedding.points, embedding.labels, embedding.sizes, note)
            frame = pd.DataFrame(embedding.points, columns=["x", "y"])
            frame["class"], frame["size"] = embedding.labels, embedding.sizes
            frames.append(frame.assign(label=of.label, seed=of.seed, epoch=of.epoch, layer=name))
    return panels, frames


def _embedded(of: KeptSpace, space: CodeSpace, layer: str, figure: FigureSettings, folder: Path) -> Embedding:
    """The embedding of a layer's codes, from ``folder`` if the same codes were embedded in the same way before."""
    most = figure.most_points
    if figure.preset == "released_code":  # its matrix is dense
        most = min(most or MOST_ROWS, MOST_ROWS)
    settings = {
        "points": figure.points,
        "preset": figure.preset,
        "neighbours": figure.neighbours,
        "min_dist": figure.min_dist,
        "most": most,
        "seed": figure.seed,
    }
    key = hashlib.sha256(of.path.read_bytes() + json.dumps([layer, settings]).encode()).hexdigest()[:32]
    path = folder / "embeddings" / f"{key}.npz"
    names = ("points", "sizes", "labels", "cells")
    if path.is_file():
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                made = json.loads(str(file["made"]))
                return Embedding(**{name: file[name] for name in names}, settings=made)
        except Exception:  # cut short or altered: numpy and zipfile raise half a dozen kinds; it is made again
            path.unlink()
    found = embed(space, layer=layer, **settings)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(found, name) for name in names} | {"made": np.array(json.dumps(found.settings))}
    write_atomically(path, lambda file: np.savez(file, **arrays))
    return found
