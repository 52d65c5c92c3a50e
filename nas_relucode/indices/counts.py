"""Indices that count: occupied cells (Equation 3), the samples in them, neurons by their bits, parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nas_relucode.indices.index import Index, known

if TYPE_CHECKING:
    from nas_relucode.indices.inputs import IndexInputs


class CellCount(Index):
    """Occupied cells: the number of distinct codes (section 3 of the paper).

    Fewer and larger cells go with robustness (Croce et al. 2018, cited there).
    """

    direction = "minimize"

    def compute(self, inputs: IndexInputs) -> float:
        return float(len(inputs.cells))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 1.0, float(inputs.most_cells)


class CorrectCellCount(Index):
    """Cells that hold at least one correctly classified sample (Figure 1)."""

    needs = ("correct_counts",)

    def compute(self, inputs: IndexInputs) -> float:
        return float(np.count_nonzero(known(inputs.correct_counts)))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, float(min(int(known(inputs.correct_counts).sum()), inputs.most_cells))


class CellsPerSample(Index):
    """Occupied cells / samples. At 1 each sample is alone in its cell, and the count is the size of the sample.

    TE-NAS' count of codes is known to do so on common batches (see `distinct_patterns`).
    """

    direction = "minimize"

    def compute(self, inputs: IndexInputs) -> float:
        return len(inputs.cells) / inputs.samples

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 1 / inputs.samples, inputs.most_cells / inputs.samples


class SingletonFraction(Index):
    """The fraction of the occupied cells (section 3 of the paper) that hold one sample."""

    direction = "minimize"
    bounds = (0.0, 1.0)

    def compute(self, inputs: IndexInputs) -> float:
        return float(np.mean(inputs.cells.sizes == 1))


class OccupancyEntropy(Index):
    """Entropy in bits of the cell of a sample: -sum p log2 p with p = size / samples (Shannon 1948)."""

    direction = "minimize"

    def compute(self, inputs: IndexInputs) -> float:
        p = inputs.cells.sizes / inputs.samples
        return float(abs(-(p * np.log2(p)).sum()))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, math.log2(inputs.most_cells)


class NewCellFraction(Index):
    """The fraction of the held-out samples that lie in a cell without any sample (section 3: non-empty cells)."""

    direction = "minimize"
    bounds = (0.0, 1.0)
    needs = ("held_out",)

    def compute(self, inputs: IndexInputs) -> float:
        held_out = known(inputs.held_out)
        return float(held_out.cells.sizes[~held_out.occupied_by(inputs.space)].sum()) / held_out.samples


class DeadNeuronFraction(Index):
    """The fraction of the neurons whose bit is 0 for every sample.

    Lu et al., "Dying ReLU and Initialization", Communications in Computational Physics 28, 2020.
    """

    direction = "minimize"
    bounds = (0.0, 1.0)

    def compute(self, inputs: IndexInputs) -> float:
        return float(np.mean(inputs.ones.sum(axis=0) == 0))


class AlwaysOnFraction(Index):
    """The fraction of the neurons whose bit is 1 for every sample: on it they are linear (Definition 1)."""

    direction = "minimize"
    bounds = (0.0, 1.0)

    def compute(self, inputs: IndexInputs) -> float:
        return float(np.mean(inputs.ones.sum(axis=0) == inputs.samples))


class VaryingNeurons(Index):
    """Effective number of varying neurons: the sum of the entropies in bits of their bits, -p log2 p - q log2 q.

    A neuron that is on for a share p of the samples counts for up to 1, a constant one for 0; the sum bounds the
    entropy of the codes, occupancy_entropy (Cover and Thomas, "Elements of Information Theory", theorem 2.6.6).
    """

    def compute(self, inputs: IndexInputs) -> float:
        p = inputs.ones.sum(axis=0) / inputs.samples
        p = p[(p > 0) & (p < 1)]
        return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum())

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, float(inputs.codes.neurons)


class ParameterCount(Index):
    """Parameters of the whole network (Definition 3), counted once where shared."""

    direction = "minimize"
    bounds = (0.0, math.inf)
    needs = ("parameters",)
    joint = True

    def compute(self, inputs: IndexInputs) -> float:
        return float(known(inputs.parameters))
