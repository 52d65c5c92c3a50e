"""The faces of a complex in any dimension: facets of facets down to the corners, each counted once by its signs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from nas_relucode.errors import InputError
from nas_relucode.geometry.bends import Levels, flat
from nas_relucode.geometry.crossing import largest_so_far
from nas_relucode.geometry.facet_search import FacetSearch
from nas_relucode.geometry.facets import find_facets

AT_ONCE = 256  # cells
NEAR = 1e-8  # of the largest value around a cell so far: what is nearer to 0 at a point of a face vanishes there


def count_faces(search: FacetSearch) -> tuple[int, ...]:
    """The faces of the cells that are known, those on the box included, by dimension from the corners to the cells.

    A face is known by the signs of all pre-activations, less the levels where their activations bend, at a point of
    its relative interior: the points with the same signs, layer by layer, are a convex set. Raises InputError with
    pooling, whose borders are not where a number passes a level.
    """
    if not all(isinstance(bend, Levels) for bend in search.bends):
        raise InputError(
            "with max-pooling or other maxima, faces are counted in one and two dimensions only. Use a plane."
        )
    found: list[set[bytes]] = [set() for _ in range(search.k)]
    for start in range(0, len(search.points), AT_ONCE):
        cells = np.arange(start, min(len(search.points), start + AT_ONCE))
        points = np.array([search.points[cell] for cell in cells])
        states = search.states_of(cells)
        values, gradients, _ = search.at(points, lambda number, *_: states[number])  # noqa: B023
        g, s, used = search.rows(points, values, gradients)
        for place, point in enumerate(points):
            kept = used[place]
            faces = list(_faces(g[place, kept], s[place, kept], point, np.eye(search.k), search.tolerance))
            if faces:
                dimensions, at = zip(*faces, strict=True)
                for dimension, key in zip(dimensions, _signs(search, np.array([*at, point])), strict=False):
                    found[dimension].add(key)
    return (*(len(keys) for keys in found), len(search.points))


def _faces(
    weight: np.ndarray, slack: np.ndarray, point: np.ndarray, basis: np.ndarray, tolerance: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Dimension and a point of each proper face of ``weight @ y + slack >= 0``, where y are steps along ``basis``."""
    dimension = len(basis)
    found = find_facets(weight, slack, np.zeros(dimension), tolerance=tolerance)
    for facet, (row, step) in enumerate(zip(found.rows, found.points, strict=True)):
        on_it = point + step @ basis
        yield dimension - 1, on_it
        if dimension > 1:
            within = np.linalg.svd(weight[row : row + 1])[2][1:]  # across the normal
            inner = weight @ within.T
            parallel = np.linalg.norm(inner, axis=1) <= tolerance * np.linalg.norm(weight, axis=1)
            others = (found.facet_of != facet) & ~parallel
            there = slack[others] + weight[others] @ step
            yield from _faces(inner[others], there, on_it, within @ basis, tolerance)


def _signs(search: FacetSearch, points: np.ndarray) -> list[bytes]:
    """The signs of all pre-activations and of the box's walls at points around one cell: -1, 0 or 1, as bytes."""
    run = search.program.run(search.inputs(points), to_the_end=False)
    beyond = [flat(search.bends[at].beyond(x)) for at, x, _, _ in run]  # type: ignore[attr-defined]
    values = torch.cat(beyond, dim=1).cpu().numpy()
    scale = np.broadcast_to(largest_so_far(np.abs(values).max(axis=0), search.program.widths), values.shape)
    if np.isfinite(search.low):
        room = np.concatenate([points - search.low, search.high - points], axis=1)
        values, scale = np.hstack([values, room]), np.hstack([scale, np.full(room.shape, search.high - search.low)])
    signs = np.where(np.abs(values) <= NEAR * scale, 0, np.sign(values)).astype(np.int8)
    return [row.tobytes() for row in signs]
