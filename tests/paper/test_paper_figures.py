"""The paper's figures, read back from their axes and from the bytes of their files."""

import re
import struct
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from nas_relucode import InputError
from nas_relucode.plots.paper_figures import Panel, curves_figure, embedding_grid, save_figure, separability_figure
from nas_relucode.plots.style import COLOURS, class_mark

LAYERS = ["FC-0", "joint", "FC-1"]
DIGITS = [str(digit) for digit in range(10)]


def curves(seeds=3, cells=100):
    rng = np.random.default_rng(0)
    rows = [
        {"label": f"8-8 @ {rate}", "head": "8-8", "learning_rate": rate, "seed": seed, "epoch": epoch, "layer": layer}
        | {"accuracy": 0.5 + rate + seed / 100, "train_accuracy": 0.7, "loss": 1.0, "cell_count": count}
        | {"correct_cell_count": count // 2}
        for rate in (0.1, 0.01)
        for seed in range(seeds)
        for epoch in (1, 2, 3)
        for layer in LAYERS
        for count in [int(rng.integers(cells, 2 * cells))]
    ]
    return pd.DataFrame(rows)


def panels(*, points=30, classes=10, layers=("FC-0", "FC-1")):
    rng = np.random.default_rng(0)
    return {
        (epoch, layer): Panel(
            rng.normal(50, epoch * (place + 1), (points, 2)).astype(np.float32),
            rng.integers(0, classes, points),
            rng.integers(1, 100, points),
            f"silhouette {epoch}.{place}",
        )
        for epoch in (1, 5)
        for place, layer in enumerate(layers)
    }


def drawn(axes):
    """The points on ``axes`` and their areas."""
    points = np.concatenate([np.asarray(marks.get_offsets()) for marks in axes.collections])
    areas = np.concatenate([np.broadcast_to(m.get_sizes(), len(m.get_offsets())) for m in axes.collections])
    return points, areas


def test_curves_are_means_over_the_seeds_and_bands_their_range():
    frame = curves()
    figure = curves_figure(frame)
    top, _, *layers = figure.axes
    assert [axes.get_title() for axes in layers] == ["FC-0", "FC-1", "joint"]
    assert len({axes.get_ylim() for axes in layers}) == 1
    for axes, layer in zip(layers, ["FC-0", "FC-1", "joint"], strict=True):
        rows = frame[(frame["layer"] == layer) & (frame["learning_rate"] == 0.01)].groupby("epoch")
        assert axes.lines[0].get_linestyle() == "-"
        assert axes.lines[0].get_ydata() == pytest.approx(rows["cell_count"].mean().to_numpy())
        assert axes.lines[1].get_linestyle() == "--"
        assert axes.lines[1].get_ydata() == pytest.approx(rows["correct_cell_count"].mean().to_numpy())
        band = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert {*rows["cell_count"].min(), *rows["cell_count"].max()} == set(band)
    assert top.lines[0].get_ydata() == pytest.approx([0.52] * 3)  # 0.5 + 0.01 + the mean of 0, 0.01, 0.02
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert legend[:2] == ["learning rate 0.01", "learning rate 0.1"]
    assert legend[-1] == "smallest to largest\nof 3 seeds"


def test_counts_far_apart_get_a_logarithmic_axis_that_still_shows_zero():
    frame = curves()
    assert curves_figure(frame).axes[2].get_yscale() == "linear"
    frame.loc[frame["layer"] == "joint", ["cell_count", "correct_cell_count"]] *= 100
    assert curves_figure(frame).axes[2].get_yscale() == "log"
    frame.loc[frame["epoch"] == 1, "correct_cell_count"] = 0
    axes = curves_figure(frame).axes[2]
    assert (axes.get_yscale(), axes.get_ylim()[0]) == ("symlog", 0)


def test_the_loss_is_drawn_where_nothing_is_classified_and_one_seed_has_no_band():
    frame = curves(seeds=1).assign(accuracy=np.nan, train_accuracy=np.nan, correct_cell_count=np.nan)
    figure = curves_figure(frame)
    assert figure.axes[0].get_ylabel() == "training loss"
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert legend == ["learning rate 0.01", "learning rate 0.1"]
    several = pd.concat([curves(), curves().assign(head="4", label=lambda f: f["label"].str.replace("8-8", "4"))])
    texts = curves_figure(several).axes[1].get_legend().get_texts()
    assert [text.get_text() for text in texts[:4]] == ["4 @ 0.01", "4 @ 0.1", "8-8 @ 0.01", "8-8 @ 0.1"]


@pytest.mark.parametrize("labels", [["a"], ["a", "b"], ["a", "b", "c", "d"]])
def test_separability_has_a_line_for_each_epoch_on_the_same_axes_and_joint_beside_the_layers(labels):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"label": label, "layer": layer, "depth": depth, "epoch": epoch, "knn_accuracy": rng.random()}
        | {"class_silhouette": rng.normal(), "cells": 5, "samples": 9}
        for label in labels
        for epoch in (1, 5, 10)
        for layer, depth in (("joint", np.nan), ("FC-0", 1), ("FC-1", 2))
    )
    figure = separability_figure(frame)
    shown = [axes for axes in figure.axes if axes.lines]
    assert len(shown) == 2 * len(labels)
    for measure, name in (("knn_accuracy", "accuracy of the vote"), ("class_silhouette", "silhouette")):
        row = next(i for i, axes in enumerate(shown) if axes.get_ylabel() == name)
        axes = shown[row : row + min(3, len(labels))]
        assert len({a.get_ylim() for a in axes}) == 1
        lines = [
            line.get_ydata() for line in axes[0].lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"
        ]
        layer_rows = frame[(frame["label"] == "a") & (frame["layer"] != "joint")]
        expected = layer_rows.pivot_table(index="epoch", columns="layer", values=measure)
        assert np.array(lines) == pytest.approx(expected.to_numpy())
    assert [text.get_text() for text in shown[0].get_xticklabels()] == ["FC-0", "FC-1", "joint"]


def test_a_grid_draws_every_point_once_and_each_row_has_one_scale():
    grid_panels = panels()
    figure = embedding_grid(grid_panels, title="codes", classes=DIGITS)
    assert [axes.get_title() for axes in figure.axes] == ["FC-0", "FC-1", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["epoch 1", "", "epoch 5", ""]
    for axes, panel in zip(figure.axes, grid_panels.values(), strict=True):
        points, _ = drawn(axes)
        middle = (panel.points.min(axis=0) + panel.points.max(axis=0)) / 2
        assert sorted(points.tolist()) == pytest.approx(np.array(sorted((panel.points - middle).tolist())), abs=1e-4)
        assert np.abs(points).max() < axes.get_xlim()[1]
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.get_xlabel() == panel.note
    first, second, third, _ = (axes.get_xlim() for axes in figure.axes)
    assert first == second != third


def test_areas_of_marks_are_proportional_to_the_square_root_of_the_samples():
    grid_panels = panels()
    ratios = []
    for axes, panel in zip(embedding_grid(grid_panels, title="", classes=None).axes, grid_panels.values(), strict=True):
        ratios += (np.sort(drawn(axes)[1]) / np.sort(np.sqrt(panel.sizes))).tolist()
    assert ratios == pytest.approx([ratios[0]] * 120)


def test_marks_have_the_colour_and_the_shape_of_their_class():
    pairs = [tuple(class_mark(k).values()) for k in range(100)]
    assert len(set(pairs)) == 100
    assert len({colour for colour, _ in pairs[:10]}) == len({marker for _, marker in pairs[:10]}) == 10
    panel = Panel(np.eye(2), np.array([0, 1]), np.array([1, 1]))
    figure = embedding_grid({(1, "FC-0"): panel}, title="two", classes=["frog", "deer"])
    assert sorted(len(marks.get_offsets()) for marks in figure.axes[0].collections) == [1, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0 frog", "1 deer"]
    assert [handle.get_color() for handle in figure.legends[0].legend_handles] == COLOURS[:2]


def clusters(names, *, around=()):
    """One separate cluster for each class, at (10 * class, 0); the classes ``around`` are spread over all of them."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(names)), 50)
    points = rng.normal(0, 0.5, (len(labels), 2)) + np.outer(10 * labels, [1, 0])
    for label in around:
        points[labels == label] = rng.uniform([0, -5], [10 * len(names), 5], (50, 2))
    return Panel(points, labels, np.full(len(labels), 2))


def test_a_class_is_named_where_its_points_are_close_together():
    panel = clusters(DIGITS, around=(3, 7))
    axes = embedding_grid({(1, "a"): panel}, title="", classes=DIGITS).axes[0]
    places = {int(text.get_text()): text.get_position() for text in axes.texts}
    assert set(places) == set(range(10)) - {3, 7}
    middle = (panel.points.min(axis=0) + panel.points.max(axis=0)) / 2
    for label, place in places.items():
        assert place == pytest.approx(np.median(panel.points[panel.labels == label], axis=0) - middle)
    few = Panel(panel.points, panel.labels, np.where(panel.labels == 5, 1, 10))  # 1.1 % of the samples
    texts = embedding_grid({(1, "a"): few}, title="", classes=DIGITS).axes[0].texts
    assert {int(text.get_text()) for text in texts} == set(places) - {5}
    mixed = panels(points=500)[1, "FC-0"]
    assert not embedding_grid({(1, "a"): mixed}, title="", classes=DIGITS).axes[0].texts


def test_long_names_are_in_the_legend_and_their_numbers_in_the_panel():
    names = ["cat", "dog", "truck"]
    figure = embedding_grid({(1, "a"): clusters(names)}, title="", classes=names)
    assert {text.get_text() for text in figure.axes[0].texts} == {"0", "1", "2"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0 cat", "1 dog", "2 truck"]


def test_the_legend_explains_colour_and_area_where_marks_stand_for_several_samples():
    title = "colour: the most frequent class; area: square root of the samples behind a mark"
    panel = clusters(DIGITS)
    assert embedding_grid({(1, "a"): panel}, title="", classes=DIGITS).legends[0].get_title().get_text() == title
    single = Panel(panel.points, panel.labels, np.ones(len(panel.labels), np.int64))
    assert not embedding_grid({(1, "a"): single}, title="", classes=DIGITS).legends[0].get_title().get_text()


def test_missing_panels_and_single_cells_are_marked(tmp_path):
    grid_panels = panels()
    del grid_panels[5, "FC-0"]
    grid_panels[5, "FC-1"] = Panel(np.full((1, 2), 9.0), np.array([3]), np.array([60_000]))
    grid_panels[1, "FC-1"] = Panel(np.empty((0, 2)), np.empty(0, np.int64), np.empty(0, np.int64))
    figure = embedding_grid(grid_panels, title="", classes=DIGITS)
    _, empty, missing, one = figure.axes
    assert empty.texts[0].get_text() == missing.texts[0].get_text() == "not recorded"
    assert one.get_xlabel() == "one cell"
    points, areas = drawn(one)
    assert points.tolist() == [[0, 0]]
    assert areas.max() <= 500.1
    save_figure(figure, tmp_path / "grid.png")


def test_epochs_and_layers_are_selected_in_the_given_order():
    figure = embedding_grid(panels(), title="", classes=DIGITS, epochs=[5], layers=["FC-1", "FC-0"])
    assert [axes.get_title() for axes in figure.axes] == ["FC-1", "FC-0"]
    assert figure.axes[0].get_ylabel() == "epoch 5"


def test_a_repeated_epoch_or_layer_is_drawn_once():
    figure = embedding_grid(panels(), title="", classes=DIGITS, epochs=[5, 1, 5], layers=["FC-1", "FC-1"])
    assert [axes.get_ylabel() for axes in figure.axes] == ["epoch 5", "epoch 1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": [1, 3]}, "epoch 3 was not recorded.*: 1, 5"),
        ({"layers": ["FC-9"]}, "layer 'FC-9' was not recorded"),
        ({"panels": {}}, "panels is empty"),
        ({"panels": {(1, "a"): Panel(np.zeros((3, 2)), None, np.ones(3))}}, "epoch 1, layer a has no labels"),
        ({"panels": {(1, "a"): Panel(np.zeros((3, 3)), None, np.ones(3))}}, r"shape \(3, 3\)"),
        ({"panels": {(1, "a"): Panel(np.full((1, 2), np.nan), np.zeros(1, int), np.ones(1))}}, "finite"),
        ({"panels": {(1, "a"): Panel(np.zeros((2, 2)), np.array([0, 10]), np.ones(2))}}, "0 to 9"),
    ],
)
def test_panels_that_cannot_be_drawn_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        embedding_grid(**{"panels": panels(), "title": "", "classes": DIGITS, **given})


def test_points_without_labels_have_one_colour_if_there_are_no_classes():
    panel = Panel(np.random.default_rng(0).normal(size=(9, 2)), None, np.ones(9, np.int64))
    figure = embedding_grid({(1, "a"): panel}, title="", classes=None)
    assert len(figure.axes[0].collections) == 1
    assert not figure.legends


@pytest.mark.slow
def test_files_are_1200_pixels_wide_small_and_reproducible(tmp_path):
    grid_panels = panels(points=10_000, layers=("FC-0", "FC-1", "FC-2"))
    written = []
    for name in ("first", "second"):
        figure = embedding_grid(grid_panels, title="ten thousand", classes=DIGITS)
        paths = [save_figure(figure, tmp_path / f"{name}{end}") for end in (".svg", ".png")]
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    svg, png = written[0]
    assert struct.unpack(">I", png[16:20]) == (1200,)
    assert len(svg) < 2_000_000
    assert not re.search(rb"<dc:date>", svg)
    assert svg.count(b"<image") == 6  # the marks are pixels, the rest vectors


def test_other_formats_are_refused_and_a_failed_write_leaves_no_file(tmp_path):
    figure = embedding_grid(panels(), title="", classes=DIGITS)
    with pytest.raises(InputError, match="neither PNG nor SVG"):
        save_figure(figure, tmp_path / "grid.pdf")
    with pytest.raises(OSError, match="cannot be written"):
        save_figure(figure, tmp_path / "no folder" / "grid.png")
    assert not list(tmp_path.iterdir())


def test_frames_that_lack_columns_are_refused():
    with pytest.raises(InputError, match="lacks the columns loss"):
        curves_figure(curves().drop(columns="loss"))
    with pytest.raises(InputError, match="lacks the columns depth"):
        separability_figure(curves().assign(knn_accuracy=1.0, class_silhouette=1.0))


def test_names_of_classes_are_drawn_literally_and_the_file_is_xml(tmp_path):
    grid_panels = panels(classes=3)
    for classes in (["$\\x$", "b\x1b[31m", "c"], ["$$", "\x01", "c"]):  # $\x$ as a formula would be an error
        file = save_figure(embedding_grid(grid_panels, title="$\\x$\x02", classes=classes), tmp_path / "embedding.svg")
        ElementTree.parse(file)
    assert "<!-- $$ -->" in file.read_text("utf-8")
