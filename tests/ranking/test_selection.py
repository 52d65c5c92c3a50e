"""Selection: from trials with predictions, or without, to the network that is chosen."""

import itertools
import json
import math

import numpy as np
import optuna
import pytest
from hand_made import LABELS, Memory, hand_made, study_of, without_result
from hypothesis import given
from hypothesis import strategies as st
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import TrialState, create_trial

from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import TOLERANCES as RULES
from nas_relucode.ranking.selection import select
from nas_relucode.study.record import ATTRIBUTE


def heads(selection):
    return list(selection.equal["head"])


@pytest.fixture
def store():
    return Memory()


@pytest.mark.parametrize("tolerance", [*RULES, 0.01])
def test_identical_networks_tie_and_one_changed_prediction_does_not_break_it(store, tolerance):
    trials = [
        store.keep("8", range(20), cell_count=3.0),
        store.keep("4", range(20), cell_count=2.0),
        store.keep("2", range(21), cell_count=1.0),
        store.keep("1", range(200), cell_count=0.0),
    ]
    assert heads(select(study_of(trials), tolerance=tolerance, store=store)) == ["2", "4", "8"]


def test_pairs_of_predictions_decide_by_mcnemar(store):
    trials = [store.keep("8", range(20)), store.keep("4", range(26)), store.keep("2", range(374, 400))]
    selection = select(study_of(trials), tolerance="mcnemar", store=store)
    p = dict(zip(selection.networks["head"], selection.comparison["p"], strict=True))
    assert p["4"] == pytest.approx(3 * 2 * 0.5**6)  # 6 samples to 0, three pairs
    assert heads(selection) == ["8", "4", "2"]
    trials[1] = store.keep("4", range(28))
    selection = select(study_of(trials), tolerance="mcnemar", store=store)
    assert heads(selection) == ["8", "2"]  # 8 to 0 differ, 26 to 20 do not, though both are less accurate
    assert selection.comparison["paired"].all()
    assert selection.notes == (
        "Each network was trained once, so the effect of other seeds is unknown.",
        "No index orders the equally accurate networks: accuracy and size do.",
    )


@pytest.mark.parametrize("tolerance", ["mcnemar", "bootstrap"])
def test_without_predictions_accuracies_are_compared_and_a_note_says_so(store, tolerance):
    trials = [store.keep("8", range(20)), hand_made("4", accuracy=0.93, samples=400), hand_made("2", accuracy=0.5)]
    for kept in (store, None):
        selection = select(study_of(trials), tolerance=tolerance, store=kept)
        assert heads(selection) == ["8", "4"]
        assert selection.notes[0].startswith(f"{2 if kept is not None else 3} of 3 networks have no predictions")


def test_predictions_of_other_samples_are_not_compared_sample_by_sample(store):
    trials = [store.keep("8", range(20)), store.keep("4", range(28), labels=LABELS[::-1])]
    selection = select(study_of(trials), tolerance="mcnemar", store=store)
    assert heads(selection) == ["8", "4"]
    assert selection.comparison["paired"].tolist() == [True, False]


def test_a_repeated_training_counts_once(store):
    once = [store.keep("8", range(20)), store.keep("4", range(28))]
    again = [*once, store.keep("4", range(28))]
    one, other = (select(study_of(trials), tolerance="mcnemar", store=store) for trials in (once, again))
    assert other.comparison.equals(one.comparison)


def test_damaged_predictions_are_named_with_their_trial(store):
    trials = [store.keep("8", range(20)), store.keep("4", range(20))]
    store[trials[1].user_attrs[ATTRIBUTE]["predictions"]] = b"x"
    with pytest.raises(InputError, match=r"trial 1 of study 'hand-made', artifact 4-0-1: the file is damaged"):
        select(study_of(trials), tolerance="mcnemar", store=store)
    assert heads(select(study_of(trials), tolerance="mcnemar"))  # by accuracies
    assert heads(select(study_of(trials), store=store))  # the rule needs none


def test_lost_predictions_are_named_with_their_trial(store, tmp_path):
    trials = [store.keep("8", range(20))]
    with pytest.raises(InputError, match=r"predictions of trial 0 .* are not in this store"):
        select(study_of(trials), tolerance="mcnemar", store=FileSystemArtifactStore(tmp_path))


@given(st.data())
def test_the_order_of_the_trials_does_not_matter(data):
    store = Memory()
    wrong = st.integers(0, 399).flatmap(lambda start: st.integers(5, 40).map(lambda n: (start + np.arange(n)) % 400))
    rows = data.draw(
        st.dictionaries(
            st.tuples(st.sampled_from("1248"), st.integers(0, 2)), st.tuples(wrong, st.integers(1, 3)), min_size=1
        )
    )
    trials = [store.keep(head, w, seed=seed, cell_count=c / 3) for (head, seed), (w, c) in rows.items()]
    tolerance = data.draw(st.sampled_from(RULES))
    tables = []
    for order in (trials, data.draw(st.permutations(trials))):
        selection = select(study_of(order), tolerance=tolerance, store=store, resamples=20)
        table = selection.networks[["head", "equal", "rank"]].join(selection.comparison)
        tables.append(table.sort_values("head").reset_index(drop=True))
    assert tables[0].equals(tables[1])


@given(st.data(), st.sampled_from(["mcnemar", "bootstrap"]))
def test_the_equal_networks_grow_as_the_level_falls(data, tolerance):
    store = Memory()
    numbers = data.draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 340)), min_size=1, max_size=6))
    trials = [store.keep(str(i), range(start, start + n)) for i, (n, start) in enumerate(numbers)]
    equal = [
        set(heads(select(study_of(trials), tolerance=tolerance, level=level, store=store, resamples=1)))
        for level in (0.9, 0.3, 0.05, 0.001)
    ]
    assert all(few <= many for few, many in itertools.pairwise(equal))
    assert equal[0]


def test_the_stability_of_the_order_is_resampled_from_the_seeds():
    firm = [hand_made("8", seed=s, cell_count=c) for s, c in enumerate((1.0, 2.0, 3.0))]
    near = [hand_made("4", seed=s, cell_count=c) for s, c in enumerate((2.0, 3.0, 2.5))]
    far = [hand_made("2", seed=s, cell_count=c) for s, c in enumerate((20.0, 30.0, 25.0))]
    selection = select(study_of([*firm, *near, *far]))
    assert heads(selection) == ["8", "4", "2"]
    assert 0.5 < selection.ahead[0, 1] < 1
    assert selection.ahead[0, 2] == selection.ahead[1, 2] == 1
    rows = selection.as_dict()["equally_accurate"]
    assert [row["ahead_of_next"] for row in rows] == [selection.ahead[0, 1], 1, None]


def test_the_best_comes_with_everything_needed_to_train_it_again():
    trials = [hand_made("8", rate=0.5, seed=s, cell_count=1.0) for s in (2, 0)] + [hand_made("4")]
    study = study_of(trials)
    expected = {"head": "8", "learning_rate": 0.5, "seeds": [0, 2], "trials": [0, 1]}
    assert select(study).best == expected | {"settings": None}
    study.set_user_attr("settings", {"training": {"epochs": 3}})
    assert select(study).best == expected | {"settings": {"training": {"epochs": 3}}}


@pytest.mark.parametrize("how", ["pareto", "lexicographic", "weighted"])
def test_the_dict_is_json_and_holds_the_selection(store, how):
    names = ("accuracy", "cell_count", "class_distance_ratio")
    trials = [
        store.keep("8", range(20), objectives=names, cell_count=2.0, class_distance_ratio=None),
        store.keep("4", range(20), objectives=names, cell_count=1.0, class_distance_ratio=0.5, test_accuracy=None),
        store.keep("2", range(300), objectives=names, cell_count=1.0, class_distance_ratio=0.5),
    ]
    study = study_of(trials, ["maximize", "minimize", "minimize"])
    selection = select(study, tolerance="bootstrap", how=how, store=store)
    written = json.loads(json.dumps(selection.as_dict(), allow_nan=False))
    assert written["tolerance"] == "bootstrap"
    assert written["how"] == how
    assert written["by"] == {"cell_count": "minimize", "class_distance_ratio": "minimize"}
    assert written["silent"]["class_distance_ratio"] == "undefined for some"
    assert written["threshold"] is None
    assert written["compared"] == 3
    first, second = written["equally_accurate"]
    assert (first["head"], first["place"], second["rank"]) == ("4", 1, 2)
    assert first["mean"]["cell_count"] == 1
    assert first["mean"]["test_accuracy"] is None
    assert first["spread"]["cell_count"] is None
    assert first["low"] <= 0 <= first["high"]
    assert first["paired"] is True
    assert written["best"]["head"] == "4"
    assert written["ahead"] == [[None, None], [None, None]]


def test_a_single_trial_is_the_best():
    for tolerance in (*RULES, 0):
        selection = select(study_of([hand_made("8")]), tolerance=tolerance)
        assert heads(selection) == ["8"]
        json.dumps(selection.as_dict(), allow_nan=False)


def test_a_network_without_accuracy_is_not_chosen():
    trials = [hand_made("8", accuracy=math.nan, objectives=["cell_count"]), hand_made("4", objectives=["cell_count"])]
    trials[0].user_attrs[ATTRIBUTE]["accuracy"] = None
    for tolerance in (*RULES, 1):
        selection = select(study_of(trials, ["minimize"]), tolerance=tolerance)
        assert heads(selection) == ["4"]
        assert selection.as_dict()["compared"] == 1
        assert not any("predictions" in note for note in selection.notes if tolerance in ("1se", 1))


def test_where_all_are_infeasible_there_is_nothing_to_choose():
    study = study_of([hand_made("1", infeasibility=0.1), hand_made("2", infeasibility=0.2)])
    for tolerance in RULES:
        selection = select(study, tolerance=tolerance)
        assert selection.equal.empty
        for use in (lambda: selection.best, selection.as_dict, selection.require_feasible):  # noqa: B023
            with pytest.raises(InputError, match=r"'hand-made' .* accuracy floor: 2, .* lower accuracy_floor"):
                use()
        assert "No network is feasible" in repr(selection)


def test_a_selection_prints_as_a_short_table():
    trials = [hand_made(str(number), seed=s, cell_count=float(number + s)) for number in range(9) for s in (0, 1)]
    selection = select(study_of(trials))
    lines = repr(selection).splitlines()
    assert len(lines) == 8  # a heading, the names of the columns, five networks, and how many more
    assert "9 of 9 networks" in lines[0]
    assert "cell_count (minimize)" in lines[0]
    assert lines[2].split()[:4] == ["1", "0", "@", "0.1"]
    assert lines[-1] == "and 4 more"
    html = selection._repr_html_()
    assert html.count("<tr") == 6
    assert "hand-made" in html


def test_names_in_the_table_of_a_notebook_are_escaped():
    html = select(study_of([hand_made("8", cell_count=1.0)], name="a<b>"))._repr_html_()
    assert "a&lt;b&gt;" in html
    assert "<b>" not in html


def test_the_order_of_some_networks_is_that_of_a_selection_of_them(store):
    trials = [hand_made(str(number), accuracy=0.9 - number / 100, cell_count=float(9 - number)) for number in range(5)]
    everyone = select(study_of(trials), tolerance=1.0)
    for tolerance in (0.0, 0.015, 0.025):
        alone = select(study_of(trials), tolerance=tolerance)
        order = everyone.order_of(everyone.networks["head"].isin(alone.equal["head"]))
        assert everyone.networks.loc[order.rows, "head"].tolist() == heads(alone)
        assert order.ranks.tolist() == alone.equal["rank"].tolist()
        assert order.silent == alone.silent


def test_where_all_failed_there_is_nothing_to_choose():
    study = study_of([without_result(TrialState.FAIL, "2", attributes={ATTRIBUTE: {"failed": "RuntimeError"}})])
    with pytest.raises(InputError, match=r"no trial .* is complete"):
        select(study)


def test_an_error_says_what_a_study_without_our_records_lacks():
    study = optuna.create_study(study_name="foreign", directions=["maximize", "minimize"])
    study.add_trial(create_trial(values=[1.0, 2.0]))
    with pytest.raises(
        InputError, match=r"'foreign' carries the attribute 'relucode' \(with objectives, candidate, acc"
    ):
        select(study)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": -0.1}, r"tolerance -0.1 is out of range"),
        ({"tolerance": "3se"}, "unknown tolerance '3se'"),
        ({"by": ["cells"]}, "unknown index 'cells'"),
        ({"by": ["head.9:cell_count"]}, r"unknown layer 'head.9'. Known: head.1\."),
        ({"by": "cell_count"}, "Give a list"),
        ({"how": "best"}, "unknown how 'best'"),
        ({"how": "weighted", "weights": {"edge_count": 1}}, "unknown weight 'edge_count'"),
        ({"level": 2}, "level 2 is out of range"),
        ({"resamples": 0}, "resamples 0 is out of range"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        select(study_of([hand_made("8")]), **arguments)
