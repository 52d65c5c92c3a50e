"""The nearest codes of each code under the Hamming distance, exactly: the graph that embeddings are made of."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import scipy.linalg
import torch

from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.cells.hamming import distance_blocks, distance_matrix
from nas_relucode.codes.bits import Codes
from nas_relucode.codes.words import BLOCK, compiled, distances_to
from nas_relucode.errors import InputError, unknown

TILE = 16  # rows that share the columns of a block while they are in the cache
FAR = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class Nearest:
    """The nearest other rows of each row of some codes, ordered by distance and then by row."""

    rows: np.ndarray  # int64, (samples, k)
    distances: np.ndarray  # int64, (samples, k): Hamming distances, not truncated

    def __len__(self) -> int:
        return len(self.rows)


def nearest(codes: Codes, k: int, *, threads: int | None = None) -> Nearest:
    """The ``k`` nearest other rows of each row, exactly; of rows at one distance the first ones.

    Rows with equal codes are neighbours at distance 0. Time grows with the square of the rows, memory with rows x k.
    ``threads`` (None: torch's) do not change what is found. Raises InputError unless there are more than k rows.

    >>> from nas_relucode.codes import pack
    >>> found = nearest(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), 2)
    >>> found.rows.tolist(), found.distances.tolist()
    ([[1, 2], [0, 2], [1, 0]], [[1, 3], [1, 2], [2, 3]])
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k < codes.samples:
        raise InputError(
            f"k {k!r} neighbours were asked for among {codes.samples} codes. "
            "Give a whole number of at least 1 and below the number of codes."
        )
    rows = np.ascontiguousarray(codes.words)
    columns = np.ascontiguousarray(rows.T)
    keys = np.empty((len(rows), int(k)), np.uint64)
    threads = threads or torch.get_num_threads()
    starts = np.linspace(0, len(rows), min(len(rows), 8 * threads) + 1).astype(int)

    def search(start: int, stop: int) -> None:
        _search(rows, columns, start, stop, keys)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, starts[:-1], starts[1:]))
    return Nearest((keys & np.uint64(0xFFFFFFFF)).astype(np.int64), (keys >> np.uint64(32)).astype(np.int64))


@compiled
def _search(rows, columns, begin, end, keys):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fills keys[begin:end] with the least keys of each row, growing: a distance and, below it, the row it is to."""
    n, k = rows.shape[0], keys.shape[1]
    out = np.empty(BLOCK, np.uint64)
    keys[begin:end] = FAR
    for top in range(begin, end, TILE):
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            for i in range(top, min(end, top + TILE)):
                distances_to(rows[i], columns, start, stop, out)
                if start <= i < stop:
                    out[i - start] = FAR  # not a neighbour of itself
                best = keys[i]
                far = best[k - 1] >> np.uint64(32)  # later rows at this distance do not count
                for first in range(0, stop - start, 32):  # most of these hold no neighbour, and are left after one look
                    last = min(first + 32, stop - start)
                    near = np.int64(0)
                    for j in range(first, last):
                        near += np.int64(out[j] < far)
                    for j in range(first if near else last, last):
                        if out[j] < far:
                            key = (out[j] << np.uint64(32)) | np.uint64(start + j)
                            place = k - 1
                            while place > 0 and best[place - 1] > key:
                                best[place] = best[place - 1]
                                place -= 1
                            best[place] = key
                            far = best[k - 1] >> np.uint64(32)


POINTS = ("cells", "samples")
PRESETS = ("paper", "released_code")
RELEASED = {"neighbours": 2, "min_dist": 0.1}  # UMAP's settings in the paper's released code
MOST_ROWS = 20_000  # of the released code's dense matrix: 1.6 GB, which UMAP copies
LANDMARKS = 1000  # codes that the first layout is computed from
FEW = 3  # points that are laid out without UMAP, which needs a neighbour more
REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


@dataclass(frozen=True)
class Embedding:
    """Points of a plane, each for a cell or a sample, and what is known of them."""

    points: np.ndarray  # float32, (n, 2); distances mean something near a point only, and have no unit
    sizes: np.ndarray  # int64, (n,): samples behind each point
    labels: np.ndarray | None  # int64, (n,): a cell's most frequent class, a sample's class; None if not known
    cells: np.ndarray  # int64, (n,): the cell of each point, as the code space (of the layer) numbers them
    made: dict[str, Any]  # the settings that made it: plain values for JSON

    def __len__(self) -> int:
        return len(self.points)


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

    ``points`` are "cells", one each, or "samples", cell by cell and class by class. ``layer`` None stands for all
    layers jointly. ``neighbours`` count the point itself, as in UMAP. The same ``seed`` gives the same picture on the
    same machine; None draws one, which ``made`` then holds. ``epochs`` None: 500 up to 10,000 points, else 200.
    ``most`` takes a seeded sample of so many points where there are more. UMAP starts from the two principal axes of
    the codes. Up to three points, or points of one code, are laid out by these axes alone. ``threads`` (None: torch's)
    look for neighbours and change nothing else; UMAP, being seeded, takes one. Memory grows with points x neighbours.

    With ``preset`` "released_code" a point is a class and a code that a sample of this class has, class by class, codes
    in lexicographic order; UMAP sees the rows of the matrix of Hamming distances / neurons as features under the
    Euclidean distance, with 2 neighbours, min_dist 0.1, and starts at random. ``neighbours`` and ``min_dist`` are then
    not read. Which activations set a bit was decided where the codes were taken (`code_space`).

    Raises InputError for unknown names and settings out of range, without samples, and in the released preset without
    labels, for ``points`` "samples" or with more than 20,000 points.
    Source: McInnes, Healy and Melville, "UMAP", arXiv 1802.03426; the first layout: de Silva and Tenenbaum, "Sparse
    multidimensional scaling using landmark points", 2004, whose squared distances are here Hamming distances.

    >>> from nas_relucode.codes import pack
    >>> found = embed(CodeSpace.of(pack([[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]), labels=[0, 1, 1]))
    >>> found.points.round(6).tolist(), found.sizes, found.labels
    ([[1.0, 0.0], [-1.0, 0.0]], array([1, 2]), array([0, 1]))
    """
    if points not in POINTS:
        raise unknown("kind of points", points, POINTS)
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    released = preset == "released_code"
    if released:
        neighbours, min_dist = int(RELEASED["neighbours"]), RELEASED["min_dist"]
    check_layout(neighbours, min_dist, seed, epochs, most)
    if layer is not None:
        space = space.layer(layer)
    if space.samples == 0 or space.neurons == 0:
        raise InputError(f"there are {space.samples} codes of {space.neurons} neurons. Give at least one to embed.")
    if released and points == "samples":
        raise InputError("preset 'released_code' has a point a class and code, not a sample. Give points='cells'.")
    cells, sizes, labels = _by_class(space) if released else _by_sample(space) if points == "samples" else _each(space)
    if seed is None:
        seed = int(np.random.default_rng().integers(2**32))
    rng = np.random.default_rng(seed)
    of = len(cells)
    if most is not None and of > most:
        chosen = np.sort(rng.choice(of, most, replace=False))
        cells, sizes, labels = cells[chosen], sizes[chosen], None if labels is None else labels[chosen]
    n = len(cells)
    epochs = epochs or (500 if n <= 10_000 else 200)
    umap_settings = {"min_dist": min_dist, "n_epochs": epochs, "random_state": seed, "n_jobs": 1}
    if n <= FEW or (cells == cells[0]).all():
        layout, init = _principal_axes(space.codes[cells], rng), "principal axes alone"
    elif released:
        layout, init = _of_distance_rows(space.codes[cells], umap_settings), "random"
    else:
        neighbours = min(int(neighbours), n - 1)
        layout = _of_neighbours(space.codes, cells, neighbours, rng, threads, umap_settings)
        init = "principal axes"
    made = {
        "preset": preset,
        "layer": layer,
        "points": "classes and codes" if released else points,
        "of": of,
        "most": None if most is None else int(most),
        "neighbours": int(neighbours),
        "min_dist": float(min_dist),
        "seed": int(seed),
        "epochs": int(epochs),
        "init": init,
        "umap": metadata.version("umap-learn"),
        "codes": dict(space.made),
    }
    return Embedding(layout.astype(np.float32), sizes, labels, cells, made)


def check_layout(neighbours: Any, min_dist: Any, seed: Any, epochs: Any, most: Any) -> None:
    """Raises InputError unless `embed` can take these settings."""
    wholes = {"neighbours": (neighbours, 2), "seed": (seed, 0), "epochs": (epochs, 1), "most": (most, 1)}
    for name, (value, least) in wholes.items():
        if value is None and name != "neighbours":
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < 2**32:
            raise InputError(f"{name} {value!r} is not a whole number of at least {least}. Give one below 2**32.")
    if isinstance(min_dist, bool) or not isinstance(min_dist, int | float | np.number) or not 0 <= min_dist <= 1:
        raise InputError(f"min_dist {min_dist!r} is out of range. Give a number from 0 to 1.")


def _each(space: CodeSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A point a cell: its cell, its size, its most frequent class (of several the first)."""
    labels = None if space.class_counts is None else space.class_counts.argmax(axis=1)
    return np.arange(len(space.cells)), space.cells.sizes, labels


def _by_sample(space: CodeSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A point a sample, cell by cell and class by class."""
    sizes, ones = space.cells.sizes, np.ones(space.samples, np.int64)
    if space.class_counts is None:
        return np.repeat(np.arange(len(sizes)), sizes), ones, None
    cells, classes = np.nonzero(space.class_counts)
    counts = space.class_counts[cells, classes]
    return np.repeat(cells, counts), ones, np.repeat(classes, counts)


def _by_class(space: CodeSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A point a class and code that it has, in the released code's order; its size counts samples of the class."""
    if space.class_counts is None:
        raise InputError("preset 'released_code' needs labels. Give them with the inputs, or take preset 'paper'.")
    # The first neuron decides first: as the highest bit of the first byte.
    keys = np.ascontiguousarray(REVERSED[np.ascontiguousarray(space.codes.words).view(np.uint8)])
    order = np.argsort(keys.view(np.dtype((np.void, max(1, keys.shape[1]))))[:, 0])
    classes, places = np.nonzero(space.class_counts[order].T)
    cells = order[places]
    return cells, space.class_counts[cells, classes], classes


def _umap(features: np.ndarray, **settings: Any) -> np.ndarray:
    """What umap-learn makes of the rows of ``features``: float32, (rows, 2)."""
    with warnings.catch_warnings():  # it takes seconds to import, and warns of what is not needed here
        warnings.filterwarnings("ignore", category=ImportWarning, message="Tensorflow not installed")
        warnings.filterwarnings("ignore", category=UserWarning, message=r"precomputed_knn\[2\]")
        import umap

        return umap.UMAP(**settings).fit_transform(features)


def _of_distance_rows(codes: Codes, settings: dict[str, Any]) -> np.ndarray:
    if codes.samples > MOST_ROWS:
        raise InputError(
            f"preset 'released_code' makes a dense matrix, of {codes.samples} rows here and of {MOST_ROWS} at most. "
            f"Give most={MOST_ROWS} or fewer for a sample of the rows, or take preset 'paper'."
        )
    features = np.empty((codes.samples, codes.samples), np.float32)
    for start, block in distance_blocks(codes):
        features[start : start + len(block)] = block / codes.neurons
    return _umap(features, n_neighbors=RELEASED["neighbours"], init="random", **settings)


def _of_neighbours(
    codes: Codes,
    cells: np.ndarray,
    neighbours: int,
    rng: np.random.Generator,
    threads: int | None,
    settings: dict[str, Any],
) -> np.ndarray:
    """The layout of points that lie in ``cells``, which grow; neighbours are looked for among the cells."""
    distinct, place, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    of_cells = nearest(codes[distinct], min(neighbours, len(distinct)) - 1 or 1, threads=threads)
    steps = np.tile(np.arange(neighbours), (len(sizes), 1))
    for cell in np.flatnonzero(sizes > neighbours):  # the next ones would make a string of the cell, these make a heap
        steps[cell, 1:] = rng.choice(sizes[cell] - 1, neighbours - 1, replace=False) + 1
    rows, distances = _among_points(sizes, steps, of_cells.rows, of_cells.distances)
    start = _principal_axes(codes[distinct], rng)[place]
    # As UMAP does with the layouts it starts from: points at one place would stay together.
    start = start * (10 / np.abs(start).max()) + rng.normal(scale=1e-4, size=start.shape)
    start = start.astype(np.float32)
    return _umap(start, n_neighbors=neighbours, init=start, precomputed_knn=(rows, distances, None), **settings)


@compiled
def _among_points(sizes, steps, near_cells, cell_distances):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Each point and its k - 1 nearest others: rows (points, k) and distances; points lie cell by cell.

    Where a cell holds more than are needed, each point takes others of them: no point is everyone's neighbour.
    In its own cell it takes those that are ``steps[cell]`` points further, in a circle.
    """
    k = steps.shape[1]
    starts = np.cumsum(sizes) - sizes
    n = sizes.sum()
    rows, distances = np.empty((n, k), np.int64), np.zeros((n, k), np.float32)
    for cell in range(sizes.shape[0]):
        for own in range(sizes[cell]):
            i = starts[cell] + own
            found = min(k, sizes[cell])
            for step in range(found):
                rows[i, step] = starts[cell] + (own + steps[cell, step]) % sizes[cell]
            for near in range(near_cells.shape[1]):
                other = near_cells[cell, near]
                for step in range(min(k - found, sizes[other])):
                    rows[i, found] = starts[other] + (own + step) % sizes[other]
                    distances[i, found] = cell_distances[cell, near]
                    found += 1
    return rows, distances


def _principal_axes(codes: Codes, rng: np.random.Generator) -> np.ndarray:
    """The codes on the two principal axes of a sample of them: float64, (codes, 2), in bits ** 0.5.

    A Hamming distance is the squared Euclidean distance of the bits, so that no bits need be unpacked.
    """
    chosen = np.arange(codes.samples)
    if codes.samples > LANDMARKS:
        chosen = np.sort(rng.choice(codes.samples, LANDMARKS, replace=False))
    landmarks = codes[chosen]
    squares = distance_matrix(landmarks).astype(np.float64)
    means = squares.mean(axis=0)
    products = -(squares - means - means[:, None] + means.mean()) / 2
    axes = min(2, len(squares))
    values, vectors = scipy.linalg.eigh(products, subset_by_index=(len(squares) - axes, len(squares) - 1))
    layout = np.zeros((codes.samples, 2))
    for axis, (value, vector) in enumerate(zip(values[::-1], vectors.T[::-1], strict=True)):
        if value > 1e-9 * max(1.0, len(squares)):
            vector = vector * np.sign(vector[np.abs(vector).argmax()]) / np.sqrt(value)
            for start, block in distance_blocks(codes, landmarks):
                layout[start : start + len(block), axis] = -(block - means) @ vector / 2
    return layout
