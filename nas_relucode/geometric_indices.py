"""Indices that are read off the cells as polyhedra; computed where they are named, since they take longer."""

from __future__ import annotations

import math

import numpy as np

from nas_relucode.evidence import Evidence
from nas_relucode.geometry import Geometry


def margin_mean_correct(of: Evidence) -> float:
    """Mean distance of the correctly classified samples to the border of their cells, in the units of the input.

    Of the first 1,000 samples; NaN if none is correct. Larger margins go with robustness (Croce et al. 2018, cited in
    section 3 of the paper: the linear regions of robust networks are larger).
    """
    return _mean(_margins(of, right=True))


def margin_10_correct(of: Evidence) -> float:
    """The distance to the border of their cells that 10 % of the correctly classified samples fall below."""
    return _quantile(_margins(of, right=True), 0.1)


def margin_50_correct(of: Evidence) -> float:
    """The median distance of the correctly classified samples to the border of their cells."""
    return _quantile(_margins(of, right=True), 0.5)


def margin_90_correct(of: Evidence) -> float:
    """The distance to the border of their cells that 90 % of the correctly classified samples fall below."""
    return _quantile(_margins(of, right=True), 0.9)


def margin_mean_wrong(of: Evidence) -> float:
    """Mean distance of the wrongly classified samples to the border of their cells; NaN if none is wrong."""
    return _mean(_margins(of, right=False))


def margin_10_wrong(of: Evidence) -> float:
    """The distance to the border of their cells that 10 % of the wrongly classified samples fall below."""
    return _quantile(_margins(of, right=False), 0.1)


def margin_50_wrong(of: Evidence) -> float:
    """The median distance of the wrongly classified samples to the border of their cells."""
    return _quantile(_margins(of, right=False), 0.5)


def margin_90_wrong(of: Evidence) -> float:
    """The distance to the border of their cells that 90 % of the wrongly classified samples fall below."""
    return _quantile(_margins(of, right=False), 0.9)


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


def _geometry(of: Evidence) -> Geometry:
    assert of.geometry is not None
    return of.geometry


def _margins(of: Evidence, *, right: bool) -> np.ndarray:
    found = _geometry(of)
    if found.correct is None:
        return np.empty(0)
    chosen = found.margins[found.correct == right]
    return chosen[np.isfinite(chosen)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _quantile(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else math.nan
