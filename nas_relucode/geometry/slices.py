"""A flat slice of the input space through three samples: its cells as exact polygons, and who lies in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.geometry.complexes import Complex, Plane, complex_of
from nas_relucode.geometry.crossing import nonzero_rows
from nas_relucode.geometry.polyhedra import polyhedron
from nas_relucode.geometry.program import Program, read_program

AROUND = 30  # cells that make a neighbourhood
MARGIN = 1.25  # the slice reaches this far, of the distance of the furthest sample from the middle


@dataclass(frozen=True)
class Slice:
    """The cells of a network in a square of a plane."""

    complex: Complex
    plane: Plane
    reach: float  # the square is -reach < x, y < reach, in the units of the input
    samples: np.ndarray  # float64, (samples, 2): where the given samples lie in the plane
    outputs: np.ndarray | None  # float64, (cells, 3, classes): at each cell's inner point, and their slopes along x, y


def plane_through(points: Any) -> tuple[Plane, np.ndarray]:
    """The plane through three points (3, features), its origin in their middle, and the points' coordinates (3, 2).

    Raises InputError if they lie on a line.
    """
    points = np.asarray(points, np.float64).reshape(3, -1)
    middle = points.mean(axis=0)
    directions, sizes, _ = np.linalg.svd((points - middle).T, full_matrices=False)
    if not sizes[1] > 1e-9 * sizes[0]:
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

    ``samples`` (3, ...) are inputs of the network; ``module`` takes the slice in the space of that module's inputs.
    ``reach`` is half the side of the square; None: a quarter more than it takes to hold the samples. Raises InputError
    as `read_program`, and if the samples lie on a line.
    """
    samples = torch.as_tensor(samples)
    if len(samples) != 3:
        raise InputError(f"there are {len(samples)} samples. A plane goes through three.")
    program = network if isinstance(network, Program) else read_program(network, samples, module=module)
    points = program.points(samples) if isinstance(network, Program) else program.example
    plane, at = plane_through(points.flatten(1).cpu().numpy())
    reach = MARGIN * float(np.linalg.norm(at, axis=1).max()) if reach is None else reach
    found = complex_of(program, box=(-reach, reach), plane=plane, max_cells=max_cells)
    return Slice(found, plane, reach, at, _outputs(program, plane, found))


def neighbourhood(
    network: nn.Module | Program,
    sample: Any,
    *,
    module: str | None = None,
    reach: float | None = None,
    max_cells: int | None = 100_000,
) -> Slice:
    """The cells around one sample, in the plane of the steepest ways to the two borders of its cell that are nearest.

    ``reach`` is half the side of the square; None: doubled until there are 30 cells or more, or it has grown 2000-fold.
    """
    cell = polyhedron(network, sample, module=module)
    norms = np.linalg.norm(cell.weight, axis=1)
    nonzero = nonzero_rows(norms, cell.program.widths)
    distance = np.where(nonzero, cell.slack / np.where(nonzero, norms, 1), np.inf)
    order = np.argsort(distance)[: nonzero.sum()]
    if len(order) == 0:
        raise InputError("the cell of this sample has no border: there is no plane to show it in.")
    first = cell.weight[order[0]] / norms[order[0]]
    for row in order[1:]:
        second = cell.weight[row] - (cell.weight[row] @ first) * first
        if np.linalg.norm(second) > 1e-6 * norms[row]:
            plane = Plane(cell.point, np.stack([first, second / np.linalg.norm(second)]))
            sizes = [reach] if reach is not None else [float(distance[row]) * 2**power for power in range(1, 12)]
            for size in sizes:
                found = complex_of(cell.program, box=(-size, size), plane=plane, max_cells=max_cells)
                if len(found) >= AROUND:
                    break
            return Slice(found, plane, size, np.zeros((1, 2)), _outputs(cell.program, plane, found))
    raise InputError("the cell of this sample has borders in one direction only: there is no plane to show them in.")


def _outputs(program: Program, plane: Plane, found: Complex) -> np.ndarray | None:
    if program.opaque is not None:
        return None
    basis = torch.as_tensor(plane.directions, device=program.device).reshape(1, 2, *program.shape)
    parts = []
    for start in range(0, len(found), 512):
        inputs = program.points(plane.origin + found.points[start : start + 512] @ plane.directions)
        *_, (_, values, _, slopes) = program.run(inputs, basis)
        assert slopes is not None
        parts.append(torch.cat([values.flatten(1)[:, None], slopes.flatten(2)], dim=1))
    return np.asarray(torch.cat(parts).cpu().numpy())
