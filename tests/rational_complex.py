"""The cells of a small ReLU network in integer arithmetic, without a tolerance: the reference for complexes.

The closure of a cell is a cone in one dimension more, the points (t, t * x) with t >= 0. It is described by its rows
and by its rays (those with t > 0 are corners, those with t = 0 are directions in which the cell is unbounded) and
lines, and each neuron cuts it in turn: the double description method, in which every number is an integer.

Two cells share a whole facet or less than a facet: the network is continuous, so that on the facet of a cell every
neuron has the same value seen from both sides and none changes its sign, and behind the facet lies a single cell. This
is checked rather than assumed: neighbours are found by points, and a facet without one cell behind all of it raises.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nas_relucode import Codes

Vector = tuple[int, ...]  # a row (bias, weight) or a point (t, t * x), up to a positive factor
Point = tuple[Fraction, ...]
Pair = tuple[str, str]  # codes, the smaller first
WALL = -1  # in place of a neuron, for the rows of the box and for t >= 0


@dataclass(frozen=True)
class RationalComplex:
    """Cells by their codes: strings of 0 and 1, layer by layer and neuron by neuron."""

    points: dict[str, Point]  # an inner point of each cell that has an interior
    neighbours: set[Pair]  # cells whose closures share a facet
    one_bit_apart: set[Pair]
    bounded: set[str]
    facets: dict[str, set[frozenset[int]]]  # of each cell: the neurons whose rows lie on a facet; not those on the box
    corners: set[Point]  # of all cells, those on the box included
    walls: int  # facets on the box

    @property
    def codes(self) -> set[str]:
        return set(self.points)


@dataclass(frozen=True)
class Ray:
    vector: Vector
    tight: int  # bit i is set if row i is 0 on the ray


@dataclass(frozen=True)
class Cone:
    rows: tuple[Vector, ...]  # row @ point >= 0
    owners: tuple[int, ...]  # the neuron of each row, or WALL
    rays: tuple[Ray, ...]  # the extreme rays, modulo the lines
    lines: tuple[Vector, ...]  # a basis of the directions that are unbounded on both sides

    def cut(self, row: Vector, owner: int) -> Cone:
        """The part in which ``row`` is at least 0. It has an interior if the row is positive somewhere."""
        tight = 1 << len(self.rows)
        slack = [dot(row, line) for line in self.lines]
        across = next((place for place, value in enumerate(slack) if value), None)
        if across is not None:  # the hyperplane crosses a line: half of it becomes a ray, all else is moved along it
            sign = 1 if slack[across] > 0 else -1
            line, rise = scaled(self.lines[across], sign), abs(slack[across])
            others = (pair for place, pair in enumerate(zip(self.lines, slack, strict=True)) if place != across)
            lines = tuple(combined(rise, other, -value, line) for other, value in others)
            kept = [Ray(combined(rise, r.vector, -dot(row, r.vector), line), r.tight | tight) for r in self.rays]
            kept.append(Ray(line, tight - 1))
        else:
            lines = self.lines
            values = [dot(row, ray.vector) for ray in self.rays]
            kept = [
                Ray(r.vector, r.tight | tight) if value == 0 else r
                for r, value in zip(self.rays, values, strict=True)
                if value >= 0
            ]
            above = [(r, value) for r, value in zip(self.rays, values, strict=True) if value > 0]
            below = [(r, value) for r, value in zip(self.rays, values, strict=True) if value < 0]
            for (up, rise), (down, fall) in itertools.product(above, below):
                if self.are_adjacent(up, down):
                    between = combined(-fall, up.vector, rise, down.vector)
                    kept.append(Ray(between, up.tight & down.tight | tight))
        return Cone((*self.rows, row), (*self.owners, owner), tuple(kept), lines)

    def are_adjacent(self, one: Ray, other: Ray) -> bool:
        """Whether two rays span a face of dimension 2."""
        common = one.tight & other.tight
        return not any(r.tight & common == common for r in self.rays if r is not one and r is not other)

    def signs(self, row: Vector) -> tuple[bool, bool]:
        """Whether the row is positive somewhere, and whether it is negative somewhere."""
        values = [dot(row, ray.vector) for ray in self.rays]
        both = any(dot(row, line) for line in self.lines)
        return both or max(values) > 0, both or min(values) < 0

    def holds(self, points: Iterable[Vector]) -> bool:
        return all(dot(row, point) >= 0 for point in points for row in self.rows)


@dataclass(frozen=True)
class Facet:
    code: str
    cone: Cone  # of its cell
    rays: tuple[Vector, ...]
    neurons: frozenset[int]
    on_the_box: bool

    @property
    def middle(self) -> Vector:
        return total(self.rays)

    @property
    def ends(self) -> list[Vector]:
        """The vectors that span the facet: rays, and lines in both directions."""
        return [*self.rays, *self.cone.lines, *(scaled(line, -1) for line in self.cone.lines)]


def rational_complex(
    weights: Sequence[tuple[np.ndarray, np.ndarray]], box: tuple[float, float] | None = None
) -> RationalComplex:
    """All cells of the network (weight, bias), ..., whose last pair is its output, in a box low < x < high if given.

    A bit is 1 where the pre-activation is positive; the bit of a neuron that is 0 on a whole cell is 0.
    """
    cells = all_cells(weights, box)
    facets, sides = defaultdict[str, set[frozenset[int]]](set), defaultdict[Vector, list[Facet]](list)
    walls = 0
    for code, cone in cells.items():
        facets[code] = set()
        for row, facet in facets_of(code, cone):
            if facet.on_the_box:
                walls += 1
            else:
                facets[code].add(facet.neurons)
                sides[row].append(facet)
    return RationalComplex(
        points={code: as_point(total([ray.vector for ray in cone.rays])) for code, cone in cells.items()},
        neighbours=neighbours(sides),
        one_bit_apart={(code, other) for code in cells for other in raised(code) if other in cells},
        bounded={code for code, cone in cells.items() if not cone.lines and all(r.vector[0] for r in cone.rays)},
        facets=dict(facets),
        corners={as_point(r.vector) for c in cells.values() if not c.lines for r in c.rays if r.vector[0]},
        walls=walls,
    )


def all_cells(
    weights: Sequence[tuple[np.ndarray, np.ndarray]], box: tuple[float, float] | None = None
) -> dict[str, Cone]:
    """The cone of each cell. A layer's neurons are affine on the cells of the layers before it, and cut these cells."""
    size = weights[0][0].shape[1] + 1
    unit = [tuple(int(place == at) for place in range(size)) for at in range(size)]
    whole = Cone((unit[0],), (WALL,), (Ray(unit[0], 0),), tuple(unit[1:]))
    for at in range(1, size) if box is not None else ():
        assert box is not None
        low, high = map(Fraction, box)
        for end, sign in ((low, 1), (high, -1)):
            wall = combined(end.denominator * sign, unit[at], -end.numerator * sign, unit[0])
            whole = whole.cut(wall, WALL)
    cells = [("", whole, unit[1:], 1)]  # code, cone, the inputs of the next layer as rows, their common factor
    first = 0
    for weight, bias in weights[:-1]:
        factor, weight_rows, biases = integers(weight, bias)
        after = []
        for code, cone, inputs, scale in cells:
            rows = [
                tuple(sum(w * x for w, x in zip(row, column, strict=True)) for column in zip(*inputs, strict=True))
                for row in weight_rows
            ]
            rows = [(row[0] + b * scale, *row[1:]) for row, b in zip(rows, biases, strict=True)]
            for bits, part in split(cone, rows, first):
                active = [row if bit == "1" else (0,) * size for bit, row in zip(bits, rows, strict=True)]
                after.append((code + bits, part, active, scale * factor))
        cells = after
        first += len(bias)
    return {code: cone for code, cone, _, _ in cells}


def split(cone: Cone, rows: Sequence[Vector], first: int) -> list[tuple[str, Cone]]:
    """The bits and the cones of the parts in which no row changes its sign; ``first`` is the first row's neuron."""
    parts = [("", cone)]
    for neuron, row in enumerate(rows, first):
        halves = []
        for bits, part in parts:
            above, below = part.signs(row)
            if above:
                halves.append((bits + "1", part.cut(primitive(row), neuron)))
            if below:
                halves.append((bits + "0", part.cut(primitive(scaled(row, -1)), neuron)))
            if not above and not below:  # 0 on the whole part
                halves.append((bits + "0", part))
        parts = halves
    return parts


def facets_of(code: str, cone: Cone) -> Iterable[tuple[Vector, Facet]]:
    """Each facet of a cell with its hyperplane, which is the row or its negative, whichever is larger."""
    size = len(cone.rows[0])
    faces = defaultdict[tuple[Vector, ...], list[int]](list)
    for place, row in enumerate(cone.rows):
        if any(row[1:]):  # otherwise the row is a positive constant
            faces[tuple(ray.vector for ray in cone.rays if ray.tight >> place & 1)].append(place)
    for rays, places in faces.items():
        if rank([*rays, *cone.lines]) == size - 1:
            owners = frozenset(cone.owners[place] for place in places)
            row = cone.rows[places[0]]
            yield max(row, scaled(row, -1)), Facet(code, cone, rays, owners - {WALL}, WALL in owners)


def neighbours(sides: dict[Vector, list[Facet]]) -> set[Pair]:
    """The two cells of each facet. Every facet that is not on the box must have one cell behind the whole of it."""
    neighbour_pairs = set[Pair]()
    for hyperplane, facets in sides.items():
        above = [facet for facet in facets if hyperplane in facet.cone.rows]
        below = [facet for facet in facets if hyperplane not in facet.cone.rows]
        pairs = [(one, other) for one in above for other in below if other.cone.holds([one.middle])]
        for one, other in pairs:
            if not (other.cone.holds(one.ends) and one.cone.holds(other.ends)):
                raise AssertionError(f"the cells {one.code} and {other.code} share only a part of a facet.")
            neighbour_pairs.add((min(one.code, other.code), max(one.code, other.code)))
        for side, place in ((above, 0), (below, 1)):
            if sorted(f.code for f in side) != sorted(pair[place].code for pair in pairs):
                raise AssertionError(f"a facet on {hyperplane} does not have exactly one cell behind it.")
    return neighbour_pairs


def integers(weight: np.ndarray, bias: np.ndarray) -> tuple[int, list[list[int]], list[int]]:
    """A common denominator, and weight and bias times it."""
    exact = [[Fraction(float(w)) for w in (*row, b)] for row, b in zip(weight, bias, strict=True)]
    factor = math.lcm(*(number.denominator for row in exact for number in row))
    whole = [[int(number * factor) for number in row] for row in exact]
    return factor, [row[:-1] for row in whole], [row[-1] for row in whole]


def raised(code: str) -> Iterable[str]:
    """The codes with one bit changed from 0 to 1."""
    return (f"{code[:at]}1{code[at + 1 :]}" for at, bit in enumerate(code) if bit == "0")


def as_point(vector: Vector) -> Point:
    return tuple(Fraction(number, vector[0]) for number in vector[1:])


def dot(one: Vector, other: Vector) -> int:
    return sum(map(int.__mul__, one, other))


def scaled(vector: Vector, factor: int) -> Vector:
    return tuple(factor * number for number in vector)


def total(vectors: Sequence[Vector]) -> Vector:
    return tuple(map(sum, zip(*vectors, strict=True)))


def combined(a: int, one: Vector, b: int, other: Vector) -> Vector:
    return primitive(tuple(a * x + b * y for x, y in zip(one, other, strict=True)))


def primitive(vector: Vector) -> Vector:
    """The vector divided by its greatest common divisor."""
    factor = math.gcd(*vector) or 1
    return tuple(number // factor for number in vector)


def rank(vectors: Sequence[Vector]) -> int:
    remaining, count = list(vectors), 0
    for at in range(len(vectors[0]) if vectors else 0):
        pivot = next((vector for vector in remaining if vector[at]), None)
        if pivot is not None:
            count += 1
            remaining = [combined(pivot[at], v, -v[at], pivot) for v in remaining if v is not pivot]
    return count


def exact_values(weights: Sequence[tuple[np.ndarray, np.ndarray]], point: Sequence[Fraction]) -> list[Fraction]:
    """The pre-activations of all hidden neurons at a point."""
    pre_activations: list[Fraction] = []
    inputs = list(point)
    for weight, bias in weights[:-1]:
        rows = zip(weight.tolist(), bias.tolist(), strict=True)
        values = [sum((Fraction(w) * x for w, x in zip(row, inputs, strict=True)), Fraction(b)) for row, b in rows]
        pre_activations += values
        inputs = [max(value, Fraction(0)) for value in values]
    return pre_activations


def code_of(values: Sequence[Fraction]) -> str:
    return "".join("01"[value > 0] for value in values)


def as_strings(codes: Codes) -> list[str]:
    """The codes of this package as the codes of a `RationalComplex`."""
    return ["".join(map(str, row)) for row in codes.bits().astype(int)]
