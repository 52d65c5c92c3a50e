"""The closure of a cell as half-spaces (Theorem 1, equations 13 to 18): membership, affine map, margins, facets.

A point on a border has bit 0 there, so a cell is neither open nor closed: half-spaces say which sides are closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError
from nas_relucode.geometry import half_spaces
from nas_relucode.geometry.bends import Bend
from nas_relucode.geometry.borders import margins
from nas_relucode.geometry.crossing import ZERO, nonzero_rows, states_behind, vanished
from nas_relucode.geometry.facets import Facets, find_facets
from nas_relucode.geometry.program import Program, read_program

MOST = 2**31  # bytes of rows that are written out
AT_ONCE = 2**23  # bytes of rows at a time


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """The half-spaces ``weight @ x + bias >= 0`` of the cell of one point, all float64.

    In the order of the forward pass a ReLU makes one row a neuron, an activation with several levels one row a level,
    and max-pooling one row a place in a window, which says that its value is at most the winner's. With ReLUs alone
    the rows make the cell of equation 3; with other bends, the part of that cell where these are on one linear piece.
    A neuron that does not depend on the input in this cell makes a row of zeros.
    """

    program: Program
    point: np.ndarray  # float64, (features,)
    states: tuple[Tensor, ...]  # of the neurons of each bend: (1, ...)

    @property
    def rows(self) -> int:
        return sum(self.program.widths)

    @cached_property
    def layer_of(self) -> np.ndarray:
        """int64, (rows,): the number of each row's layer in ``program.layers``."""
        return np.repeat(np.arange(len(self.program.widths)), self.program.widths)

    @cached_property
    def neuron_of(self) -> np.ndarray:
        """int64, (rows,): the number of the neuron in its layer, or of the window in a maximum."""
        widths = zip(self._bends, self.program.widths, strict=True)
        return np.concatenate([np.arange(width) // bend.places for bend, width in widths])

    @cached_property
    def is_bit(self) -> np.ndarray:
        """bool, (rows,): the row's sign is a bit of the code."""
        return self.program.is_bit

    @cached_property
    def closed(self) -> np.ndarray:
        """bool, (rows,): points on the border belong to the cell: where the bit is 0, and an earlier place wins."""
        parts = [bend.is_closed(state)[0] for bend, state in zip(self._bends, self.states, strict=True)]
        return np.asarray(torch.cat(parts).cpu().numpy())

    @cached_property
    def code(self) -> np.ndarray:
        """bool, (neurons,): the code of the cell, of the ReLUs in the order of the forward pass."""
        return np.asarray(self.program.code(self.states)[0].cpu().numpy())

    def values(self, points: Any) -> np.ndarray:
        """``weight @ x + bias`` of points (points, ...): float64, (points, rows). Without writing the weight out."""
        found = [self.program.bend(at).rows(x, s) for at, x, s, _ in self._run(self.program.points(points))]
        return np.asarray(torch.cat(found, dim=1).cpu().numpy())

    def contains(self, points: Any, *, tolerance: float = 0.0) -> np.ndarray:
        """Which points lie in the cell: bool, (points,). Rows may fall short by ``tolerance``, in their own units."""
        values = self.values(points)
        return np.asarray(np.where(self.closed, values >= -tolerance, values > -tolerance).all(axis=1))

    def times(self, vectors: Any) -> np.ndarray:
        """``weight @ v`` of vectors (vectors, ...): float64, (vectors, rows). Without writing the weight out."""
        tangents = self.program.points(vectors)[None]
        point = self.program.points(self.point)
        found = [self.program.bend(at).row_tangents(dx, s) for at, _, s, dx in self._run(point, tangents)]
        return np.asarray(torch.cat(found, dim=2)[0].cpu().numpy())

    def transposed_times(self, factors: Any) -> np.ndarray:
        """``weight.T @ u`` of factors (rows,): float64, (features,). Without writing the weight out."""
        u = torch.as_tensor(factors, dtype=torch.float64, device=self.program.device)
        if u.shape != (self.rows,):
            raise InputError(f"factors have shape {tuple(u.shape)}. Give one for each of the {self.rows} rows.")
        with torch.enable_grad():
            x = self.program.points(self.point).requires_grad_()
            rows = torch.cat([self.program.bend(at).rows(y, s) for at, y, s, _ in self._run(x)], dim=1)
            (result,) = torch.autograd.grad(rows[0] @ u, x)
        return np.asarray(result.flatten().cpu().numpy())

    @cached_property
    def weight(self) -> np.ndarray:
        """float64, (rows, features). Raises InputError beyond 2 GiB: use `times`, `transposed_times` and `values`."""
        features = self.program.features
        if 8 * self.rows * features > MOST:
            raise InputError(
                f"{self.rows:,} rows of {features:,} features take {8 * self.rows * features / 2**30:.0f} GiB. "
                "Use times, transposed_times and values, which don't write them out, or read a module of the network."
            )
        step = max(1, AT_ONCE // (8 * self.rows))
        units = torch.eye(features, dtype=torch.float64)
        parts = [self.times(part) for part in units.split(step)]
        return np.ascontiguousarray(np.concatenate(parts).T)

    @cached_property
    def bias(self) -> np.ndarray:
        """float64, (rows,)"""
        return np.asarray(self.values(np.zeros(self.program.features))[0])

    @cached_property
    def slack(self) -> np.ndarray:
        """``weight @ point + bias``: float64, (rows,), none negative."""
        return np.asarray(self.values(self.point)[0])

    def affine_map(self) -> tuple[np.ndarray, np.ndarray]:
        """The network in this cell, ``matrix @ x + offset``: float64, (outputs, features) and (outputs,)."""
        with torch.enable_grad():
            x = self.program.points(np.zeros(self.program.features)).requires_grad_()
            *_, (_, offset, _, _) = self._run(x, to_the_end=True)
            rows = [torch.autograd.grad(y, x, retain_graph=True)[0].flatten() for y in offset.flatten()]
        return torch.stack(rows).cpu().numpy(), offset[0].detach().flatten().cpu().numpy()

    @cached_property
    def margin(self) -> float:
        """The distance of the point to the border of its cell, in the units of the input; inf without one."""
        return float(margins(self.program, self.point).distance[0])

    @cached_property
    def _ball(self) -> tuple[np.ndarray, float]:
        return half_spaces.chebyshev(*self._unit)

    @property
    def inradius(self) -> float:
        """The radius of the largest ball inside, `centre` its centre; inf where none is largest, 0.0 if no interior."""
        return self._ball[1]

    @property
    def centre(self) -> np.ndarray:
        return self._ball[0]

    @cached_property
    def has_interior(self) -> bool:
        """Some codes are only taken on a border: their cells have no interior, and no facets."""
        return bool((self.slack[self._nonzero] > 0).all()) or self.inradius > 0

    @cached_property
    def bounded(self) -> bool:
        return half_spaces.is_bounded(self._unit[0])

    @cached_property
    def inside(self) -> np.ndarray:
        """A point of the interior: the cell's own point, or the centre where that lies on the border."""
        norms = np.linalg.norm(self.weight, axis=1)[self._nonzero]
        if (self.slack[self._nonzero] > ZERO * norms).all():
            return self.point
        if not self.inradius > 0:
            raise InputError("the cell of this point has no interior: the point lies where borders meet. Take another.")
        return self.centre

    def facets(self, *, tolerance: float = 1e-9, threads: int | None = None) -> Facets:
        """The rows that are not redundant, one for each facet, each with a point of the facet's relative interior.

        ``tolerance`` is that of `find_facets`: rows that differ by less, relative, make one facet.
        """
        rows = np.flatnonzero(self._nonzero)
        found = find_facets(*self._unit, self.inside, tolerance=tolerance, threads=threads)
        facet_of = np.full(self.rows, -1)
        facet_of[rows] = found.facet_of
        return Facets(rows[found.rows], facet_of, found.points)

    def neighbours(self, facets: Facets | None = None) -> np.ndarray:
        """The codes of the cells behind the facets, in their order: bool, (facets, neurons).

        They differ from ``code`` in one bit each for parameters in general position, else in several: where rows fall
        together, or a neuron that was 0 all over this cell begins.
        """
        found = self.facets() if facets is None else facets
        outward = -self.weight[found.rows]
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        slack = self.values(self.inside)
        ties = found.facet_of == np.arange(len(found.rows))[:, None]
        ties |= vanished(slack, self._nonzero[None], self.program.widths, 1e-9)
        states = [state.expand(len(ties), *state.shape[1:]) for state in self.states]
        points, directions = self.program.points(found.points), self.program.points(outward)
        behind = states_behind(self.program, states, points, directions, ties)
        return np.asarray(self.program.code(behind).cpu().numpy())

    def vertices(self) -> np.ndarray:
        """float64, (vertices, features); InputError in more than 8 dimensions."""
        return half_spaces.vertices(*self._unit, self.inside)

    def volume(self) -> float:
        """inf if unbounded; InputError in more than 8 dimensions."""
        return half_spaces.volume(*self._unit, self.inside)

    def random_points(self, count: int, *, seed: int = 0) -> np.ndarray:
        """Points of the interior by hit-and-run: float64, (count, features)."""
        return half_spaces.random_inside(*self._unit, self.inside, count, seed)

    @cached_property
    def _nonzero(self) -> np.ndarray:
        return nonzero_rows(np.linalg.norm(self.weight, axis=1), self.program.widths)

    @cached_property
    def _unit(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of the rows that are not zero, each of length 1: layers may differ by many magnitudes."""
        weight = self.weight[self._nonzero]
        norms = np.linalg.norm(weight, axis=1)
        return weight / norms[:, None], self.bias[self._nonzero] / norms

    @property
    def _bends(self) -> list[Bend]:
        return [self.program.bend(at) for at in range(len(self.program.widths))]

    def _run(self, points: Tensor, tangents: Tensor | None = None, *, to_the_end: bool = False) -> Any:
        def decide(at: int, *_: Any) -> Tensor:
            state = self.states[at]
            return state.expand(len(points), *state.shape[1:])

        return self.program.run(points, tangents, decide, to_the_end=to_the_end)


def polyhedron(network: nn.Module | Program, point: Any, *, module: str | None = None) -> Polyhedron:
    """The polyhedron of the cell of ``point``, an input of the network: (features,) or, samples first, (1, ...).

    With ``module`` it is that of one of its modules, at what this is given for the input.

    >>> layer = nn.Linear(2, 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1, 0], [0, 2]])), layer.bias.data.copy_(torch.tensor([0, -1]))
    >>> cell = polyhedron(nn.Sequential(layer, nn.ReLU()), [3.0, 0.0])
    >>> cell.code.astype(int), cell.weight, cell.bias, cell.closed
    (array([1, 0]), array([[ 1.,  0.],
           [-0., -2.]]), array([0., 1.]), array([False,  True]))
    >>> cell.margin, cell.bounded
    (0.5, False)

    Raises InputError as `read_program`, and for a point of another shape.
    """
    if isinstance(network, Program):
        program, at = network, network.points(point)
    else:
        example = torch.as_tensor(point, dtype=torch.float64)
        program = read_program(network, example[None] if example.ndim == 1 else example, module=module)
        at = program.example
    if len(at) != 1:
        raise InputError(f"there are {len(at)} points, and a cell is that of one. Give points[:1] or image[None].")
    return Polyhedron(program, at.flatten().cpu().numpy(), tuple(program.states(at)))
