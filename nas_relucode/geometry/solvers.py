"""Questions to half-spaces ``weight @ x + bias >= 0``: the inradius, bounded or not, vertices, volume, points inside.

Linear programmes are HiGHS's, hulls Qhull's. Wherever rows span less than the whole space it is their span, the row
space, in which the answer is looked for: exact, and far smaller for a network's first layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError

from nas_relucode.errors import InputError, SolverError
from nas_relucode.geometry.cones import missing
from nas_relucode.geometry.half_spaces import half_spaces, nonzero, row_space, slacks_inside, whitened

MOST = 8  # features in which vertices are enumerated
REACH = 10.0  # times the median distance of rows: the radius of the ball that cuts an unbounded cell
STATUS = {1: "its limit of steps", 2: "infeasible", 3: "unbounded", 4: "numerical difficulties"}


def programme(cost: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, box: float | None = None) -> np.ndarray:
    """The x of least ``cost @ x`` with ``weight @ x + bias >= 0``, and none of x beyond the box: (features,).

    Only for programmes that have one: any other status of HiGHS is a SolverError that names it.
    """
    bounds = (None, None) if box is None else (-box, box)
    close = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    for method in ("highs-ds", "highs-ipm"):
        found = linprog(cost, A_ub=-weight, b_ub=bias, bounds=bounds, method=method, options=close)
        if found.status == 0:
            return np.asarray(found.x)
    reason = STATUS.get(found.status, f"status {found.status}")
    raise SolverError(
        f"HiGHS ended a programme of {len(weight)} rows and {weight.shape[1]} variables by {reason}: {found.message}"
    )


def chebyshev(weight: Any, bias: Any, *, tolerance: float = 1e-9) -> tuple[np.ndarray, float]:
    """A largest ball inside: its centre (features,), its radius.

    The radius is inf where balls of any size fit, and the centre then lies as far inside as the farthest row lies from
    0. It is 0.0 without an interior, that is if it is not above ``tolerance`` times that distance; the centre is then
    a point, or NaN if there is none.

    >>> centre, radius = chebyshev([[1, 0], [0, 1], [-3, -4]], [0, 0, 12])
    >>> centre.round(9), round(radius, 9)
    (array([1., 1.]), 1.0)
    """
    weight, bias = half_spaces(weight, bias)
    rows = nonzero(weight)
    norms = np.linalg.norm(weight[rows], axis=1)
    units, offsets = weight[rows] / norms[:, None], bias[rows] / norms
    scale = float(np.abs(offsets).max(initial=0)) or 1.0
    if (np.delete(bias, rows) < -tolerance * np.abs(bias).max(initial=0)).any():  # 0 @ x is never as large
        return np.full(weight.shape[1], np.nan), 0.0
    if len(rows) == 0:
        return np.zeros(weight.shape[1]), np.inf
    basis = row_space(units)
    small = units @ basis
    ones = np.ones((len(rows), 1))
    apart, found = missing(np.hstack([small, ones]), np.eye(small.shape[1] + 1)[-1])
    if found and apart[-1] > tolerance**2:  # away from all rows
        away = -apart[:-1] / apart[-1]
        speeds = small @ away
        if speeds.min() > 0.5:
            return basis @ away * np.max((scale - offsets) / speeds, initial=0), np.inf
    widened = np.hstack([small, -ones])
    best = programme(-np.eye(small.shape[1] + 1)[-1], widened, offsets / scale)
    tight = widened @ best + offsets / scale < 1e-7
    exact = best - np.linalg.lstsq(widened[tight], widened[tight] @ best + offsets[tight] / scale, rcond=None)[0]
    points = [(scale * (basis @ at[:-1])) for at in (best, exact)]
    radii = [float((units @ point + offsets).min()) for point in points]
    point, radius = points[int(radii[1] > radii[0])], max(radii)
    if radius < -tolerance * scale:
        return np.full(weight.shape[1], np.nan), 0.0
    return point, radius if radius > tolerance * scale else 0.0


def is_bounded(weight: Any, *, tolerance: float = 1e-9) -> bool:
    """Whether half-spaces with these normals (rows, features) enclose a bounded cell, if any. See recession_direction.

    >>> is_bounded([[1, 0], [0, 1]]), is_bounded([[1, 0], [0, 1], [-1, -1]])
    (False, True)
    """
    weight, _ = half_spaces(weight, np.zeros(len(weight)))
    rows = nonzero(weight)
    if len(rows) <= weight.shape[1]:
        return False
    basis = row_space(weight[rows])
    return basis.shape[1] == weight.shape[1] and _away(weight[rows], basis, tolerance) is None


def recession_direction(weight: Any, *, tolerance: float = 1e-9) -> np.ndarray | None:
    """A unit direction (features,) in which the cell never ends, or None if it is bounded.

    Of the directions that leave no row it is the one in which the sum of the distances to all rows grows fastest; where
    none of them grows, a direction along all rows. Directions are taken to leave no row, and not to leave rows behind,
    within ``tolerance``, the sine of an angle.

    >>> recession_direction([[1, 0], [0, 1]]).round(3)
    array([0.707, 0.707])
    """
    weight, _ = half_spaces(weight, np.zeros(len(weight)))
    rows = nonzero(weight)
    basis = row_space(weight[rows])
    away = _away(weight[rows], basis, tolerance)
    if away is not None or basis.shape[1] == weight.shape[1]:
        return away
    unit = np.eye(weight.shape[1])[np.argmin(np.linalg.norm(basis, axis=1))]
    for _ in range(2):
        unit = unit - basis @ (basis.T @ unit)
        unit /= np.linalg.norm(unit)
    return np.asarray(unit)


def _away(weight: np.ndarray, basis: np.ndarray, tolerance: float) -> np.ndarray | None:
    """The direction of the row space away from the rows, if there is one.

    What the sum of the normals is missing beside the cone of their opposites is its part in the recession cone.
    """
    if len(weight) == 0:
        return None
    units = weight @ basis / np.linalg.norm(weight, axis=1)[:, None]
    along, found = missing(-units, units.sum(axis=0))
    if not found:
        along = programme(-units.sum(axis=0), units, np.zeros(len(units)), box=1.0)
    length = float(np.linalg.norm(along))
    if length <= tolerance:
        return None
    if (units @ along).min() < -tolerance * length:
        raise SolverError(
            f"no direction away from {len(weight)} rows was found to {tolerance:.1e}, and none excluded. "
            "Give a larger tolerance."
        )
    return np.asarray(basis @ (along / length))


def vertices(weight: Any, bias: Any, inside: Any) -> np.ndarray:
    """The corners of a cell around a point inside: float64, (vertices, features), in no order; bounded or not.

    Raises InputError in more than 8 dimensions, where there are too many, and for a point that is not inside.

    >>> np.sort(vertices([[1, 0], [0, 1], [-1, -1]], [0, 0, 1], [0.25, 0.25]), axis=0).round(9) + 0.0
    array([[0., 0.],
           [0., 0.],
           [1., 1.]])
    """
    weight, bias = half_spaces(weight, bias)
    features = weight.shape[1]
    _few(features)
    point, rows, slack = slacks_inside(weight, bias, inside)
    if len(rows) < features or row_space(weight[rows]).shape[1] < features:
        return np.empty((0, features))
    dual, back = whitened(-weight[rows] / slack[:, None])
    if features == 1:
        found = np.array([1 / end for end, side in ((dual.max(), 1), (dual.min(), -1)) if end * side > 0])
    else:
        try:
            planes = np.unique(ConvexHull(np.vstack([dual, np.zeros(features)])).equations, axis=0)
        except QhullError as error:
            raise SolverError(f"Qhull found no hull of {len(dual)} rows: {str(error).splitlines()[0]}") from error
        planes = planes[planes[:, -1] < -1e-12]  # others go through 0: they are at infinity
        found = _distinct([_exact(dual, plane) for plane in planes[:, :-1] / -planes[:, -1:]])
    return np.asarray(point + found.reshape(-1, features) @ back.T)


def _exact(dual: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The corner again, from the rows that meet there."""
    slack = 1 - dual @ corner
    tight = slack < 1e-8 * (1 + np.abs(dual @ corner).max())
    return np.asarray(corner + np.linalg.lstsq(dual[tight], slack[tight], rcond=None)[0])


def _distinct(points: list[np.ndarray]) -> np.ndarray:
    kept: list[np.ndarray] = []
    for point in points:
        if not kept or np.abs(np.array(kept) - point).max(axis=1).min() > 1e-9 * (1 + np.abs(point).max()):
            kept.append(point)
    return np.array(kept)


def volume(weight: Any, bias: Any, inside: Any) -> float:
    """The volume of a cell around a point inside, inf if it is unbounded. Raises InputError as `vertices`.

    >>> round(volume([[1, 0], [0, 1], [-1, -1]], [0, 0, 1], [0.25, 0.25]), 9)
    0.5
    """
    corners = vertices(weight, bias, inside)
    if not is_bounded(weight):
        return np.inf
    if corners.shape[1] == 1:
        return float(corners.max() - corners.min())
    flat, back = whitened(corners - np.asarray(inside))
    return float(ConvexHull(flat).volume / abs(np.linalg.det(back)))


def _few(features: int) -> None:
    if features > MOST:
        raise InputError(
            f"{features} features are too many for corners and volumes, which grow exponentially: at most {MOST}. "
            "Use the inradius, the margin or the facets."
        )


def random_inside(weight: Any, bias: Any, inside: Any, count: int, seed: int) -> np.ndarray:
    """Points drawn almost uniformly from a cell: float64, (count, features), each by a walk of hit-and-run of its own.

    An unbounded cell is cut by a ball around ``inside``, in the row space, of ten times the median distance from there
    to the rows. Points differ from ``inside`` by vectors of the row space only. A walk takes 30 steps and 4 more for
    each dimension. Raises InputError for a point that is not inside.

    >>> random_inside([[1.0], [-1.0]], [0.0, 1.0], [0.5], 2, seed=0).shape
    (2, 1)
    """
    weight, bias = half_spaces(weight, bias)
    point, rows, slack = slacks_inside(weight, bias, inside)
    if count < 0:
        raise InputError(f"{count} points are too few. Give a whole number of at least 0.")
    if len(rows) == 0:
        raise InputError("all rows are zero, so that the cell is the whole space. There is nothing to draw from.")
    basis = row_space(weight[rows])
    small = weight[rows] @ basis
    distances = slack / np.linalg.norm(small, axis=1)
    radius = np.inf if is_bounded(small) else REACH * float(np.median(distances))
    rng = np.random.default_rng(seed)
    at, root = _middle(small, slack, radius)
    walks = np.tile(at, (count, 1))
    for step in range(30 + 4 * small.shape[1]):
        if step % 50 == 0:  # again from the points: rounding adds up
            left = slack + walks @ small.T
        way = rng.standard_normal(walks.shape) @ root.T
        speed = way @ small.T
        with np.errstate(divide="ignore"):
            turns = -left / speed
        far = np.where(speed < 0, turns, np.inf).min(axis=1)
        near = np.where(speed > 0, turns, -np.inf).max(axis=1)
        if np.isfinite(radius):
            square, half = (way**2).sum(axis=1), (way * walks).sum(axis=1)
            root_of = np.sqrt(np.maximum(half**2 + square * (radius**2 - (walks**2).sum(axis=1)), 0))
            far, near = np.minimum(far, (root_of - half) / square), np.maximum(near, (-root_of - half) / square)
        share = np.clip(rng.random(count), 1e-9, 1 - 1e-9)
        move = near + share * (far - near)
        walks += move[:, None] * way
        left += move[:, None] * speed
    return np.asarray(point + walks @ basis.T)


def _middle(weight: np.ndarray, slack: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """About the analytic centre, and a root of the inverse Hessian there: as the cell is wide, so are its columns."""
    at = np.zeros(weight.shape[1])
    for _ in range(50):
        left = slack + weight @ at
        room = radius**2 - at @ at
        scaled = weight / left[:, None]
        slope, hessian = -scaled.sum(axis=0), scaled.T @ scaled
        if np.isfinite(radius):
            slope += 2 * at / room
            hessian += 2 * np.eye(len(at)) / room + 4 * np.outer(at, at) / room**2
        triangle = np.linalg.cholesky(hessian)
        root = solve_triangular(triangle, np.eye(len(at)), lower=True).T
        step = -root @ (root.T @ slope)
        decrement = np.sqrt(-slope @ step)
        if decrement < 0.3:
            break
        most = 1 / max(-(scaled @ step).min(), 1e-300)
        size = min(1.0, 0.9 * most) if decrement < 1 else 1 / (1 + decrement)
        at = at + _longest(left, weight @ step, at, step, radius, size) * step
    return at, root


def _longest(
    left: np.ndarray, speed: np.ndarray, at: np.ndarray, step: np.ndarray, radius: float, size: float
) -> float:
    """Doubles a step while the barrier falls."""

    def barrier(share: float) -> float:
        room = radius**2 - ((at + share * step) ** 2).sum()
        slack = left + share * speed
        if slack.min() <= 0 or room <= 0:
            return np.inf
        return float(-np.log(slack).sum() - (np.log(room) if np.isfinite(radius) else 0))

    value = barrier(size)
    while (larger := barrier(2 * size)) < value:
        size, value = 2 * size, larger
    return size
