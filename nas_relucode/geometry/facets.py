"""The facets of a polyhedron: which of its half-spaces are not redundant (Theorem 1), each with a point of its facet.

Row i is redundant exactly if (w_i, b_i) is a sum of non-negative multiples of the other rows and (0, 1). If it is not,
its residual outside that cone is, with its sign changed, a point at which only row i is negative: on the way there
from inside the polyhedron, the border of row i is crossed first. The residual depends on the coordinates. They are
chosen so that the rows' Gram matrix is the identity, where most rows of a network's cell are facets at first sight.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nas_relucode.errors import SolverError, finite_number
from nas_relucode.geometry.cones import OUTSIDE, UNDECIDED, locate_columns
from nas_relucode.geometry.half_spaces import check_half_spaces, linear_programme, row_space, slacks_inside, whitened

CLEAR = 1e-3  # of its value inside: what every other row should be at least, at a facet's point
ROUNDING = 1e-14  # of the product of two vectors
PRECISION = 1e-9  # of a linear programme's solution
LARGEST_TOLERANCE = 1e-2  # beyond which rows would be equal that are not
AT_ONCE = 1024  # rows that are multiplied with all others at a time
WORTH_A_THREAD = 2**20  # numbers: rows to search for x rows x features


@dataclass(frozen=True, eq=False)
class Facets:
    """The facets of a polyhedron, in the order of their rows."""

    rows: np.ndarray  # int64, (facets,), ascending: the first of the rows that lie on each facet
    facet_of: np.ndarray  # int64, (rows,): the facet that each row lies on, -1 if it is redundant or zero
    points: np.ndarray  # float64, (facets, features): a point of each facet's relative interior

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Facets: {len(self)} facets of {len(self.facet_of)} rows in {self.points.shape[1]} dimensions"


def find_facets(weight: Any, bias: Any, inside: Any, *, tolerance: float = 1e-9, threads: int | None = None) -> Facets:
    """The facets of ``weight @ x + bias >= 0``, (rows, features) and (rows,), around a point inside, (features,).

    Rows of zeros are left out, rows that are equal up to a positive factor share a facet, and rows that touch the
    polyhedron in less than a facet are redundant. Two rows count as equal if they differ by less than ``tolerance`` of
    their length, and a row counts as redundant if it is closer than that to the cone of the others. These are lengths
    of rows (w_i, b_i) in coordinates around ``inside`` in which every row is 1 there and their Gram matrix is the
    identity; they do not depend on the coordinates of the input. ``threads`` (None: torch's number) do not change the
    result.

    >>> facets = find_facets([[1, 0], [0, 1], [-1, -1], [-2, -2], [-1, 0]], [0, 0, 1, 2, 1], [0.25, 0.25])
    >>> facets.rows, facets.facet_of, facets.points.round(3)[2].tolist()
    (array([0, 1, 2]), array([ 0,  1,  2,  2, -1]), [0.46, 0.54])

    Raises InputError if a row that is not zero is not positive at the point.
    """
    tolerance = finite_number("tolerance", tolerance, most=LARGEST_TOLERANCE)
    weight, bias = check_half_spaces(weight, bias)
    point, kept, slack = slacks_inside(weight, bias, inside)
    facet_of = np.full(len(weight), -1, np.int64)
    if len(kept) == 0:
        return Facets(np.empty(0, np.int64), facet_of, np.empty((0, weight.shape[1])))
    basis = row_space(weight[kept])
    small = weight[kept] @ basis
    lifted = np.hstack([small / slack[:, None], np.ones((len(kept), 1))])
    rows, back = whitened(np.vstack([lifted, np.eye(lifted.shape[1])[-1]]))
    first_equal = _first_equal(rows[:-1], tolerance)
    firsts = np.flatnonzero(first_equal == np.arange(len(first_equal)))
    rows = np.vstack([rows[firsts], rows[-1]])
    is_facet, residuals = _decide(rows, tolerance, threads)
    beyond = -residuals[is_facet] @ back.T  # homogeneous: points beyond the facets
    # On the line beyond + theta * inside the row is 0 where theta is minus its value at ``beyond``, as it is 1 inside.
    theta = np.einsum("fk,fk->f", residuals[is_facet], rows[:-1][is_facet])
    points = beyond[:, :-1] / (beyond[:, -1] + theta)[:, None]
    own = firsts[is_facet]
    error = np.einsum("fk,fk->f", small[own], points) + slack[own]  # by rounding
    points -= (error / (small[own] ** 2).sum(axis=1))[:, None] * small[own]
    number = np.full(len(kept), -1)
    number[own] = np.arange(len(own))
    facet_of[kept] = number[first_equal]
    return Facets(kept[own], facet_of, point + points @ basis.T)


def _first_equal(rows: np.ndarray, tolerance: float) -> np.ndarray:
    """The first row that equals each row, directly or through a chain of equal rows: int64, (rows,)."""
    lengths = np.linalg.norm(rows, axis=1)
    along = rows @ np.random.default_rng(0).standard_normal(rows.shape[1])  # equal rows are close in this order
    order = np.argsort(along)
    most = 8 * np.sqrt(rows.shape[1]) * tolerance * lengths[order]  # a bound on the random direction, with room
    pairs = [np.empty((0, 2), np.int64)]
    for step in range(1, len(rows)):
        near = np.flatnonzero(along[order[step:]] - along[order[:-step]] <= np.maximum(most[step:], most[:-step]))
        if len(near) == 0:
            break
        one, other = order[near], order[near + step]
        distance = np.linalg.norm(rows[one] - rows[other], axis=1)
        is_equal = distance <= tolerance * np.maximum(lengths[one], lengths[other])
        pairs.append(np.stack([one, other], axis=1)[is_equal])
    first, second = np.concatenate(pairs).T
    if len(first) == 0:
        return np.arange(len(rows))
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(rows), len(rows)))
    labels = connected_components(graph, directed=False)[1]
    firsts = np.unique(labels, return_index=True)[1]
    return np.asarray(firsts[labels])


def _decide(rows: np.ndarray, tolerance: float, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Which rows but the last, (0, 1), are facets: bool, (rows - 1,); and these rows' residuals: (rows - 1, size)."""
    columns = np.ascontiguousarray(rows.T)
    lengths = np.linalg.norm(rows, axis=1)
    # A vector whose products with a row and with all others differ so much proves that the row is farther from their
    # cone than the tolerance.
    least = np.maximum(tolerance * lengths * (1 + lengths * np.sqrt(len(rows))), ROUNDING)
    residuals = rows[:-1].copy()  # those outside the cone {0}: for most rows they prove enough
    is_facet = np.empty(len(residuals), bool)
    for start in range(0, len(residuals), AT_ONCE):
        products = rows[start : min(start + AT_ONCE, len(residuals))] @ columns
        own = np.arange(len(products))
        value, last = products[own, start + own], products[:, -1].copy()
        products[own, start + own] = -np.inf
        gap = value - products.max(axis=1)
        is_facet[start : start + AT_ONCE] = gap > np.maximum(CLEAR * (value - last), (least * lengths)[start + own])
    open_rows = np.flatnonzero(~is_facet)
    threads = min(threads or torch.get_num_threads(), len(open_rows) * rows.size // WORTH_A_THREAD + 1)
    parts = [open_rows[part::threads].copy() for part in range(threads)]  # contiguous: one compiled version for all

    def search(part: np.ndarray) -> np.ndarray:
        return np.asarray(locate_columns(columns, lengths, least, part, CLEAR, tolerance, residuals))

    if threads == 1:
        places = [search(open_rows)]
    else:
        with ThreadPoolExecutor(threads) as pool:
            places = list(pool.map(search, parts))
    for part, place in zip(parts, places, strict=True):
        is_facet[part] = place == OUTSIDE
        for row in part[place == UNDECIDED]:
            is_facet[row] = _by_programme(rows, row, tolerance, residuals)
    return is_facet, residuals


def _by_programme(rows: np.ndarray, row: int, tolerance: float, residuals: np.ndarray) -> bool:
    """Whether a row can be negative where no other is. Writes its residual, whose entries are bounded by 1."""
    others = np.delete(rows, row, axis=0)
    lengths = np.linalg.norm(rows, axis=1)
    units = others / np.delete(lengths, row)[:, None]
    solution = linear_programme(rows[row] / lengths[row], units, np.zeros(len(units)), box=1.0)
    theta = -float(rows[row] @ solution)
    if theta <= max(tolerance, PRECISION) * lengths[row]:
        return False
    if (others @ solution).min() <= -theta:
        raise SolverError(f"HiGHS's answer for row {row} violates other rows. Scale the network's inputs to about 1.")
    residuals[row] = -solution
    return True
