"""The cells of a sample as polyhedra: margins, facets, phantom pairs and rays, each computed when first used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.cells.hamming import distance_blocks
from nas_relucode.cells.occupied import find_cells
from nas_relucode.codes.batches import as_array
from nas_relucode.codes.bits import pack
from nas_relucode.codes.class_scores import class_scores
from nas_relucode.codes.network_state import run, untouched
from nas_relucode.errors import InputError
from nas_relucode.geometry.borders import margins
from nas_relucode.geometry.half_spaces import recession_direction
from nas_relucode.geometry.phantoms import Audit, audit
from nas_relucode.geometry.polyhedra import Polyhedron, polyhedron
from nas_relucode.geometry.program import Program, read_program

SAMPLES = 1_000  # the first ones: their margins and predictions are used
CELLS = 20  # whose facets are counted, and along whose rays the confidence is followed
PAIRS = 10_000  # adjacent pairs that are audited
MOST_BYTES = 2**28  # of the rows of a cell


@dataclass(frozen=True)
class Geometry:
    """A sample and a network, read in float64, in whose cells the sample lies."""

    program: Program
    points: Tensor  # float64, (samples, *shape): inputs of the program
    labels: np.ndarray | None  # int64, (samples,)
    predicted: np.ndarray | None  # int64, (samples,): of the first 1,000; None without class scores
    two_classes: bool = False  # one output per sample stands for two classes

    def __repr__(self) -> str:
        rows = sum(self.program.widths)
        return f"Geometry: {len(self.points)} samples, {self.program.features} features, {rows} rows per cell"

    @property
    def first_points(self) -> Tensor:
        """The first 1,000 samples."""
        return self.points[:SAMPLES]

    @cached_property
    def margins(self) -> np.ndarray:
        """float64, (samples,): of the first 1,000 samples, the distance to the border of their cell."""
        return margins(self.program, self.first_points).distance

    @cached_property
    def correct(self) -> np.ndarray | None:
        """bool, (samples,): of the first 1,000 samples; None without labels or class scores."""
        if self.labels is None or self.predicted is None:
            return None
        return np.asarray(self.predicted == self.labels[:SAMPLES])

    @cached_property
    def gives_scores(self) -> bool:
        """Whether the program's outputs are the network's class scores, not those of a module in its middle."""
        if self.predicted is None or self.program.opaque is not None:
            return False
        *_, (_, outputs, _, _) = self.program.run(self.points[:100])
        winners = _winners(outputs, self.two_classes)
        return winners is not None and np.array_equal(winners, self.predicted[:100])

    @cached_property
    def audit(self) -> Audit:
        return audit(self.program, self.points, max_pairs=PAIRS)

    @cached_property
    def polyhedra(self) -> list[Polyhedron]:
        """The cells of 20 samples, spread evenly over the sample."""
        chosen = np.unique(np.linspace(0, len(self.points) - 1, CELLS).astype(int))
        return [polyhedron(self.program, self.points[int(number)][None]) for number in chosen]

    @cached_property
    def facet_counts(self) -> np.ndarray:
        """int64, (cells,): the facets of each of the `polyhedra` that has an interior."""
        return np.array([len(cell.facets().rows) for cell in self.polyhedra if cell.has_interior], np.int64)

    @cached_property
    def growths(self) -> np.ndarray:
        """float64, (cells,): the `confidence_growth` of each of the `polyhedra`."""
        return np.array([confidence_growth(cell) for cell in self.polyhedra if self.gives_scores])

    @cached_property
    def other_class_distances(self) -> np.ndarray:
        """int64, (samples,): the Hamming distance of each of the first 1,000 samples to the nearest cell that holds one
        of them with another predicted class; empty if all are predicted to be of one class.
        """
        if self.predicted is None:
            return np.empty(0, np.int64)
        cells, predicted = find_cells(pack(self.program.bits(self.first_points))), self.predicted
        classes = np.unique(predicted, return_inverse=True)[1]
        if classes.max(initial=0) == 0:
            return np.empty(0, np.int64)
        holds = np.zeros((len(cells), classes.max() + 1), bool)
        holds[cells.cell_of, classes] = True
        to_class = np.full(holds.shape, np.iinfo(np.int64).max)  # from each cell to the nearest that holds the class
        for start, block in distance_blocks(cells.codes):
            for label in range(holds.shape[1]):
                to_class[start : start + len(block), label] = block[:, holds[:, label]].min(axis=1)
        distances = to_class[cells.cell_of]
        distances[np.arange(len(distances)), classes] = np.iinfo(np.int64).max
        return np.asarray(distances.min(axis=1))


def read_geometry(
    network: nn.Module, inputs: Any, labels: Any = None, *, module: str | None = None, two_classes: bool = False
) -> Geometry:
    """A network and a sample, read for the geometric indices; with ``module`` in the space of that module's inputs.

    With ``two_classes`` one output per sample is the logit of the second of two classes; without, it is no class score.

    Raises InputError as `read_program`, and if the rows of a cell take more than 256 MiB.
    """
    program = read_program(network, inputs, module=module)
    rows = sum(program.widths)
    if 8 * rows * program.features > MOST_BYTES:
        raise InputError(
            f"a cell has {rows:,} rows of {program.features:,} features, too many for the geometric indices. "
            "Compute them for a module of the network, for example its head: module='head'."
        )
    labels = None if labels is None else as_array(labels).astype(np.int64)
    predicted = _predicted(network, torch.as_tensor(inputs)[:SAMPLES], two_classes)
    return Geometry(program, program.example, labels, predicted, two_classes)


def _predicted(network: nn.Module, inputs: Tensor, two_classes: bool) -> np.ndarray | None:
    """The class of the largest score: int64, (samples,); None unless the outputs are class scores."""
    unchanged = untouched(network)
    predicted = []
    for part in inputs.split(256):
        with unchanged:
            predicted.append(_winners(run(network, part.to(unchanged.device)), two_classes))
    known = [part for part in predicted if part is not None]
    return np.concatenate(known) if len(known) == len(predicted) else None


def _winners(outputs: Any, two_classes: bool) -> np.ndarray | None:
    """The class of the largest score of each row; None unless the outputs are class scores."""
    scores = class_scores(outputs, len(outputs)) if two_classes else outputs
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.shape[1] < 2:
        return None
    return np.asarray(scores.argmax(dim=1).cpu().numpy())


def confidence_growth(cell: Polyhedron) -> float:
    """By how much the lead of the largest output over the second grows for each unit of length along a ray of the cell.

    The ray has the `recession_direction` of the cell. Where the growth is above 0, the softmax confidence tends to 1
    along the ray, as Hein et al. show for almost every ray (section 1 of the paper; "Why ReLU networks yield
    high-confidence predictions far away from the training data", CVPR 2019). For a network with one output it is the
    absolute slope of that output. NaN for a bounded cell.
    """
    direction = recession_direction(cell.weight)
    if direction is None:
        return float("nan")
    matrix, _ = cell.affine_map()
    slopes = np.sort(matrix @ direction)
    return float(slopes[-1] - slopes[-2]) if len(slopes) > 1 else float(abs(slopes[-1]))
