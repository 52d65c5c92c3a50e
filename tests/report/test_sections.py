"""The report in words where little is known: nobody feasible, a single network, failures, undefined indices."""

import json
import re
from pathlib import Path

import optuna
import pytest
from hand_made import Memory, hand_made, study_of, without_result
from optuna.trial import TrialState
from reports_read_back import parse_markdown, tables, texts_of

from nas_relucode.ranking.selection import select
from nas_relucode.report.write import write_report
from nas_relucode.study.record import ATTRIBUTE


def without(trial: optuna.trial.FrozenTrial, *names: str) -> optuna.trial.FrozenTrial:
    for name in names:
        del trial.user_attrs[ATTRIBUTE][name]
    return trial


def test_where_no_network_is_feasible_the_report_says_so(tmp_path: Path):
    trials = [hand_made(str(i), infeasibility=0.1, accuracy=i / 10) for i in (1, 2)]
    trials += [
        hand_made("4-4"),
        without_result(TrialState.PRUNED, "4-4", 1, {ATTRIBUTE: {"pruned": "the loss is NaN"}}),
    ]
    for text in texts_of(study_of(trials), tmp_path).values():
        assert (
            "No network is feasible. Below the accuracy floor: 2, the best at 0.2000. "
            "Pruned with some seed (diverged, or an objective undefined): 1." in text
        )
        assert "No network is on the front, because none is feasible." in text
        assert "The networks on the Pareto front" not in text
    (table,) = [t for t in tables((tmp_path / "report.md").read_text("utf-8")) if "mark" in t[0]]
    assert {row["network"]: row["mark"] for row in table} == {
        "1 @ 0.1": "infeasible",
        "2 @ 0.1": "infeasible",
        "4-4 @ 0.1": "pruned",
    }
    pareto = json.loads((tmp_path / "pareto.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert (pareto["threshold"], pareto["front"], pareto["equally_accurate"]) == (None, [], [])


def edge_studies() -> dict[str, optuna.Study]:
    """Studies of which little is known: what is missing must be said in words."""
    failed = [without_result(TrialState.FAIL, "2-2", 1, {ATTRIBUTE: {"failed": "no memory"}}) for _ in range(300)]
    unknown = [
        hand_made(str(i), seed=seed, cell_count=None, largest_component_share=0.5 if i == 1 else None)
        for i in (1, 2, 3)
        for seed in (0, 1)
    ]
    return {
        "nobody feasible": study_of([hand_made(str(i), infeasibility=0.1) for i in (1, 2)]),
        "nobody measured": study_of(
            [hand_made("1", infeasibility=0.1), without(hand_made("2", accuracy=None), "seconds")]
        ),
        "one network": study_of([without(hand_made("8"), "seconds")]),
        "all but failures": study_of([without(hand_made("8", test_accuracy=None), "seconds"), *failed]),
        "undefined indices": study_of(unknown),
        "some trained once": study_of([hand_made("1"), hand_made("2"), *(hand_made("4", seed=s) for s in (0, 1))]),
    }


@pytest.mark.parametrize("kind", edge_studies())
def test_unknown_values_are_explained_in_words(kind: str, tmp_path: Path):
    texts = texts_of(edge_studies()[kind], tmp_path)
    for text in texts.values():
        assert not re.search(r"\b(nan|None|NaT|inf)\b", text)
    for block in re.findall(r"(?:^\|.*\n)+", texts["md"], re.MULTILINE):
        assert len(parse_markdown(block)[0]) > 1
    assert "</section>" in (tmp_path / "report.html").read_text("utf-8")


def test_a_single_network_leaves_nothing_to_choose(tmp_path: Path):
    text = texts_of(edge_studies()["one network"], tmp_path)["md"]
    assert "8 @ 0.1 is the only feasible network: there is nothing to choose." in text
    assert "It was trained once" in text
    assert "tell them apart" not in text
    assert "| seconds            |       - |" in text


def test_the_first_of_hundreds_of_failures_are_named_and_the_rest_counted(tmp_path: Path):
    for text in texts_of(edge_studies()["all but failures"], tmp_path).values():
        assert "300 failed, 1 complete." in text
        assert text.count("failed (no memory)") == 20
        assert "280 more failed, were interrupted or pruned: trials.csv, beside a report, says why." in text


def test_if_an_objective_is_undefined_the_front_is_empty_and_the_figure_has_another_axis(tmp_path: Path):
    study = edge_studies()["undefined indices"]
    for text in texts_of(study, tmp_path).values():
        assert "No network is on the front, because none has all of them." in text
        assert "No index orders them" in text or "These take no part" in text
        assert "can't be compared" not in text
    assert select(study).shown_objective == "parameters"


def test_an_index_that_is_undefined_on_the_front_is_named_and_has_no_row(tmp_path: Path):
    trials = [hand_made(str(i), accuracy=0.9 - i / 50, cell_count=9.0 - i, logdet_kernel=None) for i in (1, 2)]
    text = texts_of(study_of(trials), tmp_path)["md"]
    assert "Undefined on the front: logdet_kernel." in text
    assert "| logdet_kernel" not in text.partition("## Pareto front")[2].partition("## All networks")[0]


def test_the_report_says_that_only_one_network_is_within_a_standard_error(tmp_path: Path):
    trials = [hand_made(str(i), accuracy=i / 10, samples=10_000) for i in (8, 9)]
    text = texts_of(study_of(trials), tmp_path)["md"]
    assert "only 9 @ 0.1, of 2 feasible networks, reaches an accuracy of 0.8970" in text


def test_without_predictions_the_report_says_what_is_not_compared(tmp_path: Path):
    for text in texts_of(edge_studies()["undefined indices"], tmp_path).values():
        assert "No predictions were kept" in text


def test_the_report_says_that_only_some_networks_have_predictions(tmp_path: Path):
    store = Memory()
    kept = [store.keep("8", range(20)), store.keep("4", range(28))]
    write_report(study_of([*kept, hand_made("2", accuracy=0.94)]), tmp_path, artifacts=store)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "1 of 3 networks have no predictions of the best one's samples" in text
    write_report(study_of([*kept, hand_made("2", accuracy=0.99)]), tmp_path, artifacts=store)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "Too few networks have predictions of the same samples" in text
    assert "No predictions were kept" not in text


def test_the_test_is_named_by_the_networks_that_are_compared():
    twice = [hand_made("2", seed=seed, infeasibility=0.1) for seed in (0, 1)]
    assert select(study_of([hand_made("8"), hand_made("4"), *twice])).paired_test == "McNemar's test"


def test_the_slider_ends_at_a_tolerance_of_1(tmp_path: Path):
    trials = [hand_made("8", seed=seed, accuracy=accuracy) for seed, accuracy in ((0, 0.1), (1, 0.9))]
    trials += [hand_made("4", seed=seed, accuracy=0.2) for seed in (0, 1)]
    page = write_report(study_of(trials), tmp_path)["report.html"].read_text("utf-8")
    assert 'id="tolerance" min="0" max="1"' in page
