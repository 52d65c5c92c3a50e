"""Is a vector a sum of non-negative multiples of others? What is missing at the nearest such sum, by an active set.

Everything else about half-spaces comes from this: rows ``(weight, bias)`` span a cone, and Farkas' lemma says that a
half-space holds on a polyhedron exactly if its row lies in the cone of the others' rows and (0, 1).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from nas_relucode.codes.words import compiled

ROUNDING = 1e-14  # of the lengths of two vectors: how far from zero their product may be by rounding
DEPENDENT = 1e-11  # of its length: what is left of a vector beside those that it depends on

DONE, FAR, STUCK = 0, 1, 2  # how a search ends: at the nearest sum; when it is clear; by its limit of steps
UNDECIDED, INSIDE, OUTSIDE = 0, 1, 2  # what it says of a vector and a cone


def missing(vectors: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, bool]:
    """``target`` less the nearest sum of non-negative multiples of ``vectors`` (vectors, features): (features,).

    And whether it was found; rounding may make the search go in circles in degenerate places. What is missing makes no
    acute angle with any of the vectors, and is zero, up to rounding, if the target lies in their cone.
    """
    columns = np.ascontiguousarray(vectors.T, dtype=np.float64)
    result, slopes = np.empty(len(columns)), np.empty(columns.shape[1])
    lengths = np.linalg.norm(columns, axis=0)
    status = nearest(columns, lengths, np.ascontiguousarray(target, dtype=np.float64), -1, 0.0, 0.0, result, slopes)
    return result, status == DONE


@compiled
def search_beside(columns, lengths, least, chosen, clear, tolerance, rests):  # type: ignore  # pragma: no cover
    """Whether chosen columns lie in the cone of all others, within ``tolerance`` of their length: int64, (chosen,).

    Into ``rests``, (columns, size), goes what an OUTSIDE one is missing, or a vector that is as good: its product with
    the column is above those with all others by ``clear`` of what it is above the last one's.
    """
    kinds = np.empty(len(chosen), np.int64)
    slopes = np.empty(columns.shape[1])
    for number in range(len(chosen)):
        own = chosen[number]
        rest = rests[own]
        status = nearest(columns, lengths, columns[:, own].copy(), own, clear, least[own], rest, slopes)
        if status == STUCK:
            kinds[number] = UNDECIDED
        elif status == DONE and np.sqrt(_dot(rest, rest)) <= tolerance * lengths[own]:
            kinds[number] = INSIDE
        else:
            kinds[number] = OUTSIDE
    return kinds


@compiled
def nearest(columns, lengths, target, own, clear, least, rest, slopes):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Writes the rest of the target beside the nearest sum, and its products with all columns.

    Lawson and Hanson's active set method, the chosen columns held as an orthonormal basis and a triangle. If ``own``
    is a column, the target's, it takes no part, and the search ends as soon as the product with it is above every
    other's by ``clear`` of what it is above the last column's, and by ``least`` of the rest's length.
    """
    size, count = columns.shape
    basis = np.empty((min(size, count), size))
    triangle = np.zeros((min(size, count), min(size, count)))
    chosen = np.empty(min(size, count), np.int64)
    taken = np.zeros(count, np.bool_)
    factors, wanted, along = np.zeros(min(size, count)), np.zeros(min(size, count)), np.zeros(min(size, count))
    barred = np.zeros(count, np.bool_)
    if own >= 0:
        taken[own] = True
    long = np.sqrt(_dot(target, target))
    k = 0
    rest[:] = target
    for _ in range(3 * (size + count)):
        _products(columns, rest, slopes)
        if own >= 0:
            gap = np.inf
            for j in range(count):
                if j != own:
                    gap = min(gap, slopes[own] - slopes[j])
            if gap > max(clear * (slopes[own] - slopes[count - 1]), least * np.sqrt(_dot(rest, rest))):
                return FAR
        while True:  # the column towards which the rest points most, and which the basis can take
            best, most = -1, ROUNDING * long
            for j in range(count):
                if not taken[j] and not barred[j] and slopes[j] > most * lengths[j]:
                    best, most = j, slopes[j] / lengths[j]
            if best < 0 or k == len(chosen):
                return DONE
            if _append(basis, triangle, k, columns[:, best].copy(), lengths[best]):
                break
            barred[best] = True
        chosen[k], taken[best], factors[k] = best, True, 0.0
        along[k] = _dot(basis[k], target)
        k += 1
        while True:  # the nearest sum of any multiples; where one is negative go as far as none is
            for i in range(k - 1, -1, -1):
                total = along[i]
                for j in range(i + 1, k):
                    total -= triangle[i, j] * wanted[j]
                wanted[i] = total / triangle[i, i]
            share, out = 1.0, -1
            for i in range(k):
                if wanted[i] <= 0:
                    part = factors[i] / (factors[i] - wanted[i]) if factors[i] > 0 else 0.0
                    if part < share or out < 0:
                        share, out = part, i
            if out < 0:
                factors[:k] = wanted[:k]
                break
            for i in range(k):
                factors[i] += share * (wanted[i] - factors[i])
            taken[chosen[out]] = False
            _remove(basis, triangle, chosen, factors, along, k, out)
            k -= 1
            if k == 0:
                break
        rest[:] = target
        for _ in range(2):
            for i in range(k):
                _add(rest, -_dot(basis[i], rest), basis[i])
        barred[:] = False
    return STUCK


@njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _dot(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(nogil=True, fastmath={"contract"})
def _add(a, factor, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(len(a)):
        a[i] += factor * b[i]


@njit(nogil=True)
def _products(columns, vector, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    out[:] = 0
    for d in range(len(vector)):
        _add(out, vector[d], columns[d])


@njit(nogil=True)
def _append(basis, triangle, k, column, length):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The column's part beside the basis becomes its vector k; False if there is no such part."""
    triangle[:k, k] = 0
    for _ in range(2):
        for i in range(k):
            part = _dot(basis[i], column)
            triangle[i, k] += part
            _add(column, -part, basis[i])
    left = np.sqrt(_dot(column, column))
    if left <= DEPENDENT * length:
        return False
    triangle[k, k] = left
    basis[k] = column / left
    return True


@njit(nogil=True)
def _remove(basis, triangle, chosen, factors, along, k, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Takes a column out of the triangle, and turns pairs of basis vectors until it is one again."""
    for j in range(out, k - 1):
        triangle[: j + 2, j] = triangle[: j + 2, j + 1]
        chosen[j], factors[j] = chosen[j + 1], factors[j + 1]
    for i in range(out, k - 1):
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
