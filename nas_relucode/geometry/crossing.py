"""From one cell to the next across a facet, also where several rows vanish on the facet, or all over a cell."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nas_relucode.geometry.bends import Bend
from nas_relucode.geometry.program import Program

ZERO = 1e-12  # of the longest row of its layer and those before it: a shorter row counts as zero
ZERO_AT_FIRST = 1e-14  # the same for the first layer, whose rows are hardly rounded


def nonzero_rows(norms: np.ndarray, widths: list[int]) -> np.ndarray:
    """Which rows are longer than what rounding leaves of a row of zeros: bool, as ``norms`` (..., rows)."""
    share = np.repeat([zero_share(at) for at in range(len(widths))], widths)
    return np.asarray(norms > share * largest_so_far(norms, widths))


def zero_share(at: int) -> float:
    """The share of the longest row so far up to which a row of layer ``at`` counts as zero."""
    return ZERO if at else ZERO_AT_FIRST


def largest_so_far(values: np.ndarray, widths: list[int]) -> np.ndarray:
    """For each row the largest of the absolute values of its layer and those before it: float64, (..., rows)."""
    starts = np.cumsum([0, *widths[:-1]])
    largest = np.maximum.accumulate(np.maximum.reduceat(np.abs(values), starts, axis=-1), axis=-1)
    return np.asarray(np.repeat(largest, widths, axis=-1))


def vanished(values: np.ndarray, nonzero: np.ndarray, widths: list[int], tolerance: float) -> np.ndarray:
    """The rows that are 0 all over their cell: bool, (cells, rows), of ``values`` (cells, rows) at a point of it."""
    rows = values.shape[-1]
    return np.asarray(~nonzero[..., :rows] & (np.abs(values) <= tolerance * largest_so_far(values, widths)))


def states_behind(
    program: Program, states: list[Tensor], points: Tensor, directions: Tensor, ties: np.ndarray
) -> list[Tensor]:
    """The states of the cells that begin at border points (points, *shape) of other cells, in ``directions``.

    ``states`` are those of the cells that end there, and ``ties`` (points, rows) the rows that are 0 at the points.
    The sign of their derivative decides their states, layer by layer. All other states stay.
    """
    tied = torch.as_tensor(ties, device=program.device).split(program.widths, dim=1)
    largest = torch.zeros(len(points), dtype=torch.float64, device=program.device)
    behind: list[Tensor] = []

    def decide(number: int, bend: Bend, _: Tensor, dx: Tensor | None) -> Tensor:
        nonlocal largest
        assert dx is not None
        largest = torch.maximum(largest, dx.flatten(1).abs().amax(dim=1))
        behind.append(bend.across(states[number], tied[number], dx[:, 0], zero_share(number) * largest))
        return behind[-1]

    for _ in program.run(points, directions[:, None], decide, to_the_end=False):
        pass
    return behind
