"""The connectivity profile and the clusters against scipy's single linkage and against graphs at each theta."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from nas_relucode import InputError, connectivity
from nas_relucode.cells import adjacency_graph, distance_matrix, find_cells
from nas_relucode.codes import pack

BITS = arrays.arrays(bool, st.tuples(st.integers(1, 25), st.sampled_from([1, 3, 8, 65])))


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
def test_the_connecting_theta_is_the_smallest_at_which_a_component_is_large_enough(bits, share):
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
def test_the_shortest_edge_at_a_cell_is_its_nearest_neighbour(bits):
    codes = find_cells(pack(bits)).codes
    matrix = distance_matrix(codes) + np.eye(codes.samples, dtype=int) * 10_000
    assert np.array_equal(connectivity(codes).nearest_distances, matrix.min(axis=1))


def test_a_share_is_a_fraction():
    with pytest.raises(InputError, match=r"share 1\.5"):
        connectivity(pack(np.eye(3))).theta_connecting(1.5)
