"""Lemma 1 audited: which pairs of cells one bit apart share a facet, each with its certificate, and which are phantoms.

That neighbours across a facet are one bit apart holds for parameters in general position; the converse fails from two
hidden layers on, because a deeper neuron may change between cells that agree on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from nas_relucode.cells.neighbours import pairs_within
from nas_relucode.cells.occupied import Cells, find_cells
from nas_relucode.codes.bits import pack
from nas_relucode.errors import SolverError
from nas_relucode.geometry.bends import flat
from nas_relucode.geometry.crossing import nonzero_rows, states_behind, vanished
from nas_relucode.geometry.program import Program, read_program

BATCH = 512
MOST = 2**30  # bytes of the rows of a cell
CERTIFICATES = ("last layer", "segment", "programme", "phantom", "undecided")


@dataclass(frozen=True)
class Audit:
    """Pairs of occupied cells one bit apart, and what is known of them."""

    cells: Cells  # of the sample, in float64
    pairs: np.ndarray  # int64, (pairs, 2): adjacent cells, first < second
    certificate: np.ndarray  # int64, (pairs,): a number in CERTIFICATES
    points: np.ndarray  # float64, (pairs, features): on the shared facet; NaN where none is known

    @property
    def counts(self) -> dict[str, int]:
        """Pairs by certificate. The first three kinds are facet neighbours."""
        found = np.bincount(self.certificate, minlength=len(CERTIFICATES))
        return dict(zip(CERTIFICATES, found.tolist(), strict=True))

    @property
    def phantom_fraction(self) -> float:
        """Pairs that share no facet / pairs that were decided; NaN if there are none."""
        decided = int((self.certificate < CERTIFICATES.index("undecided")).sum())
        return self.counts["phantom"] / decided if decided else float("nan")


def audit(
    network: nn.Module | Program,
    inputs: Any,
    *,
    module: str | None = None,
    max_pairs: int | None = None,
    seed: int = 0,
    tolerance: float = 1e-9,
) -> Audit:
    """Which adjacent pairs (codes one bit apart) among the cells of ``inputs`` are facet neighbours.

    Of more than ``max_pairs`` so many are drawn. The certificates, from cheap to dear: the flipped neuron is in the
    last layer of a network without pooling, where earlier layers agree and convexity does the rest; on the segment
    between samples of the two cells, where that neuron is 0 no other is, and all have the bits of the cells; a linear
    programme finds a point of the facet with room on all sides, or shows that there is none: a phantom. With pooling
    a cell may have several parts, of which the programme sees one: a pair may then stay undecided.

    ``tolerance`` is relative to the largest value of a layer: what is nearer to 0 is on the border. Raises InputError
    as `read_program`.
    """
    if isinstance(network, Program):
        program, points = network, network.points(inputs)
    else:
        program = read_program(network, inputs, module=module)
        points = program.example
    search = _Audit(program, tolerance)
    cells = find_cells(pack(program.bits(points)))
    found = pairs_within(cells.codes, 1)
    pairs = np.stack([found.first, found.second], axis=1)[found.distance == 1]
    if max_pairs is not None and len(pairs) > max_pairs:
        pairs = pairs[np.sort(np.random.default_rng(seed).choice(len(pairs), max_pairs, replace=False))]
    return Audit(cells, pairs, *search.decided(pairs, points[cells.first]))


class _Audit:
    def __init__(self, program: Program, tolerance: float) -> None:
        self.program, self.tolerance = program, tolerance
        self.bends = [program.bend(at) for at in range(len(program.bends))]
        self.pools = not program.is_bit.all()  # something else bends, too

    def values(self, points: Tensor) -> Tensor:
        """The pre-activations of all ReLUs: (points, neurons)."""
        run = self.program.run(points, to_the_end=False)
        return torch.cat([flat(x) for at, x, _, _ in run if self.program.has_bits[at]], dim=1)

    def decided(self, pairs: np.ndarray, witnesses: Tensor) -> tuple[np.ndarray, np.ndarray]:
        kinds = np.full(len(pairs), CERTIFICATES.index("undecided"))
        facet_points = np.full((len(pairs), self.program.features), np.nan)
        for start in range(0, len(pairs), BATCH):
            some = slice(start, start + BATCH)
            one, other = (witnesses[torch.as_tensor(pairs[some, side])] for side in (0, 1))
            kinds[some], facet_points[some] = self.on_segments(one, other)
        basis = self.program.row_space()
        if 8 * len(basis) * sum(self.program.widths) > MOST:  # the rows are not written out: these stay undecided
            return kinds, facet_points
        for pair in np.flatnonzero(kinds == CERTIFICATES.index("undecided")):
            one, other = (witnesses[int(side)][None] for side in pairs[pair])
            kinds[pair], facet_points[pair] = self.by_programme(one, other, basis)
        return kinds, facet_points

    def on_segments(self, one: Tensor, other: Tensor) -> tuple[np.ndarray, np.ndarray]:
        before, after = self.values(one), self.values(other)
        flips = (before > 0) != (after > 0)
        flipped = flips.int().argmax(dim=1)
        rows = torch.arange(len(one), device=one.device)
        z, y = before[rows, flipped], after[rows, flipped]
        share = (z / (z - y)).reshape(-1, *[1] * (one.ndim - 1))
        points = (1 - share) * one + share * other
        middle = self.values(points)
        tiny = self.tolerance * middle.abs().amax(dim=1, keepdim=True)
        right = ((middle > 0) == (before > 0)) & (middle.abs() > tiny)
        right[rows, flipped] = (middle[rows, flipped].abs() <= tiny[:, 0]) | (not self.pools)
        straight = right.all(dim=1).cpu().numpy()
        apart = ((before.abs() > 0) & (after.abs() > 0)).all(dim=1)
        last = (flipped >= before.shape[1] - self.program.widths[-1]) & apart & (not self.pools)
        kinds = np.where(last.cpu().numpy(), 0, np.where(straight, 1, CERTIFICATES.index("undecided")))
        found = points.flatten(1).cpu().numpy()
        return kinds, np.where((kinds <= 1)[:, None], found, np.nan)

    def by_programme(self, one: Tensor, other: Tensor, basis: Tensor) -> tuple[int, np.ndarray]:
        """Looks for the point of the facet with most room, in the space that the rows span, and crosses it there."""
        values, rows, states = [], [], []
        for at, x, state, dx in self.program.run(one, basis[None], to_the_end=False):
            assert dx is not None
            values.append(self.bends[at].rows(x, state))
            rows.append(self.bends[at].row_tangents(dx, state)[0].T)
            states.append(state)
        there = self.program.states(other)
        slack, weight = torch.cat(values, dim=1).cpu().numpy(), torch.cat(rows).cpu().numpy()
        norms = np.linalg.norm(weight, axis=1)
        kept = nonzero_rows(norms, self.program.widths)
        flipped = self.flipped_row(states, there)
        if not kept[flipped]:
            return CERTIFICATES.index("undecided"), np.full(self.program.features, np.nan)
        unit, distance = weight / np.where(kept, norms, 1)[:, None], slack[0] / np.where(kept, norms, 1)
        far = max(float(np.median(distance[kept])), float(distance[flipped]))  # a length that is usual here
        same = kept & (np.linalg.norm(unit - unit[flipped], axis=1) <= self.tolerance)
        same &= np.abs(distance - distance[flipped]) <= self.tolerance * far
        step, room = widest_on(unit[kept & ~same], distance[kept & ~same], unit[flipped], distance[flipped])
        if room > self.tolerance * far:
            point = one + (torch.as_tensor(step, device=one.device) @ basis.flatten(1)).reshape(one.shape)
            outward = -(torch.as_tensor(unit[flipped], device=one.device) @ basis.flatten(1)).reshape(one.shape)
            ties = same | vanished(slack, kept[None], self.program.widths, self.tolerance)
            behind = states_behind(self.program, states, point, outward, ties)
            if self.same_code(behind, there):
                return CERTIFICATES.index("programme"), point.flatten().cpu().numpy()
        kind = "undecided" if self.pools else "phantom"
        return CERTIFICATES.index(kind), np.full(self.program.features, np.nan)

    def flipped_row(self, states: list[Tensor], there: list[Tensor]) -> int:
        differs = (self.program.code(states) != self.program.code(there))[0]
        return int(np.flatnonzero(self.program.is_bit)[int(differs.int().argmax())])

    def same_code(self, states: list[Tensor], there: list[Tensor]) -> bool:
        return torch.equal(self.program.code(states), self.program.code(there))


def widest_on(weight: np.ndarray, slack: np.ndarray, row: np.ndarray, value: float) -> tuple[np.ndarray, float]:
    """The step to the point of the hyperplane ``row @ y + value = 0`` that is furthest from the other rows' borders, in
    which ``weight @ y + slack`` is at least ``room`` times the rows' norms; and the room, below 0 if none lies inside.
    """
    size = float(np.linalg.norm(row))
    if len(weight) == 0:
        return -value * row / size**2, np.inf
    norms = np.linalg.norm(weight, axis=1)
    most = float(np.median(slack / norms)) + abs(value) / size  # more room than that proves nothing more
    result = linprog(
        np.append(np.zeros(weight.shape[1]), -1.0),
        A_ub=np.column_stack([-weight / norms[:, None], np.ones(len(weight))]),
        b_ub=slack / norms,
        A_eq=np.append(row / size, 0.0)[None],
        b_eq=[-value / size],
        bounds=[(None, None)] * weight.shape[1] + [(None, most)],
        method="highs",
    )
    if result.status != 0:
        raise SolverError(f"HiGHS ended with status {result.status}, {result.message} An optimum exists here.")
    return np.asarray(result.x[:-1]), float(result.x[-1])
