"""Selection: from trials with predictions, or without, to the network that is chosen."""

import html
import json

import numpy as np
import optuna
import pytest
from hand_made import LABELS, hand_made, predicting, study_of, without_result
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import RULES
from nas_relucode.ranking.selecting import select
from nas_relucode.study.predictions import kept_predictions
from nas_relucode.study.record import ATTRIBUTE


def heads(selection):
    return list(selection.finalists["params_head"])


@pytest.mark.parametrize("rule", RULES)
def test_identical_networks_tie_and_one_changed_prediction_does_not_break_it(rule):
    wrong = {"8": range(200), "4": range(200), "2": range(201), "1": range(2000)}
    labels = np.arange(100_000) % 4
    trials = [
        predicting(head, of_head, seed=seed, labels=labels, cell_count=float(len(head) + int(head)))
        for head, of_head in wrong.items()
        for seed in (0, 1, 2)
    ]
    selection = select(study_of(trials), rule=rule)
    assert heads(selection) == ["2", "4", "8"]
    assert dict(zip(selection.networks["params_head"], selection.comparison["answer"], strict=True)) == {
        "8": "equal", "4": "best", "2": "equal", "1": "worse"
    }  # fmt: skip


def test_without_predictions_accuracies_are_compared_and_a_note_says_so():
    trials = [predicting("8", range(20)), hand_made("4", accuracy=0.93, samples=400), hand_made("2", accuracy=0.5)]
    selection = select(study_of(trials))
    assert any("2 of 3 networks have no predictions" in note for note in selection.notes)
    assert selection.comparison["paired"].tolist() == [True, False, False]


def test_predictions_of_other_samples_are_not_compared_sample_by_sample_and_their_trials_are_named():
    trials = [predicting("8", range(20)), predicting("2", range(20)), predicting("4", range(28), labels=LABELS[::-1])]
    selection = select(study_of(trials))
    assert dict(zip(selection.networks["params_head"], selection.comparison["paired"], strict=True))["4"] is False
    assert any("trials 2 are not those of the other trials" in note for note in selection.notes)


def test_a_repeated_training_counts_once_and_is_named():
    once = [predicting("8", range(20)), predicting("4", range(28))]
    again = [*once, predicting("4", range(28))]
    one, other = (select(study_of(trials)) for trials in (once, again))
    assert other.comparison.equals(one.comparison)
    assert any("2 times with seed 0 (trials 1, 2)" in note for note in other.notes)


@pytest.mark.parametrize("text", ["x", "", "!" * 40, kept_predictions(np.ones(10, bool), "0")["correct"]])
def test_damaged_predictions_are_an_error(text):
    trials = [predicting("8", range(20)), predicting("4", range(20))]
    trials[1].user_attrs[ATTRIBUTE]["validation"]["correct"] = text
    with pytest.raises(InputError, match=r"trial 1 .*predictions"):
        select(study_of(trials))


def test_trials_without_a_record_are_left_out_and_named():
    study = study_of([hand_made("8"), hand_made("4")])
    study.add_trial(create_trial(values=[1.0, 2.0]))
    selection = select(study)
    assert len(selection.networks) == 2
    assert any("left out: 2." in note for note in selection.notes)


@pytest.mark.parametrize(("key", "value"), [("classes", 5), ("objectives", ["accuracy", "edge_count"])])
def test_networks_of_other_tasks_are_refused_with_their_trials(key, value):
    trials = [hand_made("8"), hand_made("4"), hand_made("2")]
    trials[1].user_attrs[ATTRIBUTE][key] = value
    with pytest.raises(InputError, match=rf"different {key}: .* in trial 0, 2; .* in trial 1"):
        select(study_of(trials))


def test_a_record_of_the_first_version_is_read_beside_one_of_the_second():
    trials = [hand_made("8", cell_count=2.0), hand_made("4", cell_count=1.0)]
    record = trials[1].user_attrs[ATTRIBUTE]
    for name in ("version", "params", "seed", "qualities", "validation", "test", "classes"):
        del record[name]
    record |= {"candidate": {"head": "4", "learning_rate": 0.1, "seed": 3}, "parameters": 7, "seconds": 2.0}
    record["validation_samples"] = 100
    selection = select(study_of(trials))
    assert heads(selection) == ["4", "8"]
    assert selection.networks["parameters"].tolist() == [7, 500]
    assert selection.best["seeds"] == [3]


def test_an_index_with_the_name_of_another_column_does_not_take_its_place():
    trials = [hand_made("8", accuracy=0.9), hand_made("4", accuracy=0.1)]
    for name in ("accuracy", "test_accuracy", "parameters", "network", "params_head", "trial", "place", "seeds"):
        trials[1].user_attrs[ATTRIBUTE]["joint"][name] = 0.99
    selection = select(study_of(trials))
    assert selection.best["params"]["head"] == "8"
    assert selection.networks["accuracy"].tolist() == [0.9, 0.1]
    assert selection.networks["joint:accuracy"].tolist()[1] == 0.99


@given(st.data())
def test_the_order_of_the_trials_does_not_matter(data):
    wrong = st.integers(0, 399).flatmap(lambda start: st.integers(5, 40).map(lambda n: (start + np.arange(n)) % 400))
    rows = data.draw(
        st.dictionaries(
            st.tuples(st.sampled_from("1248"), st.integers(0, 2)), st.tuples(wrong, st.integers(1, 3)), min_size=1
        )
    )
    trials = [predicting(head, w, seed=seed, cell_count=c / 3) for (head, seed), (w, c) in rows.items()]
    rule = data.draw(st.sampled_from(RULES))
    tables = []
    for order in (trials, data.draw(st.permutations(trials))):
        selection = select(study_of(order), rule=rule, resamples=20)
        table = selection.networks[["network", "finalist", "rank"]].join(selection.comparison.drop(columns="network"))
        tables.append(table.sort_values("network").reset_index(drop=True))
    assert tables[0].equals(tables[1])


def test_the_stability_of_the_order_is_resampled_from_the_seeds():
    firm = [hand_made("8", seed=s, cell_count=c) for s, c in enumerate((1.0, 2.0, 3.0))]
    near = [hand_made("4", seed=s, cell_count=c) for s, c in enumerate((2.0, 3.0, 2.5))]
    far = [hand_made("2", seed=s, cell_count=c) for s, c in enumerate((20.0, 30.0, 25.0))]
    selection = select(study_of([*firm, *near, *far]))
    assert heads(selection) == ["8", "4", "2"]
    assert 0.5 < selection.ahead[0, 1] < 1
    assert selection.ahead[0, 2] == selection.ahead[1, 2] == 1
    rows = selection.as_dict()["finalists"]
    assert [row["ahead_of_next"] for row in rows] == [selection.ahead[0, 1], 1, None]


def test_the_best_comes_with_everything_needed_to_train_it_again():
    trials = [hand_made("8", rate=0.5, seed=s, cell_count=1.0) for s in (2, 0)] + [hand_made("4")]
    study = study_of(trials)
    expected = {
        "network": "head=8 learning_rate=0.5",
        "params": {"head": "8", "learning_rate": 0.5},
        "seeds": [0, 2],
        "trials": [0, 1],
    }
    assert select(study).best == expected | {"settings": None}
    study.set_user_attr("settings", {"margin": 0.3})  # of somebody else
    assert select(study).best == expected | {"settings": None}
    settings = {"data": {}, "network": {}, "search": {}, "training": {"epochs": 3}}
    study.set_user_attr("settings", settings)
    assert select(study).best == expected | {"settings": settings}


@pytest.mark.parametrize("how", ["pareto", "lexicographic", "weighted"])
def test_the_dict_is_json_and_holds_the_selection(how):
    names = ("accuracy", "cell_count", "class_distance_ratio")
    trials = [
        predicting("8", range(20), objectives=names, cell_count=2.0, class_distance_ratio=None),
        predicting("4", range(20), objectives=names, cell_count=1.0, class_distance_ratio=0.5, test_accuracy=None),
        predicting("2", range(300), objectives=names, cell_count=1.0, class_distance_ratio=0.5),
    ]
    study = study_of(trials, ["maximize", "minimize", "minimize"])
    selection = select(study, margin=0.01, how=how)
    written = json.loads(json.dumps(selection.as_dict(), allow_nan=False))
    assert written["margin"] == 0.01
    assert written["how"] == how
    assert written["by"] == {"cell_count": "minimize", "class_distance_ratio": "minimize"}
    assert written["silent"]["class_distance_ratio"] == "undefined for some"
    assert written["threshold"] == selection.threshold
    assert written["compared"] == 3
    first, second = written["finalists"]
    assert (first["params"]["head"], first["place"], second["rank"]) == ("4", 1, 2)
    assert first["mean"]["cell_count"] == 1
    assert first["mean"]["test_accuracy"] is None
    assert first["spread"]["cell_count"] is None
    assert first["low"] is None  # of one seed
    assert first["paired"] is True
    assert written["best"]["params"]["head"] == "4"
    assert written["ahead"] == [[None, None], [None, None]]


def test_a_single_trial_is_the_best():
    for rule in RULES:
        selection = select(study_of([hand_made("8")]), rule=rule)
        assert heads(selection) == ["8"]
        json.dumps(selection.as_dict(), allow_nan=False)


def test_a_network_without_accuracy_is_not_chosen():
    trials = [hand_made("8", accuracy=None, objectives=["cell_count"]), hand_made("4", objectives=["cell_count"])]
    for rule in RULES:
        selection = select(study_of(trials, ["minimize"]), rule=rule)
        assert heads(selection) == ["4"]
        assert selection.as_dict()["compared"] == 1


def test_where_all_are_infeasible_there_is_nothing_to_choose():
    study = study_of([hand_made("1", infeasibility=0.1), hand_made("2", infeasibility=0.2)])
    for rule in RULES:
        selection = select(study, rule=rule)
        assert selection.finalists.empty
        for use in (lambda: selection.best, selection.as_dict, selection.require_feasible):  # noqa: B023
            with pytest.raises(InputError, match=r"'hand-made' .* accuracy floor: 2, .* lower accuracy_floor"):
                use()
        assert "No network is feasible" in repr(selection)


def test_a_selection_prints_as_its_verdict_and_a_short_table():
    rates = range(1, 25)
    trials = [hand_made("0", rate, s, cell_count=float(rate + s)) for rate in rates for s in (0, 1)]
    selection = select(study_of(trials))
    printed = repr(selection)
    assert printed.startswith(f"Choose {selection.best['network']}.")
    table = printed[printed.index("\n\n") :].split("\n")[2:]
    assert len(table) == 23  # the names of the columns, 20 networks, how many more, and what the spread is
    assert table[1].split()[:2] == ["1", "learning_rate=1"]
    assert "and 4 more" in table[-2]
    assert selection._repr_html_().count("<tr") == 21


def test_every_network_that_was_compared_is_printed_with_its_answer_the_finalists_first():
    values = {"1": 0.9, "2": 0.9, "4": 0.7, "8": 0.6}
    trials = [hand_made(head, seed=s, accuracy=v + s / 1e4) for head, v in values.items() for s in range(4)]
    trials.append(hand_made("3", infeasibility=1.0))
    selection = select(study_of(trials))
    table = repr(selection).split("\n\n")[1].split("\n")[1:5]
    assert [line.split()[1] if line.split()[0].isdigit() else line.split()[0] for line in table] == [
        *("head=1", "head=2"),
        *("head=4", "head=8"),
    ]
    for line, answer in zip(table, selection.comparison["answer"], strict=False):
        assert f" {answer} " in line
    assert selection.comparison["network"].equals(selection.networks["network"])


def test_what_limits_a_selection_is_printed_with_it():
    foreign = create_trial(values=[0.5, 1.0])
    selection = select(study_of([hand_made("8"), hand_made("4"), foreign]))
    for printed in (repr(selection), html.unescape(selection._repr_html_())):
        for sentence in selection.limits:
            assert sentence in printed
    assert any("left out: 2" in sentence for sentence in selection.notes)


def test_repeats_of_a_seed_that_differ_in_accuracy_are_a_warning_and_equal_ones_a_note():
    same, other = ([hand_made("8", accuracy=0.9), hand_made("8", accuracy=last)] for last in (0.9, 0.86))
    selection = select(study_of(other))
    (warning,) = [warning.text for warning in selection.verdict.warnings if warning.name == "unseeded"]
    for word in ("2 times with seed 0", "0.86", "0.9", "manual_seed", "seed=seed"):
        assert word in warning
    assert not selection.notes
    selection = select(study_of(same))
    assert not selection.verdict.warnings
    assert "2 times with seed 0" in selection.notes[0]


def test_a_single_name_is_a_list_of_one():
    assert select(study_of([hand_made("8")]), by="-edge_count").by == {"edge_count": "minimize"}


@pytest.mark.parametrize("study", ["digits", None, 3])
def test_what_is_no_study_is_refused(study):
    with pytest.raises(InputError, match=r"is (a str|a NoneType|an int).*load_study"):
        select(study)


def test_a_study_without_trials_is_to_be_run_first():
    with pytest.raises(InputError, match=r"'hand-made' has no trials.*optimize"):
        select(study_of([]))


def test_names_in_the_table_of_a_notebook_are_escaped():
    html = select(study_of([hand_made("8", cell_count=1.0), hand_made("<b>", cell_count=2.0)]))._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_the_order_of_some_networks_is_that_of_a_selection_of_them():
    trials = [hand_made(str(number), cell_count=float(9 - number)) for number in range(5)]
    everyone = select(study_of(trials))
    for few in (1, 3, 4):
        alone = select(study_of(trials[:few]))
        order = everyone.order_of(everyone.networks["params_head"].isin(alone.finalists["params_head"]))
        assert everyone.networks.loc[order.rows, "params_head"].tolist() == heads(alone)
        assert order.ranks.tolist() == alone.finalists["rank"].tolist()
        assert order.silent == alone.silent


def test_where_all_failed_there_is_nothing_to_choose():
    study = study_of([without_result(TrialState.FAIL, "2", attributes={ATTRIBUTE: {"failed": "RuntimeError"}})])
    with pytest.raises(InputError, match=r"no trial .* is complete"):
        select(study)


def test_an_error_says_what_a_study_without_our_records_lacks():
    study = optuna.create_study(study_name="foreign", directions=["maximize", "minimize"])
    study.add_trial(create_trial(values=[1.0, 2.0]))
    with pytest.raises(InputError, match=r"'foreign' carries our record .*'relucode'.*Recorder"):
        select(study)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -0.1}, r"margin -0.1 is out of range"),
        ({"rule": "3se"}, "unknown rule '3se'"),
        ({"by": ["cells"]}, "unknown index 'cells'"),
        ({"by": ["head.9:cell_count"]}, r"unknown layer 'head.9'. Known: head.1"),
        ({"how": "best"}, "unknown value 'best' for how"),
        ({"how": "weighted", "weights": {"edge_count": 1}}, "unknown weight 'edge_count'"),
        ({"level": 2}, "level 2 is out of range"),
        ({"resamples": 0}, "resamples 0 is out of range"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        select(study_of([hand_made("8")]), **arguments)
