"""Half-spaces in exact arithmetic, by Fourier-Motzkin elimination: for tests with few variables and rows."""

from fractions import Fraction


def feasible(strict, weak=()):
    """Whether some x has w @ x + b > 0 for all rows (*w, b) of ``strict``, and >= 0 for all rows of ``weak``."""
    rows = {(tuple(map(Fraction, row)), True) for row in strict} | {(tuple(map(Fraction, row)), False) for row in weak}
    variables = max((len(row) for row, _ in rows), default=1) - 1
    for _ in range(variables):
        above = [r for r in rows if r[0][0] > 0]
        below = [r for r in rows if r[0][0] < 0]
        rows = {(row[1:], is_strict) for row, is_strict in rows if row[0] == 0}
        for up, one in above:
            for down, other in below:
                row = tuple(u * -down[0] + d * up[0] for u, d in zip(up[1:], down[1:], strict=True))
                rows.add((scaled(row), one or other))
    return all(row[-1] > 0 or (row[-1] == 0 and not is_strict) for row, is_strict in rows)


def scaled(row):
    """The positive multiple of the row whose first nonzero number is 1 or -1."""
    first = next((abs(value) for value in row if value), Fraction(1))
    return tuple(value / first for value in row)


def on_border(row, others):
    """The other rows restricted to the hyperplane of a row, in one variable fewer."""
    pivot = next(i for i, value in enumerate(row[:-1]) if value)
    lines = []
    for other in others:
        factor = Fraction(other[pivot]) / Fraction(row[pivot])
        line = [o - factor * r for o, r in zip(other, row, strict=True)]
        lines.append((*line[:pivot], *line[pivot + 1 :]))
    return lines


def facets(rows):
    """The numbers of the rows on each facet, ascending and in order. The half-spaces must have an interior."""
    groups = {}
    for number, row in enumerate(rows):
        if any(row[:-1]):
            groups.setdefault(scaled(tuple(map(Fraction, row))), []).append(number)
    on_facets = []
    for row, numbers in groups.items():
        if feasible(on_border(row, [other for other in groups if other != row])):
            on_facets.append(numbers)
    return sorted(on_facets)


def bounded(normals):
    """Whether half-spaces with these normals have no recession direction."""
    rows = [(*normal, 0) for normal in normals]
    features = len(normals[0])
    for axis in range(features):
        for sign in (1, -1):
            towards = [0] * (features + 1)
            towards[axis] = sign
            if feasible([towards], rows):
                return False
    return True
