"""The sides and corners of many cells in a plane at once, by convex hulls of dual points.

A cell {x0 + y: G y + s >= 0} with s > 0 has a side for each vertex, other than 0, of the hull of 0 and all -G_i / s_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_relucode.codes.words import compiled


@dataclass(frozen=True, eq=False)
class Sides:
    """The sides of some cells, ordered by cell and counterclockwise. Coordinates start at the cell's inner point."""

    cell: np.ndarray  # int64, (sides,)
    row: np.ndarray  # int64, (sides,): the first of the rows that lie on the side
    point: np.ndarray  # float64, (sides, 2): in the side's relative interior
    corner: np.ndarray  # float64, (sides, 2): where the side begins; NaN where it comes from infinity
    bounded: np.ndarray  # bool, (cells,)


def find_sides(gradients: np.ndarray, slacks: np.ndarray, used: np.ndarray, tolerance: float) -> Sides:
    """The sides of cells, from their rows' ``gradients`` (cells, rows, 2) and ``slacks`` (cells, rows) at inner points.

    ``used`` (cells, rows) are the rows that are not zero, whose slacks are positive. Rows count as equal, and a side as
    a mere corner, within ``tolerance`` relative to the lengths of the dual points.
    """
    table = np.empty((slacks.size + 1, 6))
    bounded = np.empty(len(slacks), np.bool_)
    gradients = np.ascontiguousarray(gradients)  # one compiled version for all layouts
    count = _all_sides(gradients, slacks, used, tolerance, table, bounded)
    table = table[:count]
    return Sides(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:4], table[:, 4:6], bounded)


@compiled
def _all_sides(gradients, slacks, used, tolerance, table, bounded):  # type: ignore  # pragma: no cover
    """Writes a line of ``table`` for each side (cell, row, point, corner), and returns how many there are."""
    cells, rows = slacks.shape
    x, y = np.empty(rows + 1), np.empty(rows + 1)  # the dual points
    row = np.empty(rows + 1, np.int64)  # of each dual point; -1 for 0
    hull = np.empty(2 * rows + 4, np.int64)  # the numbers of the dual points that are vertices
    count = 0
    for cell in range(cells):
        n = 1
        x[0], y[0], row[0] = 0.0, 0.0, -1
        for i in range(rows):
            if used[cell, i]:
                x[n] = -gradients[cell, i, 0] / slacks[cell, i]
                y[n] = -gradients[cell, i, 1] / slacks[cell, i]
                row[n] = i
                n += 1
        corners = _hull(x, y, n, tolerance, hull)
        closed = corners >= 3
        for k in range(corners):
            a, b = hull[k], hull[(k + 1) % corners]
            closed &= _cross(x[a], y[a], x[b], y[b]) > tolerance * np.hypot(x[a], y[a]) * np.hypot(x[b], y[b])
        bounded[cell] = closed
        for k in range(corners):
            i = hull[k]
            if row[i] < 0:
                continue
            p, q = hull[(k - 1) % corners], hull[(k + 1) % corners]
            least = row[i]
            for j in range(1, n):  # rows on the same side
                if np.hypot(x[j] - x[i], y[j] - y[i]) <= tolerance * np.hypot(x[i], y[i]):
                    least = min(least, row[j])
            size = np.hypot(x[i], y[i])
            first, second = _cross(x[p], y[p], x[i], y[i]), _cross(x[i], y[i], x[q], y[q])
            begins = corners > 2 and first > tolerance * size * np.hypot(x[p], y[p])
            ends = corners > 2 and second > tolerance * size * np.hypot(x[q], y[q])
            vx, vy, wx, wy = np.nan, np.nan, np.nan, np.nan  # corners: (vx, vy) at the beginning, (wx, wy) at the end
            if begins:
                vx, vy = (y[i] - y[p]) / first, (x[p] - x[i]) / first
            if ends:
                wx, wy = (y[q] - y[i]) / second, (x[i] - x[q]) / second
            if begins and ends:
                ux, uy = (vx + wx) / 2, (vy + wy) / 2
            elif begins:  # as far along the ray as the corner is from the inner point: a point at the cell's scale
                far = np.hypot(vx, vy) / size
                ux, uy = vx - y[i] * far, vy + x[i] * far
            elif ends:
                far = np.hypot(wx, wy) / size
                ux, uy = wx + y[i] * far, wy - x[i] * far
            else:  # the side is a line
                ux, uy = x[i] / size**2, y[i] / size**2
            table[count, 0], table[count, 1] = cell, least
            table[count, 2], table[count, 3] = ux, uy
            table[count, 4], table[count, 5] = vx, vy
            count += 1
    return count


@compiled
def _cross(ax, ay, bx, by):  # type: ignore[no-untyped-def]  # pragma: no cover
    return ax * by - ay * bx


@compiled
def _hull(x, y, n, tolerance, hull):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Writes the vertices of the hull of n points counterclockwise, by monotone chains; returns how many there are."""
    order = np.argsort(x[:n])
    for k in range(1, n):  # points with the same x by y
        i, j = order[k], k
        while j > 0 and (x[order[j - 1]] > x[i] or (x[order[j - 1]] == x[i] and y[order[j - 1]] > y[i])):
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    size, start = 0, 0
    for chain in range(2):  # the lower one from left to right, the upper one back
        start = size
        for step in range(n):
            i = order[step] if chain == 0 else order[n - 1 - step]
            while size - start >= 2:
                a, b = hull[size - 2], hull[size - 1]
                ux, uy, vx, vy = x[b] - x[a], y[b] - y[a], x[i] - x[b], y[i] - y[b]
                near = np.hypot(vx, vy) <= tolerance * np.hypot(x[i], y[i])
                if not near and _cross(ux, uy, vx, vy) > tolerance * np.hypot(ux, uy) * np.hypot(vx, vy):
                    break
                size -= 1
            hull[size] = i
            size += 1
        size -= 1  # the last vertex is the first of the other chain
    kept = 0
    for k in range(size):  # of vertices that coincide within the tolerance, the last is kept
        a, b = hull[k], hull[(k + 1) % size]
        if np.hypot(x[a] - x[b], y[a] - y[b]) > tolerance * max(np.hypot(x[a], y[a]), np.hypot(x[b], y[b])):
            hull[kept] = a
            kept += 1
    return kept if kept else min(n, 1)
