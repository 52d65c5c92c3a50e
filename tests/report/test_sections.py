"""The report in words where little is known: nobody feasible, a single network, failures, undefined indices."""

import json
import re
from pathlib import Path

import optuna
import pytest
from hand_made import hand_made, predicting, study_of, without_result
from optuna.trial import TrialState
from reports_read_back import Page, parse_markdown, tables, texts_of

from nas_relucode.ranking.selecting import select
from nas_relucode.report.write import write_report
from nas_relucode.study.record import ATTRIBUTE

pytestmark = pytest.mark.usefixtures("without_figure")


def without(trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    """The trial with nothing of its cost."""
    trial.user_attrs[ATTRIBUTE]["qualities"] = {}
    return trial


def test_where_no_network_is_feasible_the_report_says_so(tmp_path: Path):
    trials = [hand_made(str(i), infeasibility=0.1, accuracy=i / 10) for i in (1, 2)]
    trials += [
        hand_made("4-4"),
        without_result(TrialState.PRUNED, "4-4", 1, {ATTRIBUTE: {"pruned": "the loss is NaN"}}),
    ]
    for text in texts_of(study_of(trials), tmp_path).values():
        assert (
            "No network is feasible. Below the accuracy floor: 2, the best at 0.2000. Pruned with some seed: 1." in text
        )
        assert "The networks on the Pareto front" not in text
    assert "No network is on the front, because none is feasible." in (tmp_path / "report.md").read_text("utf-8")
    (table,) = [t for t in tables((tmp_path / "report.md").read_text("utf-8")) if "mark" in t[0]]
    assert {row["network"]: row["against the best"] for row in table} == {
        "head=1": "not feasible",
        "head=2": "not feasible",
        "head=4-4": "pruned",
    }
    pareto = json.loads((tmp_path / "pareto.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert (pareto["front"], pareto["finalists"]) == ([], [])


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
        "nobody measured": study_of([hand_made("1", infeasibility=0.1), without(hand_made("2", accuracy=None))]),
        "one network": study_of([without(hand_made("8"))]),
        "all but failures": study_of([without(hand_made("8", test_accuracy=None)), *failed]),
        "undefined indices": study_of(unknown),
        "some trained once": study_of([hand_made("1"), hand_made("2"), *(hand_made("4", seed=s) for s in (0, 1))]),
    }


@pytest.mark.parametrize("kind", edge_studies())
def test_unknown_values_are_explained_in_words(kind: str, tmp_path: Path):
    texts = texts_of(edge_studies()[kind], tmp_path)
    for text in texts.values():
        assert not re.search(r"\b(nan|None(?! of)|NaT|inf)\b", text)
    for block in re.findall(r"(?:^\|.*\n)+", texts["md"], re.MULTILINE):
        assert len(parse_markdown(block)[0]) > 1
    assert "</section>" in (tmp_path / "report.html").read_text("utf-8")


def test_a_single_network_leaves_nothing_to_choose(tmp_path: Path):
    for text in texts_of(edge_studies()["one network"], tmp_path).values():
        assert "nothing to compare" in text
    assert not select(edge_studies()["one network"]).verdict.warnings


def test_the_first_of_hundreds_of_failures_are_named_and_the_rest_counted(tmp_path: Path):
    for text in texts_of(edge_studies()["all but failures"], tmp_path).values():
        assert "300 failed, 1 complete." in text
        assert text.count("failed (no memory)") == 20
        assert "280 more failed, were interrupted or pruned: trials.csv, beside a report, says why." in text


def test_if_an_objective_is_undefined_the_front_is_empty_and_the_figure_has_another_axis(tmp_path: Path):
    study = edge_studies()["undefined indices"]
    texts = texts_of(study, tmp_path)
    assert "No network is on the front, because none has all of them." in texts["md"]
    for text in texts.values():
        assert "do not order the finalists" in text or "no index can order them" in text
    assert select(study).shown_objective == "parameters"


def test_an_index_that_is_undefined_on_the_front_is_named_and_has_no_row(tmp_path: Path):
    trials = [hand_made(str(i), accuracy=0.9 - i / 50, cell_count=9.0 - i, logdet_kernel=None) for i in (1, 2)]
    text = texts_of(study_of(trials), tmp_path)["md"]
    assert "Undefined on the front: logdet_kernel." in text
    assert "| logdet_kernel" not in text.partition("## Pareto front")[2].partition("## All networks")[0]


def test_the_report_opens_with_the_verdict_and_everything_that_limits_it(tmp_path: Path):
    few = [
        predicting(head, wrong, seed=seed) for head, wrong in (("8", range(20)), ("4", range(28))) for seed in (0, 1)
    ]
    study = study_of([*few, hand_made("2", accuracy=0.94)])
    selection = select(study)
    assert selection.verdict.warnings
    assert selection.notes
    texts = texts_of(study, tmp_path)
    for text in (" ".join(texts["html"].split()), markup_free(texts["md"])):
        places = [text.find(sentence) for sentence in (selection.verdict.text, "Pareto front")]
        assert 0 <= places[0] < places[1]
        for limit in (*(warning.text for warning in selection.verdict.warnings), *selection.notes):
            assert limit in text
    pareto = json.loads((tmp_path / "pareto.json").read_text("utf-8"))
    assert pareto["verdict"] == selection.verdict.text
    assert pareto["warnings"] == {warning.name: warning.text for warning in selection.verdict.warnings}


def markup_free(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def test_a_selection_of_ones_own_is_what_the_report_shows(tmp_path: Path):
    trials = [
        hand_made(head, seed=seed, accuracy=accuracy + seed / 1000, samples=20_000, cell_count=count)
        for head, accuracy, count in (("8", 0.95, 9.0), ("4", 0.949, 5.0), ("2", 0.93, 2.0))
        for seed in (0, 1)
    ]
    study = study_of(trials)
    for arguments in ({"rule": "margin"}, {"margin": 0.1, "rule": "margin"}, {"by": ["+edge_count"]}):
        selection = select(study, **arguments)
        write_report(study, tmp_path, selection=selection)
        pareto = json.loads((tmp_path / "pareto.json").read_text("utf-8"))
        assert pareto["verdict"] == selection.verdict.text
        assert (pareto["rule"], pareto["margin"]) == (selection.ranking.rule, selection.ranking.margin)
        assert [row["network"] for row in pareto["finalists"]] == selection.finalists["network"].tolist()


def test_the_words_of_the_page_explain_every_term_that_it_uses(tmp_path: Path):
    page = Page(write_report(edge_studies()["some trained once"], tmp_path)["report.html"].read_text("utf-8"))
    explained = [
        attributes.get("aria-describedby") for tag, attributes in page.tags if attributes.get("class") == "term"
    ]
    places = {attributes.get("id") for tag, attributes in page.tags if tag == "dd"}
    assert {"term-finalist", "term-margin", "term-Pareto-front"} <= {key for key in explained if key}
    assert {key for key in explained if key} <= places


def test_the_slider_ends_at_a_gap_of_1(tmp_path: Path):
    trials = [hand_made("8", seed=seed, accuracy=accuracy) for seed, accuracy in ((0, 0.1), (1, 0.9))]
    trials += [hand_made("4", seed=seed, accuracy=0.2) for seed in (0, 1)]
    page = write_report(study_of(trials), tmp_path)["report.html"].read_text("utf-8")
    assert 'id="gap" min="0" max="1"' in page
