"""Lemma 1 audited: which pairs of cells one bit apart share a facet, with a certificate, and which are phantom pairs.

Cells that share a facet are one bit apart for parameters in general position. The converse is false from two hidden
layers on, because a deeper neuron may change its sign twice between cells that agree on it.
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
from nas_relucode.errors import SolverError, finite_number, whole_number
from nas_relucode.geometry.bends import flat
from nas_relucode.geometry.crossing import nonzero_rows, states_behind, vanished
from nas_relucode.geometry.facets import LARGEST_TOLERANCE
from nas_relucode.geometry.program import Program, program_of

BATCH = 512  # pairs
MOST_BYTES = 2**30  # of the rows of a cell
CERTIFICATES = ("last layer", "segment", "programme", "phantom", "undecided")
LAST_LAYER, SEGMENT, PROGRAMME, PHANTOM, UNDECIDED = range(5)


@dataclass(frozen=True, eq=False)
class Audit:
    """Pairs of occupied cells one bit apart, each certified as facet neighbours or as a phantom pair."""

    cells: Cells  # the cells of the sample, in float64
    pairs: np.ndarray  # int64, (pairs, 2): adjacent cells, first < second
    certificate: np.ndarray  # int64, (pairs,): an index into CERTIFICATES
    points: np.ndarray  # float64, (pairs, features): a point of the shared facet; NaN where none is known

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {count}" for name, count in self.counts.items())
        return f"Audit: {len(self.pairs)} pairs of {len(self.cells)} cells\n  {counts}"

    @property
    def counts(self) -> dict[str, int]:
        """Pairs by certificate. The first three certificates prove facet neighbours."""
        return dict(zip(CERTIFICATES, np.bincount(self.certificate, minlength=5).tolist(), strict=True))

    @property
    def phantom_fraction(self) -> float:
        """The fraction of the decided pairs that share no facet; NaN if there are none."""
        decided = int((self.certificate < UNDECIDED).sum())
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

    Of more than ``max_pairs`` pairs, a seeded sample is audited. The certificates, from cheap to expensive:

    - "last layer": the flipped neuron is in the last layer of a network with bits only. Both cells then lie in one cell
      of the layers before, which is convex, and no other neuron separates them.
    - "segment": at the point of the segment between samples of the two cells where that neuron is 0, all other neurons
      are clearly different from 0 and have the bits of the cells.
    - "programme": a linear programme finds a point of the facet with room to all other borders.
    - "phantom": a linear programme shows that there is no such point.

    Where other operations bend too (max-pooling, clamps), a cell may have several parts, of which the programme sees
    one: a pair may stay "undecided". So does one of codes that differ by rounding alone, in the bit of a neuron that is
    0 all over a cell. ``tolerance`` is relative to the largest value of a layer: a value closer to 0
    counts as on the border. Raises InputError as `read_program`.
    """
    most = None if max_pairs is None else whole_number("max_pairs", max_pairs)
    generator = np.random.default_rng(whole_number("seed", seed))
    tolerance = finite_number("tolerance", tolerance, most=LARGEST_TOLERANCE)
    program, points = program_of(network, inputs, module)
    cells = find_cells(pack(program.bits(points)))
    near = pairs_within(cells.codes, 1)  # of distinct codes: all at distance 1
    pairs = np.stack([near.first, near.second], axis=1)
    if most is not None and len(pairs) > most:
        pairs = pairs[np.sort(generator.choice(len(pairs), most, replace=False))]
    return Audit(cells, pairs, *_Certifier(program, tolerance).certify(pairs, points[cells.first]))


class _Certifier:
    def __init__(self, program: Program, tolerance: float) -> None:
        self.program, self.tolerance = program, tolerance
        self.bends = [program.bend(at) for at in range(len(program.bends))]
        self.only_bits = bool(program.is_bit.all())

    def certify(self, pairs: np.ndarray, witnesses: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The fields ``certificate`` and ``points`` of an `Audit`; ``witnesses`` are a sample of each cell."""
        certificates = np.full(len(pairs), UNDECIDED)
        facet_points = np.full((len(pairs), self.program.features), np.nan)
        for start in range(0, len(pairs), BATCH):
            part = slice(start, start + BATCH)
            one, other = (witnesses[torch.as_tensor(pairs[part, side])] for side in (0, 1))
            certificates[part], facet_points[part] = self.on_segments(one, other)
        basis = self.program.row_space()
        if 8 * len(basis) * sum(self.program.widths) > MOST_BYTES:
            return certificates, facet_points
        for pair in np.flatnonzero(certificates == UNDECIDED):
            one, other = (witnesses[int(side)][None] for side in pairs[pair])
            certificates[pair], facet_points[pair] = self.by_programme(one, other, basis)
        return certificates, facet_points

    def pre_activations(self, points: Tensor) -> Tensor:
        """Those of all neurons with a bit: (points, neurons)."""
        run = self.program.run(points, to_the_end=False)
        return torch.cat([flat(x) for at, x, _, _ in run if self.program.has_bits[at]], dim=1)

    def on_segments(self, one: Tensor, other: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The certificates that follow from the segments between points of the cells, (pairs, *shape) each."""
        before, after = self.pre_activations(one), self.pre_activations(other)
        flipped = ((before > 0) != (after > 0)).int().argmax(dim=1)
        rows = torch.arange(len(one), device=one.device)
        z, y = before[rows, flipped], after[rows, flipped]
        share = (z / (z - y)).reshape(-1, *[1] * (one.ndim - 1))
        points = (1 - share) * one + share * other
        middle = self.pre_activations(points)
        tiny = self.tolerance * middle.abs().amax(dim=1, keepdim=True)
        unchanged = ((middle > 0) == (before > 0)) & (middle.abs() > tiny)
        unchanged[rows, flipped] = (middle[rows, flipped].abs() <= tiny[:, 0]) | self.only_bits
        near = self.tolerance * torch.maximum(before.abs().amax(dim=1), after.abs().amax(dim=1))
        flips = torch.maximum(z.abs(), y.abs()) > near  # a smaller change may be rounding, and is left to the programme
        on_segment = (unchanged.all(dim=1) & flips).cpu().numpy()
        off_borders = (torch.minimum(before.abs(), after.abs()) > near[:, None]).all(dim=1)
        in_last_layer = (flipped >= before.shape[1] - self.program.widths[-1]) & off_borders & self.only_bits
        certificates = np.where(in_last_layer.cpu().numpy(), LAST_LAYER, np.where(on_segment, SEGMENT, UNDECIDED))
        return certificates, np.where((certificates <= SEGMENT)[:, None], points.flatten(1).cpu().numpy(), np.nan)

    def by_programme(self, one: Tensor, other: Tensor, basis: Tensor) -> tuple[int, np.ndarray]:
        """The certificate of one pair, from the point of the facet with the most room, where it is crossed.

        ``basis`` (directions, *shape) spans the rows.
        """
        values, rows, states = [], [], []
        for at, x, state, dx in self.program.run(one, basis[None], to_the_end=False):
            assert dx is not None
            values.append(self.bends[at].rows(x, state))
            rows.append(self.bends[at].row_tangents(dx, state)[0].T)
            states.append(state)
        slack, weight = torch.cat(values, dim=1).cpu().numpy(), torch.cat(rows).cpu().numpy()
        norms = np.linalg.norm(weight, axis=1)
        kept = nonzero_rows(norms, self.program.widths)
        code, other_code = self.program.code(states), self.program.code(self.program.states(other))
        flipped = int(np.flatnonzero(self.program.is_bit)[int((code != other_code)[0].int().argmax())])
        nowhere = np.full(self.program.features, np.nan)
        zero = vanished(slack, kept[None], self.program.widths, self.tolerance)[0]
        if not kept[flipped] or (zero[self.program.is_bit] & code[0].cpu().numpy().astype(bool)).any():
            return UNDECIDED, nowhere  # rounding alone gave a neuron a bit
        unit, distance = weight / np.where(kept, norms, 1)[:, None], slack[0] / np.where(kept, norms, 1)
        scale = max(float(np.median(distance[kept])), float(distance[flipped]))  # a typical distance here
        equal = kept & (np.linalg.norm(unit - unit[flipped], axis=1) <= self.tolerance)
        equal &= np.abs(distance - distance[flipped]) <= self.tolerance * scale
        step, room = widest_on(unit[kept & ~equal], distance[kept & ~equal], unit[flipped], distance[flipped])
        if room > self.tolerance * scale:
            point = one + (torch.as_tensor(step, device=one.device) @ basis.flatten(1)).reshape(one.shape)
            outward = -(torch.as_tensor(unit[flipped], device=one.device) @ basis.flatten(1)).reshape(one.shape)
            ties = equal | vanished(slack, kept[None], self.program.widths, self.tolerance)
            behind = states_behind(self.program, states, point, outward, ties)
            if torch.equal(self.program.code(behind), other_code):
                return PROGRAMME, point.flatten().cpu().numpy()
        return PHANTOM if self.only_bits else UNDECIDED, nowhere


def widest_on(weight: np.ndarray, slack: np.ndarray, row: np.ndarray, value: float) -> tuple[np.ndarray, float]:
    """The point y of the hyperplane ``row @ y + value = 0`` that is farthest inside ``weight @ y + slack >= 0``.

    And its distance to the nearest of these borders, negative if no point of the hyperplane lies inside.
    """
    size = float(np.linalg.norm(row))
    if len(weight) == 0:
        return -value * row / size**2, np.inf
    norms = np.linalg.norm(weight, axis=1)
    most = float(np.median(slack / norms)) + abs(value) / size  # bounds the programme; a larger distance proves no more
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
        raise SolverError(f"HiGHS ended with status {result.status}: {result.message} Scale the inputs to about 1.")
    return np.asarray(result.x[:-1]), float(result.x[-1])
