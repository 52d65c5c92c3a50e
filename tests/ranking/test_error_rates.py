"""Error rates and power, by simulation: networks that are equally accurate stay equal, and a worse one is found."""

import numpy as np
import pytest
from simulated import called_different, family, share_called_different, share_of_families

from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.ranking.equality import exact_mcnemar

TESTS = ("mcnemar", "bootstrap")
BAR = 0.07  # at a level of 0.05
UNEQUAL = (1, 2, 2, 3, 3, 5)


@pytest.mark.parametrize(("rule", "seeds"), [("mcnemar", 2), ("mcnemar", 5), ("bootstrap", 2), ("bootstrap", 5)])
def test_two_equal_networks_differ_hardly_more_often_than_the_level_allows(rule, seeds):
    assert share_of_families(rule, 2, seeds, luck=0.1, chosen=False, tries=200) <= BAR


@pytest.mark.slow
@pytest.mark.parametrize("rule", TESTS)
@pytest.mark.parametrize("seeds", [2, UNEQUAL])
def test_six_equal_networks_differ_hardly_more_often_than_the_level_allows(rule, seeds):
    """Few seeds may lie close together by luck; they must not be taken at their word."""
    assert share_of_families(rule, 6, seeds, luck=0.2, chosen=False, tries=200) <= BAR


@pytest.mark.parametrize("rule", TESTS)
def test_one_seed_beside_two_differs_hardly_more_often_than_the_level_allows(rule):
    assert share_of_families(rule, 2, (1, 2), luck=0.2, chosen=False, tries=200) <= BAR


@pytest.mark.parametrize("rule", TESTS)
@pytest.mark.parametrize("number", [2, 6])
def test_a_network_that_varies_far_more_than_the_others_stays_equal_to_them(rule, number):
    """Its variance has the two degrees of freedom of its three seeds, not those of all networks."""
    generator = np.random.default_rng(9)
    spreads = [0.001] * (number - 1) + [0.03]
    families = ([Accuracies(generator.normal(0.9, spread, 3), 1e9) for spread in spreads] for _ in range(800))
    assert np.mean([called_different(rule, networks, chosen=True).any() for networks in families]) <= BAR


def test_pooling_the_samples_of_all_seeds_would_call_equal_networks_different():
    generator = np.random.default_rng(5)
    rejected = 0
    for _ in range(300):
        gains = np.subtract(*family(generator, 3, 300, [0.0, 0.0])).ravel()
        rejected += exact_mcnemar(int((gains > 0).sum()), int((gains < 0).sum())) < 0.05
    assert rejected / 300 > 0.12


def test_more_seeds_have_more_power():
    few, many = (
        share_called_different("mcnemar", seeds, [0.0, 0.4], luck=0.1, chosen=False, tries=60)[1] for seeds in (2, 8)
    )
    assert many > few + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("rule", TESTS)
def test_the_rule_must_know_that_the_best_network_was_chosen_for_its_accuracy(rule):
    assert share_of_families(rule, 12, 1, luck=0.0, chosen=True, samples=400) <= BAR
    assert share_of_families(rule, 12, 1, luck=0.0, chosen=True, samples=400, corrected=False) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("rule", TESTS)
@pytest.mark.parametrize("chosen", [False, True])
@pytest.mark.parametrize(
    ("seeds", "luck"), [(1, 0.0), (2, 0.013), (3, 0.065), (10, 0.0), (UNEQUAL, 0.065), (3, [0.02] * 3 + [0.065] * 3)]
)
def test_the_level_holds_for_any_variance_of_seeds_and_samples(rule, chosen, seeds, luck):
    assert share_of_families(rule, 6, seeds, luck=luck, chosen=chosen) <= BAR


@pytest.mark.slow
@pytest.mark.parametrize("rule", TESTS)
@pytest.mark.parametrize(("seeds", "luck"), [(1, 0.0), (3, 0.065)])
def test_the_level_holds_for_thirty_networks_and_three_thousand_samples(rule, seeds, luck):
    assert share_of_families(rule, 30, seeds, luck=luck, chosen=True, samples=3000, tries=100) <= BAR


@pytest.mark.slow
@pytest.mark.parametrize("rule", TESTS)
@pytest.mark.parametrize("number", [6, 30])
def test_a_network_that_is_worse_by_two_hundredths_is_found_among_many(rule, number):
    """With five seeds that vary by 0.002 and 3,000 samples."""
    gaps = np.zeros(number)
    gaps[-1] = 0.127  # of the ease: an accuracy of 0.87
    shares = share_called_different(rule, 5, gaps, luck=0.013, chosen=True, samples=3000, tries=40)
    assert shares[-2] >= 0.8
