"""How much a quality goes with an index among networks of nearly equal accuracy, and what choosing by it gains.

Throughout, ``index`` and ``quality`` are float arrays, (networks,), both oriented so that larger is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def captured_gain(index: np.ndarray, quality: np.ndarray) -> float:
    """(Quality of the network that the index puts first - mean) / (best - mean); networks that tie count by their mean.

    1 is the best choice there is, 0 a random one. NaN where all networks have the same quality.

    >>> captured_gain(np.array([1.0, 3.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    0.0
    """
    return float(_gains(index[None], quality[None])[0])


def _gains(index: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """The captured gain of each row of (draws, networks)."""
    first = index == index.max(axis=1, keepdims=True)
    chosen = (quality * first).sum(axis=1) / first.sum(axis=1)
    mean, best = quality.mean(axis=1), quality.max(axis=1)
    room = best - mean
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(room > 1e-12, (chosen - mean) / room, np.nan)


def partial_spearman(index: np.ndarray, quality: np.ndarray, controls: Sequence[np.ndarray] = ()) -> float:
    """Spearman's correlation after the ranks of ``controls`` are regressed out of both; NaN where nothing is left.

    >>> round(partial_spearman(np.arange(6.0), np.array([0.0, 2.0, 1.0, 3.0, 5.0, 4.0])), 3)
    0.886
    """
    left = residual_ranks(np.stack([index, quality], axis=1), controls)
    return float(left[:, 0] @ left[:, 1])


def residual_ranks(columns: np.ndarray, controls: Sequence[np.ndarray] = ()) -> np.ndarray:
    """The ranks of each column, (networks, columns), with those of the controls regressed out, each of norm 1.

    The product of two columns is their partial Spearman correlation. A column without anything left is NaN.
    """
    return _residuals(stats.rankdata(columns, axis=0), _basis(len(columns), controls))


def _basis(networks: int, controls: Sequence[np.ndarray]) -> np.ndarray:
    """Orthonormal columns that span a constant and the ranks of the controls."""
    design = np.column_stack([np.ones(networks), *map(stats.rankdata, controls)])
    vectors, sizes, _ = np.linalg.svd(design, full_matrices=False)
    return np.asarray(vectors[:, sizes > 1e-9 * sizes.max()])


def _residuals(ranks: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """What is left of the columns outside of a basis, each of norm 1; NaN where nothing is."""
    left = ranks - basis @ (basis.T @ ranks)
    norms = np.linalg.norm(left, axis=0)
    return np.where(norms > 1e-6 * len(ranks), left, np.nan) / np.where(norms > 0, norms, 1)


def gain_interval(
    bands: Sequence[tuple[np.ndarray, np.ndarray]], *, draws: int = 2000, seed: int = 0, level: float = 0.05
) -> tuple[float, float]:
    """The ends of the interval of the mean captured gain over bands, by a bootstrap over the networks of each band."""
    generator = np.random.default_rng(seed)
    means = []
    for index, quality in bands:
        rows = generator.integers(len(index), size=(draws, len(index)))
        means.append(_gains(index[rows], quality[rows]))
    drawn = np.array(means)
    drawn = drawn[:, np.isfinite(drawn).any(axis=0)]  # a draw may hold networks of one quality alone
    low, high = np.quantile(np.nanmean(drawn, axis=0), [level / 2, 1 - level / 2])
    return float(low), float(high)


def adjusted_p(
    bands: Sequence[tuple[np.ndarray, np.ndarray, Sequence[np.ndarray]]], *, permutations: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean partial Spearman of each index and quality, (indices, qualities), and its p adjusted for all pairs.

    A band has indices (networks, indices), qualities (networks, qualities) and controls. The qualities are permuted
    among the networks of a band, all those of a network together; p is the share of permutations in which the largest
    absolute value of any pair is at least that of the pair (max-T, Westfall and Young 1993).
    """
    generator = np.random.default_rng(seed)
    bases = [_basis(len(indices), controls) for indices, _, controls in bands]
    left = [residual_ranks(indices, controls) for indices, _, controls in bands]
    ranks = [stats.rankdata(qualities, axis=0) for _, qualities, _ in bands]

    def means(qualities: Sequence[np.ndarray]) -> np.ndarray:
        products = [
            own.T @ _residuals(values, basis) for own, values, basis in zip(left, qualities, bases, strict=True)
        ]
        return np.asarray(np.nan_to_num(np.mean(products, axis=0)))

    observed = means(ranks)
    largest = np.array(
        [np.abs(means([generator.permutation(own) for own in ranks])).max() for _ in range(permutations)]
    )
    p = (1 + (largest[:, None, None] >= np.abs(observed)).sum(axis=0)) / (1 + permutations)
    return observed, p


def bands_of(accuracies: np.ndarray, *, bands: int = 3, left_out: float = 0.15) -> list[np.ndarray]:
    """The rows of networks in bands of accuracy, low to high, without the share of the least accurate.

    >>> [band.tolist() for band in bands_of(np.array([0.9, 0.1, 0.8, 0.7]), bands=3, left_out=0.25)]
    [[3], [2], [0]]
    """
    order = np.argsort(accuracies, kind="stable")[int(left_out * len(accuracies)) :]
    return [np.sort(part) for part in np.array_split(order, bands)]
