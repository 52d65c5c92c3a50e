"""Compiles the loops of `codes`, `cells`, `indices`, `geometry` and `ranking` into numba's cache, by calling them.

`make test` runs this on one core while the other checks types; otherwise each process of pytest would compile them.
A loop that is missing here is compiled in the tests.
"""

import numpy as np
import torch
from torch import nn

import nas_relucode as rc
from nas_relucode.cells import distance_histogram, distance_matrix, pairs_within, separability, spanning_tree
from nas_relucode.cells.neighbours import nearest
from nas_relucode.indices.batch_scores import distinct_codes, distinct_patterns, logdet_kernel
from nas_relucode.paper.numbers import clustering_frame
from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.ranking.equality import judge


def main() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 20), nn.ReLU(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    points = torch.randn(2000, 2, dtype=torch.float64)
    labels = torch.arange(len(points)) % 3
    read_codes(network, points)
    network, points = network.float(), points.float()
    read_codes(network, points)
    space = rc.code_space(network, (points, labels))
    compare_codes(space)
    read_pieces(network, points)
    judge([Accuracies(np.array([0.9, 0.91]), 100), Accuracies(np.array([0.8, 0.81]), 100)])


def read_codes(network: nn.Module, points: torch.Tensor) -> None:
    for codes in (rc.capture(network, points), rc.capture(network, points[:5])):
        logdet_kernel(codes)
        distinct_patterns(codes)
        distinct_codes(codes)


def compare_codes(space: rc.CodeSpace) -> None:
    codes = space.codes
    distance_matrix(codes, theta=3)
    distance_histogram(codes)
    pairs_within(codes, 1)
    pairs_within(codes, 20)
    nearest(codes, 3)
    spanning_tree(codes)
    rc.compute_indices(space)
    separability(space)
    clustering_frame(space)


def read_pieces(network: nn.Module, points: torch.Tensor) -> None:
    rc.audit(network, points[:50])
    rc.slice_through(network, points[:3])
    rc.complex_of(network, 2, max_cells=50)
    rc.complex_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    rc.polyhedron(network, points[0]).facets()


if __name__ == "__main__":
    main()
