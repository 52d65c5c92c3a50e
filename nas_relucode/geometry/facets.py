"""The facets of a polyhedron: which of its half-spaces are not redundant (Theorem 1), each with a point that shows it.

Row i is redundant exactly if (w_i, b_i) is a sum of non-negative multiples of the other rows and (0, 1). What it is
missing beside the nearest such sum is, with its sign changed, a point at which row i alone is negative: on the way
there from inside the polyhedron row i is crossed while the others are positive. What is nearest depends on the
coordinates: they are those in which the rows' squares add up to the identity, and most rows of a network's cell need no
search there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nas_relucode.errors import SolverError
from nas_relucode.geometry.cones import OUTSIDE, UNDECIDED, search_beside
from nas_relucode.geometry.half_spaces import half_spaces, row_space, slacks_inside, whitened
from nas_relucode.geometry.solvers import programme

CLEAR = 1e-3  # of its value inside: what each other row should be at least, at a facet's point
ROUNDING = 1e-14  # of the product of two vectors
PRECISION = 1e-9  # of a programme's answer
AT_ONCE = 1024  # rows that are multiplied with all others at a time
MUCH = 2**20  # numbers of rows that wait, times all rows: what pays for another thread


@dataclass(frozen=True)
class Facets:
    """The facets of a polyhedron, in order of their rows."""

    rows: np.ndarray  # int64, (facets,), ascending: of the rows that lie on a facet the first
    facet_of: np.ndarray  # int64, (rows,): the facet that a row lies on, -1 if it is redundant or zero
    points: np.ndarray  # float64, (facets, features): a point of each facet's relative interior

    def __len__(self) -> int:
        return len(self.rows)


def find_facets(weight: Any, bias: Any, inside: Any, *, tolerance: float = 1e-9, threads: int | None = None) -> Facets:
    """The facets of ``weight @ x + bias >= 0``, (rows, features) and (rows,), around a point inside, (features,).

    Rows of zeros are left out, rows that are the same but for a factor make one facet, and rows that touch the
    polyhedron in less than a facet are redundant. A row is taken for another if it differs by less than ``tolerance``
    of its length, and for redundant if it is nearer than that to the cone of the others: lengths of rows (w_i, b_i)
    in coordinates around ``inside``, in which rows are 1 there and their squares add up to the identity. They don't
    depend on the coordinates that are given. ``threads`` (None: numba's) don't change the result.

    >>> found = find_facets([[1, 0], [0, 1], [-1, -1], [-2, -2], [-1, 0]], [0, 0, 1, 2, 1], [0.25, 0.25])
    >>> found.rows, found.facet_of, found.points.round(3)[2].tolist()
    (array([0, 1, 2]), array([ 0,  1,  2,  2, -1]), [0.46, 0.54])

    Raises InputError for a point at which a row that is not zero is not positive.
    """
    weight, bias = half_spaces(weight, bias)
    point, kept, slack = slacks_inside(weight, bias, inside)
    facet_of = np.full(len(weight), -1, np.int64)
    if len(kept) == 0:
        return Facets(np.empty(0, np.int64), facet_of, np.empty((0, weight.shape[1])))
    basis = row_space(weight[kept])
    small = weight[kept] @ basis
    lifted = np.hstack([small / slack[:, None], np.ones((len(kept), 1))])
    rows, back = whitened(np.vstack([lifted, np.eye(lifted.shape[1])[-1]]))
    group = _same(rows[:-1], tolerance)  # of each row the first that is the same
    firsts = np.flatnonzero(group == np.arange(len(group)))
    rows = np.vstack([rows[firsts], rows[-1]])
    is_facet, rests = _decide(rows, tolerance, threads)
    towards = -rests[is_facet] @ back.T
    # s(towards) + theta * s(inside) is 0 in the row itself: theta is what that row is at ``towards``, sign changed.
    theta = np.einsum("fk,fk->f", rests[is_facet], rows[:-1][is_facet])
    places = towards[:, :-1] / (towards[:, -1] + theta)[:, None]
    own = firsts[is_facet]
    off = np.einsum("fk,fk->f", small[own], places) + slack[own]  # by rounding
    places -= (off / (small[own] ** 2).sum(axis=1))[:, None] * small[own]
    number = np.full(len(kept), -1)
    number[own] = np.arange(len(own))
    facet_of[kept] = number[group]
    return Facets(kept[own], facet_of, point + places @ basis.T)


def _same(rows: np.ndarray, tolerance: float) -> np.ndarray:
    """Of each row the first that is the same within the tolerance, or is so by way of others: int64, (rows,)."""
    lengths = np.linalg.norm(rows, axis=1)
    along = rows @ np.random.default_rng(0).standard_normal(rows.shape[1])  # rows that are the same lie together here
    order = np.argsort(along)
    most = 8 * np.sqrt(rows.shape[1]) * tolerance * lengths[order]  # chance adds no more than the root and some
    pairs = [np.empty((0, 2), np.int64)]
    for step in range(1, len(rows)):
        near = np.flatnonzero(along[order[step:]] - along[order[:-step]] <= np.maximum(most[step:], most[:-step]))
        if len(near) == 0:
            break
        one, other = order[near], order[near + step]
        apart = np.linalg.norm(rows[one] - rows[other], axis=1)
        same = apart <= tolerance * np.maximum(lengths[one], lengths[other])
        pairs.append(np.stack([one, other], axis=1)[same])
    first, second = np.concatenate(pairs).T
    if len(first) == 0:
        return np.arange(len(rows))
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(rows), len(rows)))
    labels = connected_components(graph, directed=False)[1]
    firsts = np.unique(labels, return_index=True)[1]
    return np.asarray(firsts[labels])


def _decide(rows: np.ndarray, tolerance: float, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Which rows but the last, (0, 1), are facets: bool, (rows - 1,); and what these are missing: (rows - 1, k)."""
    columns = np.ascontiguousarray(rows.T)
    lengths = np.linalg.norm(rows, axis=1)
    # A vector with such a gap to all others shows that the row is farther from their cone than the tolerance.
    least = np.maximum(tolerance * lengths * (1 + lengths * np.sqrt(len(rows))), ROUNDING)
    rests = rows[:-1].copy()  # as if the nearest sum were 0
    is_facet = np.empty(len(rests), bool)
    for start in range(0, len(rests), AT_ONCE):
        products = rows[start : min(start + AT_ONCE, len(rests))] @ columns
        own = np.arange(len(products))
        value, last = products[own, start + own], products[:, -1].copy()
        products[own, start + own] = -np.inf
        gap = value - products.max(axis=1)
        is_facet[start : start + AT_ONCE] = gap > np.maximum(CLEAR * (value - last), (least * lengths)[start + own])
    left = np.flatnonzero(~is_facet)
    threads = min(threads or numba.get_num_threads(), len(left) * rows.size // MUCH + 1)
    parts = [left[part::threads] for part in range(threads)]

    def search(part: np.ndarray) -> np.ndarray:
        return np.asarray(search_beside(columns, lengths, least, part, CLEAR, tolerance, rests))

    if threads == 1:
        kinds = [search(left)]
    else:
        with ThreadPoolExecutor(threads) as pool:
            kinds = list(pool.map(search, parts))
    for part, kind in zip(parts, kinds, strict=True):
        is_facet[part] = kind == OUTSIDE
        for row in part[kind == UNDECIDED]:
            is_facet[row] = _by_programme(rows, row, tolerance, rests)
    return is_facet, rests


def _by_programme(rows: np.ndarray, row: int, tolerance: float, rests: np.ndarray) -> bool:
    """Whether a row can be negative where no other is, among vectors with no entry beyond 1 (so none is unbounded)."""
    others = np.delete(rows, row, axis=0)
    lengths = np.linalg.norm(rows, axis=1)
    units = others / np.delete(lengths, row)[:, None]
    found = programme(rows[row] / lengths[row], units, np.zeros(len(units)), box=1.0)
    theta = -float(rows[row] @ found)
    if theta <= max(tolerance, PRECISION) * lengths[row]:
        return False
    if (others @ found).min() <= -theta:
        raise SolverError(f"HiGHS's answer for row {row} violates other rows. Scale the network's inputs to about 1.")
    rests[row] = -found
    return True
