"""Indices of the graph of the occupied cells (Definition 2), at one theta or over all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_relucode.errors import whole_number
from nas_relucode.indices.index import Index

if TYPE_CHECKING:
    from nas_relucode.indices.inputs import IndexInputs


@dataclass(frozen=True)
class GraphIndex(Index):
    """An index of the graph whose edges join cells with codes at most ``theta`` bits apart: adjacent cells at 1."""

    theta: int = 1

    def __post_init__(self) -> None:
        whole_number("theta", self.theta)


class EdgeCount(GraphIndex):
    """Pairs of occupied cells whose codes are at most theta bits apart; adjacent cells at 1 (Lemma 1)."""

    def compute(self, inputs: IndexInputs) -> float:
        return float(len(inputs.graph(self.theta).edges))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, len(inputs.cells) * (len(inputs.cells) - 1) / 2


class ComponentCount(GraphIndex):
    """Connected components of the graph of the occupied cells (Definition 2)."""

    direction = "minimize"

    def compute(self, inputs: IndexInputs) -> float:
        return float(len(inputs.graph(self.theta).component_sizes))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 1.0, float(len(inputs.cells))


class LargestComponentShare(GraphIndex):
    """The fraction of the occupied cells that lie in the largest connected component (Definition 2)."""

    direction = "maximize"

    def compute(self, inputs: IndexInputs) -> float:
        return float(inputs.graph(self.theta).component_sizes.max()) / len(inputs.cells)

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 1 / len(inputs.cells), 1.0


class IsolatedCellFraction(GraphIndex):
    """The fraction of the occupied cells without a neighbour in the graph (Definition 2)."""

    direction = "minimize"
    bounds = (0.0, 1.0)

    def compute(self, inputs: IndexInputs) -> float:
        return float(np.mean(inputs.graph(self.theta).degrees == 0))


@dataclass(frozen=True)
class ConnectingTheta(Index):
    """The smallest theta at which one component holds a ``share`` of the occupied cells (single linkage).

    Unlike the graph at distance 1 it distinguishes networks whose cells all lie further apart. At a share of 1
    it is the longest edge of the cells' minimum spanning tree.
    """

    share: float = 1.0

    direction = "minimize"
    all_pairs = True

    @property
    def name(self) -> str:
        return f"connecting_theta_{100 * self.share:g}"

    @property
    def label(self) -> str:
        return self.name

    @property
    def meaning(self) -> str:
        part = {0.5: "half", 1.0: "all"}.get(self.share, f"{100 * self.share:g} %")
        return f"The smallest theta at which one component holds {part} of the occupied cells; 0 for one cell."

    def compute(self, inputs: IndexInputs) -> float:
        return float(inputs.connectivity.theta_connecting(self.share))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, float(inputs.codes.neurons)


class NearestCellDistance(Index):
    """Mean Hamming distance (Definition 1) of an occupied cell to the nearest other; NaN for a single cell."""

    direction = "minimize"
    all_pairs = True

    def compute(self, inputs: IndexInputs) -> float:
        nearest = inputs.connectivity.nearest_distances
        return float(nearest.mean()) if len(nearest) > 1 else math.nan

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 1.0, float(inputs.codes.neurons)
