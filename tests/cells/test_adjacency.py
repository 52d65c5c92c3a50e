"""The graph of cells against a search written out, and against facts of geometry that are known exactly."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from perceptrons import oracle, perceptron
from torch import nn

from nas_relucode import capture
from nas_relucode.cells import adjacency_graph, find_cells
from nas_relucode.codes import pack


def components_by_search(bits, theta):
    """Components of a graph on the distinct rows, by flooding."""
    rows = np.unique(bits, axis=0)
    near = (rows[:, None] != rows[None]).sum(axis=2) <= theta
    left, found = set(range(len(rows))), []
    while left:
        reached, frontier = set(), {left.pop()}
        while frontier:
            reached |= frontier
            frontier = {j for i in frontier for j in np.flatnonzero(near[i])} - reached
        left -= reached
        found.append(len(reached))
    return sorted(found), int((near.sum() - len(rows)) / 2), (near.sum(axis=1) == 1).sum()


@given(arrays.arrays(bool, st.tuples(st.integers(1, 25), st.sampled_from([2, 5, 8, 66]))), st.integers(0, 4))
def test_components_edges_and_isolated_cells_are_those_of_a_search(bits, theta):
    graph = adjacency_graph(find_cells(pack(bits)), theta=theta)
    sizes, edges, isolated = components_by_search(bits, theta)
    assert sorted(graph.component_sizes) == sizes
    assert len(graph.edges) == edges
    assert (graph.degrees == 0).sum() == isolated
    assert graph.degrees.sum() == 2 * edges


def cells_in_the_box(name, steps):
    """The cells that a grid of the box [-1, 1]^2 meets, and what is exactly true of all cells in the box."""
    weights, truth = oracle(name)
    centres = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps * 2 - 1
    codes = capture(perceptron(weights), torch.cartesian_prod(centres, centres), batch_size=100_000)
    return find_cells(codes), truth["box_minus1_1"]


@pytest.mark.parametrize("name", ["P", "U"])
def test_a_grid_finds_every_cell_and_pair_of_a_network_that_is_known_exactly(name):
    """P has a pair at distance 1 that shares no facet; U has duplicated, dead and always-on neurons."""
    cells, truth = cells_in_the_box(name, 300)
    assert len(cells) == truth["cells"]
    assert len(adjacency_graph(cells).edges) == truth["hamming1_pairs"]


@pytest.mark.parametrize("name", ["A", "C"])
def test_a_finer_grid_comes_closer_to_the_exact_counts_and_never_exceeds_them(name):
    coarse, truth = cells_in_the_box(name, 100)
    fine, _ = cells_in_the_box(name, 700)
    assert len(coarse) < len(fine) <= truth["cells"]
    edges = [len(adjacency_graph(cells).edges) for cells in (coarse, fine)]
    assert edges[0] < edges[1] <= truth["hamming1_pairs"]
    assert edges[1] > 0.9 * truth["hamming1_pairs"]


def test_one_hidden_layer_on_a_line_gives_a_path():
    """n distinct breakpoints on a line cut it into n + 1 cells, each adjacent to the next."""
    layer = nn.Linear(1, 9).double()
    layer.weight.data[:] = torch.tensor([[1.0], [-1.0]] * 4 + [[1.0]], dtype=torch.float64)
    layer.bias.data[:] = torch.arange(9, dtype=torch.float64)
    points = torch.linspace(-20, 20, 4001, dtype=torch.float64).unsqueeze(1) + 0.001
    graph = adjacency_graph(find_cells(capture(nn.Sequential(layer, nn.ReLU()), points)))
    assert graph.cells == 10
    assert sorted(graph.degrees) == [1, 1] + [2] * 8
    assert graph.component_sizes.tolist() == [10]


def test_cells_one_bit_apart_may_lie_apart():
    """The converse of Lemma 1 fails: x = -2 and x = 2 have codes 011 and 111, but a third cell lies between them."""

    class Line(nn.Module):
        def forward(self, x):
            a, b = x.relu(), (x + 10).relu()
            return (2 * a - b + 9).relu()

    points = torch.tensor([[-2.0], [2.0]])
    codes = capture(Line(), points)
    assert codes.bits().astype(int).tolist() == [[0, 1, 1], [1, 1, 1]]
    between = capture(Line(), torch.linspace(-2, 2, 101).unsqueeze(1)).bits()
    assert (~between[:, 2]).any()
    assert len(adjacency_graph(find_cells(codes)).edges) == 1
