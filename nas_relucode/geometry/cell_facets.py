"""The facets of many cells of few dimensions at once, compiled; `find_facets` decides the cells that are left open.

The rows are as in `find_facets`. From inside the cell, the first border that is crossed in the direction of a row
belongs to a facet; most facets are found so. The known facets decide the next row (Clarkson): the row is redundant if
it is in their cone; else its residual leads to a point where the row is negative and they are not, and on the way there
the first border that is crossed belongs to an unknown facet. Quick searches come first; a result of theirs counts only
with its proof.
"""

from __future__ import annotations

import numpy as np

from nas_relucode.codes.words import compiled
from nas_relucode.geometry.cones import DONE, FAR, ROUNDING, STUCK, dot, project
from nas_relucode.geometry.facets import CLEAR, find_facets
from nas_relucode.geometry.half_spaces import is_bounded

# Of its diagonal entry: a smaller pivot of a Gram matrix is rounding, one in between cannot be told from it.
ROUNDED, CLEAR_PIVOT = 1e-14, 1e-11
WHITE = 1e-6  # how far a Gram matrix that should be the identity may be from it

# What becomes of a row
OPEN, FACET, REDUNDANT, EQUAL = 0, 1, 2, 3

SETTLED, STOPPED = -1, -2  # of a search for a facet
MOSTLY = 1e-6  # of its square: a longer residual is not due to rounding


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


def tied_rows(
    gradients: np.ndarray, slacks: np.ndarray, used: np.ndarray, owner: np.ndarray, row: np.ndarray, tolerance: float
) -> np.ndarray:
    """The rows that vanish on each facet, the facet's own among them: bool, (facets, rows).

    ``owner`` and ``row`` (facets,) are the place of the facet's cell and its row.
    """
    ties = np.empty((len(owner), slacks.shape[1]), np.bool_)
    _tie_rows(np.ascontiguousarray(gradients), slacks, used, owner, row, tolerance, ties)
    return ties


@compiled
def _tie_rows(gradients, slacks, used, owner, row, tolerance, ties):  # type: ignore  # pragma: no cover
    k = gradients.shape[2]
    own = np.empty(k)
    for facet in range(len(owner)):
        cell = owner[facet]
        most = 0.0
        for a in range(k):
            own[a] = gradients[cell, row[facet], a] / slacks[cell, row[facet]]
            most += own[a] ** 2
        most *= tolerance**2
        for i in range(ties.shape[1]):
            square = 0.0 if used[cell, i] else np.inf
            for a in range(k):
                if square > most:
                    break
                square += (gradients[cell, i, a] / slacks[cell, i] - own[a]) ** 2
            ties[facet, i] = square <= most


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

    The last of the ``rows`` is (0, 1); ``numbers`` (rows,) says what each is called. The direction of
    each row finds most facets, `_project_quickly` shows most other rows to be redundant, `_searched` decides the rest.
    """
    n, size = len(rows) - 1, rows.shape[1]
    lengths, products, state = np.empty(n + 1), np.empty(n + 1), np.full(n, OPEN)
    gram, known = _gram(rows), np.empty(n + 1, np.int64)
    for i in range(n + 1):
        lengths[i] = np.sqrt(gram[i, i])
    known[0] = n  # (0, 1), and then the facets
    residual, work = np.empty(size), np.empty((size + 2, size))
    found, tried = 0, 0  # facets; rows whose direction was tried
    while True:
        if tried < n:
            i, tried = tried, tried + 1
            if state[i] != OPEN:
                continue
            share = max(gram[i, n], 0.0) / gram[n, n]
            for a in range(size):
                residual[a] = rows[i, a] - share * rows[n, a]
            hit = _clear_hit(rows, lengths, residual, state, products, tolerance)
            if hit < 0:
                continue
        else:
            i = _longest(lengths, state)
            if i < 0:
                return found
            status = _project_quickly(rows, gram, i, known[: found + 1], tolerance * lengths[i], work, residual)
            if status == DONE:
                state[i] = REDUNDANT
                continue
            hit = _clear_hit(rows, lengths, residual, state, products, tolerance) if status == FAR else -1
            if hit < 0:
                hit = _searched(rows, lengths, i, known[: found + 1], tolerance, state, numbers, residual, products)
                if hit == STOPPED:
                    return -1
                if hit == SETTLED:
                    continue
        state[hit] = FACET
        own, last = dot(residual, rows[hit]), dot(residual, rows[n])
        for a in range(point.shape[1]):
            point[found, a] = -dot(residual, back[a]) / (own - last)
        row[found], known[found + 1] = numbers[hit], hit
        found += 1


@compiled
def _clear_hit(rows, lengths, residual, state, products, tolerance):  # type: ignore  # pragma: no cover
    """The open row whose border is crossed against the residual, clearly before all others; -1 if there is none."""
    hit = _first_hit(rows, residual, state, products)
    length = np.sqrt(dot(residual, residual))
    least = _least(lengths[hit], len(state), tolerance) * length
    return hit if state[hit] == OPEN and _is_clear(products, state, hit, least) else -1


@compiled
def _searched(rows, lengths, i, known, tolerance, state, numbers, residual, products):  # type: ignore  # pragma: no cover
    """A facet's row, with its residual, found by deciding row i; SETTLED if it led to none, STOPPED if undecided."""
    n, size, found = len(rows) - 1, rows.shape[1], len(known)
    others, other_lengths, slopes = np.empty((found + 1, size)), np.empty(found + 1), np.empty(found + 1)
    for number in range(found + 1):  # row i, the known facets, (0, 1)
        own = i if number == 0 else known[number] if number < found else n
        others[number], other_lengths[number] = rows[own], lengths[own]
    columns = np.ascontiguousarray(others.T)
    least = _least(lengths[i], n, tolerance)
    status = project(columns, other_lengths, rows[i], np.int64(0), CLEAR, least, residual, slopes)
    if status == STUCK:
        return STOPPED
    length = np.sqrt(dot(residual, residual))
    if status == DONE and length <= tolerance * lengths[i]:
        state[i] = REDUNDANT
        return SETTLED
    hit = _first_hit(rows, residual, state, products)
    if not _drop_equal(rows, lengths, hit, tolerance, state, numbers):
        return STOPPED
    if not _is_clear(products, state, hit, _least(lengths[hit], n, tolerance) * length):
        status = _against_all(rows, lengths, hit, tolerance, state, residual)
        if status == STUCK:
            return STOPPED
        if status == DONE:
            state[hit] = REDUNDANT
            return SETTLED
    return hit


@compiled
def _gram(rows):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The products of the rows with each other: (rows, rows)."""
    n, size = rows.shape
    gram = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            total = 0.0
            for a in range(size):
                total += rows[i, a] * rows[j, a]
            gram[i, j] = gram[j, i] = total
    return gram


@compiled
def _project_quickly(rows, gram, own, known, most, work, residual):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Projects row ``own`` onto the cone of the ``known`` ones; DONE if the residual is at most ``most`` long.

    The active set method of `project` on the products of the rows (``gram``). It gives up, STUCK, where a row would
    leave the set or depends on it. The multiples that were found prove DONE; FAR comes with a residual and proves
    nothing.
    """
    size = rows.shape[1]
    root, factors, optimum, active = work[:size], work[size], work[size + 1], np.empty(size, np.int64)
    count = 0
    while True:
        best, steepest = -1, ROUNDING
        for number in range(len(known)):
            j = known[number]
            slope = gram[own, j]
            for a in range(count):
                slope -= factors[a] * gram[active[a], j]
            if slope > 0 and slope**2 > steepest * gram[j, j] * gram[own, own]:
                steepest, best = slope**2 / (gram[j, j] * gram[own, own]), j
        if best < 0:
            break
        if count == size or not _append_factored(root, gram, active, count, best):
            return STUCK
        count += 1
        for a in range(count):
            optimum[a] = gram[own, active[a]]
        _solve_factored(root, optimum, count)
        for a in range(count):
            if optimum[a] <= 0:
                return STUCK
            factors[a] = optimum[a]
    for last in range(2):  # the multiples are corrected once, against rounding
        square = 0.0
        for a in range(size):
            residual[a] = rows[own, a]
            for b in range(count):
                residual[a] -= factors[b] * rows[active[b], a]
            square += residual[a] ** 2
        if square <= most**2:
            return DONE
        if last == 1 or square > MOSTLY * gram[own, own]:
            return FAR
        for b in range(count):
            optimum[b] = dot(rows[active[b]], residual)
        _solve_factored(root, optimum, count)
        for b in range(count):
            factors[b] += optimum[b]
            if factors[b] < 0:
                return STUCK
    return FAR


@compiled
def _append_factored(root, gram, active, count, j):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Appends row j to the ``active`` ones and to the factor of their products; False if it may depend on them."""
    left = gram[j, j]
    for a in range(count):
        root[count, a] = gram[j, active[a]]
        for b in range(a):
            root[count, a] -= root[count, b] * root[a, b]
        root[count, a] /= root[a, a]
        left -= root[count, a] ** 2
    if left < CLEAR_PIVOT * gram[j, j]:
        return False
    root[count, count], active[count] = np.sqrt(left), j
    return True


@compiled
def _solve_factored(root, vector, count):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Overwrites the first ``count`` numbers of the vector by (root @ root.T)^-1 @ vector."""
    for a in range(count):
        for b in range(a):
            vector[a] -= root[a, b] * vector[b]
        vector[a] /= root[a, a]
    for a in range(count - 1, -1, -1):
        for b in range(a + 1, count):
            vector[a] -= root[b, a] * vector[b]
        vector[a] /= root[a, a]


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
        product = 0.0
        for a in range(rows.shape[1]):
            product += rows[i, a] * residual[a]
        products[i] = product
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
    status = project(columns, other_lengths, rows[hit], own, CLEAR, least, residual, slopes[:count])
    if status == DONE and np.sqrt(dot(residual, residual)) > tolerance * lengths[hit]:
        return FAR
    return status


@compiled
def _is_bounded(gradients, facets, tolerance):  # type: ignore[no-untyped-def]  # pragma: no cover
    """As `is_bounded` of the facets' normals: DONE if it is so, FAR if not, STUCK if that could not be decided."""
    count, k = len(facets), gradients.shape[1]
    opposites, lengths, slopes = np.empty((k, count)), np.ones(count), np.empty(count)
    total, residual = np.zeros(k), np.empty(k)
    for i in range(count):
        size = np.sqrt(dot(gradients[facets[i]], gradients[facets[i]]))
        for a in range(k):
            opposites[a, i] = -gradients[facets[i], a] / size
            total[a] -= opposites[a, i]
    status = project(opposites, lengths, total, np.int64(-1), 0.0, 0.0, residual, slopes)
    length = np.sqrt(dot(residual, residual))
    if status == DONE and length > tolerance:
        return FAR if slopes.max() <= tolerance * length else STUCK
    return status
