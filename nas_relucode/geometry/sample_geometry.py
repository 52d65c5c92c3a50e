"""What is measured of the cells of a sample as polyhedra, each when an index first asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.hamming import distance_blocks
from nas_relucode.cells.occupied import find_cells
from nas_relucode.codes.bits import pack
from nas_relucode.codes.network_state import untouched
from nas_relucode.errors import InputError
from nas_relucode.geometry.borders import margins
from nas_relucode.geometry.half_spaces import recession_direction
from nas_relucode.geometry.phantoms import Audit, audit
from nas_relucode.geometry.polyhedra import Polyhedron, polyhedron
from nas_relucode.geometry.program import Program, read_program

SAMPLES = 1_000  # whose margins are taken, and whose predictions are compared
CELLS = 20  # whose facets are counted, and whose rays are followed
PAIRS = 10_000  # that are audited
MOST = 2**28  # bytes of the rows of a cell


@dataclass(frozen=True)
class Geometry:
    """A sample and the network whose cells it lies in, read in float64."""

    program: Program
    points: Tensor  # float64, (samples, *shape): inputs of the program
    labels: np.ndarray | None  # int64, (samples,)
    predicted: np.ndarray | None  # int64, (samples,): of the first 1,000; None if no two or more scores come out

    @property
    def some(self) -> Tensor:
        return self.points[:SAMPLES]

    @cached_property
    def margins(self) -> np.ndarray:
        """float64, (samples,): of the first 1,000 samples, the distance to the border of their cell."""
        return margins(self.program, self.some).distance

    @cached_property
    def correct(self) -> np.ndarray | None:
        """bool, (samples,): of the first 1,000 samples; None without labels or class scores."""
        if self.labels is None or self.predicted is None:
            return None
        return np.asarray(self.predicted == self.labels[:SAMPLES])

    @cached_property
    def gives_scores(self) -> bool:
        """The program's outputs are the network's class scores, not something in its middle."""
        if self.predicted is None or self.program.opaque is not None:
            return False
        *_, (_, outputs, _, _) = self.program.run(self.points[:100])
        return outputs.ndim == 2 and np.array_equal(outputs.argmax(dim=1).cpu().numpy(), self.predicted[:100])

    @cached_property
    def audit(self) -> Audit:
        return audit(self.program, self.points, max_pairs=PAIRS)

    @cached_property
    def polyhedra(self) -> list[Polyhedron]:
        """Of the cells of 20 samples, spread evenly over the sample."""
        chosen = np.unique(np.linspace(0, len(self.points) - 1, CELLS).astype(int))
        return [polyhedron(self.program, self.points[int(number)][None]) for number in chosen]

    @cached_property
    def facet_counts(self) -> np.ndarray:
        """int64, (cells,): of `polyhedra`, without those that have no interior."""
        return np.array([len(cell.facets().rows) for cell in self.polyhedra if cell.has_interior], np.int64)

    @cached_property
    def growths(self) -> np.ndarray:
        """float64, (cells,): of `polyhedra`, by how much a unit of length along a ray of the cell adds to the lead of
        the class that wins there over the next; NaN for a bounded cell.
        """
        return np.array([confidence_growth(cell) for cell in self.polyhedra if self.gives_scores])

    @cached_property
    def other_class_distances(self) -> np.ndarray:
        """int64, (samples,): of the first 1,000 samples, the Hamming distance to the nearest cell in which one of them
        is predicted to be of another class; empty if all are of one.
        """
        if self.predicted is None:
            return np.empty(0, np.int64)
        cells, predicted = find_cells(pack(self.program.bits(self.some))), self.predicted
        classes = np.unique(predicted, return_inverse=True)[1]
        if classes.max(initial=0) == 0:
            return np.empty(0, np.int64)
        holds = np.zeros((len(cells), classes.max() + 1), bool)
        holds[cells.cell_of, classes] = True
        nearest = np.full(holds.shape, np.iinfo(np.int64).max)  # of each cell to one that holds the class
        for start, block in distance_blocks(cells.codes):
            for k in range(holds.shape[1]):
                nearest[start : start + len(block), k] = block[:, holds[:, k]].min(axis=1)
        other = nearest[cells.cell_of]
        other[np.arange(len(other)), classes] = np.iinfo(np.int64).max
        return np.asarray(other.min(axis=1))


def read_geometry(network: nn.Module, inputs: Any, labels: Any = None, *, module: str | None = None) -> Geometry:
    """Reads a network for the geometric indices; ``module`` takes them in the space of that module's inputs.

    Raises InputError as `read_program`, and where the rows of a cell would not fit into 256 MiB.
    """
    program = read_program(network, inputs, module=module)
    rows = sum(program.widths)
    if 8 * rows * program.features > MOST:
        raise InputError(
            f"a cell has {rows:,} rows of {program.features:,} features, too many for the indices of polyhedra. "
            "Take them of a module of the network, of its head say: module='head'."
        )
    labels = None if labels is None else np.asarray(torch.as_tensor(labels).cpu()).astype(np.int64)
    return Geometry(program, program.example, labels, _predicted(network, torch.as_tensor(inputs)[:SAMPLES]))


def _predicted(network: nn.Module, inputs: Tensor) -> np.ndarray | None:
    """The class with the largest of a row of two or more outputs: int64, (samples,)."""
    as_before = untouched(network)
    outputs = []
    for part in inputs.split(256):
        with as_before:
            outputs.append(network(part.to(as_before.device)))
    if not all(isinstance(part, Tensor) and part.ndim == 2 and part.shape[1] > 1 for part in outputs):
        return None
    return np.asarray(torch.cat(outputs).argmax(dim=1).cpu().numpy())


def confidence_growth(cell: Polyhedron) -> float:
    """How fast the class that wins far out along a ray of the cell draws ahead of the next, a unit of length.

    The ray leaves all half-spaces' borders behind, or runs along all of them where nothing else is open. Above 0 the
    softmax confidence tends to 1 along it, as Hein et al. show of almost every ray (section 1 of the paper, "Why ReLU
    networks yield high-confidence predictions far away from the training data", CVPR 2019); NaN for a bounded cell.
    """
    direction = recession_direction(cell.weight)
    if direction is None:
        return float("nan")
    matrix, _ = cell.affine_map()
    slopes = np.sort(matrix @ direction)
    return float(slopes[-1] - slopes[-2]) if len(slopes) > 1 else float(abs(slopes[-1]))
