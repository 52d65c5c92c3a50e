"""Points well inside many cells at once: about their analytic centres, by damped Newton steps.

An analytic centre minimises the sum of the negative logarithms of a cell's slacks. It does not depend on the
coordinates, and no border is much nearer to it than others where the cell is thin.
"""

from __future__ import annotations

import numpy as np

from nas_relucode.codes.words import compiled

STEPS = 60
CENTRED = 0.5  # Newton decrement: how far, in the metric of the barrier, the centre may be
PIVOT = 1e-13  # of its diagonal entry: a smaller pivot of a Hessian is rounding


def centre(points: np.ndarray, gradients: np.ndarray, slacks: np.ndarray, used: np.ndarray, reach: float) -> np.ndarray:
    """Moves ``points`` (cells, k) to about the centres of their cells, and returns which ones lie inside: (cells,).

    ``gradients`` (cells, rows, k) and ``slacks`` (cells, rows) are those of the rows at the points, at which the slacks
    of the ``used`` rows must be positive; points where they are not stay. In a cell without bounds, or a very large
    one, a point moves by a few times ``reach``.
    """
    inside = np.empty(len(points), np.bool_)
    _centre_all(points, np.ascontiguousarray(gradients), slacks, used, reach, inside)
    return inside


@compiled
def _centre_all(points, gradients, slacks, used, reach, inside):  # type: ignore  # pragma: no cover
    cells, rows, k = gradients.shape
    weight, slack, speed = np.empty((rows, k)), np.empty(rows), np.empty(rows)
    hessian, step, move = np.empty((k, k)), np.empty(k), np.empty(k)
    for cell in range(cells):
        n = 0
        least = np.inf
        for i in range(rows):
            if used[cell, i]:
                weight[n], slack[n] = gradients[cell, i], slacks[cell, i]
                least = min(least, slack[n])
                n += 1
        inside[cell] = least > 0
        if inside[cell]:
            _newton(weight[:n], slack[:n], speed, hessian, step, move, reach)
            for a in range(k):
                points[cell, a] += move[a]


@compiled
def _newton(weight, slack, speed, hessian, step, move, reach):  # type: ignore  # pragma: no cover
    """Writes the ``move`` from a point with ``slack`` to the centre; ``slack`` follows."""
    n, k = weight.shape
    move[:] = 0
    for _ in range(STEPS):
        for a in range(k):
            step[a] = -move[a] / reach**2
            for b in range(a + 1):
                hessian[a, b] = 1 / reach**2 if a == b else 0.0
        for i in range(n):
            share = 1 / slack[i]
            for a in range(k):
                part = weight[i, a] * share
                step[a] += part
                for b in range(a + 1):
                    hessian[a, b] += part * weight[i, b] * share
        decrement = _solve(hessian, step)
        if decrement < CENTRED:
            return
        most = np.inf
        for i in range(n):
            speed[i] = 0.0
            for a in range(k):
                speed[i] += weight[i, a] * step[a]
            if speed[i] < 0:
                most = min(most, -slack[i] / speed[i])
        size = 1 / (1 + decrement)
        while 2 * size < most and _slope(slack, speed, step, move, 2 * size, reach) < 0:
            size *= 2
        for i in range(n):
            slack[i] += size * speed[i]
        for a in range(k):
            move[a] += size * step[a]


@compiled
def _slope(slack, speed, step, move, size, reach):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The barrier's derivative along the step, at ``size`` steps."""
    total = 0.0
    for i in range(len(slack)):
        total -= speed[i] / (slack[i] + size * speed[i])
    for a in range(len(step)):
        total += (move[a] + size * step[a]) * step[a] / reach**2
    return total


@compiled
def _solve(matrix, vector):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Overwrites the vector by matrix^-1 @ vector, and the matrix (its lower triangle) by its Cholesky factor.

    Returns the root of vector @ matrix^-1 @ vector. Pivots that are lost in rounding are raised.
    """
    k = len(vector)
    for a in range(k):
        pivot = matrix[a, a]
        for c in range(a):
            pivot -= matrix[a, c] ** 2
        matrix[a, a] = root = np.sqrt(max(pivot, PIVOT * matrix[a, a]))
        for b in range(a + 1, k):
            for c in range(a):
                matrix[b, a] -= matrix[b, c] * matrix[a, c]
            matrix[b, a] /= root
    square = 0.0
    for a in range(k):
        for c in range(a):
            vector[a] -= matrix[a, c] * vector[c]
        vector[a] /= matrix[a, a]
        square += vector[a] ** 2
    for a in range(k - 1, -1, -1):
        for c in range(a + 1, k):
            vector[a] -= matrix[c, a] * vector[c]
        vector[a] /= matrix[a, a]
    return np.sqrt(square)
