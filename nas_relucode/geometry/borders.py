"""The margins of points, their distances to the borders of their cells, by the gradients of all neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.geometry.crossing import zero_share
from nas_relucode.geometry.program import Program, program_of

AT_ONCE = 2**21  # bytes of a layer's tangents at a time, so that they stay in the cache
AT_MOST = 2**27  # bytes of a layer's tangents of one point; more are taken in parts


@dataclass(frozen=True, eq=False)
class Margins:
    """The distance of each point to the border of its cell, and the row that is nearest."""

    distance: np.ndarray  # float64, (points,): Euclidean, in the units of the input; inf for a cell without border
    layer: np.ndarray  # int64, (points,): the nearest row's number in ``program.layers``, -1 without a border
    neuron: np.ndarray  # int64, (points,): the number of its neuron in that layer, -1 without a border


def margins(network: nn.Module | Program, inputs: Any, *, module: str | None = None) -> Margins:
    """The distance of each input to the border of its cell: the least |z| / ||gradient of z|| over its rows z.

    >>> network = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    >>> _ = network[0].weight.data.fill_(2), network[0].bias.data.fill_(-1)
    >>> margins(network, torch.tensor([[0.0], [3.0]])).distance
    array([0.5, 2.5])

    ``inputs`` are (points, ...), and with ``module`` the distances are those of that module's inputs. The distance is
    exact. It takes the gradients of all neurons in the space that the first layer spans, so the smaller of the first
    layer's inputs and outputs is the number of tangents: minutes per point for a whole VGG16. Raises InputError as
    `read_program`.
    """
    return _margins(*program_of(network, inputs, module))


def _margins(program: Program, points: Tensor) -> Margins:
    basis, widest = program.row_space(), max(program.widths)
    most = max(1, AT_MOST // (8 * widest))  # tangents of one point
    parts = [program.before_bends(some[None]) for some in basis.split(most)]
    step = max(1, AT_ONCE // (8 * min(most, len(basis)) * widest))
    batches = range(0, max(1, len(points)), step)
    least = [_least(program, points[start : start + step], parts) for start in batches]
    distance, row = (torch.cat(column).cpu().numpy() for column in zip(*least, strict=True))
    ends = np.cumsum(program.widths)
    layer = np.where(np.isfinite(distance), np.searchsorted(ends, row, side="right"), -1)
    places = np.array([program.bend(at).places for at in range(len(ends))])
    neuron = np.where(layer < 0, -1, (row - (ends - program.widths)[layer]) // places[layer])
    return Margins(distance, layer, neuron)


def _least(program: Program, points: Tensor, parts: list[dict[int, Tensor]]) -> tuple[Tensor, Tensor]:
    """The least distance of each point and its row, with the gradients taken in ``parts``."""
    slacks, squares = dict[int, Tensor](), dict[int, Tensor]()
    for moving in parts:
        for at, x, state, dx in program.run(points, moving, to_the_end=False):
            bend = program.bend(at)
            assert dx is not None
            slacks[at], some = bend.rows(x, state), bend.squared_norms(dx, state)
            squares[at] = squares[at] + some if at in squares else some
    distances, longest = [], torch.zeros(1, 1, dtype=torch.float64, device=points.device)
    for at, slack in slacks.items():
        size = squares[at].sqrt()
        longest = torch.maximum(longest, size.amax(dim=1, keepdim=True))
        distances.append(torch.where(size > zero_share(at) * longest, slack / size, torch.inf))
    return torch.cat(distances, dim=1).min(dim=1)
