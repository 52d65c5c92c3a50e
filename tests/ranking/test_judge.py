"""The three answers: equal, worse, cannot be told."""

import math

import numpy as np
import pytest
from simulated import drawn, family, network

from nas_relucode.errors import InputError
from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.ranking.choices import RULES
from nas_relucode.ranking.equality import check_rule, judge


def of_means(*means, spread=1e-4, seeds=10, samples=1e6):
    return [Accuracies(mean + np.linspace(-spread, spread, seeds), samples) for mean in means]


def test_a_small_difference_that_is_certain_counts_as_equal():
    judgement = judge(of_means(0.9, 0.897), margin=0.005)
    assert judgement.low[1] > 0
    assert judgement.answer.tolist() == ["best", "equal"]
    assert judge(of_means(0.9, 0.897), margin=0.002).answer.tolist() == ["best", "worse"]


def test_few_samples_and_seeds_that_vary_leave_the_answer_open():
    judgement = judge(of_means(0.9, 0.897, 0.5, spread=0.02, seeds=3))
    assert judgement.answer.tolist() == ["best", "cannot be told", "worse"]
    assert judgement.seeds_needed[1] > 3


def test_with_one_seed_nothing_is_said_about_other_seeds():
    generator = np.random.default_rng(0)
    judgement = judge([network(drawn(accuracy, 2000, generator)) for accuracy in (0.5, 0.96, 0.957)])
    assert judgement.answer.tolist() == ["cannot be told", "best", "cannot be told"]
    assert np.isnan([judgement.low, judgement.high, judgement.seeds_needed, judgement.smallest_difference]).all()
    assert judgement.finalist.tolist() == [False, True, True]


def test_the_finalists_by_margin_are_the_best_and_the_equal_ones():
    judgement = judge(of_means(0.8, 0.9, 0.8999), rule="margin")
    assert judgement.finalist.tolist() == [False, True, True]


def test_the_finalists_by_1se_lie_within_one_standard_error_of_the_best():
    networks = of_means(0.9, 0.899, 0.89, samples=2500)  # the standard error of 0.9 in 2,500 samples is 0.006
    judgement = judge(networks, rule="1se")
    assert judgement.finalist.tolist() == [True, True, False]
    assert judgement.one_error_below == networks[0].mean - networks[0].standard_error


def test_a_network_without_accuracy_cannot_be_told():
    judgement = judge([*of_means(0.9), Accuracies(np.array([math.nan, 0.9]), 100), *of_means(0.8)])
    assert judgement.answer.tolist() == ["best", "cannot be told", "worse"]
    assert judgement.finalist.tolist() == [True, False, False]
    with pytest.raises(InputError, match="no network has an accuracy"):
        judge([Accuracies(np.array([math.nan]), 100)])


def test_predictions_of_other_samples_are_not_paired():
    generator = np.random.default_rng(3)
    one, other, _ = family(generator, 4, 2000, [0.0, 0.0, 0.0])
    judgement = judge([network(*one), network(*other), network(*other, labels="other")])
    assert judgement.paired.tolist() == [True, True, False] or judgement.paired.tolist() == [False, True, True]


def test_networks_that_are_alike_on_a_few_samples_may_differ_on_others():
    rows = [drawn(0.97, 200, np.random.default_rng(0))] * 5
    assert judge([network(*rows), network(*rows)]).answer.tolist() == ["best", "cannot be told"]


@pytest.mark.parametrize("rule", ["mcnemar", "2se", 0.005, None])
def test_an_unknown_rule_is_refused(rule):
    with pytest.raises(InputError, match=f"rule {rule!r}.*{RULES[0]}, {RULES[1]}"):
        check_rule(rule)


@pytest.mark.parametrize("value", [0, 1, -0.1, math.nan, True, "0.005"])
@pytest.mark.parametrize("name", ["margin", "level"])
def test_a_margin_or_level_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name} {value!r}"):
        check_rule("1se", **{name: value})
