"""Projection onto a polyhedral cone: is a vector a sum of non-negative multiples of others, and what remains if not?

By Farkas' lemma a half-space ``weight @ x + bias >= 0`` holds on a polyhedron that is not empty exactly
if its row ``(weight, bias)`` lies in the cone of the polyhedron's rows and (0, 1).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from nas_relucode.codes.words import compiled

ROUNDING = 1e-14  # of the lengths of two vectors: how far rounding may move their product from zero
DEPENDENT = 1e-11  # of its length: below it, what a vector has outside the span of others counts as zero

DONE, FAR, STUCK = 0, 1, 2  # why a projection ended: at the nearest point; as the target is clearly outside; step limit
UNDECIDED, INSIDE, OUTSIDE = 0, 1, 2  # where a vector lies, relative to a cone


def cone_residual(vectors: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, bool]:
    """``target`` minus the nearest point of the cone of ``vectors`` (vectors, features): float64, (features,).

    And whether that point was found: where vectors are degenerate, rounding may make the search go in circles. The
    residual makes no acute angle with any of the vectors, and is zero, up to rounding, if the target is in the cone.
    """
    columns = np.ascontiguousarray(vectors.T, dtype=np.float64)
    residual, slopes = np.empty(len(columns)), np.empty(columns.shape[1])
    lengths = np.linalg.norm(columns, axis=0)
    target = np.ascontiguousarray(target, dtype=np.float64)
    status = project(columns, lengths, target, -1, 0.0, 0.0, residual, slopes)
    return residual, status == DONE


@compiled
def locate_columns(columns, lengths, least, chosen, clear, tolerance, residuals):  # type: ignore  # pragma: no cover
    """Where the columns ``chosen`` lie, relative to the cone of all other columns: int64, (chosen,).

    INSIDE allows for a residual of ``tolerance`` times the column's length. For an OUTSIDE column, residuals[column] of
    ``residuals`` (columns, size) becomes its residual or a vector that proves as much: its product with the column
    exceeds those with all others, by at least ``clear`` times what it exceeds that with the last column.
    """
    places = np.empty(len(chosen), np.int64)
    slopes = np.empty(columns.shape[1])
    for number in range(len(chosen)):
        own = chosen[number]
        residual = residuals[own]
        status = project(columns, lengths, columns[:, own].copy(), own, clear, least[own], residual, slopes)
        if status == STUCK:
            places[number] = UNDECIDED
        elif status == DONE and np.sqrt(dot(residual, residual)) <= tolerance * lengths[own]:
            places[number] = INSIDE
        else:
            places[number] = OUTSIDE
    return places


@compiled
def project(columns, lengths, target, own, clear, least, residual, slopes):  # type: ignore  # pragma: no cover
    """Writes the target's ``residual`` (size,) outside the cone of the columns, and its products with them, (columns,).

    Lawson and Hanson's active set method for non-negative least squares; the active columns are factored into an
    orthonormal basis and a triangle. If ``own`` is the number of a column, it is left out, and the search ends as soon
    as the residual's product with it exceeds those with all others by ``clear`` times what it exceeds that with the
    last column, and by ``least`` times the residual's length.
    """
    size, count = columns.shape
    basis = np.empty((min(size, count), size))
    triangle = np.zeros((min(size, count), min(size, count)))
    active = np.empty(min(size, count), np.int64)
    is_active = np.zeros(count, np.bool_)
    # Of the active columns: the multiples so far, those of the unconstrained optimum, the target along the basis.
    factors, optimum, along = np.zeros(min(size, count)), np.zeros(min(size, count)), np.zeros(min(size, count))
    dependent = np.zeros(count, np.bool_)  # columns in the span of the active ones
    if own >= 0:
        is_active[own] = True
    target_length = np.sqrt(dot(target, target))
    k = 0
    _copy(residual, target)
    for _ in range(3 * (size + count)):
        _products(columns, residual, slopes)
        if own >= 0:
            enough = max(clear * (slopes[own] - slopes[count - 1]), least * np.sqrt(dot(residual, residual)))
            if _lead(slopes, own) > enough:
                return FAR
        while True:  # activate the independent column that is most along the residual
            best, most = -1, ROUNDING * target_length
            for j in range(count):
                if not is_active[j] and not dependent[j] and slopes[j] > most * lengths[j]:
                    best, most = j, slopes[j] / lengths[j]
            if best < 0 or k == len(active):
                return DONE
            if _append(basis, triangle, k, columns[:, best].copy(), lengths[best]):
                break
            dependent[best] = True
        active[k], is_active[best], factors[k] = best, True, 0.0
        along[k] = dot(basis[k], target)
        k += 1
        while True:  # go towards the unconstrained optimum; where a multiple becomes 0 first, deactivate its column
            _solve(triangle, along, k, optimum)
            share, leaving = 1.0, -1
            for i in range(k):
                if optimum[i] <= 0:
                    part = factors[i] / (factors[i] - optimum[i]) if factors[i] > 0 else 0.0
                    if part < share or leaving < 0:
                        share, leaving = part, i
            if leaving < 0:
                for i in range(k):
                    factors[i] = optimum[i]
                break
            for i in range(k):
                factors[i] += share * (optimum[i] - factors[i])
            is_active[active[leaving]] = False
            _remove(basis, triangle, active, factors, along, k, leaving)
            k -= 1
            if k == 0:
                break
        _copy(residual, target)
        for _ in range(2):  # twice, against rounding
            for i in range(k):
                _add(residual, -dot(basis[i], residual), basis[i])
        dependent[:] = False
    return STUCK


@compiled
def _lead(slopes, own):  # type: ignore[no-untyped-def]  # pragma: no cover
    """By how much the product ``own`` exceeds the largest of the others."""
    lead = np.inf
    for j in range(len(slopes)):
        if j != own:
            lead = min(lead, slopes[own] - slopes[j])
    return lead


@compiled
def _solve(triangle, right, k, solution):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Writes the ``solution`` of ``triangle[:k, :k] @ solution = right[:k]``, the triangle being an upper one."""
    for i in range(k - 1, -1, -1):
        total = right[i]
        for j in range(i + 1, k):
            total -= triangle[i, j] * solution[j]
        solution[i] = total / triangle[i, i]


@njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})
def dot(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(nogil=True, fastmath={"contract"})
def _add(a, factor, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    """a += factor * b"""
    for i in range(len(a)):
        a[i] += factor * b[i]


@njit(nogil=True)
def _copy(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(len(a)):
        a[i] = b[i]


@njit(nogil=True)
def _products(columns, vector, products):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Writes vector @ columns."""
    products[:] = 0
    for d in range(len(vector)):
        _add(products, vector[d], columns[d])


@njit(nogil=True)
def _append(basis, triangle, k, column, length):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Orthonormalises the column (it is overwritten) to basis vector k; False if it depends on the k before it."""
    triangle[:k, k] = 0
    for _ in range(2):  # twice, against rounding
        for i in range(k):
            part = dot(basis[i], column)
            triangle[i, k] += part
            _add(column, -part, basis[i])
    left = np.sqrt(dot(column, column))
    if left <= DEPENDENT * length:
        return False
    triangle[k, k] = left
    for i in range(len(column)):
        basis[k, i] = column[i] / left
    return True


@njit(nogil=True)
def _remove(basis, triangle, active, factors, along, k, leaving):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Removes a column from the triangle, and makes it triangular again by Givens rotations of the basis."""
    for j in range(leaving, k - 1):
        for i in range(j + 2):
            triangle[i, j] = triangle[i, j + 1]
        active[j], factors[j] = active[j + 1], factors[j + 1]
    for i in range(leaving, k - 1):
        c, s = triangle[i, i], triangle[i + 1, i]
        r = np.hypot(c, s)
        c, s = c / r, s / r
        for j in range(i, k - 1):
            a, b = triangle[i, j], triangle[i + 1, j]
            triangle[i, j], triangle[i + 1, j] = c * a + s * b, c * b - s * a
        for j in range(basis.shape[1]):
            a, b = basis[i, j], basis[i + 1, j]
            basis[i, j], basis[i + 1, j] = c * a + s * b, c * b - s * a
        a, b = along[i], along[i + 1]
        along[i], along[i + 1] = c * a + s * b, c * b - s * a
