"""The whole complex of a small network: its cells and which of them share a facet, breadth first over the facets.

From a point of each cell's interior its half-spaces are read, its facets found, and each facet crossed: behind it the
bits of the rows that vanish on it follow the sign of the derivative across it, which is right in degenerate places too,
where several bits flip at once or, as Lemma 1 does not foresee, codes one bit apart do not touch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
from nas_relucode.errors import InputError, SolverError
from nas_relucode.geometry.faces import count_faces
from nas_relucode.geometry.facet_search import FacetSearch
from nas_relucode.geometry.program import Program, read_program

AT_ONCE = 512  # cells
SAVED_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Plane:
    """A flat piece of the input space: ``origin + coordinates @ directions``, the directions orthonormal."""

    origin: np.ndarray  # float64, (features,)
    directions: np.ndarray  # float64, (coordinates, features)


@dataclass(frozen=True)
class Complex:
    """The cells with interior of a network, in the order in which they were found, and their facets."""

    codes: Codes  # (cells,): the bits of the ReLUs; with pooling several cells may have one code
    points: np.ndarray  # float64, (cells, coordinates): of each cell's interior
    bounded: np.ndarray  # bool, (cells,); in a box the cells are cut off by it, and bounded
    facet_counts: np.ndarray  # int64, (cells,): facets of each cell, without those on the box
    facet_neighbours: np.ndarray  # int64, (pairs, 2): cells that share a facet, lexicographic, first < second
    corners: np.ndarray  # float64, (corners, 2): of the cells in two dimensions, each once; else (0, 2)
    outlines: tuple[np.ndarray, ...]  # in two dimensions: the corners of each cell, float64, counterclockwise
    walls: int  # facets on the box
    search: FacetSearch = field(repr=False, compare=False)  # that found it
    complete: bool  # False if there are more cells than were asked for: of the last ones the facets are not known

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def adjacent_pairs(self) -> np.ndarray:
        """Cells one bit apart: int64, (pairs, 2). What Lemma 1 takes for facet neighbours.

        Where pooling cuts the cells of one code in parts, a cell is named by its first part.
        """
        found = pairs_within(self._by_code.codes, 1)
        pairs = self._by_code.first[np.stack([found.first, found.second], axis=1)[found.distance == 1]]
        return pairs[np.lexsort(pairs.T[::-1])]

    @cached_property
    def _by_code(self) -> Cells:
        return find_cells(self.codes)

    @cached_property
    def phantom_pairs(self) -> np.ndarray:
        """Cells one bit apart that share no facet: int64, (pairs, 2)."""
        size = len(self)
        whole = np.sort(self._by_code.first[self._by_code.cell_of[self.facet_neighbours]], axis=1)
        one, other = (pairs @ [size, 1] for pairs in (self.adjacent_pairs, whole))
        return self.adjacent_pairs[~np.isin(one, other)]

    @cached_property
    def component_count(self) -> int:
        """Of the dual graph, whose edges are the facet neighbours: 1 if the complex is complete."""
        pairs = self.facet_neighbours
        return int(components(len(self), pairs[:, 0], pairs[:, 1]).max(initial=-1)) + 1

    @cached_property
    def f_vector(self) -> tuple[int, ...]:
        """The faces by dimension, from corners to cells, those on the box included.

        Their alternating sum is 1 in a box and in a space of even dimension, -1 in one of odd. In three and more
        dimensions they are counted when first asked for, which takes long: facets of facets, in every cell. Raises
        InputError if the complex is not complete, and there with pooling.
        """
        if not self.complete:
            raise InputError("not all cells are known, so neither are their faces. Give a larger max_cells, or a box.")
        if self.points.shape[1] == 2:
            return len(self.corners), len(self.facet_neighbours) + self.walls, len(self)
        return count_faces(self.search)

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
    """All cells of a network whose inputs have ``shape`` (features, or their number), and their facet neighbours.

    ``box`` restricts it to low < x < high in each coordinate, ``plane`` to a flat piece of the input space, in whose
    coordinates the box then is. The search starts at ``start`` (coordinates; None: near 0, or the box's middle) and
    ends where there are more than ``max_cells``: what was found until then is returned, with ``complete`` False.
    ``state`` is a file to which it writes where it stands, every half minute and at its end, and from which it goes
    on. ``progress`` is told of the cells whose facets were crossed and of those that are known.

    Two dimensions go by thousands of cells a second, more through Qhull, up to 6 or so. ``tolerance`` is relative: rows
    of one cell that differ by less are one.

    >>> layer = nn.Linear(2, 2)
    >>> _ = layer.weight.data.copy_(torch.eye(2)), layer.bias.data.zero_()
    >>> complex_of(nn.Sequential(layer, nn.ReLU()), 2).summary()["facet_neighbours"]
    4
    """
    program = network if isinstance(network, Program) else read_program(network, torch.zeros(1, *_shape(shape)))
    if box is not None and not (np.isfinite(box).all() and box[0] < box[1]):
        raise InputError(f"the box from {box[0]} to {box[1]} has no inside. Give two finite numbers, low < high.")
    if max_cells is not None and max_cells < 1:
        raise InputError(f"at most {max_cells} cells are none. Give at least 1.")
    plane = plane or Plane(np.zeros(program.features), np.eye(program.features))
    search = FacetSearch(program, plane.origin, plane.directions, box, tolerance)
    file = None if state is None else Path(state)
    if file is not None and not file.parent.is_dir():
        raise InputError(f"there is no folder {file.parent}, so {file.name} can't be written there. Name another file.")
    if file is not None and file.exists():
        search.load(file)
    else:
        search.begin(start)
    saved = time.monotonic()
    try:
        while not search.is_done and (max_cells is None or len(search.points) <= max_cells):
            search.expand(AT_ONCE if max_cells is None else min(AT_ONCE, max_cells + 1 - len(search.points)))
            if progress is not None:
                progress(search.expanded, len(search.points))
            if file is not None and time.monotonic() - saved > SAVED_EVERY:
                search.save(file)
                saved = time.monotonic()
    finally:
        if file is not None:
            search.save(file)
    found = _result(search)
    if found.complete and found.facet_counts.sum() != 2 * len(found.facet_neighbours):
        raise SolverError(
            f"{len(found):,} cells have {found.facet_counts.sum():,} facets, not twice the "
            f"{len(found.facet_neighbours):,} pairs that share one: rounding hides some. Try another tolerance."
        )
    return found


def _shape(shape: tuple[int, ...] | int | None) -> tuple[int, ...]:
    if shape is None:
        raise InputError("the shape of an input is not known. Give it, or the number of features.")
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _result(search: FacetSearch) -> Complex:
    cells, open_ones = len(search.points), len(search.points) - search.expanded
    bits = np.unpackbits(np.array(search.codes), axis=1, bitorder="little")[:, : search.neurons].astype(bool)
    corners = np.concatenate([np.empty((0, 2)), *search.corners])
    sides = np.concatenate([np.empty((0, 4), np.int64), *search.sides])
    corner_of = np.concatenate([np.empty(0, np.int64), *search.corner_of])
    return Complex(
        codes=pack(bits),
        points=np.array(search.points),
        bounded=np.array(search.bounded + [False] * open_ones),
        facet_counts=np.array(search.facet_counts + [0] * open_ones),
        facet_neighbours=np.unique(np.sort(sides[:, :2], axis=1), axis=0),
        corners=_merged(corners, sides),
        outlines=tuple(np.split(corners, np.searchsorted(corner_of, np.arange(1, cells)))),
        walls=search.walls,
        search=search,
        complete=search.is_done,
    )


def _merged(corners: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Corners that several cells share, once each: the two cells of a side have its ends in common."""
    size = max(1, int(sides[:, :2].max(initial=0)) + 1)
    here, there = sides[:, 0] * size + sides[:, 1], sides[:, 1] * size + sides[:, 0]
    order = np.argsort(here)
    place = np.minimum(np.searchsorted(here[order], there), max(0, len(sides) - 1))
    both = here[order][place] == there  # in a search that was stopped the other side may be unknown
    other = sides[order][place][both]
    pairs = np.concatenate(
        [np.column_stack([sides[both, 2], other[:, 3]]), np.column_stack([sides[both, 3], other[:, 2]])]
    )
    pairs = pairs[(pairs >= 0).all(axis=1)]
    return corners[np.unique(components(len(corners), pairs[:, 0], pairs[:, 1]), return_index=True)[1]]
