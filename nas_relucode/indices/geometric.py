"""Indices that are read off the cells as polyhedra; computed where they are named, since they take longer."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nas_relucode.geometry.sample_geometry import Geometry
from nas_relucode.indices.inputs import Evidence


def _geometry(of: Evidence) -> Geometry:
    assert of.geometry is not None
    return of.geometry


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _margin_index(what: str, *, right: bool, of_all: Callable[[np.ndarray], float]) -> Callable[[Evidence], float]:
    def compute(of: Evidence) -> float:
        found = _geometry(of)
        if found.correct is None:
            return math.nan
        chosen = found.margins[(found.correct == right) & np.isfinite(found.margins)]
        return float(of_all(chosen)) if len(chosen) else math.nan

    which = "correctly" if right else "wrongly"
    compute.__doc__ = f"""{what} distance of the {which} classified samples to the border of their cells.

    In the units of the input, of the first 1,000 samples; NaN if there are none, or no class scores. Larger margins go
    with robustness (Croce et al. 2018, cited in section 3 of the paper: robust networks have larger linear regions).
    """
    return compute


def _quantile(share: float) -> Callable[[np.ndarray], float]:
    return lambda values: float(np.quantile(values, share))


margin_mean_correct = _margin_index("Mean", right=True, of_all=np.mean)
margin_10_correct = _margin_index("The 10 % quantile of the", right=True, of_all=_quantile(0.1))
margin_50_correct = _margin_index("Median", right=True, of_all=_quantile(0.5))
margin_90_correct = _margin_index("The 90 % quantile of the", right=True, of_all=_quantile(0.9))
margin_mean_wrong = _margin_index("Mean", right=False, of_all=np.mean)
margin_10_wrong = _margin_index("The 10 % quantile of the", right=False, of_all=_quantile(0.1))
margin_50_wrong = _margin_index("Median", right=False, of_all=_quantile(0.5))
margin_90_wrong = _margin_index("The 90 % quantile of the", right=False, of_all=_quantile(0.9))


def phantom_fraction(of: Evidence) -> float:
    """The fraction of the adjacent pairs (one bit apart) that share no facet: where Lemma 1 does not hold.

    Of 10,000 pairs at most; NaN without pairs. See `audit`.
    """
    return _geometry(of).audit.phantom_fraction


def unbounded_fraction(of: Evidence) -> float:
    """The fraction of the cells of 20 samples that are unbounded.

    On such cells ReLU networks can be sure of themselves arbitrarily far from the data (Hein et al. 2019, section 1 of
    the paper). With fewer neurons in the first layer than inputs, all cells are unbounded.
    """
    return float(np.mean([not cell.bounded for cell in _geometry(of).polyhedra]))


def confidence_growth(of: Evidence) -> float:
    """Mean growth of the winning output's lead along a ray of the unbounded cells, a unit of length.

    Above 0 confidence tends to 1 (Hein et al. 2019, section 1 of the paper). Of the cells of 20 samples; NaN if all
    are bounded.
    """
    growths = _geometry(of).growths
    return _mean(growths[~np.isnan(growths)])


def facet_count(of: Evidence) -> float:
    """Mean number of facets of the cells of 20 samples (equations 13 to 18); seconds a cell in high dimensions."""
    return _mean(_geometry(of).facet_counts)


def other_class_distance(of: Evidence) -> float:
    """Mean Hamming distance of the samples to the nearest occupied cell of another predicted class (Definition 1).

    Of the first 1,000 samples; 0 where two classes share a cell, NaN if all are predicted to be of one class.
    """
    return _mean(_geometry(of).other_class_distances)
