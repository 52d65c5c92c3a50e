"""Plane slices of the input space, through three samples or around one: the cells of a network as exact polygons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError, finite_number
from nas_relucode.geometry.complexes import Complex, Plane, complex_of
from nas_relucode.geometry.crossing import nonzero_rows
from nas_relucode.geometry.polyhedra import Polyhedron, polyhedron
from nas_relucode.geometry.program import Program, program_of
from nas_relucode.geometry.recording import float64_points

ENOUGH_CELLS = 30  # for a neighbourhood
MARGIN = 1.25  # half the side of a slice, relative to the largest distance of its samples from the middle
AT_ONCE = 512  # cells
ROUNDING = 4 * float(np.finfo(np.float64).eps)  # of the coordinates of points


@dataclass(frozen=True, eq=False)
class Slice:
    """The cells of a network in a square of a plane."""

    complex: Complex
    plane: Plane  # where the square lies
    reach: float  # the square is -reach < x, y < reach, in the units of the input
    samples: np.ndarray  # float64, (samples, 2): the coordinates of the given samples in the plane
    outputs: np.ndarray | None  # float64, (cells, 3, classes): at each cell's inner point, and their slopes along x, y

    def __repr__(self) -> str:
        return f"Slice: {len(self.complex)} cells in a square of side {2 * self.reach:.4g}, {len(self.samples)} samples"


def plane_through(points: Any, *, rounding: float = ROUNDING) -> tuple[Plane, np.ndarray]:
    """The plane through three points (3, features), with their mean as origin, and the points' coordinates (3, 2).

    Raises InputError if they lie on a line, or are off one by no more than ``rounding``, relative to the points.
    """
    points = np.asarray(points, np.float64).reshape(3, -1)
    middle = points.mean(axis=0)
    directions, sizes, _ = np.linalg.svd((points - middle).T, full_matrices=False)
    if not sizes[1] > max(1e-9 * sizes[0], rounding * np.linalg.norm(points)):
        raise InputError("the three samples lie on a line, or are equal. Give three that span a plane.")
    plane = Plane(middle, directions[:, :2].T.copy())
    return plane, (points - middle) @ plane.directions.T


def slice_through(
    network: nn.Module | Program,
    samples: Any,
    *,
    module: str | None = None,
    reach: float | None = None,
    max_cells: int | None = 100_000,
) -> Slice:
    """The cells of a network in the plane through three samples, exactly.

    ``samples`` (3, ...) are inputs of the network. With ``module`` the slice is one of the inputs of that module.
    ``reach`` is half the side of the square; None: 1.25 times the largest distance of a sample from the middle. Raises
    InputError as `read_program`, and if the samples lie on a line.
    """
    reach = None if reach is None else finite_number("reach", reach, above=True)
    three = float64_points(samples, "the samples")
    if three.ndim < 2 or len(three) != 3:
        raise InputError(f"the samples have shape {tuple(three.shape)}. A plane goes through three: give (3, ...).")
    program, points = program_of(network, three, module)
    given = samples.dtype if isinstance(samples, Tensor) else torch.as_tensor(np.asarray(samples)).dtype
    rounding = 4 * torch.finfo(given).eps if given.is_floating_point else ROUNDING
    plane, coordinates = plane_through(points.flatten(1).cpu().numpy(), rounding=rounding)
    reach = MARGIN * float(np.linalg.norm(coordinates, axis=1).max()) if reach is None else reach
    cells = complex_of(program, box=(-reach, reach), plane=plane, max_cells=max_cells)
    return Slice(cells, plane, reach, coordinates, _outputs(program, plane, cells))


def neighbourhood(
    network: nn.Module | Program,
    sample: Any,
    *,
    module: str | None = None,
    reach: float | None = None,
    max_cells: int | None = 100_000,
) -> Slice:
    """The cells around one ``sample``, in the plane spanned by the normals of the two nearest borders of its cell.

    ``reach`` is half the side of the square; None: twice the distance of the second border, doubled until there are 30
    cells, at most 10 times. Raises InputError as `read_program`, and if the borders have fewer than two directions.
    """
    reach = None if reach is None else finite_number("reach", reach, above=True)
    cell = polyhedron(network, sample, module=module)
    plane, distance = _plane_of_nearest_borders(cell)
    for size in [reach] if reach is not None else [distance * 2**power for power in range(1, 12)]:
        cells = complex_of(cell.program, box=(-size, size), plane=plane, max_cells=max_cells)
        if len(cells) >= ENOUGH_CELLS:
            break
    return Slice(cells, plane, size, np.zeros((1, 2)), _outputs(cell.program, plane, cells))


def _plane_of_nearest_borders(cell: Polyhedron) -> tuple[Plane, float]:
    """The plane through the cell's point along two borders' normals, and the distance of the second border."""
    norms = np.linalg.norm(cell.weight, axis=1)
    nonzero = nonzero_rows(norms, cell.program.widths)
    distance = np.where(nonzero, cell.slack / np.where(nonzero, norms, 1), np.inf)
    order = np.argsort(distance)[: nonzero.sum()]
    if len(order) == 0:
        raise InputError("the cell of this sample has no border, so that no plane is defined. Give another sample.")
    first = cell.weight[order[0]] / norms[order[0]]
    for row in order[1:]:
        second = cell.weight[row] - (cell.weight[row] @ first) * first
        if np.linalg.norm(second) > 1e-6 * norms[row]:
            return Plane(cell.point, np.stack([first, second / np.linalg.norm(second)])), float(distance[row])
    raise InputError(
        "the cell of this sample has borders in one direction only, so that no plane is defined. Give another sample."
    )


def _outputs(program: Program, plane: Plane, cells: Complex) -> np.ndarray | None:
    """The field ``outputs`` of `Slice`; None if the outputs are not piecewise linear."""
    if program.opaque is not None:
        return None
    basis = torch.as_tensor(plane.directions, device=program.device).reshape(1, 2, *program.shape)
    parts = []
    for start in range(0, len(cells), AT_ONCE):
        inputs = program.points(plane.origin + cells.points[start : start + AT_ONCE] @ plane.directions)
        *_, (_, values, _, slopes) = program.run(inputs, basis)
        assert slopes is not None
        parts.append(torch.cat([values.flatten(1)[:, None], slopes.flatten(2)], dim=1))
    return np.asarray(torch.cat(parts).cpu().numpy())
