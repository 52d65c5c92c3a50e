"""The closure of a cell as half-spaces (Theorem 1, equations 13 to 18): membership, affine map, margins, facets.

The bit of a point on a border is 0, so that a cell is in general neither open nor closed: each half-space says whether
it is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError, finite_number
from nas_relucode.geometry import half_spaces
from nas_relucode.geometry.bends import Bend
from nas_relucode.geometry.borders import margins
from nas_relucode.geometry.crossing import ZERO, nonzero_rows, states_behind, vanished
from nas_relucode.geometry.facets import Facets, find_facets
from nas_relucode.geometry.program import Program, program_of
from nas_relucode.geometry.recording import float64_points

MOST_BYTES = 2**31  # of a weight matrix
AT_ONCE = 2**23  # bytes of rows that are computed at a time


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """The half-spaces ``weight @ x + bias >= 0`` of the cell of one point, all float64.

    In the order of the forward pass a ReLU makes one row per neuron, an activation with several levels one per level,
    and max-pooling one per place in a window, which says that its value is at most the winner's. With ReLUs only, the
    rows make the cell of equation 3; with other bends, the part of that cell where these are on one linear piece.
    A neuron that does not depend on the input in this cell makes a row of zeros.
    """

    program: Program
    point: np.ndarray  # float64, (features,)
    states: tuple[Tensor, ...]  # the states of the neurons of each bend: (1, ...)

    def __repr__(self) -> str:
        bits = int(self.is_bit.sum())
        return f"Polyhedron: {self.rows} half-spaces in {self.program.features} dimensions, a code of {bits} bits"

    @property
    def rows(self) -> int:
        """The number of half-spaces."""
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
        """bool, (rows,): whether the row's sign is a bit of the code."""
        return self.program.is_bit

    @cached_property
    def closed(self) -> np.ndarray:
        """bool, (rows,): whether points on the border belong to the cell: the bit is 0, or an earlier place wins."""
        parts = [bend.is_closed(state)[0] for bend, state in zip(self._bends, self.states, strict=True)]
        return np.asarray(torch.cat(parts).cpu().numpy())

    @cached_property
    def code(self) -> np.ndarray:
        """bool, (neurons,): the code of the cell, in the order of the forward pass."""
        return np.asarray(self.program.code(self.states)[0].cpu().numpy())

    def values(self, points: Any) -> np.ndarray:
        """``weight @ x + bias`` of points (points, ...): float64, (points, rows). Does not compute ``weight``."""
        run = self._run(self.program.points(points))
        return np.asarray(torch.cat([self.program.bend(at).rows(x, s) for at, x, s, _ in run], dim=1).cpu().numpy())

    def contains(self, points: Any, *, tolerance: float = 0.0) -> np.ndarray:
        """Which points lie in the cell: bool, (points,). Rows may be below 0 by ``tolerance``, in their own units."""
        tolerance = finite_number("tolerance", tolerance)
        values = self.values(points)
        return np.asarray(np.where(self.closed, values >= -tolerance, values > -tolerance).all(axis=1))

    def times(self, vectors: Any) -> np.ndarray:
        """``weight @ v`` of ``vectors`` (vectors, ...): float64, (vectors, rows). Does not compute ``weight``."""
        run = self._run(self.program.points(self.point), self.program.points(vectors)[None])
        products = [self.program.bend(at).row_tangents(dx, s) for at, _, s, dx in run]
        return np.asarray(torch.cat(products, dim=2)[0].cpu().numpy())

    def transposed_times(self, factors: Any) -> np.ndarray:
        """``weight.T @ factors`` of factors (rows,): float64, (features,). Does not compute ``weight``."""
        u = float64_points(factors, "factors", self.program.device)
        if u.shape != (self.rows,):
            raise InputError(f"factors have shape {tuple(u.shape)}. Give one for each of the {self.rows} rows.")
        with torch.inference_mode(False), torch.enable_grad():
            x = self.program.points(self.point).clone().requires_grad_()
            rows = torch.cat([self.program.bend(at).rows(y, s) for at, y, s, _ in self._run(x)], dim=1)
            (result,) = torch.autograd.grad(rows[0] @ u, x)
        return np.asarray(result.flatten().cpu().numpy())

    @cached_property
    def weight(self) -> np.ndarray:
        """float64, (rows, features). Raises InputError above 2 GiB: use `times`, `transposed_times` and `values`."""
        features = self.program.features
        if 8 * self.rows * features > MOST_BYTES:
            raise InputError(
                f"{self.rows:,} rows of {features:,} features take {8 * self.rows * features / 2**30:.0f} GiB. "
                "Use times, transposed_times and values, which do not need them, or a module: module='head'."
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
        """``weight @ point + bias``: float64, (rows,), non-negative."""
        return np.asarray(self.values(self.point)[0])

    def affine_map(self) -> tuple[np.ndarray, np.ndarray]:
        """The network in this cell, ``matrix @ x + offset``: float64, (outputs, features) and (outputs,)."""
        with torch.inference_mode(False), torch.enable_grad():
            x = self.program.points(np.zeros(self.program.features)).requires_grad_()
            *_, (_, offset, _, _) = self._run(x, to_the_end=True)
            rows = [torch.autograd.grad(y, x, retain_graph=True)[0].flatten() for y in offset.flatten()]
        return torch.stack(rows).cpu().numpy(), offset[0].detach().flatten().cpu().numpy()

    @cached_property
    def margin(self) -> float:
        """The distance of the point to the border of its cell, in the units of the input; inf if it has no border."""
        return float(margins(self.program, self.point).distance[0])

    @cached_property
    def _ball(self) -> tuple[np.ndarray, float]:
        return half_spaces.chebyshev(*self._unit)

    @property
    def inradius(self) -> float:
        """The radius of a largest ball inside; inf if balls of any size fit, 0.0 without an interior."""
        return self._ball[1]

    @property
    def centre(self) -> np.ndarray:
        """The centre of that ball: float64, (features,)."""
        return self._ball[0]

    @cached_property
    def has_interior(self) -> bool:
        """False for a code that occurs only on borders: its cell has no interior, and no facets."""
        return bool((self.slack[self._nonzero] > 0).all()) or self.inradius > 0

    @cached_property
    def bounded(self) -> bool:
        """Whether the cell is bounded."""
        return half_spaces.is_bounded(self._unit[0])

    @cached_property
    def inside(self) -> np.ndarray:
        """A point of the interior, float64, (features,): ``point``, or ``centre`` if that lies on the border."""
        norms = np.linalg.norm(self.weight, axis=1)[self._nonzero]
        if (self.slack[self._nonzero] > ZERO * norms).all():
            return self.point
        if not self.inradius > 0:
            raise InputError("the cell of this point has no interior: the point lies where borders meet. Give another.")
        return self.centre

    def facets(self, *, tolerance: float = 1e-9, threads: int | None = None) -> Facets:
        """The facets, with the numbers of their rows, each with a point of its relative interior: see `find_facets`.

        Two half-spaces count as equal if they differ by less than ``tolerance``, relative to the numbers.
        """
        rows = np.flatnonzero(self._nonzero)
        facets = find_facets(*self._unit, self.inside, tolerance=tolerance, threads=threads)
        facet_of = np.full(self.rows, -1)
        facet_of[rows] = facets.facet_of
        return Facets(rows[facets.rows], facet_of, facets.points)

    def neighbours(self, facets: Facets | None = None) -> np.ndarray:
        """The codes of the cells behind ``facets`` (all, if None), in their order: bool, (facets, neurons).

        For parameters in general position each differs from ``code`` in one bit; in several, where rows coincide or a
        neuron that is 0 all over this cell becomes positive.
        """
        facets = self.facets() if facets is None else facets
        outward = -self.weight[facets.rows]
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        slack = self.values(self.inside)
        ties = facets.facet_of == np.arange(len(facets))[:, None]
        ties |= vanished(slack, self._nonzero[None], self.program.widths, 1e-9)
        states = [state.expand(len(ties), *state.shape[1:]) for state in self.states]
        points, directions = self.program.points(facets.points), self.program.points(outward)
        behind = states_behind(self.program, states, points, directions, ties)
        return np.asarray(self.program.code(behind).cpu().numpy())

    def vertices(self) -> np.ndarray:
        """The vertices: float64, (vertices, features). Raises InputError in more than 8 dimensions."""
        return half_spaces.vertices(*self._unit, self.inside)

    def volume(self) -> float:
        """The volume; inf if unbounded. Raises InputError in more than 8 dimensions."""
        return half_spaces.volume(*self._unit, self.inside)

    def random_points(self, count: int, *, seed: int = 0) -> np.ndarray:
        """``count`` almost uniform random points of the interior: float64, (count, features). See `random_inside`."""
        return half_spaces.random_inside(*self._unit, self.inside, count, seed)

    @cached_property
    def _nonzero(self) -> np.ndarray:
        return nonzero_rows(np.linalg.norm(self.weight, axis=1), self.program.widths)

    @cached_property
    def _unit(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of the rows that are not zero, scaled to length 1: layers may differ by many magnitudes."""
        weight = self.weight[self._nonzero]
        norms = np.linalg.norm(weight, axis=1)
        return weight / norms[:, None], self.bias[self._nonzero] / norms

    @property
    def _bends(self) -> list[Bend]:
        return [self.program.bend(at) for at in range(len(self.program.widths))]

    def _run(self, points: Tensor, tangents: Tensor | None = None, *, to_the_end: bool = False) -> Any:
        def decide(at: int, *_: Any) -> Tensor:
            state = self.states[at]
            state = state.clone() if state.is_inference() else state  # autograd keeps it
            return state.expand(len(points), *state.shape[1:])

        return self.program.run(points, tangents, decide, to_the_end=to_the_end)


def polyhedron(network: nn.Module | Program, point: Any, *, module: str | None = None) -> Polyhedron:
    """The polyhedron of the cell of ``point``, an input of the network: (features,), or a batch of one, (1, ...).

    With ``module`` it is a polyhedron in the space of that module's inputs, at the input that the module gets.

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
    example = float64_points(point, "the coordinates of the point")
    program, at = program_of(network, example[None] if example.ndim == 1 else example, module)
    if len(at) != 1:
        raise InputError(f"there are {len(at)} points, but a polyhedron takes one. Give points[:1] or image[None].")
    return Polyhedron(program, at.flatten().cpu().numpy(), tuple(program.states(at)))
