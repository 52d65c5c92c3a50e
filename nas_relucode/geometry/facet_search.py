"""The search behind `complex_of`: breadth first from cell to cell across facets, many cells at a time, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.geometry.bends import Bend
from nas_relucode.geometry.cell_facets import facets_of_cells, tied_rows
from nas_relucode.geometry.centres import centre
from nas_relucode.geometry.crossing import nonzero_rows, states_behind, vanished
from nas_relucode.geometry.half_spaces import chebyshev
from nas_relucode.geometry.polygons import Sides, find_sides
from nas_relucode.geometry.program import Program
from nas_relucode.npz_files import read_arrays

Decide = Callable[[int, Bend, Tensor, "Tensor | None"], Tensor]


class FacetSearch:
    """The known part of a complex, in the coordinates of ``directions`` around ``origin``.

    Cells are numbered as they are found; the facets of the first ``expanded`` ones have been crossed.
    """

    def __init__(
        self,
        program: Program,
        origin: np.ndarray,
        directions: np.ndarray,
        box: tuple[float, float] | None,
        tolerance: float,
    ) -> None:
        self.program, self.tolerance = program, tolerance
        self.k = len(directions)  # coordinates
        self.low, self.high = box if box is not None else (-np.inf, np.inf)
        self.origin = torch.as_tensor(origin, dtype=torch.float64, device=program.device)
        self.directions = torch.as_tensor(directions, dtype=torch.float64, device=program.device)
        self.bends = [program.bend(at) for at in range(len(program.bends))]
        self.layer_of = np.repeat(np.arange(len(self.bends)), program.widths)
        self.neurons = int(program.is_bit.sum())
        zero = program.points(np.zeros(program.features))
        self.shapes = [(tuple(state.shape[1:]), state.dtype == torch.bool) for state in program.states(zero)]
        self.key_bits, self.code_bits = self._bits_of_rows()
        self.unit = 1.0  # a typical length
        self.number: dict[bytes, int] = {}  # of the cell with a key
        self.keys: list[bytes] = []  # of each cell: its packed states
        self.points: list[np.ndarray] = []  # of each cell: an inner point, (coordinates,)
        self.codes: list[np.ndarray] = []  # of each cell: its packed code
        self.expanded = 0
        self.bounded: list[bool] = []  # of each expanded cell
        self.facet_counts: list[int] = []  # of each expanded cell, without the box
        # (sides, 4) arrays: a cell, the cell behind the side, and the corners where the side begins and ends, or -1
        self.sides: list[np.ndarray] = []
        self.corners: list[np.ndarray] = []  # in the plane, (corners, 2) arrays; once for each cell
        self.corner_of: list[np.ndarray] = []  # the cell of each corner
        self.corner_count = 0
        self.walls = 0  # facets on the box

    def _bits_of_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The bit of a cell's key and that of its code in which each row's state is: int64, (rows,), -1 for none.

        Only the states of neurons with one level are a bit.
        """
        key_bits: list[np.ndarray] = []
        code_bits: list[np.ndarray] = []
        byte, bit = 0, 0
        for (shape, is_bool), has_bits in zip(self.shapes, self.program.has_bits, strict=True):
            size = int(np.prod(shape))
            key_bits.append(8 * byte + np.arange(size) if is_bool else np.full(self.program.widths[len(key_bits)], -1))
            code_bits.append(bit + np.arange(size) if is_bool and has_bits else np.full(len(key_bits[-1]), -1))
            byte += -(-size // 8) if is_bool else 4 * size
            bit += size if has_bits else 0
        return np.concatenate(key_bits), np.concatenate(code_bits)

    @property
    def is_done(self) -> bool:
        return self.expanded == len(self.points)

    # New cells

    def begin(self, start: Any) -> None:
        """Adds the first cell, around ``start`` (coordinates) or a point near the middle."""
        self.unit = self.usual_distance()
        middle = 0.0 if np.isinf(self.low) else (self.low + self.high) / 2
        spread = self.unit if np.isinf(self.low) else (self.high - self.low) / 4
        rng = np.random.default_rng(0)
        if start is not None and np.shape(start) != (self.k,):
            raise InputError(f"the start has shape {np.shape(start)}. Give {self.k} coordinates.")
        for _ in range(1 if start is not None else 100):
            drawn = middle + spread * (rng.random(self.k) - 0.5)
            point = (drawn if start is None else np.asarray(start, float))[None]
            values, gradients, states = self.at(point)
            gradients, slacks, used = self.rows(point, values, gradients)
            distance = slacks[0, used[0]] / np.linalg.norm(gradients[0, used[0]], axis=1)
            if (distance > 1e-12 * np.median(distance)).all() if len(distance) else True:
                ties = vanished(values, used, self.program.widths, self.tolerance)
                first = self.behind(states, point, np.eye(1, self.k), ties)
                self.add(point, as_bytes(self.keys_of(first)), self.bits(first))
                return
        if start is None:
            raise InputError("no point was found that lies clearly inside a cell. Give one as start, or another box.")
        raise InputError("the start lies on a border or outside of the box. Give a point inside a cell.")

    def usual_distance(self) -> float:
        """The median distance from 0, or from the middle of the box, to the borders that do not go through it."""
        middle = np.full((1, self.k), 0.0 if np.isinf(self.low) else (self.low + self.high) / 2)
        values, gradients, _ = self.at(middle)
        norms = np.linalg.norm(gradients[0], axis=1)
        used = nonzero_rows(norms, self.program.widths) & (values[0] != 0)
        distance = float(np.median(np.abs(values[0, used]) / norms[used])) if used.any() else 1.0
        return distance if np.isinf(self.high) else min(distance, self.high - self.low)

    def add(self, points: np.ndarray, keys: list[bytes], codes: np.ndarray) -> None:
        """Adds the cells with these inner points, packed states and packed codes, unless they are known."""
        for point, key, code in zip(points, keys, codes, strict=True):
            if key not in self.number:
                self.keys.append(key)
                self.number[key] = len(self.points)
                self.points.append(point)
                self.codes.append(code)

    def keys_of(self, states: list[Tensor]) -> np.ndarray:
        """The packed states of each cell: uint8, (cells, bytes)."""
        parts = []
        for state in states:
            flat = state.flatten(1).cpu().numpy()
            parts.append(np.packbits(flat, axis=1) if flat.dtype == bool else flat.astype("<i4").view(np.uint8))
        return np.concatenate(parts, axis=1)

    def states_of(self, cells: np.ndarray) -> list[Tensor]:
        """The states of known cells."""
        return self.unpacked(
            np.frombuffer(b"".join(self.keys[cell] for cell in cells), np.uint8).reshape(len(cells), -1)
        )

    def unpacked(self, rows: np.ndarray) -> list[Tensor]:
        """The states of cells with these keys, uint8 (cells, bytes)."""
        states, start = [], 0
        for shape, is_bool in self.shapes:
            size = int(np.prod(shape))
            stop = start + (-(-size // 8) if is_bool else 4 * size)
            part = np.ascontiguousarray(rows[:, start:stop])
            flat = (
                np.unpackbits(part, axis=1, count=size).astype(bool) if is_bool else part.view("<i4").astype(np.int64)
            )
            states.append(torch.as_tensor(flat, device=self.origin.device).reshape(-1, *shape))
            start = stop
        return states

    def bits(self, states: list[Tensor]) -> np.ndarray:
        return np.packbits(self.program.code(states).cpu().numpy(), axis=1, bitorder="little")

    # The network at points

    def inputs(self, coordinates: np.ndarray) -> Tensor:
        along = torch.as_tensor(coordinates, device=self.origin.device)
        return (self.origin + along @ self.directions).reshape(-1, *self.program.shape)

    def at(self, points: np.ndarray, decide: Decide | None = None) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
        """The rows' values (points, rows) and gradients (points, rows, coordinates), and the states of the cells."""
        basis = self.directions.reshape(1, self.k, *self.program.shape)
        values, gradients, states = [], [], []
        for at, x, state, dx in self.program.run(self.inputs(points), basis, decide, to_the_end=False):
            assert dx is not None
            values.append(self.bends[at].rows(x, state))
            tangents = self.bends[at].row_tangents(dx, state)
            gradients.append(tangents.expand(len(points), *tangents.shape[1:]))
            states.append(state)
        together = torch.cat(gradients, 2).transpose(1, 2).contiguous()
        return torch.cat(values, 1).cpu().numpy(), together.cpu().numpy(), states

    def rows(
        self, points: np.ndarray, values: np.ndarray, gradients: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gradients and slacks, those of the box appended, and which rows are not zero: (points, rows, ...) each."""
        norms = np.linalg.norm(gradients, axis=2)
        used = nonzero_rows(norms, self.program.widths)
        if np.isinf(self.low):
            return gradients, values, used
        cells, unit = len(points), np.eye(self.k)
        walls = np.broadcast_to(np.concatenate([unit, -unit]), (cells, 2 * self.k, self.k))
        room = np.concatenate([points - self.low, self.high - points], axis=1)
        inside = np.ones((cells, 2 * self.k), bool)
        return (
            np.concatenate([gradients, walls], axis=1),
            np.concatenate([values, room], axis=1),
            np.concatenate([used, inside], axis=1),
        )

    # From cells to their neighbours

    def expand(self, most: int) -> None:
        """Crosses the facets of the next cells, at most ``most``. Atomic: on an exception nothing changes."""
        lists: list[list[Any]] = [self.keys, self.points, self.codes, self.bounded, self.facet_counts]
        lists += [self.sides, self.corners, self.corner_of]
        lengths, counts = [len(part) for part in lists], (self.expanded, self.corner_count, self.walls)
        try:
            self._expand(most)
        except BaseException:
            for key in self.keys[lengths[0] :]:
                self.number.pop(key, None)
            for part, length in zip(lists, lengths, strict=True):
                del part[length:]
            self.expanded, self.corner_count, self.walls = counts
            raise

    def _expand(self, most: int) -> None:
        cells = np.arange(self.expanded, min(len(self.points), self.expanded + most))
        points = np.array([self.points[cell] for cell in cells])
        states = self.states_of(cells)
        values, gradients, _ = self.at(points, lambda number, *_: states[number])
        gradients, slacks, used = self.rows(points, values, gradients)
        if not (slacks[used] > 0).all():
            raise InputError(
                "a cell is too thin for float64: no point was found inside. Give a larger tolerance or another box."
            )
        owner, ties, at, ends = self.facets_of(points, gradients, slacks, used)
        self.expanded += len(cells)
        if len(owner) == 0:
            return
        outward = -gradients[owner, ties.argmax(axis=1)]
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        ties = ties[:, : values.shape[1]] | vanished(values, used, self.program.widths, self.tolerance)[owner]
        key_rows, codes = self.across(cells, states, owner, at, outward, ties)
        keys = as_bytes(key_rows)
        sides = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))  # of each key the first
        first_side = {key: side for key, side in sides.items() if key not in self.number}
        if first_side:  # of each new cell
            chosen = np.sort(np.fromiter(first_side.values(), int))
            inner = self.settled(at[chosen], outward[chosen], self.unpacked(key_rows[chosen]))
            self.add(inner, [keys[side] for side in chosen], codes[chosen])
        there = np.fromiter(map(self.number.__getitem__, keys), int, len(keys))
        self.sides.append(np.column_stack([cells[owner], there, ends]))

    def facets_of(
        self, points: np.ndarray, gradients: np.ndarray, slacks: np.ndarray, used: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The facets to be crossed: the place of their cell, the rows that vanish on them, a point, its corners."""
        if self.k == 2:
            sides = find_sides(gradients, slacks, used, self.tolerance)
            owner, row, at = sides.cell, sides.row, points[sides.cell] + sides.point
            ends = self.ends_of(sides, points)
            self.bounded += sides.bounded.tolist()
        else:
            owner, row, at, bounded = facets_of_cells(gradients, slacks, used, self.tolerance)
            at += points[owner]
            self.bounded += bounded.tolist()
            ends = np.full((len(owner), 2), -1)
        ties = tied_rows(gradients, slacks, used, owner, row, self.tolerance)
        inner = ~ties[:, len(self.layer_of) :].any(axis=1)  # not on the box
        self.walls += int((~inner).sum())
        self.facet_counts += np.bincount(owner[inner], minlength=len(points)).tolist()
        return owner[inner], ties[inner], at[inner], ends[inner]

    def ends_of(self, sides: Sides, points: np.ndarray) -> np.ndarray:
        """Adds the corners of the sides, and returns those where each begins and ends: (sides, 2), -1 for none."""
        exists = ~np.isnan(sides.corner[:, 0])
        self.corners.append((points[sides.cell] + sides.corner)[exists])
        self.corner_of.append(self.expanded + sides.cell[exists])
        begins = np.where(exists, self.corner_count + np.cumsum(exists) - 1, -1)
        self.corner_count += int(exists.sum())
        first = np.searchsorted(sides.cell, sides.cell)  # the first side of the same cell
        following = np.arange(1, len(begins) + 1)
        last = np.append(sides.cell[1:] != sides.cell[:-1], [True] * (len(begins) > 0))
        return np.stack([begins, begins[np.where(last, first, following)]], axis=1)

    def across(
        self,
        cells: np.ndarray,
        states: list[Tensor],
        owner: np.ndarray,
        at: np.ndarray,
        outward: np.ndarray,
        ties: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The packed states and codes of the cells behind facets: uint8, (facets, bytes) each.

        Where one row alone vanishes on the facet, and its state is a bit, it is that bit that changes.
        """
        keys = np.frombuffer(b"".join(self.keys[cell] for cell in cells), np.uint8).reshape(len(cells), -1)[owner]
        codes = np.array([self.codes[cell] for cell in cells])[owner]
        row = ties.argmax(axis=1)
        flips = (ties.sum(axis=1) == 1) & (self.key_bits[row] >= 0)
        sides, bit = np.flatnonzero(flips), self.key_bits[row[flips]]
        keys[sides, bit // 8] ^= (128 >> bit % 8).astype(np.uint8)
        bit = self.code_bits[row[flips]]
        sides, bit = sides[bit >= 0], bit[bit >= 0]
        codes[sides, bit // 8] ^= (1 << bit % 8).astype(np.uint8)
        if not flips.all():
            places = torch.as_tensor(owner[~flips], device=self.origin.device)
            behind = self.behind([state[places] for state in states], at[~flips], outward[~flips], ties[~flips])
            keys[~flips], codes[~flips] = self.keys_of(behind), self.bits(behind)
        return keys, codes

    def behind(self, states: list[Tensor], at: np.ndarray, outward: np.ndarray, ties: np.ndarray) -> list[Tensor]:
        """The states of the cells behind facets, at a point of each."""
        directions = torch.as_tensor(outward, device=self.origin.device) @ self.directions
        return states_behind(self.program, states, self.inputs(at), directions.reshape(-1, *self.program.shape), ties)

    def settled(self, at: np.ndarray, inward: np.ndarray, states: list[Tensor]) -> np.ndarray:
        """Inner points of cells, (cells, k), from the points ``at`` on their borders in directions ``inward``."""
        values, gradients, _ = self.at(at, lambda number, *_: states[number])
        gradients, slacks, used = self.rows(at, values, gradients)
        slope = np.einsum("crk,ck->cr", gradients, inward)
        falls = used & (slope < -1e-12 * np.linalg.norm(gradients, axis=2))
        crossing = np.divide(-slacks, slope, where=falls, out=np.full(slope.shape, np.inf))
        step = np.minimum(2 * self.unit, crossing.min(axis=1) / 2)  # to the middle of the chord
        points = at + step[:, None] * inward
        slacks = slacks + step[:, None] * slope
        inside = centre(points, gradients, slacks, used, self.unit)
        for cell in np.flatnonzero(~inside):  # the point on the border is too close to other borders
            weight = gradients[cell, used[cell]]
            points[cell] = chebyshev(weight, slacks[cell, used[cell]] - weight @ points[cell])[0]
        return points

    # On disk

    def fingerprint(self) -> str:
        """A hash of the network (its weights, and its values at some points), the box and the tolerance."""
        points = np.random.default_rng(0).standard_normal((16, self.k))
        hashed = hashlib.sha256(repr((self.low, self.high, self.tolerance)).encode())
        constants = [part.detach().cpu().numpy() for part in self.program.constants()]
        for part in [*constants, *self.at(points)[:2]]:
            hashed.update(np.ascontiguousarray(part).tobytes())
        return hashed.hexdigest()

    def save(self, path: Path) -> None:
        """Writes the search to an .npz file, atomically."""
        arrays = {
            "fingerprint": np.array(self.fingerprint()),
            "keys": np.frombuffer(b"".join(self.keys), np.uint8).reshape(len(self.keys), -1),
            "points": np.array(self.points),
            "codes": np.array(self.codes),
            "bounded": np.array(self.bounded, bool),
            "facet_counts": np.array(self.facet_counts, np.int64),
            "sides": np.concatenate([np.empty((0, 4), np.int64), *self.sides]),
            "corners": np.concatenate([np.empty((0, 2)), *self.corners]),
            "corner_of": np.concatenate([np.empty(0, np.int64), *self.corner_of]),
            "counts": np.array([self.expanded, self.walls]),
            "unit": np.array(self.unit),
        }

        def write(file: Path) -> None:
            with file.open("wb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]

        write_atomically(path, write)

    def check_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Raises ValueError unless the arrays of a state have the shapes and numbers that `save` gives them."""
        keys, codes, sides, corner_of = (arrays[name] for name in ("keys", "codes", "sides", "corner_of"))
        corners, cells, expanded = arrays["corners"], len(keys), int(arrays["counts"][0])
        sizes = [(int(np.prod(shape)), is_bool) for shape, is_bool in self.shapes]
        fit = (
            keys.dtype == np.uint8
            and keys.shape == (cells, sum(-(-size // 8) if is_bool else 4 * size for size, is_bool in sizes))
            and codes.dtype == np.uint8
            and codes.shape == (cells, -(-self.neurons // 8))
            and arrays["points"].dtype == float
            and arrays["points"].shape == (cells, self.k)
            and 0 <= expanded <= cells
            and arrays["counts"].shape == (2,)
            and arrays["counts"].dtype == np.int64
            and arrays["bounded"].dtype == bool
            and corners.dtype == arrays["unit"].dtype == float
            and arrays["unit"].shape == ()
            and 0 < arrays["unit"] < np.inf
            and len(np.unique(keys, axis=0)) == cells
            and corner_of.ndim == 1
            and bool(np.isfinite(arrays["points"]).all())
            and arrays["bounded"].shape == arrays["facet_counts"].shape == (expanded,)
            and corners.shape == (len(corner_of), 2)
            and sides.shape == (len(sides), 4)
            and sides.dtype == corner_of.dtype == arrays["facet_counts"].dtype == np.int64
            and bool(np.all((sides >= [0, 0, -1, -1]) & (sides < [cells, cells, len(corners), len(corners)])))
            and bool(np.all((corner_of >= 0) & (corner_of < cells)))
        )
        if not fit:
            raise ValueError("its arrays do not belong together")

    def load(self, path: Path) -> None:
        """Continues the search in a file. Raises InputError if it is of another network, or damaged."""
        try:
            arrays = read_arrays(path, "Name the state of a search, or a new file.")
            if str(arrays["fingerprint"]) != self.fingerprint():
                raise InputError(f"{path} belongs to another network, box or tolerance. Name a new file.")
            self.check_state(arrays)
            self.keys = [row.tobytes() for row in arrays["keys"]]
            self.number = {key: number for number, key in enumerate(self.keys)}
            self.points, self.codes = list(arrays["points"]), list(arrays["codes"])
            self.bounded, self.facet_counts = arrays["bounded"].tolist(), arrays["facet_counts"].tolist()
            self.sides, self.corners, self.corner_of = [arrays["sides"]], [arrays["corners"]], [arrays["corner_of"]]
            self.corner_count = len(arrays["corners"])
            self.expanded, self.walls = arrays["counts"].tolist()
            self.unit = float(arrays["unit"])
        except (LookupError, ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is damaged, or not the state of a search. Name a new file.") from error


def as_bytes(rows: np.ndarray) -> list[bytes]:
    """Each row of uint8, (rows, bytes), as bytes."""
    together, size = rows.tobytes(), rows.shape[1]
    return [together[start : start + size] for start in range(0, len(together), size)]
