"""The variance over seeds: which networks share an estimate, by the published critical values of Cochran's test."""

import math

import numpy as np
import pytest
from simulated import drawn, network

from nas_relucode.ranking.accuracies import Accuracies, pooled_seed_variance


def of_variance(variance, seeds, mean=0.9):
    """A network whose accuracies have this variance, without predictions."""
    away = np.linspace(-1, 1, seeds)
    return Accuracies(mean + away * math.sqrt(variance / away.var(ddof=1)), 1000)


# Seeds, networks -> the largest share of the sum of variances, at 5 %: C. Eisenhart, M. W. Hastay, W. A. Wallis,
# Techniques of Statistical Analysis, 1947, chapter 15; also table 4 of ISO 5725-2.
@pytest.mark.parametrize(
    ("seeds", "number", "share"),
    [(2, 3, 0.967), (2, 6, 0.781), (2, 10, 0.602), (3, 2, 0.975), (3, 6, 0.616), (3, 10, 0.445), (4, 5, 0.598)],
)
def test_a_network_is_an_outlier_by_the_published_values_of_cochrans_test(seeds, number, share):
    for near, alone in ((share - 0.002, False), (share + 0.002, True)):
        steady = [of_variance(1e-6, seeds)] * (number - 1)
        far = of_variance(1e-6 * (number - 1) * near / (1 - near), seeds)
        pooled = pooled_seed_variance([*steady, far])
        assert pooled.pooled.tolist() == [True] * (number - 1) + [not alone]


def test_outliers_have_their_own_estimates():
    networks = [of_variance(v, 3) for v in (1e-6, 2e-6, 3e-6, 2e-6, 1e-2, 2e-2)]
    pooled = pooled_seed_variance(networks)
    assert pooled.pooled.tolist() == [True] * 4 + [False] * 2
    assert pooled.freedom.tolist() == [8] * 4 + [2] * 2
    assert pooled.variance * 3 == pytest.approx([2e-6, 2e-6, 3e-6, 2e-6, 1e-2, 2e-2])  # the larger of own and pooled


def test_one_stuck_network_among_two_or_three_others_is_an_outlier():
    """It must not inflate the variance of the others; its own two values say little about it."""
    steady, stuck = of_variance(4e-6, 3), Accuracies(np.array([0.9, 0.9, 0.1]), 1000)
    for number in (1, 2):
        pooled = pooled_seed_variance([*[steady] * number, stuck])
        assert pooled.freedom.tolist() == [2.0 * number] * number + [2.0]
        assert pooled.variance[:number] * 3 == pytest.approx([4e-6] * number)


def test_a_network_with_one_seed_varies_as_those_that_share_the_estimate():
    pooled = pooled_seed_variance([Accuracies(np.array([0.5]), 1000), of_variance(1e-6, 3), of_variance(3e-6, 3)])
    assert pooled.variance == pytest.approx([2e-6, 2e-6 / 3, 1e-6])
    assert pooled.freedom.tolist() == [4, 4, 4]
    assert pooled.pooled.all()


def test_two_seeds_that_agree_by_luck_make_no_other_network_an_outlier():
    generator = np.random.default_rng(0)
    row, other = drawn(0.9, 300, generator), drawn(0.9, 300, generator)
    shuffled = generator.permutation(row)  # as many right, others
    assert row.mean() != other.mean()
    pooled = pooled_seed_variance([network(row, shuffled), network(row, other)])
    assert pooled.pooled.all()
    assert pooled.freedom.tolist() == [2, 2]


def test_the_variance_is_unknown_without_a_second_seed():
    pooled = pooled_seed_variance([Accuracies(np.array([a]), 100) for a in (0.9, 0.8)])
    assert pooled.variance.tolist() == pooled.freedom.tolist() == [0, 0]


def test_a_subset_keeps_the_estimate_pooled_over_all():
    pooled = pooled_seed_variance([of_variance(v, 3) for v in (1e-6, 3e-6, 1e-2)])
    part = pooled.subset([2, 0])
    for name in ("variance", "interaction", "freedom", "pooled"):
        assert getattr(part, name).tolist() == [getattr(pooled, name)[i] for i in (2, 0)]
