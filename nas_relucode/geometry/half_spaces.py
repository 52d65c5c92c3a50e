"""Half-spaces ``weight @ x + bias >= 0`` made fit for computing: checked, without zeros, in their own coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import qr, solve_triangular

from nas_relucode.errors import InputError, NonFiniteError

ZERO = 1e-13  # of the longest row: a row that is shorter is a row of zeros
RANK = 1e-10  # of the first pivot: a smaller one is zero


def half_spaces(weight: Any, bias: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, (rows, features) and (rows,). Raises InputError for other shapes, NonFiniteError for NaN."""
    weight, bias = np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    if weight.ndim != 2 or weight.shape[1] == 0 or bias.shape != weight.shape[:1]:
        raise InputError(
            f"weight has shape {weight.shape}, bias {bias.shape}. Give (rows, features), at least one, and (rows,)."
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise NonFiniteError("weight or bias is not finite. Check the network's weights.")
    return weight, bias


def slacks_inside(weight: np.ndarray, bias: np.ndarray, inside: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The point (features,), the numbers of the rows that are not zero, and what these rows are there.

    Raises InputError if one is not positive: the point must lie inside.
    """
    point = np.asarray(inside, dtype=np.float64)
    if point.shape != weight.shape[1:]:
        raise InputError(f"inside has shape {point.shape}. Give one value for each of the {weight.shape[1]} features.")
    rows = nonzero(weight)
    slack = weight[rows] @ point + bias[rows]
    if not (slack > 0).all():
        raise InputError(
            f"row {rows[np.argmin(slack)]} is {slack.min():.3g} at the inner point. Give a point at which all rows are "
            "positive, such as the centre that chebyshev finds."
        )
    return point, rows, slack


def nonzero(weight: np.ndarray) -> np.ndarray:
    """The numbers of the rows that are not zero: int64, ascending."""
    norms = np.linalg.norm(weight, axis=1)
    return np.flatnonzero(norms > ZERO * norms.max(initial=0))


def row_space(weight: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the span of rows, none of them zero: (features, rank). The unit vectors if it is all."""
    features = weight.shape[1]
    if len(weight) == 0:
        return np.empty((features, 0))
    units = weight / np.linalg.norm(weight, axis=1)[:, None]
    if len(weight) <= features:  # the basis is needed, most likely
        basis, triangle, _ = qr(units.T, mode="economic", pivoting=True)
    else:
        triangle = qr(units, mode="r", pivoting=True)[0]
        if _rank(triangle) == features:
            return np.eye(features)
        basis, triangle, _ = qr(units.T, mode="economic", pivoting=True)
    return np.asarray(basis[:, : _rank(triangle)])


def _rank(triangle: np.ndarray) -> int:
    pivots = np.abs(np.diagonal(triangle))
    return int((pivots > RANK * pivots[0]).sum())


def whitened(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (rows, features) of full rank in coordinates in which the sum of their squares is the identity; and ``back``
    (features, features), so that ``directions @ back`` is them.

    Longest rows first, and pivots: then each row is exact to its own length, though they differ by many powers of 10.
    """
    order = np.argsort(-np.linalg.norm(directions, axis=1))
    triangle, pivots = qr(directions[order], mode="r", pivoting=True)
    triangle = triangle[: directions.shape[1]]
    back = np.empty_like(triangle)
    back[pivots] = solve_triangular(triangle, np.eye(len(triangle)))
    return np.asarray(solve_triangular(triangle, directions[:, pivots].T, trans="T").T), back
