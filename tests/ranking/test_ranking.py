"""Selections from hand-made studies, whose thresholds, fronts and orders are computed here in another way."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from hand_made import hand_made, study_of, without_result
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import HOW
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.trials import trials_frame
from nas_relucode.study.record import ATTRIBUTE, FLOOR_BELOW_BEST, NEEDED


def named(networks: Any) -> list[str]:
    return list(networks["params_head"])


def by_name(selection: Any) -> Any:
    return selection.networks.sort_values(["params_head", "params_learning_rate"]).reset_index(drop=True)


def dominates(one: Sequence[float], other: Sequence[float], directions: Sequence[str]) -> bool:
    """Nowhere worse and somewhere better: Pareto dominance, read off its definition."""
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def sampling_variance(accuracy: float, samples: int) -> float:
    """Of a fraction, with two more successes and two more failures (Agresti and Coull), so that it is never 0."""
    q = (accuracy * samples + 2) / (samples + 4)
    return q * (1 - q) / samples


def peeled(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """Pareto ranks by taking one front away after the other."""
    ranks = [-1] * len(points)
    for layer in range(len(points)):
        left = [i for i, rank in enumerate(ranks) if rank < 0]
        for i in left:
            if not any(dominates(points[j], points[i], directions) for j in left):
                ranks[i] = layer
    return ranks


def test_the_threshold_is_one_standard_error_below_the_best():
    accuracies, samples = [0.90, 0.92, 0.97], 360
    mean = statistics.mean(accuracies)
    error = math.sqrt(statistics.variance(accuracies) / 3 + sampling_variance(mean, samples))
    best = [hand_made("16", seed=seed, accuracy=a, samples=samples) for seed, a in enumerate(accuracies)]
    within = hand_made("8", accuracy=mean - error + 1e-9, samples=samples)
    below = hand_made("4", accuracy=mean - error - 1e-9, samples=samples)
    selection = select(study_of([*best, within, below]))
    assert selection.threshold == pytest.approx(mean - error, abs=1e-12)
    assert sorted(named(selection.finalists)) == ["16", "8"]


def test_with_one_seed_the_threshold_allows_only_for_the_validation_sample():
    selection = select(study_of([hand_made("8", accuracy=0.8, samples=400), hand_made("4", accuracy=0.5, samples=400)]))
    assert selection.threshold == pytest.approx(0.8 - math.sqrt(sampling_variance(0.8, 400)), abs=1e-12)
    assert named(selection.finalists) == ["8"]


def test_a_perfect_network_is_not_ahead_of_one_that_misses_a_sample():
    trials = [hand_made(head, accuracy=a, samples=360) for head, a in (("8", 1.0), ("4", 359 / 360), ("2", 0.99))]
    assert named(select(study_of(trials)).finalists) == ["8", "4"]


def test_a_training_that_was_repeated_counts_once():
    once = [hand_made("8", seed=0, accuracy=0.8), hand_made("8", seed=1, accuracy=0.9)]
    selection = select(study_of([*once, once[0], once[0]]))
    assert selection.networks["seeds"].tolist() == [2]
    assert selection.networks["accuracy"].tolist() == pytest.approx([0.85])
    assert selection.spread["accuracy"].tolist() == pytest.approx([statistics.stdev([0.8, 0.9])])


def test_a_network_that_diverged_with_a_seed_is_not_feasible():
    lost = without_result(TrialState.PRUNED, "8", 1, {ATTRIBUTE: {"pruned": "the loss is nan"}})
    selection = select(study_of([hand_made("8", accuracy=0.97), lost, hand_made("4", accuracy=0.9)]))
    assert named(selection.finalists) == named(selection.front) == ["4"]
    assert selection.networks.set_index("params_head")["pruned"].to_dict() == {"4": 0, "8": 1}


def test_an_index_that_is_saturated_for_all_takes_no_part():
    trials = [hand_made("8", accuracy=0.9, cell_count=199.0), hand_made("4", accuracy=0.89, cell_count=198.0)]
    assert named(select(study_of(trials)).finalists) == ["4", "8"]
    for trial in trials:
        trial.user_attrs[ATTRIBUTE]["saturated"]["joint"] = ["cell_count"]
    selection = select(study_of(trials))
    assert selection.silent["cell_count"] == "saturated for all"
    assert named(selection.finalists) == ["8", "4"]


def test_seeds_are_averaged_and_their_sample_deviation_is_the_spread():
    accuracies, cells = [0.9, 0.95, 0.85], [10.0, 14.0, 12.0]
    trials = [
        hand_made("8", seed=seed, accuracy=a, cell_count=c)
        for seed, (a, c) in enumerate(zip(accuracies, cells, strict=True))
    ]
    selection = select(study_of(trials))
    (network,), (spread,) = selection.networks.to_dict("records"), selection.spread.to_dict("records")
    assert network["seeds"] == 3
    assert network["accuracy"] == pytest.approx(statistics.mean(accuracies))
    assert network["cell_count"] == pytest.approx(statistics.mean(cells))
    assert spread["accuracy"] == pytest.approx(statistics.stdev(accuracies))
    assert spread["cell_count"] == pytest.approx(statistics.stdev(cells))


def test_the_spread_of_a_single_seed_is_undefined():
    selection = select(study_of([hand_made("8")]))
    assert math.isnan(selection.spread.loc[0, "accuracy"])


def test_one_head_with_two_learning_rates_is_two_networks():
    selection = select(study_of([hand_made("8", rate=0.1), hand_made("8", rate=0.01)]))
    assert sorted(selection.networks["params_learning_rate"]) == [0.01, 0.1]


def test_identical_networks_tie():
    selection = select(study_of([hand_made("8"), hand_made("4-4"), hand_made("16", cell_count=11.0)]))
    assert sorted(named(selection.front)) == ["4-4", "8"]
    assert sorted(named(selection.finalists)) == ["16", "4-4", "8"]
    assert named(selection.finalists)[2] == "16"


few = st.integers(0, 3).map(float)  # few different values, so that ties are common
directions_of_two = st.lists(st.sampled_from(["minimize", "maximize"]), min_size=2, max_size=2)


@given(st.lists(st.tuples(st.integers(0, 4), few, few), min_size=1, max_size=8), directions_of_two)
def test_the_front_is_what_no_network_dominates(rows: list[tuple[int, float, float]], ways: list[str]):
    names = ("accuracy", "cell_count", "edge_count")
    points = [(0.5 + correct / 10, cells, edges) for correct, cells, edges in rows]
    trials = [
        hand_made(str(i + 1), objectives=names, accuracy=a, cell_count=c, edge_count=e)
        for i, (a, c, e) in enumerate(points)
    ]
    directions = ["maximize", *ways]
    selection = select(study_of(trials, directions))
    expected = [
        str(i + 1) for i, point in enumerate(points) if not any(dominates(other, point, directions) for other in points)
    ]
    assert sorted(named(selection.front)) == sorted(expected)


@given(st.lists(st.tuples(st.integers(0, 4), few, few, st.integers(1, 3)), min_size=1, max_size=8), directions_of_two)
def test_equal_networks_are_ordered_by_pareto_rank_then_accuracy_then_size(
    rows: list[tuple[int, float, float, int]], ways: list[str]
):
    names = ("accuracy", "cell_count", "edge_count")
    trials = [
        hand_made(str(i + 1), objectives=names, accuracy=0.90 + a / 1000, cell_count=c, edge_count=e, parameters=p)
        for i, (a, c, e, p) in enumerate(rows)
    ]
    selection = select(study_of(trials, ["maximize", *ways]))
    assert len(selection.finalists) == len(rows)  # 100 validation samples: 0.004 is far below a standard error
    ranks = peeled([(c, e) for _, c, e, _ in rows], ways)
    keys = [(ranks[i], -a, p) for i, (a, _, _, p) in enumerate(rows)]
    assert [keys[int(head) - 1] for head in named(selection.finalists)] == sorted(keys)
    assert list(selection.finalists["place"]) == list(range(1, len(rows) + 1))


def test_a_better_index_comes_before_a_higher_accuracy_and_that_before_fewer_parameters():
    trials = [
        hand_made("1", accuracy=0.900, cell_count=20.0, parameters=1),
        hand_made("2", accuracy=0.900, cell_count=10.0, parameters=9),
        hand_made("3", accuracy=0.901, cell_count=10.0, parameters=9),
        hand_made("4", accuracy=0.900, cell_count=10.0, parameters=5),
    ]
    assert named(select(study_of(trials)).finalists) == ["3", "4", "2", "1"]


def test_the_other_direction_of_an_index_reverses_the_order():
    trials = [hand_made(str(i + 1), cell_count=float(cells)) for i, cells in enumerate([30, 10, 40, 20])]
    fewest_first = select(study_of(trials, ["maximize", "minimize"]))
    most_first = select(study_of(trials, ["maximize", "maximize"]))
    assert named(fewest_first.finalists) == ["2", "4", "1", "3"]
    assert named(most_first.finalists) == named(fewest_first.finalists)[::-1]
    assert most_first.objectives == {"accuracy": "maximize", "cell_count": "maximize"}


def test_a_constant_index_is_named_and_takes_no_part():
    names = ("accuracy", "cell_count", "edge_count")
    trials = [
        hand_made("1", objectives=names, cell_count=7.0, edge_count=1.0),
        hand_made("2", objectives=names, cell_count=7.0, edge_count=2.0),
    ]
    selection = select(study_of(trials, ["maximize", "minimize", "maximize"]))
    assert selection.silent["cell_count"] == "constant, 7"
    assert "edge_count" not in selection.silent
    assert named(selection.finalists) == ["2", "1"]


def test_an_undefined_index_is_named_and_takes_no_part():
    names = ("accuracy", "cell_count", "class_distance_ratio")
    trials = [
        hand_made("1", objectives=names, cell_count=9.0, class_distance_ratio=0.1),
        hand_made("2", objectives=names, cell_count=8.0, class_distance_ratio=None),
    ]
    selection = select(study_of(trials, ["maximize", "minimize", "minimize"]))
    assert selection.silent["class_distance_ratio"].startswith("undefined")
    assert named(selection.finalists) == ["2", "1"]


def test_only_the_equally_accurate_networks_decide_whether_an_index_is_constant():
    selection = select(study_of([hand_made("1"), hand_made("2"), hand_made("3", accuracy=0.2, cell_count=99.0)]))
    assert selection.silent["cell_count"] == "constant, 10"


def test_an_infeasible_network_is_neither_on_the_front_nor_equal():
    trials = [
        hand_made("1", accuracy=0.99, cell_count=1.0, infeasibility=0.001),
        hand_made("2", accuracy=0.9, cell_count=5.0, infeasibility=-0.1),
        hand_made("3", accuracy=0.9, cell_count=6.0, infeasibility=0.0),  # exactly on the floor is feasible
    ]
    selection = select(study_of(trials))
    assert named(selection.front) == ["2"]
    assert named(selection.finalists) == ["2", "3"]
    assert selection.threshold == pytest.approx(0.9 - math.sqrt(sampling_variance(0.9, 100)))


def test_without_a_feasible_network_there_is_no_threshold_and_no_order():
    selection = select(study_of([hand_made("1", infeasibility=0.1), hand_made("2", infeasibility=0.2)]))
    assert math.isnan(selection.threshold)
    assert selection.front.empty
    assert selection.finalists.empty
    assert len(selection.networks) == 2


def test_the_front_is_that_of_optuna_where_each_network_has_one_seed():
    accuracies, cells = [0.90, 0.95, 0.70, 0.95, 0.60], [10.0, 30.0, 5.0, 31.0, 50.0]
    floors = [-0.1, -0.1, -0.1, -0.1, 0.3]
    trials = [
        hand_made(str(i), accuracy=a, cell_count=c, infeasibility=f)
        for i, (a, c, f) in enumerate(zip(accuracies, cells, floors, strict=True))
    ]
    study = study_of(trials)
    assert sorted(named(select(study).front)) == sorted(trial.params["head"] for trial in study.best_trials)


@given(st.data())
def test_the_ranking_does_not_depend_on_the_order_of_the_trials(data: st.DataObject):
    values = st.tuples(st.integers(300, 360), st.integers(1, 4), st.integers(1, 2))
    rows = data.draw(
        st.dictionaries(st.tuples(st.sampled_from("1234"), st.sampled_from([0, 1, 2])), values, min_size=1)
    )
    trials = [
        hand_made(head, seed=seed, accuracy=correct / 360, samples=360, cell_count=cells / 3, parameters=parameters)
        for (head, seed), (correct, cells, parameters) in rows.items()
    ]
    one, other = select(study_of(trials)), select(study_of(data.draw(st.permutations(trials))))
    columns = [
        "params_head",
        "params_learning_rate",
        "seeds",
        "feasible",
        "front",
        "finalist",
        "rank",
    ]  # places of ties may differ
    assert by_name(one)[columns].equals(by_name(other)[columns])
    assert list(other.finalists["place"]) == list(range(1, len(other.finalists) + 1))
    assert other.threshold == pytest.approx(one.threshold)
    assert set(other.silent) == set(one.silent)


def test_the_number_of_parameters_may_be_an_objective():
    names = ("accuracy", "parameter_count")
    trials = [
        hand_made("1", objectives=names, parameters=900, parameter_count=900.0),
        hand_made("2", objectives=names, parameters=400, parameter_count=400.0),
    ]
    selection = select(study_of(trials))
    assert named(selection.front) == ["2"]
    assert named(selection.finalists) == ["2", "1"]


def test_an_index_of_one_layer_may_be_an_objective():
    names = ("accuracy", "head.1:cell_count")
    trials = [hand_made(str(i), objectives=names, cell_count=float(5 - i)) for i in (1, 2, 3)]
    assert named(select(study_of(trials)).finalists) == ["3", "2", "1"]


def test_accuracy_may_be_the_only_objective():
    trials = [hand_made(str(i), objectives=["accuracy"], accuracy=0.9 + i / 1000, parameters=i) for i in (1, 2)]
    selection = select(study_of(trials, ["maximize"]))
    assert named(selection.front) == ["2"]
    assert named(selection.finalists) == ["1", "2"]  # by cost, as nothing else is an objective


def test_data_without_a_test_split_can_be_ranked():
    selection = select(
        study_of([hand_made("1", test_accuracy=None), hand_made("2", test_accuracy=None, cell_count=1.0)])
    )
    assert named(selection.finalists) == ["2", "1"]
    assert selection.networks["test_accuracy"].isna().all()


def test_trials_that_are_not_complete_do_not_count():
    study = study_of([hand_made("1", accuracy=0.9)])
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={ATTRIBUTE: {"failed": "RuntimeError: no"}}))
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={ATTRIBUTE: {"pruned": "no loss"}}))
    study.enqueue_trial({"head": "2"})
    assert named(select(study).networks) == ["1"]


def test_the_frame_has_one_row_per_trial_with_the_reason_of_a_failure():
    study = study_of([hand_made("1", cell_count=3.0)])
    failed, pruned = {"failed": "RuntimeError: no"}, {"pruned": "no loss"}
    study.add_trial(without_result(TrialState.FAIL, "2", attributes={ATTRIBUTE: failed}))
    study.add_trial(without_result(TrialState.PRUNED, "2", attributes={ATTRIBUTE: pruned, "retry_of": 1}))
    frame = trials_frame(study)
    assert list(frame["number"]) == [0, 1, 2]
    assert list(frame["state"]) == ["COMPLETE", "FAIL", "PRUNED"]
    assert list(frame["params_head"]) == ["1", "2", "2"]
    assert frame["reason"].isna().tolist() == [True, False, False]
    assert list(frame["reason"])[1:] == ["RuntimeError: no", "no loss"]
    assert frame["retry_of"].isna().tolist() == [True, True, False]
    assert frame.loc[0, "cell_count"] == 3.0


def test_a_study_without_our_records_cannot_be_ranked():
    study = optuna.create_study(study_name="foreign", directions=["maximize", "minimize"])
    study.add_trial(create_trial(values=[1.0, 2.0]))
    with pytest.raises(InputError, match=r"'foreign'.*relucode.*Objective"):
        select(study)


def test_a_study_without_a_complete_trial_cannot_be_ranked():
    study = study_of([], name="unlucky")
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={ATTRIBUTE: {"pruned": "no loss"}}))
    study.add_trial(create_trial(state=TrialState.FAIL))
    reason = r"no trial of study 'unlucky' is complete, .*: 1 pruned, 1 fail; the last one's reason: no loss\. Train"
    with pytest.raises(InputError, match=reason):
        select(study)


def test_a_study_without_trials_cannot_be_ranked():
    with pytest.raises(InputError, match="'hand-made'"):
        select(study_of([]))


def test_networks_equal_in_everything_share_a_rank_in_the_order_of_their_trials():
    trials = [hand_made(head) for head in ("4", "16", "2")] + [hand_made("8", cell_count=11.0)]
    selection = select(study_of(trials))
    assert named(selection.finalists) == ["4", "16", "2", "8"]
    assert selection.finalists["trial"].tolist() == [0, 1, 2, 3]
    assert selection.finalists["rank"].tolist() == [1, 1, 1, 4]


def test_the_best_of_equally_accurate_ones_is_the_smallest():
    trials = [hand_made("2", seed=s, accuracy=0.9 + d, parameters=9) for s, d in enumerate((-0.05, 0, 0.05))]
    selection = select(study_of([*trials, hand_made("4", accuracy=0.9, parameters=3)]))
    assert selection.threshold == pytest.approx(0.9 - math.sqrt(sampling_variance(0.9, 100)), abs=1e-12)


def test_the_comparison_lies_beside_the_networks():
    trials = [hand_made("1", accuracy=0.7), hand_made("2", accuracy=0.9), hand_made("3", infeasibility=1.0)]
    selection = select(study_of(trials))
    differences = dict(zip(selection.networks["params_head"], selection.comparison["difference"], strict=True))
    assert differences["1"] == pytest.approx(0.2)
    assert differences["2"] == 0
    assert math.isnan(differences["3"])


def test_indices_other_than_the_objectives_may_decide():
    trials = [hand_made(str(i), cell_count=float(i), edge_count=float(-i), parameters=i) for i in (1, 2, 3)]
    study = study_of(trials)
    assert named(select(study).finalists) == ["1", "2", "3"]
    assert named(select(study, by=["-edge_count"]).finalists) == ["3", "2", "1"]
    assert named(select(study, by=["+head.1:cell_count"]).finalists) == ["3", "2", "1"]
    assert named(select(study, by=[("parameters", "maximize")]).finalists) == ["3", "2", "1"]
    assert select(study, by=["-edge_count"]).by == {"edge_count": "minimize"}


def test_ways_to_order_differ():
    names = ("accuracy", "cell_count", "edge_count")
    values = {"1": (1.0, 9.0), "2": (2.0, 1.0), "3": (3.0, 2.0)}
    trials = [hand_made(h, objectives=names, cell_count=c, edge_count=e, accuracy=0.9) for h, (c, e) in values.items()]
    study = study_of(trials, ["maximize", "minimize", "minimize"])
    assert select(study).finalists["rank"].tolist() == [1, 1, 3]
    assert named(select(study, how="lexicographic").finalists) == ["1", "2", "3"]
    assert named(select(study, how="lexicographic", by=["-edge_count", "cell_count"]).finalists) == ["2", "3", "1"]
    assert named(select(study, how="weighted", weights={"cell_count": 0}).finalists) == ["2", "3", "1"]
    assert named(select(study, how="weighted", weights={"cell_count": 5}).finalists) == ["1", "2", "3"]


@given(st.lists(st.tuples(few, st.booleans()), min_size=2, max_size=6), st.sampled_from(HOW))
def test_an_undefined_or_missing_index_never_wins(rows: list[tuple[float, bool]], how: str):
    trials = [
        hand_made(
            str(i), objectives=["accuracy"], cell_count=cells, edge_count=None if undefined else cells, parameters=i
        )
        for i, (cells, undefined) in enumerate(rows)
    ]
    for trial, (_, undefined) in zip(trials, rows, strict=True):
        if undefined and not all(missing for _, missing in rows):  # one reads None, the other has none of it
            del trial.user_attrs[ATTRIBUTE]["joint"]["correct_cell_count"]
    study = study_of(trials, ["maximize"])
    by = ["cell_count", "-edge_count", "-correct_cell_count"]
    selection = select(study, by=by, how=how)
    if any(undefined for _, undefined in rows):
        assert "edge_count" in selection.silent
        assert "correct_cell_count" in selection.silent or all(undefined for _, undefined in rows)
        assert named(selection.finalists) == named(select(study, by=by[:1], how=how).finalists)
    cells = {str(i): cells for i, (cells, _) in enumerate(rows)}
    assert [cells[head] for head in named(selection.finalists)] == sorted(cells.values())


def test_an_index_that_was_not_measured_is_named():
    trials = [hand_made("1", knn_accuracy=None), hand_made("2", cell_count=1.0)]
    selection = select(study_of(trials), by=["cell_count", "knn_accuracy"])
    assert selection.silent["knn_accuracy"] == "undefined or not measured"
    assert selection.deciding == {"cell_count": "minimize"}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("latency", r"qualities=\['latency'\]"),
        ("knn_accuracy", r"indices=\['all', 'knn_accuracy'\]"),
        ("head.1:knn_accuracy", r"indices=\['all', 'knn_accuracy'\]"),
    ],
)
def test_what_no_trial_recorded_orders_nothing_and_is_refused(name: str, remedy: str):
    with pytest.raises(InputError, match=rf"{name}.*cell_count.*{remedy}"):
        select(study_of([hand_made("1")]), by=[name])


def test_an_infinite_index_is_undefined():
    study = study_of([hand_made("1", edge_count=-math.inf), hand_made("2", edge_count=math.inf), hand_made("3")])
    assert select(study, by=["-edge_count"]).silent["edge_count"] == "undefined for some"


@given(st.lists(st.tuples(st.sampled_from("12345"), st.integers(0, 2), st.integers(60, 100)), min_size=1), st.data())
def test_the_equal_networks_grow_with_the_margin(rows: list[tuple[str, int, int]], data: st.DataObject):
    study = study_of([hand_made(head, seed=seed, accuracy=correct / 100) for head, seed, correct in rows])
    margins = sorted(data.draw(st.tuples(st.floats(0.001, 0.99), st.floats(0.001, 0.99))))
    few, many = (set(named(select(study, margin=margin, rule="margin").finalists)) for margin in margins)
    assert few
    assert few <= many


def test_a_complete_trial_with_missing_values_is_named_with_them():
    trial = hand_made("1")
    del trial.user_attrs[ATTRIBUTE]["qualities"], trial.user_attrs[ATTRIBUTE]["seed"]
    with pytest.raises(InputError, match=r"trial 0 of study 'hand-made'.* lacks seed, qualities"):
        select(study_of([trial]))
    trial.user_attrs[ATTRIBUTE] = "mine"
    with pytest.raises(InputError, match="is not a table of values"):
        select(study_of([trial]))


def test_a_record_needs_only_the_required_values():
    trials = [hand_made("1"), hand_made("2", cell_count=1.0)]
    for trial in trials:
        trial.user_attrs[ATTRIBUTE] = {name: trial.user_attrs[ATTRIBUTE][name] for name in NEEDED}
    assert named(select(study_of(trials)).finalists) == ["2", "1"]


def test_objectives_that_are_not_the_studys_are_refused():
    trial, study = hand_made("1"), optuna.create_study()
    trial.values = [1.0]
    study.add_trial(trial)
    with pytest.raises(InputError, match=r"has 1 directions, .* 2 objectives"):
        select(study)


@pytest.mark.parametrize("seeds", [{0}, {0, 1, 2}])
def test_an_index_is_silent_only_where_every_seed_is_saturated(seeds: set[int]):
    trials = [
        hand_made(head, seed=seed, cell_count=cells)
        for head, counts in {"8": [1000.0, 100.0, 100.0], "4": [1000.0, 900.0, 900.0]}.items()
        for seed, cells in enumerate(counts)
    ]
    for trial in trials:
        record = trial.user_attrs[ATTRIBUTE]
        record["saturated"]["joint"] = ["cell_count"] if record["seed"] in seeds else []
    assert ("cell_count" in select(study_of(trials)).silent) == (seeds == {0, 1, 2})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", "0.9"),
        ("validation", None),
        ("validation", {"samples": 0}),
        ("validation", {"samples": 10, "correct": 3}),
        ("test", 3),
        ("qualities", {"parameters": "7"}),
        ("version", 3),
        ("joint", []),
        ("objectives", "accuracy"),
        ("saturated", []),
        ("joint", {"cell_count": "7"}),
        ("layers", {"head.1": None}),
        ("params", None),
        ("params", {"head": [8]}),
        ("params", {"head": "8", "seed": 0}),
        ("seed", "a"),
    ],
)
def test_values_that_cannot_be_read_are_named(name: str, value: object):
    trial = hand_made("8")
    trial.user_attrs[ATTRIBUTE][name] = value
    with pytest.raises(InputError, match=name):
        select(study_of([trial]))


@pytest.mark.parametrize("change", [lambda record: "mine", lambda record: record | {"layers": None}])
@pytest.mark.parametrize("by", [None, ["head.1:cell_count"]])
def test_a_later_trial_that_cannot_be_read_is_named(change: Callable[[Any], Any], by: list[str] | None):
    trials = [hand_made("8"), hand_made("4")]
    trials[1].user_attrs[ATTRIBUTE] = change(trials[1].user_attrs[ATTRIBUTE])
    with pytest.raises(InputError, match="trial 1 of study"):
        select(study_of(trials), by=by)


def test_a_failed_trial_may_carry_anything():
    trials = [hand_made("8"), without_result(TrialState.FAIL, "4", 0, {ATTRIBUTE: "out of luck"})]
    assert list(select(study_of(trials)).networks["params_head"]) == ["8"]
    with pytest.raises(InputError, match="1 fail"):
        select(study_of(trials[1:]))


def test_without_a_named_floor_a_network_far_below_the_best_is_compared_but_not_on_the_front():
    accuracies = {"8": (0.90, 0.91), "4": (0.87, 0.87), "2": (0.85, 0.85)}
    trials = [hand_made(head, seed=s, accuracy=a) for head, values in accuracies.items() for s, a in enumerate(values)]
    for trial in trials:
        trial.user_attrs[ATTRIBUTE][FLOOR_BELOW_BEST] = 0.05
        trial.user_attrs[ATTRIBUTE]["joint"]["cell_count"] = float(trial.params["head"])
    selection = select(study_of(trials))
    assert selection.compared.all()
    assert dict(zip(selection.networks["params_head"], selection.networks["front"], strict=True)) == {
        "8": True,
        "4": True,
        "2": False,
    }
