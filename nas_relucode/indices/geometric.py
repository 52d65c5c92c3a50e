"""Indices read off the network itself: its cells as polyhedra, and the cell borders between samples.

They take longer than those of codes, and are only computed where they are named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nas_relucode.errors import finite_number, whole_number
from nas_relucode.indices.index import Index, known

if TYPE_CHECKING:
    from nas_relucode.geometry.sample_geometry import Geometry
    from nas_relucode.indices.inputs import IndexInputs


@dataclass(frozen=True)
class GeometricIndex(Index):
    """An index of the cells as polyhedra: those of all ReLUs, in the space of the network's inputs.

    With ``module`` they are those of this module of the network, in the space of its own inputs: of a head behind a
    convolutional network, say.
    """

    module: str | None = None

    bounds = (0.0, math.inf)
    needs: ClassVar[tuple[str, ...]] = ("network_sample",)
    joint = True
    on_request = True

    def geometry(self, inputs: IndexInputs) -> Geometry:
        return known(inputs.network_sample).geometry(self.module)


@dataclass(frozen=True)
class MarginIndex(GeometricIndex):
    """Distance of samples to the border of their cells: the mean, or with ``share`` a quantile.

    In the units of the input, of the first 1,000 samples; NaN if there are none, or no class scores. Larger margins go
    with robustness (Croce et al. 2018, cited in section 3 of the paper: robust networks have larger linear regions).
    """

    share: float | None = None

    needs = ("network_sample", "class_counts")
    correct: ClassVar[bool]
    words: ClassVar[tuple[str, str]]  # of the samples

    def __post_init__(self) -> None:
        if self.share is not None:
            finite_number("share", self.share, most=1)

    @property
    def name(self) -> str:
        return f"margin_{'mean' if self.share is None else f'{100 * self.share:g}'}_{self.words[0]}"

    @property
    def label(self) -> str:
        return self.name if self.module is None else f"{self.name}[module={self.module}]"

    @property
    def meaning(self) -> str:
        words = {None: "Mean", 0.5: "Median"}.get(self.share, f"The {100 * (self.share or 0):g} % quantile of the")
        return f"{words} distance of the {self.words[1]} classified samples to the border of their cells."

    def compute(self, inputs: IndexInputs) -> float:
        geometry = self.geometry(inputs)
        if geometry.correct is None:
            return math.nan
        margins = geometry.margins[(geometry.correct == self.correct) & np.isfinite(geometry.margins)]
        if not len(margins):
            return math.nan
        return float(np.mean(margins) if self.share is None else np.quantile(margins, self.share))


class CorrectMargin(MarginIndex):
    """Distance of the correctly classified samples to the border of their cells; see `MarginIndex`."""

    direction = "maximize"
    correct = True
    words = ("correct", "correctly")


class WrongMargin(MarginIndex):
    """Distance of the wrongly classified samples to the border of their cells; see `MarginIndex`."""

    correct = False
    words = ("wrong", "wrongly")


class PhantomFraction(GeometricIndex):
    """The fraction of the adjacent pairs (one bit apart) that share no facet: where Lemma 1 does not hold.

    Of 10,000 pairs at most; NaN without pairs. See `audit`.
    """

    bounds = (0.0, 1.0)

    def compute(self, inputs: IndexInputs) -> float:
        return self.geometry(inputs).audit.phantom_fraction


class UnboundedFraction(GeometricIndex):
    """The fraction of the cells of 20 samples that are unbounded.

    On such cells ReLU networks can be sure of themselves arbitrarily far from the data (Hein et al. 2019, section 1 of
    the paper). With fewer neurons in the first layer than inputs, all cells are unbounded.
    """

    direction = "minimize"
    bounds = (0.0, 1.0)

    def compute(self, inputs: IndexInputs) -> float:
        return float(np.mean([not cell.bounded for cell in self.geometry(inputs).polyhedra]))


class ConfidenceGrowth(GeometricIndex):
    """Mean growth of the winning output's lead along a ray of the unbounded cells, per unit of length.

    Above 0 confidence tends to 1 (Hein et al. 2019, section 1 of the paper). Of the cells of 20 samples; NaN if all
    are bounded.
    """

    direction = "minimize"

    def compute(self, inputs: IndexInputs) -> float:
        growths = self.geometry(inputs).growths
        return _mean(growths[~np.isnan(growths)])


class FacetCount(GeometricIndex):
    """Mean number of facets of the cells of 20 samples (equations 13 to 18); seconds per cell in high dimensions."""

    def compute(self, inputs: IndexInputs) -> float:
        return _mean(self.geometry(inputs).facet_counts)


class OtherClassDistance(GeometricIndex):
    """Mean Hamming distance of the samples to the nearest occupied cell of another predicted class (Definition 1).

    Of the first 1,000 samples; 0 where two classes share a cell, NaN if all are predicted to be of one class.
    """

    direction = "maximize"

    def compute(self, inputs: IndexInputs) -> float:
        return _mean(self.geometry(inputs).other_class_distances)

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, float(sum(self.geometry(inputs).program.widths))


@dataclass(frozen=True)
class SegmentTransitions(Index):
    """Mean number of cell borders between two samples of one class, on the straight segment between them.

    Of ``segments`` pairs of samples. Exact, after Sotoudeh and Thakur, "Computing Linear Restrictions of Neural
    Networks", NeurIPS 2019. NaN if no class has two samples. Takes long on deep networks.
    """

    segments: int = 100

    direction = "minimize"
    bounds = (0.0, math.inf)
    needs = ("network_sample", "class_counts")
    joint = True
    on_request = True

    def __post_init__(self) -> None:
        whole_number("segments", self.segments, least=1)

    def compute(self, inputs: IndexInputs) -> float:
        return _mean(known(inputs.network_sample).transitions(self.segments))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
