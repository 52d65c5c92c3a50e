"""The facets of many cells of few dimensions at once, compiled; `find_facets` decides the cells that are left open.

The rows are as in `find_facets`. The facets that are known so far decide the next row (Clarkson): it is redundant if it
is in their cone; else its residual leads to a point where it is negative and they are not, and on the way there from
inside the cell, the border of an unknown facet is crossed first.
"""

from __future__ import annotations

import numpy as np

from nas_relucode.codes.words import compiled
from nas_relucode.geometry.cones import DONE, FAR, ROUNDING, STUCK, _dot, _project
from nas_relucode.geometry.facets import CLEAR, find_facets
from nas_relucode.geometry.half_spaces import is_bounded

# Of its diagonal entry: a smaller pivot of a Gram matrix is rounding, one in between cannot be told from it.
ROUNDED, CLEAR_PIVOT = 1e-14, 1e-11
WHITE = 1e-6  # how far a Gram matrix that should be the identity may be from it

# What becomes of a row
OPEN, FACET, REDUNDANT, EQUAL = 0, 1, 2, 3


def facets_of_cells(
    gradients: np.ndarray, slacks: np.ndarray, used: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The place of the cell, the row and a point of each facet, (facets, k), and which cells are bounded: (cells,).

    ``gradients`` (cells, rows, k) and ``slacks`` (cells, rows) are those of the rows at an inner point of each cell,
    from which the facets' points are counted; ``used`` are the rows that are not zero. ``tolerance`` is as in
    `find_facets`.
    """
    cells, rows, k = gradients.shape
    row, point = np.empty(cells * rows, np.int64), np.empty((cells * rows, k))
    counts, bounded = np.empty(cells, np.int64), np.empty(cells, np.bool_)
    gradients = np.ascontiguousarray(gradients)
    _decide_all(gradients, slacks, used, tolerance, row, point, counts, bounded)
    if (counts >= 0).all():
        total = int(counts.sum())
        return np.repeat(np.arange(cells), counts), row[:total], point[:total], bounded
    ends = np.cumsum(np.maximum(counts, 0))
    parts = []
    for cell, (end, count) in enumerate(zip(ends, counts, strict=True)):
        if count >= 0:
            parts.append((row[end - count : end], point[end - count : end]))
            continue
        kept = np.flatnonzero(used[cell])
        facets = find_facets(gradients[cell, kept], slacks[cell, kept], np.zeros(k), tolerance=tolerance)
        bounded[cell] = is_bounded(gradients[cell, kept], tolerance=tolerance)
        parts.append((kept[facets.rows], facets.points))
    owner = np.repeat(np.arange(cells), [len(part) for part, _ in parts])
    return owner, np.concatenate([part for part, _ in parts]), np.concatenate([part for _, part in parts]), bounded


@compiled
def _decide_all(gradients, slacks, used, tolerance, row, point, counts, bounded):  # type: ignore  # pragma: no cover
    """Writes the facets one cell after another, and how many each cell has: -1 if it could not be decided."""
    cells, rows, k = gradients.shape
    lifted, numbers = np.empty((rows + 1, k + 1)), np.empty(rows, np.int64)
    total = 0
    for cell in range(cells):
        n = 0
        for i in range(rows):
            if used[cell, i]:
                numbers[n] = i
                for a in range(k):
                    lifted[n, a] = gradients[cell, i, a] / slacks[cell, i]
                lifted[n, k] = 1.0
                n += 1
        lifted[n] = 0.0
        lifted[n, k] = 1.0
        counts[cell] = -1
        white, back = _whitened(lifted[: n + 1])
        if len(white) == 0:
            continue
        found = _facets(white, back, tolerance, numbers, row[total:], point[total:])
        if found < 0:
            continue
        for facet in range(total, total + found):  # onto the border exactly
            error, square = slacks[cell, row[facet]], 0.0
            for a in range(k):
                slope = gradients[cell, row[facet], a]
                error += slope * point[facet, a]
                square += slope**2
            for a in range(k):
                point[facet, a] -= error / square * gradients[cell, row[facet], a]
        status = FAR
        if white.shape[1] == k + 1 and found > k:
            status = _is_bounded(gradients[cell], row[total : total + found], tolerance)
        if status == STUCK:
            continue
        bounded[cell], counts[cell] = status == DONE, found
        total += found


@compiled
def _whitened(rows):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The rows (rows, rank) in coordinates of their span in which ``rows.T @ rows`` is the identity; none if in doubt.

    And ``back`` (size, rank): a direction in these coordinates is, times ``back.T``, one in the coordinates before.
    By a Cholesky factor with pivots; coordinates that depend on others do not move.
    """
    n, size = rows.shape
    root, left, full = np.zeros((size, size)), np.empty(size), np.empty(size)  # the factor, and what its pivots leave
    pivots = np.empty(size, np.int64)
    for a in range(size):
        full[a] = 0.0
        for i in range(n):
            full[a] += rows[i, a] ** 2
        left[a] = full[a]
    rank = size
    for step in range(size):
        own, most = -1, 0.0
        for a in range(size):
            if left[a] > most * full[a]:
                own, most = a, left[a] / full[a]
        if most < ROUNDED:
            rank = step
            break
        if most < CLEAR_PIVOT:
            return np.empty((0, 0)), root
        pivots[step] = own
        root[own, step] = np.sqrt(left[own])
        for a in range(size):
            if left[a] >= 0 and a != own:
                total = 0.0
                for i in range(n):
                    total += rows[i, a] * rows[i, own]
                for c in range(step):
                    total -= root[a, c] * root[own, c]
                root[a, step] = total / root[own, step]
                left[a] = max(left[a] - root[a, step] ** 2, 0.0)
        left[own] = -1.0
    white, back = np.empty((n, rank)), np.zeros((size, rank))
    for i in range(n):
        for a in range(rank):
            white[i, a] = rows[i, pivots[a]]
        _forward(root, pivots, white[i])
    for a in range(rank):
        back[pivots[a], a] = 1.0
        _forward(root, pivots, back[pivots[a]])
    for a in range(rank):
        for b in range(a + 1):
            total = -1.0 if a == b else 0.0
            for i in range(n):
                total += white[i, a] * white[i, b]
            if abs(total) > WHITE:
                return np.empty((0, 0)), root
    return white, back


@compiled
def _forward(root, pivots, vector):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Overwrites the vector by root[pivots]^-1 @ vector."""
    for a in range(len(vector)):
        for c in range(a):
            vector[a] -= root[pivots[a], c] * vector[c]
        vector[a] /= root[pivots[a], a]


@compiled
def _facets(rows, back, tolerance, numbers, row, point):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Writes the facets' rows and points, and returns how many there are; -1 if a row could not be decided.

    The last of the ``rows`` is (0, 1); ``numbers`` (rows,) says what each is called.
    """
    n, size = len(rows) - 1, rows.shape[1]
    lengths, products, state = np.empty(n + 1), np.empty(n + 1), np.full(n, OPEN)
    for i in range(n + 1):
        lengths[i] = np.sqrt(_dot(rows[i], rows[i]))
    # A row to be decided, the known facets, and (0, 1)
    others, other_lengths = np.empty((n + 2, size)), np.empty(n + 2)
    slopes, residual = np.empty(n + 2), np.empty(size)
    others[1], other_lengths[1] = rows[n], lengths[n]
    found = 0
    while True:
        i = _longest(lengths, state)  # facets first, most likely
        if i < 0:
            return found
        while state[i] == OPEN:
            others[0], other_lengths[0] = rows[i], lengths[i]
            columns = np.ascontiguousarray(others[: found + 2].T)
            least = _least(lengths[i], n, tolerance)
            status = _project(columns, other_lengths, rows[i], np.int64(0), CLEAR, least, residual, slopes[: found + 2])
            if status == STUCK:
                return -1
            length = np.sqrt(_dot(residual, residual))
            if status == DONE and length <= tolerance * lengths[i]:
                state[i] = REDUNDANT
                break
            hit = _first_hit(rows, residual, state, products)
            if not _drop_equal(rows, lengths, hit, tolerance, state, numbers):
                return -1
            if not _is_clear(products, state, hit, _least(lengths[hit], n, tolerance) * length):
                status = _against_all(rows, lengths, hit, tolerance, state, residual)
                if status == STUCK:
                    return -1
                if status == DONE:
                    state[hit] = REDUNDANT
                    continue
            state[hit] = FACET
            own, last = _dot(residual, rows[hit]), _dot(residual, rows[n])
            for a in range(point.shape[1]):
                point[found, a] = -_dot(residual, back[a]) / (own - last)
            row[found] = numbers[hit]
            others[found + 2], other_lengths[found + 2] = rows[n], lengths[n]
            others[found + 1], other_lengths[found + 1] = rows[hit], lengths[hit]
            found += 1


@compiled
def _longest(lengths, state):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The longest row that is open, or -1."""
    longest = -1
    for i in range(len(state)):
        if state[i] == OPEN and (longest < 0 or lengths[i] > lengths[longest]):
            longest = i
    return longest


@compiled
def _least(length, n, tolerance):  # type: ignore[no-untyped-def]  # pragma: no cover
    """As in `find_facets`: products with a vector that differ by so much prove more than the tolerance."""
    return max(tolerance * length * (1 + length * np.sqrt(n + 1)), ROUNDING)


@compiled
def _first_hit(rows, residual, state, products):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The row, neither redundant nor equal to another, whose border is crossed first against the residual.

    Writes the residual's products with all rows.
    """
    hit = -1
    for i in range(len(rows)):
        products[i] = _dot(rows[i], residual)
        if i < len(state) and state[i] <= FACET and (hit < 0 or products[i] > products[hit]):
            hit = i
    return hit


@compiled
def _drop_equal(rows, lengths, hit, tolerance, state, numbers):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Marks the rows that equal the row ``hit``, which gets their least number; False if one is a facet already."""
    if state[hit] == FACET:
        return False
    for i in range(len(state)):
        most = tolerance * max(lengths[i], lengths[hit])
        if i != hit and state[i] != EQUAL and abs(lengths[i] - lengths[hit]) <= most:
            square = 0.0
            for a in range(rows.shape[1]):
                square += (rows[i, a] - rows[hit, a]) ** 2
            if square <= most**2:
                if state[i] == FACET:
                    return False
                state[i] = EQUAL
                numbers[hit] = min(numbers[hit], numbers[i])
    return True


@compiled
def _is_clear(products, state, hit, least):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether all other rows are clearly positive where the border of row ``hit`` is crossed."""
    n = len(state)
    most = products[n]
    for i in range(n):
        if i != hit and state[i] != EQUAL:
            most = max(most, products[i])
    return products[hit] - most > max(CLEAR * (products[hit] - products[n]), least)


@compiled
def _against_all(rows, lengths, hit, tolerance, state, residual):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether row ``hit`` is outside the cone of all others: FAR, with its residual; DONE if it is not; or STUCK."""
    n, size = len(rows) - 1, rows.shape[1]
    others, other_lengths, slopes = np.empty((n + 1, size)), np.empty(n + 1), np.empty(n + 1)
    own, count = -1, 0
    for i in range(n + 1):
        if i == n or state[i] != EQUAL:
            if i == hit:
                own = count
            others[count], other_lengths[count] = rows[i], lengths[i]
            count += 1
    columns = np.ascontiguousarray(others[:count].T)
    least = _least(lengths[hit], n, tolerance)
    status = _project(columns, other_lengths, rows[hit], own, CLEAR, least, residual, slopes[:count])
    if status == DONE and np.sqrt(_dot(residual, residual)) > tolerance * lengths[hit]:
        return FAR
    return status


@compiled
def _is_bounded(gradients, facets, tolerance):  # type: ignore[no-untyped-def]  # pragma: no cover
    """As `is_bounded` of the facets' normals: DONE if it is so, FAR if not, STUCK if that could not be decided."""
    count, k = len(facets), gradients.shape[1]
    opposites, lengths, slopes = np.empty((k, count)), np.ones(count), np.empty(count)
    total, residual = np.zeros(k), np.empty(k)
    for i in range(count):
        size = np.sqrt(_dot(gradients[facets[i]], gradients[facets[i]]))
        for a in range(k):
            opposites[a, i] = -gradients[facets[i], a] / size
            total[a] -= opposites[a, i]
    status = _project(opposites, lengths, total, np.int64(-1), 0.0, 0.0, residual, slopes)
    length = np.sqrt(_dot(residual, residual))
    if status == DONE and length > tolerance:
        return FAR if slopes.max() <= tolerance * length else STUCK
    return status
