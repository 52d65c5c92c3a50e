"""Indices of how codes and scores change around samples and between them.

They take some forward and backward passes more than those of codes, and are only computed where they are named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nas_relucode.errors import finite_number, whole_number
from nas_relucode.indices.index import Index, known

if TYPE_CHECKING:
    from nas_relucode.indices.inputs import IndexInputs, NetworkSample


@dataclass(frozen=True)
class SensitivityIndex(Index):
    """An index of the first ``samples`` samples and the network itself."""

    samples: int = 512

    bounds = (0.0, math.inf)
    needs: ClassVar[tuple[str, ...]] = ("network_sample",)
    joint = True
    on_request = True

    def __post_init__(self) -> None:
        for name, least in {"samples": 1, "directions": 1, "pairs": 1, "points": 1}.items():
            whole_number(name, getattr(self, name, least), least=least)
        finite_number("radius", getattr(self, "radius", 1.0), above=True)

    def sample(self, inputs: IndexInputs) -> NetworkSample:
        return known(inputs.network_sample)


@dataclass(frozen=True)
class LocalComplexity(SensitivityIndex):
    """The share of neurons whose bit differs between a sample and a point close to it.

    The point lies in a random direction, at ``radius`` times the spread of the samples (the root of their mean squared
    distance to their mean); the mean over samples and ``directions``. Source: Humayun, Balestriero and Baraniuk,
    arXiv:2402.15555, who take the corners of a cross-polytope.
    """

    radius: float = 0.3
    directions: int = 4

    direction = "minimize"
    bounds = (0.0, 1.0)

    def compute(self, inputs: IndexInputs) -> float:
        return self.flips(inputs) / inputs.codes.neurons

    def flips(self, inputs: IndexInputs) -> float:
        """The mean number of bits that differ."""
        return self.sample(inputs).flips(self.samples, self.radius, self.directions)


@dataclass(frozen=True)
class CodeStability(LocalComplexity):
    """1 - bits that differ close to a sample / bits that differ between samples of two classes.

    As `LocalComplexity`, relative to `between_class_distance`; below 0 if codes differ more close to a sample than
    between classes. NaN with one class.
    """

    direction = "maximize"
    bounds = (-math.inf, 1.0)
    needs = ("network_sample", "class_counts")

    def compute(self, inputs: IndexInputs) -> float:
        between = inputs.class_distances(None)[1]
        return 1 - self.flips(inputs) / between if between > 0 else math.nan


@dataclass(frozen=True)
class DecisionMargin(SensitivityIndex):
    """Mean distance to the decision border of the cell's affine map, of correctly classified samples.

    d_D of Croce, Andriushchenko and Hein, arXiv:1810.07481; in the units of the input. NaN without labels and scores.
    """

    direction = "maximize"
    needs = ("network_sample", "correct_counts")

    def distances(self, inputs: IndexInputs) -> np.ndarray:
        return self.sample(inputs).affine_maps(self.samples).decision

    def compute(self, inputs: IndexInputs) -> float:
        sample = self.sample(inputs)
        correct = sample.affine_maps(self.samples).predicted == sample.first_labels(self.samples)
        distances = self.distances(inputs)[correct]
        distances = distances[np.isfinite(distances)]
        return float(distances.mean()) if len(distances) else math.nan


class PrincipalMargin(DecisionMargin):
    """The same distance along the first 10 principal directions of the samples (Mouton et al., arXiv:2308.15466)."""

    def distances(self, inputs: IndexInputs) -> np.ndarray:
        return self.sample(inputs).affine_maps(self.samples).principal


@dataclass(frozen=True)
class CertifiedRadius(DecisionMargin):
    """Mean radius within which no input changes the decision, of correctly classified samples.

    The lesser of the distance to the border of the cell and of the `DecisionMargin` (Croce, Andriushchenko and Hein,
    arXiv:1810.07481, theorem 3.1); of the first ``samples`` samples.
    """

    samples: int = 100

    def distances(self, inputs: IndexInputs) -> np.ndarray:
        return np.minimum(super().distances(inputs), self.sample(inputs).cell_margins(self.samples))


@dataclass(frozen=True)
class AffineNorm(SensitivityIndex):
    """Mean Frobenius norm of the cell's affine map from inputs to class scores (Novak et al., arXiv:1802.08760)."""

    direction = "minimize"

    def compute(self, inputs: IndexInputs) -> float:
        return float(self.sample(inputs).affine_maps(self.samples).norm.mean())


@dataclass(frozen=True)
class AffineDeviation(SensitivityIndex):
    """How far the scores leave the straight line between two samples of one class, relative to the scores' spread.

    Mean over ``pairs`` of samples (Gamba et al., arXiv:2202.11749). NaN if all scores are equal.
    """

    pairs: int = 200
    points: int = 8

    direction = "minimize"
    needs = ("network_sample", "class_counts")

    def compute(self, inputs: IndexInputs) -> float:
        return self.sample(inputs).affine_deviation(self.samples, self.pairs, self.points)


@dataclass(frozen=True)
class SpaceFolding(SensitivityIndex):
    """1 - greatest distance from the start / length of the path of codes along segments between samples of one class.

    In Hamming distance, at ``points`` steps; 0 where codes move straight away from the start, more where they turn
    back. Mean over ``pairs`` whose code changes (Lewandowski et al., arXiv:2502.09954). NaN if none does.
    """

    pairs: int = 200
    points: int = 16

    bounds = (0.0, 1.0)
    needs = ("network_sample", "class_counts")

    def compute(self, inputs: IndexInputs) -> float:
        return self.sample(inputs).folding(self.samples, self.pairs, self.points)
