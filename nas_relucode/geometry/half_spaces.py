"""Questions to half-spaces ``weight @ x + bias >= 0``: the inradius, bounded or not, vertices, volume, points inside.

Linear programmes are solved by HiGHS, hulls by Qhull. Where the rows do not span the whole space, the answer is
computed in their span, the row space: that is exact, and far smaller for the first layers of a network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import qr, solve_triangular
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError

from nas_relucode.errors import InputError, NonFiniteError, SolverError, whole_number
from nas_relucode.geometry.cones import cone_residual

ZERO = 1e-13  # of the longest row: a shorter row counts as a row of zeros
RANK = 1e-10  # of the first pivot: a smaller pivot counts as zero
MOST_FEATURES = 8  # in which vertices are enumerated
REACH = 10.0  # times the median distance of rows: the radius of the ball that random points of an unbounded cell are in
STATUS = {1: "its limit of steps", 2: "infeasible", 3: "unbounded", 4: "numerical difficulties"}


def check_half_spaces(weight: Any, bias: Any) -> tuple[np.ndarray, np.ndarray]:
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
    """The point ``inside`` (features,), the numbers of the rows that are not zero, and their slacks at the point.

    Raises InputError if a slack is not positive: the point must lie inside.
    """
    point = np.asarray(inside, dtype=np.float64)
    if point.shape != weight.shape[1:]:
        raise InputError(f"inside has shape {point.shape}. Give one value for each of the {weight.shape[1]} features.")
    rows = nonzero(weight)
    slack = weight[rows] @ point + bias[rows]
    if not (slack > 0).all():
        raise InputError(
            f"row {rows[np.argmin(slack)]} is {slack.min():.3g} at the inner point. Give a point at which all rows are "
            "positive, for example the centre that chebyshev returns."
        )
    return point, rows, slack


def nonzero(weight: np.ndarray) -> np.ndarray:
    """The numbers of the rows that are not zero: int64, ascending."""
    norms = np.linalg.norm(weight, axis=1)
    return np.flatnonzero(norms > ZERO * norms.max(initial=0))


def row_space(weight: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the span of rows, none of them zero: (features, rank); the identity at full rank."""
    features = weight.shape[1]
    if len(weight) == 0:
        return np.empty((features, 0))
    units = weight / np.linalg.norm(weight, axis=1)[:, None]
    if len(weight) > features:  # most likely of full rank: the triangle suffices to tell
        triangle = qr(units, mode="r", pivoting=True)[0]
        if _rank(triangle) == features:
            return np.eye(features)
    basis, triangle, _ = qr(units.T, mode="economic", pivoting=True)
    return np.asarray(basis[:, : _rank(triangle)])


def _rank(triangle: np.ndarray) -> int:
    pivots = np.abs(np.diagonal(triangle))
    return int((pivots > RANK * pivots[0]).sum())


def whitened(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (rows, features) of full rank, in coordinates in which ``rows.T @ rows`` is the identity.

    And ``back`` (features, features): ``directions @ back`` are the rows in these coordinates. The triangle is computed
    with the longest rows first and with pivots: each row is then exact relative to its own length, even if lengths
    differ by many powers of 10.
    """
    order = np.argsort(-np.linalg.norm(directions, axis=1))
    triangle, pivots = qr(directions[order], mode="r", pivoting=True)
    triangle = triangle[: directions.shape[1]]
    back = np.empty_like(triangle)
    back[pivots] = solve_triangular(triangle, np.eye(len(triangle)))
    return np.asarray(solve_triangular(triangle, directions[:, pivots].T, trans="T").T), back


def linear_programme(cost: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, box: float | None = None) -> np.ndarray:
    """The x that minimises ``cost @ x`` subject to ``weight @ x + bias >= 0`` and -box <= x <= box: (features,).

    Raises SolverError unless HiGHS finds an optimum; the programmes here all have one.
    """
    bounds = (None, None) if box is None else (-box, box)
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    for method in ("highs-ds", "highs-ipm"):
        result = linprog(cost, A_ub=-weight, b_ub=bias, bounds=bounds, method=method, options=options)
        if result.status == 0:
            return np.asarray(result.x)
    reason = STATUS.get(result.status, f"status {result.status}")
    raise SolverError(
        f"HiGHS ended a programme of {len(weight)} rows and {weight.shape[1]} variables by {reason}: {result.message}"
    )


def chebyshev(weight: Any, bias: Any, *, tolerance: float = 1e-9) -> tuple[np.ndarray, float]:
    """The centre (features,) and the radius of a largest ball inside.

    Let ``scale`` be the distance from 0 to the farthest row's border. The radius is inf if balls of any size fit; the
    centre then has at least the distance ``scale`` from all borders. The radius is 0.0 if there is no interior, that
    is if it would be at most ``tolerance * scale``; the centre is then a point of the set, or NaN if the set is empty.

    >>> centre, radius = chebyshev([[1, 0], [0, 1], [-3, -4]], [0, 0, 12])
    >>> centre.round(9), round(radius, 9)
    (array([1., 1.]), 1.0)
    """
    weight, bias = check_half_spaces(weight, bias)
    rows = nonzero(weight)
    norms = np.linalg.norm(weight[rows], axis=1)
    units, offsets = weight[rows] / norms[:, None], bias[rows] / norms
    scale = float(np.abs(offsets).max(initial=0)) or 1.0
    if (np.delete(bias, rows) < -tolerance * np.abs(bias).max(initial=0)).any():  # 0 @ x + bias >= 0 never holds
        return np.full(weight.shape[1], np.nan), 0.0
    if len(rows) == 0:
        return np.zeros(weight.shape[1]), np.inf
    basis = row_space(units)
    small = units @ basis
    ones = np.ones((len(rows), 1))
    residual, is_exact = cone_residual(np.hstack([small, ones]), np.eye(small.shape[1] + 1)[-1])
    if is_exact and residual[-1] > tolerance**2:  # there is a direction away from all borders
        away = -residual[:-1] / residual[-1]
        speeds = small @ away
        if speeds.min() > 0.5:
            return basis @ away * np.max((scale - offsets) / speeds, initial=0), np.inf
    widened = np.hstack([small, -ones])
    optimum = linear_programme(-np.eye(small.shape[1] + 1)[-1], widened, offsets / scale)
    tight = widened @ optimum + offsets / scale < 1e-7
    error = np.linalg.lstsq(widened[tight], widened[tight] @ optimum + offsets[tight] / scale, rcond=None)[0]
    points = [scale * (basis @ solution[:-1]) for solution in (optimum, optimum - error)]
    radii = [float((units @ point + offsets).min()) for point in points]
    point, radius = points[int(radii[1] > radii[0])], max(radii)
    if radius < -tolerance * scale:
        return np.full(weight.shape[1], np.nan), 0.0
    return point, radius if radius > tolerance * scale else 0.0


def is_bounded(weight: Any, *, tolerance: float = 1e-9) -> bool:
    """Whether a cell with these normals (rows, features) is bounded, within the tolerance of `recession_direction`.

    >>> is_bounded([[1, 0], [0, 1]]), is_bounded([[1, 0], [0, 1], [-1, -1]])
    (False, True)
    """
    weight, _ = check_half_spaces(weight, np.zeros(len(weight)))
    rows = nonzero(weight)
    if len(rows) <= weight.shape[1]:
        return False
    basis = row_space(weight[rows])
    return basis.shape[1] == weight.shape[1] and _recession_in_span(weight[rows], basis, tolerance) is None


def recession_direction(weight: Any, *, tolerance: float = 1e-9) -> np.ndarray | None:
    """A unit direction (features,) in which a cell with these normals is unbounded; None if it is bounded.

    Of all directions with ``weight @ direction >= 0`` it is the one in which the sum of the distances to all borders
    grows fastest; if that sum grows in none of them, a direction parallel to all borders. ``tolerance`` is the sine of
    an angle, within which a direction counts as parallel to a border.

    >>> recession_direction([[1, 0], [0, 1]]).round(3)
    array([0.707, 0.707])
    """
    weight, _ = check_half_spaces(weight, np.zeros(len(weight)))
    rows = nonzero(weight)
    basis = row_space(weight[rows])
    direction = _recession_in_span(weight[rows], basis, tolerance)
    if direction is not None or basis.shape[1] == weight.shape[1]:
        return direction
    unit = np.eye(weight.shape[1])[np.argmin(np.linalg.norm(basis, axis=1))]
    for _ in range(2):  # twice, against rounding
        unit = unit - basis @ (basis.T @ unit)
        unit /= np.linalg.norm(unit)
    return np.asarray(unit)


def _recession_in_span(weight: np.ndarray, basis: np.ndarray, tolerance: float) -> np.ndarray | None:
    """The recession direction within the span of the rows, if there is one.

    It is the residual of the sum of the unit normals outside the cone of their opposites (Moreau's decomposition).
    """
    if len(weight) == 0:
        return None
    units = weight @ basis / np.linalg.norm(weight, axis=1)[:, None]
    direction, is_exact = cone_residual(-units, units.sum(axis=0))
    if not is_exact:
        direction = linear_programme(-units.sum(axis=0), units, np.zeros(len(units)), box=1.0)
    length = float(np.linalg.norm(direction))
    if length <= tolerance:
        return None
    if (units @ direction).min() < -tolerance * length:
        raise SolverError(
            f"whether a cell of {len(weight)} rows is bounded could not be decided with tolerance {tolerance:.1e}. "
            "Give a larger tolerance."
        )
    return np.asarray(basis @ (direction / length))


def vertices(weight: Any, bias: Any, inside: Any) -> np.ndarray:
    """The vertices of a cell, bounded or not, around a point inside: float64, (vertices, features), in any order.

    Raises InputError in more than 8 dimensions, where there are too many, and for a point that is not inside.

    >>> np.sort(vertices([[1, 0], [0, 1], [-1, -1]], [0, 0, 1], [0.25, 0.25]), axis=0).round(9) + 0.0
    array([[0., 0.],
           [0., 0.],
           [1., 1.]])
    """
    weight, bias = check_half_spaces(weight, bias)
    features = weight.shape[1]
    if features > MOST_FEATURES:
        raise InputError(
            f"{features} features are too many for vertices and volumes, whose cost grows exponentially: at most "
            f"{MOST_FEATURES}. Use the inradius, the margin or the facets."
        )
    point, rows, slack = slacks_inside(weight, bias, inside)
    if len(rows) < features or row_space(weight[rows]).shape[1] < features:
        return np.empty((0, features))
    dual, back = whitened(-weight[rows] / slack[:, None])
    if features == 1:
        corners = np.array([1 / end for end, side in ((dual.max(), 1), (dual.min(), -1)) if end * side > 0])
    else:
        try:
            planes = np.unique(ConvexHull(np.vstack([dual, np.zeros(features)])).equations, axis=0)
        except QhullError as error:
            raise SolverError(f"Qhull found no hull of {len(dual)} rows: {str(error).splitlines()[0]}") from error
        planes = planes[planes[:, -1] < -1e-12]  # a plane through 0 is a vertex at infinity
        corners = _distinct([_polished(dual, plane) for plane in planes[:, :-1] / -planes[:, -1:]])
    return np.asarray(point + corners.reshape(-1, features) @ back.T)


def _polished(dual: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The corner, solved again from the rows that meet there."""
    slack = 1 - dual @ corner
    tight = slack < 1e-8 * (1 + np.abs(dual @ corner).max())
    return np.asarray(corner + np.linalg.lstsq(dual[tight], slack[tight], rcond=None)[0])


def _distinct(points: list[np.ndarray]) -> np.ndarray:
    """The points without those that are equal, up to rounding, to an earlier one."""
    kept: list[np.ndarray] = []
    for point in points:
        if not kept or np.abs(np.array(kept) - point).max(axis=1).min() > 1e-9 * (1 + np.abs(point).max()):
            kept.append(point)
    return np.array(kept)


def volume(weight: Any, bias: Any, inside: Any) -> float:
    """The volume of a cell around a point inside; inf if it is unbounded. Raises InputError as `vertices`.

    >>> round(volume([[1, 0], [0, 1], [-1, -1]], [0, 0, 1], [0.25, 0.25]), 9)
    0.5
    """
    corners = vertices(weight, bias, inside)
    if not is_bounded(weight):
        return np.inf
    if corners.shape[1] == 1:
        return float(corners.max() - corners.min())
    round_corners, back = whitened(corners - np.asarray(inside))
    return float(ConvexHull(round_corners).volume / abs(np.linalg.det(back)))


def random_inside(weight: Any, bias: Any, inside: Any, count: int, seed: int) -> np.ndarray:
    """Almost uniform random points of a cell: float64, (count, features), each by its own hit-and-run walk.

    An unbounded cell is cut off by a ball around ``inside`` in the row space, with ten times the median distance from
    there to the borders as radius. Points differ from ``inside`` by vectors of the row space only. A walk takes 30
    steps and 4 more for each dimension. Raises InputError for a point that is not inside.

    >>> random_inside([[1.0], [-1.0]], [0.0, 1.0], [0.5], 2, seed=0).shape
    (2, 1)
    """
    weight, bias = check_half_spaces(weight, bias)
    point, rows, slack = slacks_inside(weight, bias, inside)
    count, seed = whole_number("count", count), whole_number("seed", seed)
    if len(rows) == 0:
        raise InputError("all rows are zero, so that the cell is the whole space. There is nothing to draw from.")
    basis = row_space(weight[rows])
    small = weight[rows] @ basis
    radius = np.inf if is_bounded(small) else REACH * float(np.median(slack / np.linalg.norm(small, axis=1)))
    rng = np.random.default_rng(seed)
    centre, root = _analytic_centre(small, slack, radius)
    walks = np.tile(centre, (count, 1))
    for step in range(30 + 4 * small.shape[1]):
        if step % 50 == 0:  # computed again from the points, as rounding adds up
            slacks = slack + walks @ small.T
        directions = rng.standard_normal(walks.shape) @ root.T
        speeds = directions @ small.T
        low, high = _chords(walks, directions, slacks, speeds, radius)
        moves = low + np.clip(rng.random(count), 1e-9, 1 - 1e-9) * (high - low)
        walks += moves[:, None] * directions
        slacks += moves[:, None] * speeds
    return np.asarray(point + walks @ basis.T)


def _chords(
    points: np.ndarray, directions: np.ndarray, slacks: np.ndarray, speeds: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest t for which point + t * direction is in the cell and the ball: (points,) each."""
    with np.errstate(divide="ignore"):
        crossings = -slacks / speeds
    high = np.where(speeds < 0, crossings, np.inf).min(axis=1)
    low = np.where(speeds > 0, crossings, -np.inf).max(axis=1)
    if np.isfinite(radius):
        square, half = (directions**2).sum(axis=1), (directions * points).sum(axis=1)
        root = np.sqrt(np.maximum(half**2 + square * (radius**2 - (points**2).sum(axis=1)), 0))
        high, low = np.minimum(high, (root - half) / square), np.maximum(low, (-root - half) / square)
    return low, high


def _analytic_centre(weight: np.ndarray, slack: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """About the analytic centre (features,), by damped Newton steps, and a root of the inverse Hessian of the barrier.

    The root (features, features) maps a ball to an ellipsoid that is about as wide as the cell in each direction.
    """
    point = np.zeros(weight.shape[1])
    for _ in range(50):
        slacks = slack + weight @ point
        room = radius**2 - point @ point
        scaled = weight / slacks[:, None]
        gradient, hessian = -scaled.sum(axis=0), scaled.T @ scaled
        if np.isfinite(radius):
            gradient += 2 * point / room
            hessian += 2 * np.eye(len(point)) / room + 4 * np.outer(point, point) / room**2
        triangle = np.linalg.cholesky(hessian)
        root = solve_triangular(triangle, np.eye(len(point)), lower=True).T
        step = -root @ (root.T @ gradient)
        decrement = np.sqrt(-gradient @ step)
        if decrement < 0.3:
            break
        most = 1 / max(-(scaled @ step).min(), 1e-300)
        size = min(1.0, 0.9 * most) if decrement < 1 else 1 / (1 + decrement)
        point = point + _step_size(slacks, weight @ step, point, step, radius, size) * step
    return point, root


def _step_size(
    slacks: np.ndarray, speeds: np.ndarray, point: np.ndarray, step: np.ndarray, radius: float, size: float
) -> float:
    """``size``, doubled as long as that lowers the logarithmic barrier."""

    def barrier(share: float) -> float:
        room = radius**2 - ((point + share * step) ** 2).sum()
        slack = slacks + share * speeds
        if slack.min() <= 0 or room <= 0:
            return np.inf
        return float(-np.log(slack).sum() - (np.log(room) if np.isfinite(radius) else 0))

    value = barrier(size)
    while (larger := barrier(2 * size)) < value:
        size, value = 2 * size, larger
    return size
