"""The clusters of a code space over theta against scipy's single linkage, and their figure."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from torch import nn

from nas_relucode import CodeSpace, InputError, code_space
from nas_relucode.codes import pack
from nas_relucode.paper.numbers import clustering_frame
from nas_relucode.plots.clustering import clustering_figures


def space(seed=0, *, labelled=True):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    inputs = torch.randn(60, 3)
    return code_space(network, (inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0)) if labelled else inputs)


def frame(**seeds):
    return pd.concat(
        [clustering_frame(space(epoch)).assign(epoch=epoch, label=label) for label in seeds for epoch in seeds[label]]
    )


@pytest.mark.parametrize("layer", ["joint", "1", "3"])
def test_each_row_is_scipys_single_linkage_at_its_theta(layer):
    whole = space()
    part = whole if layer == "joint" else whole.layer(layer)
    bits = part.codes.bits()
    tree = linkage(pdist(bits, "hamming") * bits.shape[1], "single")
    rows = clustering_frame(whole)
    rows = rows[rows["layer"] == layer]
    assert list(rows["theta"]) == sorted({0, *tree[:, 2].round().astype(int)})
    for row in rows.itertuples():
        clusters = fcluster(tree, row.theta + 0.5, "distance")
        largest = np.bincount(clusters).max() / len(bits)
        pure = sum(part.class_counts[clusters == c].sum(axis=0).max() for c in set(clusters)) / 60
        values = (row.neurons, row.cells, row.components, row.largest_component_share, row.purity)
        assert values == pytest.approx((bits.shape[1], len(bits), clusters.max(), largest, pure))
    assert len(set(rows["dendrogram_purity"])) == 1


def test_few_thetas_keep_the_first_and_the_last():
    every, few = clustering_frame(space()), clustering_frame(space(), most=3)
    for layer in ("joint", "1"):
        all_thetas, kept = (frame.loc[frame["layer"] == layer, "theta"].tolist() for frame in (every, few))
        assert len(kept) == 3
        assert (kept[0], kept[-1]) == (all_thetas[0], all_thetas[-1])
        assert set(kept) <= set(all_thetas)
    with pytest.raises(InputError, match=r"most is 1.*at least 2"):
        clustering_frame(space(), most=1)


def test_without_labels_there_is_no_purity_and_one_cell_is_one_component():
    rows = clustering_frame(space(labelled=False))
    assert rows[["purity", "dendrogram_purity"]].isna().all(axis=None)
    one = clustering_frame(CodeSpace.of(pack([[0, 1], [0, 1]]), labels=[0, 1]))
    assert one[["theta", "components", "largest_component_share", "purity"]].to_numpy().tolist() == [[0, 1, 1, 0.5]] * 2


def only_figure(frame: pd.DataFrame) -> Figure:
    """The figure of at most four labels."""
    (figure,) = clustering_figures(frame).values()
    return figure


def test_the_figure_has_a_line_for_each_epoch_and_a_panel_for_each_layer_on_the_same_axes():
    points = frame(a=(1, 5, 10))
    axes = only_figure(points).axes
    assert [panel.get_title() for panel in axes[:3]] == ["1", "3", "joint"]
    for row in range(3):
        panels = axes[3 * row : 3 * row + 3]
        assert len({panel.get_ylim() for panel in panels}) == len({panel.get_xlim() for panel in panels}) == 1
        assert all(len(panel.lines) == 3 for panel in panels)
    rows = points.query("layer == 'joint' and epoch == 5")
    x, y = axes[8].lines[1].get_data()
    assert x[:-1] == pytest.approx(rows["theta"].to_numpy() / 17)
    assert y[:-1] == pytest.approx(rows["purity"].to_numpy())
    purities = axes[9].lines[0].get_data()
    assert list(purities[0]) == [1, 5, 10]
    expected = points.query("layer == '1'").groupby("epoch")["dendrogram_purity"].first()
    assert purities[1] == pytest.approx(expected.to_numpy())


def test_labels_have_dashes_and_cells_without_classes_no_purity():
    styles = {line.get_linestyle() for line in only_figure(frame(a=(1, 5), b=(1, 5))).axes[0].lines}
    assert styles == {"-", "--"}
    unlabelled = clustering_frame(space(labelled=False)).assign(epoch=1)
    assert len(only_figure(unlabelled).axes) == 2 * 3


@pytest.mark.parametrize(("labels", "parts"), [("a", [1]), ("abcd", [4]), ("abcde", [3, 2]), ("abcdefghi", [3, 3, 3])])
def test_many_labels_are_drawn_in_figures_of_at_most_four_with_equal_colours_and_axes(labels, parts):
    figures = clustering_figures(frame(**dict.fromkeys(labels, (1, 5))))
    assert list(figures) == ["", "_2", "_3"][: len(parts)]
    drawn, firsts = [], []
    for figure, count in zip(figures.values(), parts, strict=True):
        assert len(figure.axes[0].lines) == 2 * count
        assert len({line.get_linestyle() for line in figure.axes[0].lines}) == count
        drawn += [text.get_text() for text in figure.subfigs[0].legends[0].get_texts() if text.get_text() in labels]
        firsts.append((figure.axes[0].get_xlim(), [line.get_color() for line in figure.axes[0].lines[:2]]))
    assert drawn == (list(labels) if len(labels) > 1 else [])
    assert all(first == firsts[0] for first in firsts)


def test_colours_and_axes_are_those_of_all_labels_also_in_a_figure_with_fewer_epochs():
    points = frame(**dict.fromkeys("abc", (1, 5)), **dict.fromkeys("de", (5,)))
    points.loc[points["label"] == "a", "theta"] *= 2  # as with fewer neurons
    one, two = clustering_figures(points).values()
    assert one.axes[0].get_xlim() == two.axes[0].get_xlim()
    assert one.axes[0].lines[1].get_color() == two.axes[0].lines[0].get_color()


def test_the_first_of_several_seeds_is_drawn_and_the_legend_says_so():
    first = frame(a=(1, 5))
    other = pd.concat([clustering_frame(space(7 + epoch)).assign(epoch=epoch, label="a") for epoch in (1, 5)])
    figure = only_figure(pd.concat([other.assign(seed=4), first.assign(seed=3)]))
    alone = only_figure(first)
    for ours, theirs in zip(figure.axes, alone.axes, strict=True):
        for line, expected in zip(ours.lines, theirs.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata()[:-1], expected.get_xydata()[:-1])
    assert figure.subfigs[0].legends[0].get_title().get_text() == "the first of 2 seeds (3)"
    assert alone.subfigs[0].legends[0].get_title().get_text() == ""
    assert list(clustering_figures(pd.concat([other.assign(seed=4), first.assign(seed=3)]))) == [""]


def test_repeated_points_and_missing_columns_are_refused():
    with pytest.raises(InputError, match="twice"):
        only_figure(pd.concat([frame(a=(1,)), frame(a=(1,))]))
    with pytest.raises(InputError, match="columns epoch"):
        only_figure(clustering_frame(space()))
