"""The whole complex of a small network: its cells, which of them share a facet, and its faces of every dimension.

From an inner point of each cell its half-spaces and facets are computed, and each facet is crossed (`facet_search`):
behind it, the states of the rows that vanish on it follow the sign of the derivative across it. That is also right in
degenerate places, where several bits flip at once, and where codes one bit apart do not share a facet.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_relucode.cells.graph import components
from nas_relucode.cells.neighbours import pairs_within
from nas_relucode.cells.occupied import Cells, find_cells
from nas_relucode.codes.bits import Codes, pack
from nas_relucode.codes.network_state import check_network
from nas_relucode.errors import InputError, SolverError, a_type, finite_number, whole_number
from nas_relucode.geometry.bends import Levels, flat
from nas_relucode.geometry.crossing import largest_so_far
from nas_relucode.geometry.facet_search import FacetSearch
from nas_relucode.geometry.facets import LARGEST_TOLERANCE, find_facets
from nas_relucode.geometry.program import Program, read_program
from nas_relucode.geometry.recording import float64_points

AT_ONCE = 512  # cells whose facets are crossed at a time
SAVED_EVERY = 30.0  # seconds
MOST_DIMENSIONS, MOST_FEATURES = 2**12, 2**26  # of a complex, and of an input in which it lies
NEAR = 1e-8  # of the largest value so far around a cell: at a point of a face, a smaller value counts as 0


@dataclass(frozen=True, eq=False)
class Plane:
    """A flat of the input space: ``origin + coordinates @ directions``, with orthonormal directions."""

    origin: np.ndarray  # float64, (features,)
    directions: np.ndarray  # float64, (coordinates, features)


@dataclass(frozen=True, eq=False)
class Complex:
    """The cells of a network that have an interior, in the order in which they were found, and their facets."""

    codes: Codes  # (cells,); with pooling, several cells may have the same code
    points: np.ndarray  # float64, (cells, coordinates): an inner point of each cell
    bounded: np.ndarray  # bool, (cells,); cells in a box end at the box, and are bounded
    facet_counts: np.ndarray  # int64, (cells,): facets of each cell, without those on the box
    facet_neighbours: np.ndarray  # int64, (pairs, 2): cells that share a facet, lexicographic, first < second
    corners: np.ndarray  # float64, (corners, 2): of the cells in two dimensions, each once; otherwise (0, 2)
    outlines: tuple[np.ndarray, ...]  # in two dimensions: the corners of each cell, float64, counterclockwise
    walls: int  # facets on the box
    search: FacetSearch = field(repr=False)  # what crossed the facets; it can go on
    complete: bool  # False if there are more than max_cells: the facets of the last cells are then unknown
    unsaved: OSError | None = None  # why the state file could not be written, if one was asked for

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        counts = f"{len(self)} cells, {len(self.facet_neighbours)} pairs of facet neighbours"
        return f"Complex: {counts} in {self.points.shape[1]} dimensions, {'' if self.complete else 'not '}complete"

    @cached_property
    def adjacent_pairs(self) -> np.ndarray:
        """Pairs of cells one bit apart, the adjacent cells of Lemma 1: int64, (pairs, 2).

        Where pooling divides the cell of a code into parts, the first part stands for it.
        """
        near = pairs_within(self._by_code.codes, 1)  # of distinct codes: all at distance 1
        pairs = self._by_code.first[np.stack([near.first, near.second], axis=1)]
        return pairs[np.lexsort(pairs.T[::-1])]

    @cached_property
    def _by_code(self) -> Cells:
        return find_cells(self.codes)

    @cached_property
    def phantom_pairs(self) -> np.ndarray:
        """The adjacent pairs that share no facet: int64, (pairs, 2)."""
        sharing = np.sort(self._by_code.first[self._by_code.cell_of[self.facet_neighbours]], axis=1)
        adjacent, sharing = (pairs @ [len(self), 1] for pairs in (self.adjacent_pairs, sharing))
        return self.adjacent_pairs[~np.isin(adjacent, sharing)]

    @cached_property
    def component_count(self) -> int:
        """Components of the dual graph, whose edges are the facet neighbours: 1 if the complex is complete."""
        pairs = self.facet_neighbours
        return int(components(len(self), pairs[:, 0], pairs[:, 1]).max(initial=-1)) + 1

    @cached_property
    def f_vector(self) -> tuple[int, ...]:
        """The number of faces of each dimension, from corners to cells, including those on the box.

        Their alternating sum is 1 in a box and in a space of even dimension, and -1 in a space of odd dimension. In
        other than two dimensions they are counted at the first use, which takes long: facets of facets, in every cell.
        Raises InputError if the complex is not complete, and in other than two dimensions with pooling.
        """
        if not self.complete:
            raise InputError("not all cells are known, and so not all faces. Give a larger max_cells, or a box.")
        if self.points.shape[1] == 2:
            return len(self.corners), len(self.facet_neighbours) + self.walls, len(self)
        return _count_faces(self.search)

    def summary(self) -> dict[str, int]:
        """The counts by name."""
        return {
            "cells": len(self),
            "bounded": int(self.bounded.sum()),
            "facets": int(self.facet_counts.sum()),
            "facet_neighbours": len(self.facet_neighbours),
            "adjacent_pairs": len(self.adjacent_pairs),
            "phantom_pairs": len(self.phantom_pairs),
            "components": self.component_count,
        }


def complex_of(
    network: nn.Module | Program,
    shape: tuple[int, ...] | int | None = None,
    *,
    box: tuple[float, float] | None = None,
    plane: Plane | None = None,
    start: Any = None,
    max_cells: int | None = 1_000_000,
    tolerance: float = 1e-9,
    state: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Complex:
    """All cells of a network whose inputs have ``shape`` (a tuple, or the number of features), and their facets.

    Without ``shape``, inputs are those of the network's first layer, if it is a Linear.

    ``box`` restricts the complex to low < x < high in each coordinate, ``plane`` to a flat in the input space; the box
    is then in its coordinates. The search begins at ``start`` (coordinates; None: near 0, or the middle of the box) and
    stops at more than ``max_cells`` cells: the cells so far are returned, with ``complete`` False. ``state`` is a file
    in which the search is saved every half minute and at its end, and from which it is continued (with the same start,
    or None); if it cannot be written at the end, there is a warning, and ``unsaved`` says why. ``progress`` is called
    with the number of cells whose facets were crossed and the number of known cells.

    Fast in two dimensions (thousands of cells a second), feasible in up to about six. ``tolerance`` is relative: rows
    of a cell that differ by less count as equal. Raises InputError as `read_program`, SolverError if facets and pairs
    of neighbours do not match.

    >>> layer = nn.Linear(2, 2)
    >>> _ = layer.weight.data.copy_(torch.eye(2)), layer.bias.data.zero_()
    >>> complex_of(nn.Sequential(layer, nn.ReLU()), 2).summary()["facet_neighbours"]
    4
    """
    tolerance = finite_number("tolerance", tolerance, most=LARGEST_TOLERANCE, above=True)
    if max_cells is not None:
        max_cells = whole_number("max_cells", max_cells, least=1)
    box = None if box is None else _box(box)
    if not isinstance(network, Program):
        program = read_program(network, torch.zeros(1, *_shape(network, shape, plane)))
    elif shape is None:
        program = network
    else:
        raise InputError(f"shape {shape!r:.80} is given beside a Program, which has one. Leave out shape.")
    origin, directions = _flat(plane, program.features)
    search = FacetSearch(program, origin, directions, box, tolerance)
    file = None if state is None else Path(state)
    _begin(search, file, None if start is None else _coordinates("start", start, (search.k,)))
    _expand_all(search, file, max_cells, progress)
    cells = _complex_so_far(search, None if file is None else _save(search, file))
    if cells.complete and cells.facet_counts.sum() != 2 * len(cells.facet_neighbours):
        raise SolverError(
            f"{len(cells):,} cells have {cells.facet_counts.sum():,} facets, but {len(cells.facet_neighbours):,} pairs "
            "share one, which is not half as many: some were lost by rounding. Try another tolerance."
        )
    return cells


def _begin(search: FacetSearch, file: Path | None, start: np.ndarray | None) -> None:
    """Continues the search in ``file`` if it exists, and otherwise begins one at ``start``."""
    if file is not None and not file.parent.is_dir():
        raise InputError(f"there is no folder {file.parent} for the state file {file.name}. Name another file.")
    if file is None or not file.exists():
        search.begin(start)
        return
    search.load(file)
    if start is not None and not np.array_equal(search.points[:1], [start]):
        raise InputError(f"the search in {file} did not begin at start {start}. Leave out start, or name a new file.")


def _expand_all(
    search: FacetSearch, file: Path | None, max_cells: int | None, progress: Callable[[int, int], None] | None
) -> None:
    """Runs the search to its end or to more than ``max_cells`` cells, and saves it now and then and on an exception."""
    saved = time.monotonic()
    try:
        while not search.is_done and (max_cells is None or len(search.points) <= max_cells):
            search.expand(AT_ONCE if max_cells is None else min(AT_ONCE, max_cells + 1 - len(search.points)))
            if progress is not None:
                progress(search.expanded, len(search.points))
            if file is not None and time.monotonic() - saved > SAVED_EVERY:
                _save(search, file)
                saved = time.monotonic()
    except BaseException:
        if file is not None:
            _save(search, file)
        raise


def _save(search: FacetSearch, file: Path) -> OSError | None:
    """Saves the search, or warns that it could not be saved, and returns why: the cells in memory are not lost."""
    try:
        search.save(file)
    except OSError as error:
        warnings.warn(f"the search is not saved: {error.strerror}.", RuntimeWarning, stacklevel=3)
        return error
    return None


def _flat(plane: Plane | None, features: int) -> tuple[np.ndarray, np.ndarray]:
    """The origin and the directions of a plane; of the whole input space for None."""
    if plane is None:
        return np.zeros(features), np.eye(features)
    if not isinstance(plane, Plane):
        raise InputError(f"plane is {a_type(plane)}. Give a Plane, made of an origin and directions.")
    directions = float64_points(plane.directions, "the directions of the plane")
    if directions.ndim != 2 or not len(directions):
        raise InputError(f"the directions of the plane have shape {tuple(directions.shape)}. Give one in each row.")
    rows = _coordinates("the directions of the plane", directions, (len(directions), features))
    return _coordinates("the origin of the plane", plane.origin, (features,)), rows


def _coordinates(what: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Finite numbers of the given shape as float64. Raises InputError, which names ``what``, for others."""
    coordinates = float64_points(values, f"the coordinates of {what}").cpu().numpy()
    if coordinates.shape != shape or not np.isfinite(coordinates).all():
        raise InputError(
            f"the coordinates of {what} have shape {coordinates.shape}. Give finite numbers of shape {shape}."
        )
    return coordinates


def _box(box: Any) -> tuple[float, float]:
    """The two ends of a box. Raises InputError unless they are finite numbers, the lower one first."""
    try:
        low, high = (math.nan if isinstance(end, str) else float(end) for end in box)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"the box is {box!r:.80}. Give two finite numbers, low < high.")
    return low, high


def _shape(network: nn.Module, shape: tuple[int, ...] | int | None, plane: Plane | None) -> tuple[int, ...]:
    """The shape of an input, by default that of the first layer's. Raises InputError if it is too large."""
    if shape is None:
        check_network(network)
        first = next((module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)), None)
        if not isinstance(first, nn.Linear):
            raise InputError(
                f"the input shape of {type(network).__name__} cannot be inferred, as its first layer is not a Linear. "
                "Give its shape (--shape 1 28 28, for example), or the number of features."
            )
        shape = first.in_features
    sizes = tuple(whole_number("a size of the shape", size, least=1) for size in np.atleast_1d(shape).tolist())
    features, most = math.prod(sizes), MOST_DIMENSIONS if plane is None else MOST_FEATURES
    if features > most:
        raise InputError(
            f"inputs of shape {' '.join(map(str, sizes))} have {features:,} features, and a complex at most {most:,}. "
            "Give the shape of a smaller input, or a plane in a larger space."
        )
    return sizes


def _complex_so_far(search: FacetSearch, unsaved: OSError | None) -> Complex:
    cells, unexpanded = len(search.points), len(search.points) - search.expanded
    bits = np.unpackbits(np.array(search.codes), axis=1, bitorder="little")[:, : search.neurons].astype(bool)
    corners = np.concatenate([np.empty((0, 2)), *search.corners])
    sides = np.concatenate([np.empty((0, 4), np.int64), *search.sides])
    corner_of = np.concatenate([np.empty(0, np.int64), *search.corner_of])
    return Complex(
        codes=pack(bits),
        points=np.array(search.points),
        bounded=np.array(search.bounded + [False] * unexpanded),
        facet_counts=np.array(search.facet_counts + [0] * unexpanded),
        facet_neighbours=_distinct_pairs(sides[:, :2], cells),
        corners=_merged(corners, sides),
        outlines=_outlines(corners, corner_of, cells),
        walls=search.walls,
        search=search,
        complete=search.is_done,
        unsaved=unsaved,
    )


def _distinct_pairs(pairs: np.ndarray, cells: int) -> np.ndarray:
    """The pairs of cells, (pairs, 2), each once and with the first cell before the second, lexicographic."""
    numbers = np.unique(pairs.min(axis=1) * cells + pairs.max(axis=1))  # a tenth of the time that rows take
    return np.stack([numbers // cells, numbers % cells], axis=1)


def _outlines(corners: np.ndarray, corner_of: np.ndarray, cells: int) -> tuple[np.ndarray, ...]:
    """The corners of each cell; none in other than two dimensions."""
    if not len(corners):
        return (corners,) * cells
    return tuple(np.split(corners, np.searchsorted(corner_of, np.arange(1, cells))))


def _merged(corners: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The corners, (corners, 2), without repetitions: the two cells of a side share its ends."""
    if not len(corners):
        return corners
    size = max(1, int(sides[:, :2].max(initial=0)) + 1)
    here, there = sides[:, 0] * size + sides[:, 1], sides[:, 1] * size + sides[:, 0]
    order = np.argsort(here)
    place = np.minimum(np.searchsorted(here[order], there), max(0, len(sides) - 1))
    both = here[order][place] == there  # the other side may be unknown if the search was stopped
    other = sides[order][place][both]
    pairs = np.concatenate(
        [np.column_stack([sides[both, 2], other[:, 3]]), np.column_stack([sides[both, 3], other[:, 2]])]
    )
    pairs = pairs[(pairs >= 0).all(axis=1)]
    return corners[np.unique(components(len(corners), pairs[:, 0], pairs[:, 1]), return_index=True)[1]]


def _count_faces(search: FacetSearch) -> tuple[int, ...]:
    """The faces of the known cells, including those on the box, by dimension from corners to cells.

    A face is identified by the signs, at a point of its relative interior, of all pre-activations minus the levels at
    which their activations bend: the points with the same signs are a convex set. Raises InputError with pooling, whose
    borders are not where a number passes a level.
    """
    if not all(isinstance(bend, Levels) for bend in search.bends):
        raise InputError("with max-pooling or other maxima, faces are counted in two dimensions only. Give a plane.")
    faces: list[set[bytes]] = [set() for _ in range(search.k)]  # by dimension: their signs
    for start in range(0, len(search.points), AT_ONCE):
        cells = np.arange(start, min(len(search.points), start + AT_ONCE))
        points = np.array([search.points[cell] for cell in cells])
        states = search.states_of(cells)
        values, gradients, _ = search.at(points, lambda number, *_: states[number])  # noqa: B023
        gradients, slacks, used = search.rows(points, values, gradients)
        for place, point in enumerate(points):
            weight, slack = gradients[place, used[place]], slacks[place, used[place]]
            cell_faces = list(_faces(weight, slack, point, np.eye(search.k), search.tolerance))
            if cell_faces:
                dimensions, face_points = zip(*cell_faces, strict=True)
                signs = _signs(search, np.array([*face_points, point]))  # those of the cell set the scale
                for dimension, key in zip(dimensions, signs, strict=False):
                    faces[dimension].add(key)
    return (*(len(keys) for keys in faces), len(search.points))


def _faces(
    weight: np.ndarray, slack: np.ndarray, point: np.ndarray, basis: np.ndarray, tolerance: float
) -> Iterator[tuple[int, np.ndarray]]:
    """The dimension and a point of each proper face of ``weight @ y + slack >= 0``, with y coordinates in ``basis``.

    A face of several facets is yielded once for each.
    """
    dimension = len(basis)
    facets = find_facets(weight, slack, np.zeros(dimension), tolerance=tolerance)
    for facet, (row, step) in enumerate(zip(facets.rows, facets.points, strict=True)):
        facet_point = point + step @ basis
        yield dimension - 1, facet_point
        if dimension > 1:
            within = np.linalg.svd(weight[row : row + 1])[2][1:]  # directions within the facet
            projected = weight @ within.T
            parallel = np.linalg.norm(projected, axis=1) <= tolerance * np.linalg.norm(weight, axis=1)
            others = (facets.facet_of != facet) & ~parallel
            facet_slack = slack[others] + weight[others] @ step
            yield from _faces(projected[others], facet_slack, facet_point, within @ basis, tolerance)


def _signs(search: FacetSearch, points: np.ndarray) -> list[bytes]:
    """The signs, -1, 0 or 1, of all pre-activations and of the walls of the box at points around a cell, as bytes."""
    run = search.program.run(search.inputs(points), to_the_end=False)
    beyond = [flat(search.bends[at].beyond(x)) for at, x, _, _ in run]  # type: ignore[attr-defined]
    values = torch.cat(beyond, dim=1).cpu().numpy()
    scale = np.broadcast_to(largest_so_far(np.abs(values).max(axis=0), search.program.widths), values.shape)
    if np.isfinite(search.low):
        room = np.concatenate([points - search.low, search.high - points], axis=1)
        values, scale = np.hstack([values, room]), np.hstack([scale, np.full(room.shape, search.high - search.low)])
    signs = np.where(np.abs(values) <= NEAR * scale, 0, np.sign(values)).astype(np.int8)
    return [row.tobytes() for row in signs]
