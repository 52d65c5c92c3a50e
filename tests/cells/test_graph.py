"""The graph of the cells against a flood fill, scipy's single linkage, and networks that are known exactly."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from perceptrons import oracle, perceptron
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import nn

from nas_relucode import InputError, capture, connectivity
from nas_relucode.cells import adjacency_graph, distance_matrix, find_cells, spanning_tree
from nas_relucode.codes import pack

BITS = arrays.arrays(bool, st.tuples(st.integers(1, 25), st.sampled_from([1, 3, 8, 65])))


def flood_fill(bits, theta):
    """Sizes of the components of the graph of the distinct rows, ascending, edges, and rows without an edge."""
    rows = np.unique(bits, axis=0)
    near = (rows[:, None] != rows[None]).sum(axis=2) <= theta
    left, sizes = set(range(len(rows))), []
    while left:
        reached, frontier = set(), {left.pop()}
        while frontier:
            reached |= frontier
            frontier = {j for i in frontier for j in np.flatnonzero(near[i])} - reached
        left -= reached
        sizes.append(len(reached))
    return sorted(sizes), int((near.sum() - len(rows)) / 2), (near.sum(axis=1) == 1).sum()


@given(arrays.arrays(bool, st.tuples(st.integers(1, 25), st.sampled_from([2, 5, 8, 66]))), st.integers(0, 4))
def test_components_edges_and_isolated_cells_are_those_of_a_flood_fill(bits, theta):
    graph = adjacency_graph(find_cells(pack(bits)), theta=theta)
    sizes, edges, isolated = flood_fill(bits, theta)
    assert sorted(graph.component_sizes) == sizes
    assert len(graph.edges) == edges
    assert (graph.degrees == 0).sum() == isolated
    assert graph.degrees.sum() == 2 * edges


def cells_in_the_box(name, steps):
    """The cells that a grid of the box [-1, 1]^2 meets, and the exact counts of all cells in the box."""
    weights, truth = oracle(name)
    centres = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps * 2 - 1
    codes = capture(perceptron(weights), torch.cartesian_prod(centres, centres), batch_size=100_000)
    return find_cells(codes), truth["box_minus1_1"]


@pytest.mark.parametrize("name", ["P", "U"])
def test_a_grid_finds_every_cell_and_pair_of_an_exactly_known_network(name):
    """P has a pair at distance 1 that shares no facet; U has duplicated, dead and always-on neurons."""
    cells, truth = cells_in_the_box(name, 300)
    assert len(cells) == truth["cells"]
    assert len(adjacency_graph(cells).edges) == truth["hamming1_pairs"]


@pytest.mark.parametrize("name", ["A", "C"])
def test_a_finer_grid_finds_more_cells_but_never_more_than_there_are(name):
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


def same_partition(a, b):
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@given(BITS)
def test_at_every_theta_components_are_those_of_the_graph(bits):
    cells = find_cells(pack(bits))
    profile = connectivity(cells.codes)
    for theta in range(bits.shape[1] + 1):
        graph = adjacency_graph(cells, theta=theta)
        assert profile.component_count(theta) == len(graph.component_sizes)
        assert same_partition(profile.clusters(theta), graph.component_of)
        step = np.searchsorted(profile.thetas, theta, side="right") - 1
        assert profile.component_counts[step] == len(graph.component_sizes)
        assert profile.largest_components[step] == graph.component_sizes.max()


@given(BITS, st.sampled_from([0.3, 0.5, 0.9, 1]))
def test_theta_connecting_is_the_smallest_theta_with_a_component_that_is_large_enough(bits, share):
    cells = find_cells(pack(bits))
    thetas = range(bits.shape[1] + 1)
    enough = [adjacency_graph(cells, theta=t).component_sizes.max() >= share * len(cells) for t in thetas]
    assert connectivity(cells.codes).theta_connecting(share) == enough.index(True)


@given(BITS.filter(lambda bits: len(np.unique(bits, axis=0)) > 1))
def test_clusters_are_scipys_single_linkage_and_numbered_by_their_first_cells(bits):
    codes = find_cells(pack(bits)).codes
    profile = connectivity(codes)
    dendrogram = linkage(squareform(distance_matrix(codes)), "single")
    for theta in profile.thetas:
        clusters = profile.clusters(int(theta))
        assert same_partition(clusters, fcluster(dendrogram, theta + 0.5, "distance"))
        firsts = [np.flatnonzero(clusters == c)[0] for c in range(clusters.max() + 1)]
        assert firsts == sorted(firsts)


@given(BITS, st.randoms(use_true_random=False))
def test_purity_and_dendrogram_purity_are_their_definitions_on_pairs_of_samples(bits, random):
    labels = np.array([random.randrange(3) for _ in bits])
    cells = find_cells(pack(bits))
    counts, profile = cells.class_counts(labels, 3), connectivity(cells.codes)
    clusters = {theta: profile.clusters(theta)[cells.cell_of] for theta in range(bits.shape[1] + 1)}
    for theta, cluster in clusters.items():
        majority = sum(np.bincount(labels[cluster == c]).max() for c in set(cluster))
        assert profile.purity(theta, counts) == pytest.approx(majority / len(labels))
    purities = []
    for i in range(len(labels)):
        for j in range(i):
            if labels[i] == labels[j]:
                theta = min(t for t, cluster in clusters.items() if cluster[i] == cluster[j])
                together = labels[clusters[theta] == clusters[theta][i]]
                purities.append(np.mean(together == labels[i]))
    expected = np.mean(purities) if purities else float("nan")
    assert profile.dendrogram_purity(counts) == pytest.approx(expected, nan_ok=True)


@given(BITS.filter(lambda bits: len(np.unique(bits, axis=0)) > 1))
def test_the_shortest_edge_at_a_cell_leads_to_its_nearest_neighbour(bits):
    codes = find_cells(pack(bits)).codes
    matrix = distance_matrix(codes) + np.eye(codes.samples, dtype=int) * 10_000
    assert np.array_equal(connectivity(codes).nearest_distances, matrix.min(axis=1))


def test_a_share_above_1_is_an_error():
    with pytest.raises(InputError, match=r"share 1\.5"):
        connectivity(pack(np.eye(3))).theta_connecting(1.5)


def test_results_print_in_a_few_lines_however_large_they_are():
    codes = pack(np.random.default_rng(0).random((300, 40)) < 0.5)
    cells = find_cells(codes)
    for result in (
        codes,
        cells,
        adjacency_graph(cells, theta=9),
        connectivity(cells.codes),
        spanning_tree(cells.codes),
    ):
        lines = repr(result).splitlines()
        assert len(lines) <= 5
        assert max(map(len, lines)) <= 120
        assert "300" in lines[0] or "299" in lines[0]
