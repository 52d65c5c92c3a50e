"""Codes as points of a plane (Figures 2 to 6): UMAP of their exact nearest neighbours under the Hamming distance."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import scipy.linalg
import torch

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.hamming import distance_blocks, distance_matrix
from nas_relucode.cells.layouts import POINTS, check_layout
from nas_relucode.cells.neighbours import nearest
from nas_relucode.codes.bits import Codes
from nas_relucode.codes.reading import PRESETS
from nas_relucode.codes.words import compiled
from nas_relucode.errors import InputError, unknown

RELEASED = {"neighbours": 2, "min_dist": 0.1}  # UMAP's settings in the paper's released code
MOST_ROWS = 20_000  # of the released code's dense matrix: 1.6 GB, which UMAP copies
LANDMARKS = 1000  # codes from which the principal axes are computed
FEW = 3  # up to this number of points are laid out without UMAP, which needs more points than neighbours
REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


@dataclass(frozen=True, eq=False)
class Embedding:
    """Points of a plane, one for each cell or sample, with their sizes and labels."""

    points: np.ndarray  # float32, (points, 2); only distances to near points mean something, and they have no unit
    sizes: np.ndarray  # int64, (points,): samples behind each point
    labels: np.ndarray | None  # int64, (points,): a cell's most frequent class, a sample's class; None without labels
    cells: np.ndarray  # int64, (points,): the cell of each point, as numbered in the code space (of the layer)
    settings: dict[str, Any]  # the settings of this embedding: plain values for JSON

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        names = ("preset", "layer", "points", "neighbours", "min_dist", "seed", "epochs")
        settings = ", ".join(f"{name}={self.settings[name]!r}" for name in names if name in self.settings)
        return f"Embedding: {len(self)} points of {self.sizes.sum()} samples\n  {settings}"


def embed(
    space: CodeSpace,
    *,
    layer: str | None = None,
    points: str = "cells",
    preset: str = "paper",
    neighbours: int = 15,
    min_dist: float = 0.1,
    seed: int | None = 0,
    epochs: int | None = None,
    most: int | None = None,
    threads: int | None = None,
) -> Embedding:
    """The UMAP embedding of the codes under the Hamming distance, from their exact nearest neighbours.

    ``points`` are "cells", one each, or "samples", ordered by cell and class. ``layer`` None stands for all layers
    together. ``neighbours`` includes the point itself, as in UMAP. The same ``seed`` gives the same embedding on the
    same machine; None draws a seed, which the ``settings`` of the result then hold. ``epochs`` None: 500 up to 10,000
    points, else 200. ``most`` limits the points: of more, a seeded sample is drawn. UMAP starts from the two principal
    axes of the codes. Up to three points, or points of a single code, are laid out by these axes only. ``threads``
    (None: torch's number) search for neighbours and change nothing else; UMAP, being seeded, uses one thread. Memory
    grows with points x neighbours.

    With ``preset`` "released_code" there is a point for each class and code that samples of this class have, ordered by
    class and then lexicographically by code. UMAP then takes the rows of the matrix of Hamming distances / neurons as
    features under the Euclidean distance, with 2 neighbours and min_dist 0.1, and starts at random; ``neighbours`` and
    ``min_dist`` are ignored. (Which activations set a bit was decided when the codes were taken: see `code_space`.)

    Raises InputError for unknown names and settings out of range, without samples, and in the released preset without
    labels, for ``points`` "samples" or with more than 20,000 points.
    Source: McInnes, Healy and Melville, "UMAP", arXiv 1802.03426; the first layout: de Silva and Tenenbaum, "Sparse
    multidimensional scaling using landmark points", 2004, with Hamming distances as squared Euclidean distances.

    >>> from nas_relucode.codes import pack
    >>> embedding = embed(CodeSpace.of(pack([[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]), labels=[0, 1, 1]))
    >>> embedding.points.round(6).tolist(), embedding.sizes, embedding.labels
    ([[1.0, 0.0], [-1.0, 0.0]], array([1, 2]), array([0, 1]))
    """
    if preset == "released_code":
        neighbours, min_dist = int(RELEASED["neighbours"]), RELEASED["min_dist"]
    check_layout(neighbours, min_dist, seed, epochs, most)
    if layer is not None:
        space = space.layer(layer)
    cells, sizes, labels = _choose_points(space, points, preset)
    seed = int(np.random.default_rng().integers(2**32)) if seed is None else int(seed)
    rng = np.random.default_rng(seed)
    available = len(cells)
    if most is not None and available > most:
        chosen = np.sort(rng.choice(available, most, replace=False))
        cells, sizes, labels = cells[chosen], sizes[chosen], None if labels is None else labels[chosen]
    epochs = int(epochs or (500 if len(cells) <= 10_000 else 200))
    umap_settings = {"min_dist": min_dist, "n_epochs": epochs, "random_state": seed, "n_jobs": 1}
    if len(cells) <= FEW or (cells == cells[0]).all():
        layout, init = _principal_axes(space.codes[cells], rng), "principal axes alone"
    elif preset == "released_code":
        layout, init = _umap_of_distance_rows(space.codes[cells], umap_settings), "random"
    else:
        neighbours = min(int(neighbours), len(cells) - 1)
        layout = _umap_of_neighbours(space.codes, cells, neighbours, rng, threads, umap_settings)
        init = "principal axes"
    settings = {
        "preset": preset,
        "layer": layer,
        "points": "classes and codes" if preset == "released_code" else points,
        "of": available,
        "most": None if most is None else int(most),
        "neighbours": int(neighbours),
        "min_dist": float(min_dist),
        "seed": seed,
        "epochs": epochs,
        "init": init,
        "umap": metadata.version("umap-learn"),
        "codes": dict(space.settings),
    }
    return Embedding(layout.astype(np.float32), sizes, labels, cells, settings)


def _choose_points(space: CodeSpace, points: str, preset: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The cells, sizes and labels of all points, as in `Embedding`."""
    if points not in POINTS:
        raise unknown("kind of points", points, POINTS)
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if space.samples == 0 or space.neurons == 0:
        raise InputError(f"there are {space.samples} codes of {space.neurons} neurons. Give at least one to embed.")
    if preset == "released_code":
        if points == "samples":
            raise InputError("preset 'released_code' has one point per class and code. Give points='cells'.")
        return _point_per_class_and_code(space)
    return _point_per_sample(space) if points == "samples" else _point_per_cell(space)


def _point_per_cell(space: CodeSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The label of a cell is its most frequent class; of several such classes the first."""
    labels = None if space.class_counts is None else space.class_counts.argmax(axis=1)
    return np.arange(len(space.cells)), space.cells.sizes, labels


def _point_per_sample(space: CodeSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Ordered by cell and class."""
    sizes, ones = space.cells.sizes, np.ones(space.samples, np.int64)
    if space.class_counts is None:
        return np.repeat(np.arange(len(sizes)), sizes), ones, None
    cells, classes = np.nonzero(space.class_counts)
    counts = space.class_counts[cells, classes]
    return np.repeat(cells, counts), ones, np.repeat(classes, counts)


def _point_per_class_and_code(space: CodeSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ordered as in the released code: by class, then by code. The size of a point counts samples of its class."""
    if space.class_counts is None:
        raise InputError("preset 'released_code' needs labels. Give them with the inputs, or take preset 'paper'.")
    # Bytes compare from their highest bit, which must be the first neuron.
    keys = np.ascontiguousarray(REVERSED[np.ascontiguousarray(space.codes.words).view(np.uint8)])
    order = np.argsort(keys.view(np.dtype((np.void, max(1, keys.shape[1]))))[:, 0])
    classes, places = np.nonzero(space.class_counts[order].T)
    cells = order[places]
    return cells, space.class_counts[cells, classes], classes


def _umap(features: np.ndarray, **settings: Any) -> np.ndarray:
    """The layout by umap-learn of the rows of ``features``: float32, (rows, 2)."""
    with warnings.catch_warnings():  # about optional packages, and about transforming new points
        warnings.filterwarnings("ignore", category=ImportWarning, message="Tensorflow not installed")
        warnings.filterwarnings("ignore", category=UserWarning, message=r"precomputed_knn\[2\]")
        import umap  # takes seconds

        threads = torch.get_num_threads()
        try:
            return umap.UMAP(**settings).fit_transform(features)
        finally:
            torch.set_num_threads(threads)  # numba sets its number for OpenMP as a whole, which torch may share


def _umap_of_distance_rows(codes: Codes, settings: dict[str, Any]) -> np.ndarray:
    """The released code's layout, from the dense matrix of distances."""
    if codes.samples > MOST_ROWS:
        raise InputError(
            f"preset 'released_code' makes a dense matrix, of {codes.samples} rows here and of {MOST_ROWS} at most. "
            f"Give most={MOST_ROWS} or fewer for a sample of the rows, or take preset 'paper'."
        )
    features = np.empty((codes.samples, codes.samples), np.float32)
    for start, block in distance_blocks(codes):
        features[start : start + len(block)] = block / codes.neurons
    return _umap(features, n_neighbors=RELEASED["neighbours"], init="random", **settings)


def _umap_of_neighbours(
    codes: Codes,
    cells: np.ndarray,
    neighbours: int,
    rng: np.random.Generator,
    threads: int | None,
    settings: dict[str, Any],
) -> np.ndarray:
    """The layout of points that lie in ``cells``, (points,), ascending; neighbours are searched among the cells."""
    distinct, place, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    near_cells = nearest(codes[distinct], min(neighbours, len(distinct)) - 1 or 1, threads=threads)
    steps = np.tile(np.arange(neighbours), (len(sizes), 1))
    for cell in np.flatnonzero(sizes > neighbours):  # each point's next ones would draw the cell as a string
        steps[cell, 1:] = rng.choice(sizes[cell] - 1, neighbours - 1, replace=False) + 1
    rows, distances = _nearest_points(sizes, steps, near_cells.rows, near_cells.distances)
    start = _principal_axes(codes[distinct], rng)[place]
    # UMAP scales its own first layouts alike, and adds noise, without which points at one place would stay together.
    start = start * (10 / np.abs(start).max()) + rng.normal(scale=1e-4, size=start.shape)
    start = start.astype(np.float32)
    return _umap(start, n_neighbors=neighbours, init=start, precomputed_knn=(rows, distances, None), **settings)


@compiled
def _nearest_points(sizes, steps, near_cells, cell_distances):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Each point and its k - 1 nearest others, points being ordered by cell: rows (points, k), and distances.

    Where a cell holds more points than are needed, different points take different ones of them, so that no point is
    a neighbour of all. Within its own cell a point takes those that are ``steps[cell]`` further on, cyclically.
    """
    k = steps.shape[1]
    starts = np.cumsum(sizes) - sizes
    n = sizes.sum()
    rows, distances = np.empty((n, k), np.int64), np.zeros((n, k), np.float32)
    for cell in range(sizes.shape[0]):
        for own in range(sizes[cell]):
            i = starts[cell] + own
            count = min(k, sizes[cell])
            for step in range(count):
                rows[i, step] = starts[cell] + (own + steps[cell, step]) % sizes[cell]
            for near in range(near_cells.shape[1]):
                other = near_cells[cell, near]
                for step in range(min(k - count, sizes[other])):
                    rows[i, count] = starts[other] + (own + step) % sizes[other]
                    distances[i, count] = cell_distances[cell, near]
                    count += 1
    return rows, distances


def _principal_axes(codes: Codes, rng: np.random.Generator) -> np.ndarray:
    """The coordinates of codes along the two principal axes of a sample of them: float64, (codes, 2), in bits ** 0.5.

    The Hamming distance is the squared Euclidean distance of the bits, so that no bits need be unpacked.
    """
    chosen = np.arange(codes.samples)
    if codes.samples > LANDMARKS:
        chosen = np.sort(rng.choice(codes.samples, LANDMARKS, replace=False))
    landmarks = codes[chosen]
    squares = distance_matrix(landmarks).astype(np.float64)
    means = squares.mean(axis=0)
    products = -(squares - means - means[:, None] + means.mean()) / 2
    axes = min(2, len(squares))
    # All of them: LAPACK's search for the largest alone misses some where many are equal.
    values, vectors = scipy.linalg.eigh(products, driver="evd")
    values, vectors = values[-axes:], vectors[:, -axes:]
    layout = np.zeros((codes.samples, 2))
    for axis, (value, vector) in enumerate(zip(values[::-1], vectors.T[::-1], strict=True)):
        if value > 1e-9 * max(1.0, len(squares)):
            vector = vector * np.sign(vector[np.abs(vector).argmax()]) / np.sqrt(value)
            for start, block in distance_blocks(codes, landmarks):
                layout[start : start + len(block), axis] = -(block - means) @ vector / 2
    return layout
