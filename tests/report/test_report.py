"""The report: its files, read back and compared with the ranking and with a hand-made study."""

import csv
import hashlib
import json
import math
import os
import re
from pathlib import Path

import optuna
import pytest
from cases import first_on_push
from hand_made import hand_made, study_of, without_result
from optuna.trial import TrialState, create_trial
from reports_read_back import WITHOUT_SETTINGS, Page, parse_markdown

import nas_relucode.report
from nas_relucode.cli.main import main
from nas_relucode.errors import InputError
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.trials import trials_frame
from nas_relucode.report.page import LIBRARIES
from nas_relucode.report.tables import networks_table, retries
from nas_relucode.report.write import write_report
from nas_relucode.study.record import ATTRIBUTE

NAME = "a<b>&'c' \"d\""


def typical_study() -> optuna.Study:
    """Three networks with two seeds each, one on the front and less accurate, a failed trial and a pruned one."""
    trials = [
        hand_made("8", seed=seed, accuracy=0.95, cell_count=20.0 + seed, edge_count=4.0 + seed) for seed in (0, 1)
    ]
    trials += [hand_made("16", seed=seed, accuracy=0.94, cell_count=30.0 + seed, edge_count=8.0) for seed in (0, 1)]
    trials += [hand_made("4", seed=seed, accuracy=0.60, cell_count=5.0 - seed, edge_count=1.0) for seed in (0, 1)]
    study = study_of(trials, name=NAME)
    for state, reason in [
        (TrialState.FAIL, {"failed": "RuntimeError: no memory"}),
        (TrialState.PRUNED, {"pruned": "NaN"}),
    ]:
        study.add_trial(without_result(state, "2-2", attributes={ATTRIBUTE: reason}))
    settings = {
        "description": "<b>bold</b> & brave",
        "data": {"source": "digits"},
        "network": {},
        "search": {"seeds": [0, 1]},
    }
    study.set_user_attr("settings", settings)
    study.set_user_attr("versions", {"torch": "9.9"})
    return study


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    return typical_study()


@pytest.fixture(scope="module")
def folder(study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    files = write_report(study, folder, storage="postgresql://me:***@host/db")
    assert files == {name: folder / name for name in WITHOUT_SETTINGS}
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def stored_study(url: str, name: str = "study", trials: int = 2) -> None:
    study = optuna.create_study(storage=url, study_name=name, directions=["maximize", "minimize"])
    study.add_trials([hand_made(str(i + 1), cell_count=float(i + 1)) for i in range(trials)])


def test_a_report_is_six_files_and_nothing_else(folder: Path):
    assert {path.name for path in folder.iterdir()} == WITHOUT_SETTINGS
    assert all(path.stat().st_size for path in folder.iterdir())


def test_the_page_fetches_nothing(page: Page):
    assert not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "embed", "base")]
    links = [attributes[key] for _, attributes in page.tags for key in ("src", "href", "srcset") if key in attributes]
    assert [link for link in links if not str(link).startswith(("#", "data:"))] == []


def test_the_page_holds_its_libraries_once_its_data_and_a_place_for_each_figure(folder: Path, page: Page):
    text = (folder / "report.html").read_text("utf-8")
    places = [attributes["id"] for tag, attributes in page.tags if tag == "div" and attributes.get("class") == "plot"]
    assert places == [f"{name}-figure" for name in ("front", "parallel", "curves")]
    for name in LIBRARIES:
        assert text.count(vendored(name).read_text("utf-8")) == 1
    assert len(text) < 2**20
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    page_data = json.loads(data, parse_constant=pytest.fail)
    assert page_data["label"] == ["head=8", "head=16", "head=4"]
    assert page_data["mean"]["cell_count"] == [20.5, 30.5, 4.5]
    assert page_data["rankings"][page_data["rules"][0]["ranking"]]["order"] == [0, 1]


def vendored(name: str) -> Path:
    return Path(nas_relucode.report.__file__).with_name("vendor") / name


@pytest.mark.parametrize(
    ("name", "package", "digest"),
    [  # SHA-256 of dist/NAME in the packages of npm whose integrity (SHA-512) npm publishes
        ("d3.min.js", "d3 7.9.0", "f2094bbf6141b359722c4fe454eb6c4b0f0e42cc10cc7af921fc158fceb86539"),
        ("plot.umd.min.js", "plot 0.6.17", "4358086467740777dd788d6b27a95cebdbaefdd50c730a3060117073bd7134cb"),
    ],
)
def test_the_libraries_are_unchanged_and_have_their_licences(name: str, package: str, digest: str):
    content = vendored(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert f"v{package.split()[1]} Copyright".encode() in content[:100]
    licence = vendored(f"{package.split()[0]}.LICENSE").read_text("utf-8")
    assert "Permission to use, copy, modify, and/or distribute this software" in licence
    assert b"</script" not in content  # it would end the page's script


def test_every_tag_of_the_page_is_closed(page: Page):
    assert page.inside == []


def test_the_study_name_and_the_description_are_escaped(folder: Path, page: Page):
    assert "a<b>" not in (folder / "report.html").read_text("utf-8")
    assert f"Study {NAME}" in page.text
    assert "<b>bold</b> & brave" in page.text
    assert not [tag for tag, _ in page.tags if tag == "b"]


def test_the_page_names_what_happened_to_every_trial(page: Page):
    assert "6 complete" in page.text
    assert "RuntimeError: no memory" in page.text
    assert "rial 7 (head=2-2 learning_rate=0.1, seed 0) was pruned: NaN." in page.text


def test_the_page_names_settings_and_versions(page: Page):
    assert "data.source" in page.text
    assert "torch 9.9" in page.text
    assert "postgresql://me:***@host/db" in page.text


def test_the_numbers_in_pareto_json_are_those_of_the_ranking(study: optuna.Study, folder: Path):
    pareto = json.loads((folder / "pareto.json").read_text("utf-8"), parse_constant=pytest.fail)
    selection = select(study)
    assert pareto["study"] == NAME
    assert pareto["storage"] == "postgresql://me:***@host/db"
    assert pareto["objectives"] == {"accuracy": "maximize", "cell_count": "minimize"}
    assert pareto["silent"] == selection.silent
    for key, networks in {"front": selection.front, "finalists": selection.finalists}.items():
        assert len(pareto[key]) == len(networks) > 0
        for written, (i, row) in zip(pareto[key], networks.iterrows(), strict=True):
            assert (written["network"], written["seeds"]) == (row["network"], 2)
            assert written["params"] == {"head": row["params_head"], "learning_rate": 0.1}
            assert written["finalist"] == row["finalist"]
            assert written["place"] == (row["place"] if row["finalist"] else None)
            assert written["answer"] == selection.comparison.loc[i, "answer"]
            for name in ("accuracy", "test_accuracy", "cell_count", "edge_count", "parameters", "seconds"):
                assert written["mean"][name] == row[name]
                assert written["spread"][name] == selection.spread.loc[i, name]


def test_pareto_json_agrees_with_the_hand_made_study(folder: Path):
    pareto = json.loads((folder / "pareto.json").read_text("utf-8"))
    assert sorted(network["network"] for network in pareto["front"]) == ["head=4", "head=8"]
    assert [network["network"] for network in pareto["finalists"]] == ["head=8", "head=16"]
    best = pareto["finalists"][0]
    assert best["mean"]["cell_count"] == 20.5
    assert best["spread"]["cell_count"] == pytest.approx(math.sqrt(0.5))


def test_trials_csv_has_one_row_per_trial(study: optuna.Study, folder: Path):
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [name for name in trials_frame(study).columns if name not in ("ranked", "pruned")]
    assert len(rows) == len(study.trials) == 8
    assert [row["number"] for row in rows] == [str(i) for i in range(8)]
    assert [row["state"] for row in rows] == [trial.state.name for trial in study.trials]
    for row, trial in zip(rows, study.trials, strict=True):
        assert row["params_head"] == trial.params["head"]
        assert float(row["params_learning_rate"]) == trial.params["learning_rate"]
        assert float(row["seed"]) == trial.params["seed"]
        if trial.state == TrialState.COMPLETE:
            assert float(row["accuracy"]) == trial.values[0]
            assert float(row["cell_count"]) == trial.values[1]
    assert rows[6]["reason"] == "RuntimeError: no memory"
    assert rows[0]["reason"] == ""


def test_pareto_png_is_a_picture(folder: Path):
    data = (folder / "pareto.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert width > 800
    assert height > 400


def test_report_md_holds_the_tables_and_the_picture(study: optuna.Study, folder: Path):
    text = (folder / "report.md").read_text("utf-8")
    assert "![Pareto front](pareto.png)" in text
    assert "head=8" in text
    assert "RuntimeError: no memory" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        parse_markdown(block)


def test_indices_that_are_constant_on_the_front_are_left_out_of_its_table_and_named(study: optuna.Study, folder: Path):
    headings, rows = networks_table(select(study), select(study).front, every_index=True)
    assert "correct_cell_count" not in headings  # 9 for all
    assert {"cell_count", "edge_count"} <= set(headings)
    assert [len(row) for row in rows] == [len(headings)] * 2
    assert "correct_cell_count = 9" in (folder / "report.md").read_text("utf-8")


def test_the_index_of_a_single_network_on_the_front_is_not_left_out():
    selection = select(study_of([hand_made("8", cell_count=20.0)]))
    headings, ((*cells,),) = networks_table(selection, selection.front)
    assert cells[headings.index("cell_count")] == "20"


def test_no_file_holds_the_password_of_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    stored_study(f"sqlite:///{tmp_path}/study.db")
    url = f"sqlite:///file:{tmp_path}/study.db?uri=true&password=hunter2"  # SQLite ignores what it does not know
    assert main(["report", "study", "--storage", url, "--output", "report"]) == 0
    assert {path.name for path in Path("report").iterdir()} == WITHOUT_SETTINGS
    for path in Path("report").iterdir():
        assert b"hunter2" not in path.read_bytes()


def sentences_of(trials: list[optuna.trial.FrozenTrial]) -> list[str]:
    return retries(trials_frame(study_of(trials)))


def test_a_retry_is_named_by_the_trial_it_repeats():
    failed = without_result(TrialState.FAIL, "2-2", 1, {ATTRIBUTE: {"failed": "RuntimeError: no memory"}})
    again = hand_made("2-2", seed=1)
    again.user_attrs["retry_of"] = 1
    (sentence,) = sentences_of([hand_made("8"), failed, again])
    assert sentence == "trial 1 (head=2-2, seed 1) failed (RuntimeError: no memory) and was retried as trial 2."


def test_an_interrupted_trial_is_distinguished_from_a_failed_one():
    (sentence,) = sentences_of([hand_made("8"), without_result(TrialState.FAIL, "4-4")])
    assert sentence == "trial 1 (head=4-4 learning_rate=0.1, seed 0) failed or was interrupted and was not retried."


def test_a_trial_interrupted_before_it_had_a_candidate_is_named_too():
    sentences = sentences_of([hand_made("8"), create_trial(state=TrialState.FAIL)])
    assert sentences == ["trial 1 failed or was interrupted and was not retried."]


def test_a_repeated_candidate_is_named_as_such_beside_a_failure():
    failed = without_result(TrialState.FAIL, "2-2", 0, {ATTRIBUTE: {"failed": "RuntimeError: no memory"}})
    repeated = without_result(TrialState.PRUNED, "8", 0, {"same_as": 0})
    sentences = sentences_of([hand_made("8"), failed, repeated])
    assert sentences[1] == "trial 2 (head=8 learning_rate=0.1, seed 0) was pruned: the same candidate as trial 0."


def test_the_first_twenty_of_many_failures_are_named_and_the_rest_counted():
    failed = [without_result(TrialState.FAIL, "4-4", number % 3) for number in range(23)]
    sentences = sentences_of([hand_made("8"), *failed])
    assert [sentence.split(" (")[0] for sentence in sentences[:-1]] == [f"trial {number}" for number in range(1, 21)]
    assert sentences[-1] == "3 more failed, were interrupted or pruned: trials.csv, beside a report, says why."
    assert len(sentences_of([hand_made("8"), *failed[:20]])) == 20


def test_the_seed_of_a_failed_trial_is_named_where_there_is_one_seed():
    (sentence,) = sentences_of([hand_made("8"), without_result(TrialState.FAIL, "4", None)])  # then it is no parameter
    assert "nan" not in sentence
    assert "None" not in sentence
    assert sentence.startswith("trial 1 (head=4 ")


def test_a_study_without_our_records_gets_no_report_and_no_folder(tmp_path: Path):
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trial(create_trial(values=[1.0, 2.0]))
    with pytest.raises(InputError, match="relucode"):
        write_report(study, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("objectives", "directions"),
    first_on_push(
        (["cell_count", "accuracy", "edge_count"], ["minimize", "maximize", "maximize"]),
        (["accuracy"], ["maximize"]),
        (["accuracy", "head.1:cell_count"], ["maximize", "minimize"]),
        (["cell_count"], ["minimize"]),
    ),
)
def test_a_report_can_be_written_for_any_objectives(tmp_path: Path, objectives: list[str], directions: list[str]):
    trials = [hand_made(str(i), objectives=objectives, accuracy=0.9 + i / 100, cell_count=float(i)) for i in (1, 2)]
    write_report(study_of(trials, directions), tmp_path)
    pareto = json.loads((tmp_path / "pareto.json").read_text("utf-8"))
    assert pareto["objectives"] == dict(zip(objectives, directions, strict=True))


def test_a_report_can_be_written_while_trials_run_and_wait(tmp_path: Path):
    study = study_of([hand_made("8")])
    study.ask()
    study.enqueue_trial({"head": "4-4"})
    write_report(study, tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert all(state in text for state in ("1 complete", "1 running", "1 waiting"))


def test_a_second_report_takes_the_place_of_the_first(tmp_path: Path):
    write_report(study_of([hand_made("8", cell_count=20.0)]), tmp_path)
    write_report(study_of([hand_made("16", cell_count=20.0)]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == WITHOUT_SETTINGS
    assert json.loads((tmp_path / "pareto.json").read_text("utf-8"))["front"][0]["params"]["head"] == "16"


def test_on_a_full_disk_the_command_line_says_so_and_leaves_nothing_half_written(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    url = f"sqlite:///{tmp_path}/study.db"
    stored_study(url)
    folder = small_disk / "report"
    assert main(["report", "study", "--storage", url, "--output", str(folder)]) == 2
    captured = capsys.readouterr()
    assert "No space left" in captured.err
    assert str(folder) in captured.err
    assert "Traceback" not in captured.err
    assert list(folder.iterdir()) == []
    assert main(["report", "study", "--storage", url, "--output", str(tmp_path / "report")]) == 0


def test_on_a_full_disk_an_older_report_stays_whole(small_disk: Path):
    (small_disk / "report.html").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_report(study_of([hand_made("8")]), small_disk)
    assert (small_disk / "report.html").read_text() == "old"
    assert [path.name for path in small_disk.iterdir()] == ["report.html"]


def test_files_of_a_report_can_be_read_by_others(folder: Path):
    assert all(os.stat(path).st_mode & 0o044 == 0o044 for path in folder.iterdir())


def test_a_failure_that_was_retried_twice_names_the_last_retry():
    failed = without_result(TrialState.FAIL, "8")
    stopped = without_result(TrialState.FAIL, "8", attributes={"retry_of": 1})
    (first, *_) = sentences_of([hand_made("4"), failed, stopped, hand_made("8", retry_of=None)])
    assert first == "trial 1 (head=8, seed 0) failed or was interrupted and was retried as trial 2."
