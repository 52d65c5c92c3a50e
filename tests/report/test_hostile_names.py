"""Names that could be taken for markup: the page, Markdown and the figures show them as they are."""

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hand_made import hand_made, study_of, without_result
from in_browser import browser, complaints, open_page, table
from optuna.trial import TrialState
from perceptrons import perceptron
from reports_read_back import Page, tables, texts_of

from nas_relucode.geometry.slices import slice_through
from nas_relucode.plots.pareto import pareto_picture, save_pareto
from nas_relucode.plots.slices import slice_figure
from nas_relucode.ranking.selecting import select
from nas_relucode.report.contents import accuracy_intervals
from nas_relucode.report.dashboard import END, pareto_figure, show_in_dashboard
from nas_relucode.report.write import _code, write_report
from nas_relucode.study.record import ATTRIBUTE, write_failed
from nas_relucode.texts import plain

HOSTILE = [
    "<b>8</b>",
    "<img src=x onerror=alert(1)>",
    "a\"b'c&amp;",
    "$\\x$ *y* _z_ `|` \\| [a](b) ![c](d) ~~e~~",
    "``` # 1\n2",
]

LAYER = "<i>l</i>  2"
LABELS = [f"head={plain(head)} learning_rate={0.1 + number:g}" for number, head in enumerate(HOSTILE)]


def hostile_study() -> optuna.Study:
    """Heads, classes, layers, an error and a name that a page, Markdown or a figure could take for markup."""
    objectives = ["accuracy", f"{LAYER}:cell_count"]
    trials = []
    for number, head in enumerate(HOSTILE):
        trial = hand_made(
            "8",
            0.1 + number,
            accuracy=0.9 + number / 1000,
            objectives=["accuracy", "cell_count"],
            cell_count=5.0 + number,
        )
        record = trial.user_attrs[ATTRIBUTE]
        record["params"]["head"], record["objectives"] = head, objectives
        record["layers"][LAYER] = record["layers"]["head.1"]
        for point in record["curve"]:
            point["layers"][LAYER] = point["layers"]["head.1"]
        trials.append(trial)
    study = study_of(trials, name=f"{HOSTILE[2]} {HOSTILE[3]}")
    study.add_trial(
        without_result(TrialState.FAIL, "2-2", 1, {ATTRIBUTE: {"failed": f"Error: {HOSTILE[3]}\n{HOSTILE[0]}"}})
    )
    study.set_user_attr(
        "settings", {"data": {"classes": HOSTILE}, "network": {}, "search": {}, "description": HOSTILE[1]}
    )
    return study


def test_hostile_names_stand_in_the_page_and_in_markdown_as_they_are(tmp_path: Path):
    texts = texts_of(hostile_study(), tmp_path)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert not [tag for tag, _ in page.tags if tag in ("b", "i", "img")]
    rows = [row["network"] for table in tables(texts["md"]) for row in table if "network" in row]
    for label in LABELS:
        assert label in texts["html"]
        assert label in rows
    assert "<b>" not in texts["md"].replace("\\<", "")
    (classes,) = [
        row["value"] for table in tables(texts["md"]) for row in table if row.get("setting") == "data.classes"
    ]
    assert json.loads(classes) == HOSTILE


def test_hostile_names_do_not_stop_the_figures(tmp_path: Path):
    files = write_report(hostile_study(), tmp_path)
    drawn = files["pareto.svg"].read_text("utf-8")
    assert files["pareto.png"].stat().st_size > 1000
    assert "head=&lt;b&gt;8&lt;/b&gt; learning_rate=0.1" in drawn  # matplotlib names what it draws in a comment
    assert "$\\x$ *y*" in drawn  # as a formula, $\x$ is an error
    selection = select(hostile_study())
    pytest.importorskip("plotly", reason="no plotly: pip install nas-relucode[dashboard]")
    figure = pareto_figure(selection)
    assert figure.layout.xaxis.title.text == "occupied cells of &lt;i&gt;l&lt;/i&gt;  2"
    hovers = [text for trace in figure.data for text in trace.hovertext or ()]
    assert any(text.startswith("<b>head=&lt;b&gt;8&lt;/b&gt; learning_rate=0.1</b><br>") for text in hovers)


def test_a_slice_names_its_classes_as_they_are(tmp_path: Path):
    layer = (np.eye(2), np.zeros(2))  # the larger one of two numbers wins
    part = slice_through(perceptron([layer, layer]), [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    for classes, labels in ((["$\\x$", "b"], [0, 1, 0]), (["a", "b"], ["$\\x$", "b", "$x$"])):
        figure = slice_figure(part, classes=classes, labels=labels)
        figure.savefig(tmp_path / "slice.svg")  # as a formula, $\x$ is an error
        drawn = (tmp_path / "slice.svg").read_text("utf-8")  # matplotlib names what it draws in a comment
        for text in (*classes, *(f"sample {number}: {label}" for number, label in enumerate(labels, start=1))):
            assert f"<!-- {text} -->" in drawn


def test_figures_are_valid_xml_for_any_names(tmp_path: Path):
    unprintable = "a\x00\x01\x1b[31m\x7f\ufffe\ud800b"
    trials = [hand_made("8", 0.1 + number, cell_count=5.0 + number) for number in range(2)]
    for trial in trials:
        trial.user_attrs[ATTRIBUTE]["params"]["head"] = unprintable
    selection = select(study_of(trials))
    networks = selection.networks.join(accuracy_intervals(selection)).assign(answer=selection.comparison["answer"])
    networks["network"] = [f"head={unprintable}", unprintable]
    picture = pareto_picture(networks, x="cell_count", titles=(unprintable, "accuracy"), margin=0.005)
    save_pareto(tmp_path / "pareto.svg", picture)
    layer = (np.eye(2), np.zeros(2))
    part = slice_through(perceptron([layer, layer]), [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    slice_figure(part, classes=[unprintable, "b"], labels=[unprintable] * 3).savefig(tmp_path / "slice.svg")
    for name in ("pareto.svg", "slice.svg"):
        ElementTree.parse(tmp_path / name)
        assert f"a{' ' * 3}[31m{' ' * 3}b" in (tmp_path / name).read_text("utf-8")


def test_a_failure_that_names_a_path_which_is_not_utf_8_stands_in_the_report(tmp_path: Path):
    study = study_of([hand_made("8", 0.1, cell_count=5.0)])
    trial = study.ask({"head": optuna.distributions.CategoricalDistribution(["8"])})
    write_failed(trial, RuntimeError("cannot read " + os.fsdecode(b"/data/\xff.npz")))
    study.tell(trial, state=TrialState.FAIL)
    files = write_report(study, tmp_path)
    for name in ("report.html", "report.md", "trials.csv"):
        assert r"\udcff.npz" in files[name].read_text("utf-8")


def test_a_block_of_code_is_not_ended_by_what_stands_in_it():
    assert _code("a ```` b\nc") == "`````sh\na ```` b\nc\n`````\n"
    assert _code("a") == "```sh\na\n```\n"


@pytest.mark.slow
def test_a_browser_shows_no_name_as_markup(tmp_path: Path):
    from selenium.webdriver.support.ui import Select

    def drawn(driver: Any, key: str) -> str:
        script = "return [...document.querySelectorAll(`#${arguments[0]} svg text`)].map((text) => text.textContent)"
        return " ".join(" ".join(driver.execute_script(script, key)).split())  # SVG shows several spaces as one

    with browser() as driver:
        open_page(driver, write_report(hostile_study(), tmp_path)["report.html"])
        driver.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
        driver.execute_async_script("setTimeout(arguments[0], 500)")
        assert {row["network"] for row in table(driver, "network-table")} == set(LABELS)
        ours = f"occupied cells of {LAYER}".replace("  ", " ")
        for key in ("front-figure", "parallel-figure", "curves-figure"):
            assert ours in drawn(driver, key)
        assert all(label in driver.execute_script("return byId('curves-figure').textContent") for label in LABELS)
        Select(driver.find_element("id", "x")).select_by_value(f"{LAYER}:cell_count")
        driver.find_element("css selector", ".name").click()
        driver.execute_script("openCard(0, document.querySelector('#front-figure [role=button]'))")
        assert HOSTILE[0] in driver.find_element("id", "card").text
        inserted = "return document.querySelectorAll('main b, main i, main img, #card b, #card img').length"
        assert driver.execute_script(inserted) == 0
        assert complaints(driver) == []


def test_a_note_for_the_dashboard_shows_them_too_and_can_be_replaced():
    pytest.importorskip("optuna_dashboard", reason="no optuna-dashboard: pip install nas-relucode[dashboard]")
    study = hostile_study()
    ending = hand_made("8", 9.0)
    ending.user_attrs[ATTRIBUTE]["params"]["head"] = END
    ending.user_attrs[ATTRIBUTE] |= {
        key: study.trials[0].user_attrs[ATTRIBUTE][key] for key in ("objectives", "layers")
    }
    study.add_trial(ending)
    note = show_in_dashboard(study)
    (rows,) = tables(note)
    assert {row["network"] for row in rows} == {*LABELS, f"head={END} learning_rate=9"}
    assert note.count(END) == 1
    assert show_in_dashboard(study) == note
