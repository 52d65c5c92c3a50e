"""How much a quality goes with an index among networks of nearly equal accuracy, and what choosing by it gains.

Throughout, ``index`` and ``quality`` are float arrays, (networks,), both oriented so that larger is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from nas_relucode.ranking.choices import LEVEL

DRAWS_AT_ONCE = 250  # of a bootstrap of correlations, all pairs of columns at once
PAIRS_AT_ONCE = 40_000_000  # of networks, over all these draws: limits the memory to about 1 GiB


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


def residual_ranks(columns: np.ndarray, controls: Sequence[np.ndarray] = ()) -> np.ndarray:
    """The ranks of each column, (networks, columns), with those of the controls regressed out, each of norm 1.

    The product of two columns is their partial Spearman correlation. A column without anything left is NaN.

    >>> left = residual_ranks(np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [4.0, 5.0], [5.0, 4.0]]))
    >>> round(float(left[:, 0] @ left[:, 1]), 3)
    0.886
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
    bands: Sequence[tuple[np.ndarray, np.ndarray]], *, draws: int = 2000, seed: int = 0, level: float = LEVEL
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


def correlation_intervals(
    bands: Sequence[tuple[np.ndarray, np.ndarray, Sequence[np.ndarray]]],
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ends of the intervals of mean correlations over bands, by a bootstrap over the networks of each band.

    A band has indices (networks, indices), qualities (networks, qualities) and controls. Three arrays (2, indices,
    qualities): of Kendall's tau-b, of the partial Spearman correlation given the first control, and of that given all
    controls.
    """
    generator = np.random.default_rng(seed)
    means: list[list[np.ndarray]] = [[], [], []]
    largest = max(len(indices) for indices, _, _ in bands)
    at_once = max(1, min(DRAWS_AT_ONCE, PAIRS_AT_ONCE // largest**2))
    chunks = [min(at_once, draws - start) for start in range(0, draws, at_once)]
    for chunk in chunks:
        drawn = []
        for indices, qualities, controls in bands:
            networks = len(indices)
            rows = generator.integers(networks, size=(chunk, networks))
            times = (rows[:, :, None] == np.arange(networks)).sum(axis=1).astype(float)
            several = [controls[:1], controls] if len(controls) > 1 else [controls]
            x, y = _drawn_ranks(indices, times), _drawn_ranks(qualities, times)
            given = [[_drawn_ranks(control[:, None], times) for control in own] for own in several]
            partial = [_drawn_partial(x, y, own, times) for own in given]
            drawn.append((_drawn_tau(indices, qualities, times), partial[0], partial[-1]))
        for kept, of_bands in zip(means, zip(*drawn, strict=True), strict=True):
            kept.append(np.mean(of_bands, axis=0))
    ends = [level / 2, 1 - level / 2]
    tau, partial, given_all = (np.quantile(np.concatenate(kept), ends, axis=0) for kept in means)
    return tau, partial, given_all


def _drawn_ranks(columns: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The ranks, less their mean, within draws that hold each network so many ``times``: (draws, networks, columns).

    The rank of a network among those of a draw is half the sum of the signs of its differences from all of them.
    """
    ranks = [times @ np.sign(column[None, :] - column[:, None]) for column in columns.T]
    return np.stack(ranks, axis=2) / 2


def _drawn_partial(
    indices: np.ndarray, qualities: np.ndarray, controls: Sequence[np.ndarray], times: np.ndarray
) -> np.ndarray:
    """The partial correlations of ranks in each draw, (draws, indices, qualities); 0 where nothing is left."""
    weights = times[:, :, None]

    def products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.asarray((one * weights).transpose(0, 2, 1) @ other)

    covariance = products(indices, qualities)
    before = [(columns**2 * weights).sum(axis=1) for columns in (indices, qualities)]
    variances = before
    if controls:
        given = np.concatenate(controls, axis=2)
        inverse = np.linalg.pinv(products(given, given), rcond=1e-9, hermitian=True)
        with_given = [products(columns, given) for columns in (indices, qualities)]
        covariance = covariance - with_given[0] @ inverse @ with_given[1].transpose(0, 2, 1)
        variances = [
            all_ - np.einsum("dac,dce,dae->da", own, inverse, own) for all_, own in zip(before, with_given, strict=True)
        ]
    left = [np.where(own > 1e-9 * all_, own, np.inf) for own, all_ in zip(variances, before, strict=True)]
    return np.asarray(covariance / np.sqrt(left[0][:, :, None] * left[1][:, None, :]))


def _drawn_tau(indices: np.ndarray, qualities: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Kendall's tau-b in each draw, (draws, indices, qualities); 0 where a column is constant."""
    one, other = np.triu_indices(len(indices), 1)
    pairs = times[:, one] * times[:, other]
    by_quality = np.sign(qualities[one] - qualities[other])
    concordance, untied = [], []
    for column in indices.T:
        signs = np.sign(column[one] - column[other])
        concordance.append(pairs @ (signs[:, None] * by_quality))
        untied.append(pairs @ signs**2)
    norm = np.sqrt(np.stack(untied, axis=1)[:, :, None] * (pairs @ by_quality**2)[:, None, :])
    return np.divide(np.stack(concordance, axis=1), norm, out=np.zeros_like(norm), where=norm > 0)


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
    return [np.sort(part) for part in np.array_split(accurate(accuracies, left_out=left_out), bands)]


def named_bands(accuracies: np.ndarray, *, bands: int = 3) -> dict[str, np.ndarray]:
    """The rows of `bands_of` by the accuracies at the ends; a band with the same ends as one before is numbered.

    >>> list(named_bands(np.ones(4), bands=2))
    ['1.0000-1.0000', '1.0000-1.0000 (2)']
    """
    named: dict[str, np.ndarray] = {}
    for number, rows in enumerate(bands_of(accuracies, bands=bands), start=1):
        name = f"{accuracies[rows].min():.4f}-{accuracies[rows].max():.4f}"
        named[f"{name} ({number})" if name in named else name] = rows
    return named


def accurate(accuracies: np.ndarray, *, left_out: float = 0.15) -> np.ndarray:
    """The rows of all networks by their accuracy, low to high, without the share of the least accurate."""
    return np.argsort(accuracies, kind="stable")[int(left_out * len(accuracies)) :]
