"""The verdict says what is true of a study: each warning where it applies, and none where none does."""

import math

import numpy as np
import pytest
from hand_made import hand_made, study_of, without_result
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from scipy import stats

from nas_relucode.ranking.limits import rank_correlation
from nas_relucode.ranking.purposes import results, worth_of
from nas_relucode.ranking.reseeding import next_trainings
from nas_relucode.ranking.selecting import select
from nas_relucode.study.predictions import kept_predictions
from nas_relucode.study.record import ATTRIBUTE, FLOOR_BELOW_BEST

SAMPLES = 100_000
HEADS = ["1", "2", "3", "4", "5", "6", "7", "8"]  # the first has the fewest cells


def answers_right(share, samples, number):
    """A network that is right on this share of the samples, not quite the same ones as the others."""
    correct = np.zeros(samples, bool)
    correct[: round(share * samples)] = True
    return np.roll(correct, number)


def study_with(validation, test, *, seeds=4, samples=SAMPLES, cells=None):
    """Networks with these accuracies, by fewest cells; seeds differ by one sample."""
    trials = []
    for number, (head, accuracy, of_test) in enumerate(zip(HEADS, validation, test, strict=False)):
        for seed in range(seeds):
            tables = [answers_right(share, samples, number + seed) for share in (accuracy, of_test)]
            kept, kept_test = (kept_predictions(table, f"{samples}") for table in tables)
            cell_count = number + 1.0 + seed / 100 if cells is None else cells
            shares = {"accuracy": tables[0].mean(), "test_accuracy": tables[1].mean()}
            shares = {name: float(share) for name, share in shares.items()}
            trials.append(hand_made(head, seed=seed, validation=kept, test=kept_test, cell_count=cell_count, **shares))
    return study_of(trials)


def warned(study, **options):
    return [warning.name for warning in select(study, **options).verdict.warnings]


def test_where_all_is_well_there_is_no_warning():
    study = study_with([0.95] * 6, [0.95] * 6)
    selection = select(study)
    assert not selection.verdict.warnings
    assert set(selection.comparison["answer"]) == {"best", "equal"}
    text = selection.verdict.text
    assert text.startswith(f"Choose {selection.best['network']}.")
    assert "test" in text
    assert "occupied cells (minimize)" in text


def test_a_difference_that_four_digits_do_not_show_is_no_number():
    study = study_with([0.95] * 3, [0.95] * 3)
    for trial, cells in zip(study.get_trials(deepcopy=False), [3.0] * 4 + [1.0] * 4 + [2.0] * 4, strict=True):
        trial.user_attrs[ATTRIBUTE]["joint"]["cell_count"] = cells
        trial.user_attrs[ATTRIBUTE]["accuracy"] += 1e-6 if cells == 3.0 else 0.0
    text = select(study).verdict.text
    assert "Choose head=2" in text
    assert "0.0000 below" not in text
    assert "head=1" in text


def test_too_few_seeds_and_samples_to_tell_are_a_warning_with_how_many_would_do():
    study = study_with([0.9475, 0.95, 0.945], [0.95] * 3, seeds=2, samples=400)
    selection = select(study)
    (warning,) = [warning for warning in selection.verdict.warnings if warning.name == "few_seeds"]
    assert "400 validation samples" in warning.text
    assert set(selection.comparison["answer"]) == {"best", "cannot be told"}
    assert "few_seeds" in warned(study_with([0.95] * 3, [0.95] * 3, seeds=1))


def test_rules_that_choose_other_networks_are_a_warning():
    study = study_with([0.945, 0.95], [0.95] * 2, samples=1000)  # within a standard error, not shown to be equal
    selection = select(study)
    assert selection.best["params"]["head"] == "1"
    assert "rules_disagree" in warned(study)
    assert select(study, rule="margin").best["params"]["head"] == "2"
    assert "rules_disagree" in warned(study, rule="margin")


def test_a_first_choice_that_is_less_accurate_on_the_test_split_by_more_than_chance_is_a_warning():
    assert "test_lower" in warned(study_with([0.95] * 4, [0.93, 0.95, 0.95, 0.95]))
    assert "test_lower" not in warned(study_with([0.95] * 4, [0.945, 0.95, 0.95, 0.95], samples=1000))


def test_an_index_that_is_constant_or_saturated_is_a_warning():
    assert "silent_index" in warned(study_with([0.95] * 4, [0.95] * 4, cells=7.0))
    study = study_with([0.95] * 4, [0.95] * 4)
    for trial in study.get_trials(deepcopy=False):
        trial.user_attrs[ATTRIBUTE]["saturated"]["joint"] = ["cell_count"]
    assert "silent_index" in warned(study)


def test_an_order_that_goes_against_test_accuracy_is_a_warning():
    rising = [0.949 + number / 5000 for number in range(8)]
    assert "against_test" in warned(study_with([0.95] * 8, rising))
    assert "against_test" not in warned(study_with([0.95] * 8, rising[::-1]))
    assert "against_test" not in warned(study_with([0.95] * 8, [0.95, 0.951] * 4))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=12))
def test_the_rank_correlation_is_that_of_scipy_and_lies_within_its_interval(pairs):
    first, second = np.array(pairs, float).T
    rank, low, high = rank_correlation(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert math.isnan(rank)
    else:
        assert rank == pytest.approx(stats.spearmanr(first, second).statistic)
        assert low <= rank + 1e-9
        assert rank <= high + 1e-9


def test_the_interval_of_the_rank_correlation_holds_in_95_of_100_draws():
    generator = np.random.default_rng(0)
    held = 0
    true = 6 / math.pi * math.asin(0.5 / 2)  # Spearman's of a normal pair with correlation 0.5
    for _ in range(1000):
        first = generator.normal(size=30)
        second = 0.5 * first + math.sqrt(0.75) * generator.normal(size=30)
        _, low, high = rank_correlation(first, second)
        held += low <= true <= high
    assert 0.93 < held / 1000 < 0.975


def test_a_study_of_one_network_has_nothing_to_compare():
    verdict = select(study_of([hand_made("8")])).verdict
    assert "1 seed)" in verdict.text
    assert not verdict.warnings
    assert "nothing to compare" in verdict.text


@pytest.mark.parametrize(("seeds", "networks"), [(1, 2), (1, 3), (2, 2), (2, 3)])
def test_a_verdict_can_be_printed_for_small_studies(seeds, networks):
    trials = [
        hand_made(head, seed=seed, test_accuracy=None, accuracy=0.9 + seed / 100)
        for head in HEADS[:networks]
        for seed in range(seeds)
    ]
    verdict = str(select(study_of(trials)).verdict)
    assert "nan" not in verdict.split()
    assert "  " not in verdict
    assert "1 of 1" not in verdict
    assert "No test accuracy" in verdict


def test_a_bad_seed_far_below_the_best_leaves_its_network_in_question():
    """The means over all seeds are 0.884 and 0.9, but the seed that was drawn first gave 0.819."""
    trials = [hand_made("5", accuracy=0.819), hand_made("8", accuracy=0.9)]
    for trial in trials:
        trial.user_attrs[ATTRIBUTE][FLOOR_BELOW_BEST] = 0.05
    selection = select(study_of(trials))
    assert selection.comparison["answer"].tolist() == ["best", "cannot be told"]
    assert [(one.params["head"], one.seed) for one in next_trainings(selection, [0, 1])] == [("8", 1), ("5", 1)]
    others = enumerate([0.819, 0.9, 0.905, 0.895, 0.901])
    several = [hand_made("5", seed=seed, accuracy=value) for seed, value in others]
    several += [hand_made("8", seed=seed, accuracy=0.9 + seed / 1000) for seed in range(5)]
    for trial in several:
        trial.user_attrs[ATTRIBUTE][FLOOR_BELOW_BEST] = 0.05
    assert select(study_of(several)).comparison["answer"].tolist() == ["best", "cannot be told"]


def test_networks_that_were_not_compared_are_named_with_the_reason():
    trials = [hand_made("8"), hand_made("4", infeasibility=0.1), hand_made("2"), hand_made("2", seed=1)]
    pruned = without_result(TrialState.PRUNED, "2", 2, {ATTRIBUTE: trials[2].user_attrs[ATTRIBUTE] | {"seed": 2}})
    pruned.user_attrs[ATTRIBUTE] |= {"pruned": "diverged"}
    selection = select(study_of([*trials, pruned]))
    assert list(selection.networks["params_head"][selection.compared]) == ["8"]
    text = selection.verdict.text
    for word in ("2 of the 3 networks", "head=4", "floor", "head=2", "pruned"):
        assert word in text
    assert "only" not in text.split("head=4")[0]


def test_how_firm_the_order_is_is_said_only_where_seeds_may_change_it():
    study = study_with([0.95] * 3, [0.95] * 3)
    assert "resampled" in select(study).verdict.text
    sizes = {head: number for number, head in enumerate(HEADS)}
    for trial in study.get_trials(deepcopy=False):
        trial.user_attrs[ATTRIBUTE]["qualities"]["parameters"] = sizes[trial.params["head"]]
    selection = select(study, by=["parameters"])
    assert selection.ahead[0, 1] == 1
    assert "resampled" not in selection.verdict.text


def test_what_is_known_of_an_order_by_several_columns_is_one_sentence():
    order = {"cell_count": "minimize", "largest_component_share": "minimize", "parameters": "minimize"}
    text = worth_of(order)
    assert text.count("In our tests") == text.count("docs/evidence.md") == 1
    for column, direction in order.items():
        for result in results():
            if (result.part, result.column, result.direction) == ("all", column, direction):
                assert column in text
                assert (not result.firm) or result.quality.replace("_", " ") in text
    assert not worth_of({"nothing": "minimize"})
