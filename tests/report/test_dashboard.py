"""Our studies in optuna-dashboard and under Optuna's own commands, as the real programs show them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from hand_made import hand_made, study_of
from simulated_study import Objective, searched
from small_studies import run, settings_in

import nas_relucode as rc
from nas_relucode.cli.main import main
from nas_relucode.errors import InputError
from nas_relucode.plots.pareto import ANSWERS
from nas_relucode.ranking.selecting import select
from nas_relucode.report import dashboard
from nas_relucode.report.dashboard import END, FIGURE, START, show_in_dashboard
from nas_relucode.report.tables import markdown

pytestmark = pytest.mark.usefixtures("without_figure")

OPTUNA = "import sys; from optuna.cli import main; sys.exit(main())"  # what the script optuna does


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("stored")
    url = f"sqlite:///{folder}/study.db"
    run(settings_in(folder, ("8", "4-4", "2")), url)
    return url


def optuna_cli(url: str, command: str, *arguments: str) -> str:
    """What one of Optuna's commands prints; it is run as its users run it."""
    line = [sys.executable, "-c", OPTUNA, command, "--storage", url, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
def test_optuna_trials_lists_our_trials_with_the_names_of_the_objectives(url: str):
    rows = json.loads(optuna_cli(url, "trials", "--study-name", "own", "-f", "json"))
    study = optuna.load_study(study_name="own", storage=url)
    assert [row["number"] for row in rows] == [0, 1, 2]
    for row, trial in zip(rows, study.trials, strict=True):
        assert row["values"] == dict(zip(["accuracy", "cell_count"], trial.values, strict=True))
        assert row["user_attrs"] == trial.user_attrs


@pytest.mark.slow
def test_optuna_best_trials_lists_the_pareto_front(url: str):
    best_trials = json.loads(optuna_cli(url, "best-trials", "--study-name", "own", "-f", "json"))
    study = optuna.load_study(study_name="own", storage=url)
    assert best_trials
    assert sorted(row["number"] for row in best_trials) == sorted(trial.number for trial in study.best_trials)
    assert len(select(study).front) == len(best_trials)


def test_without_optuna_dashboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(InputError, match=re.escape("pip install nas-relucode[dashboard]")):
        show_in_dashboard(study_of([hand_made("8")]))


@pytest.fixture
def installed() -> Any:
    return pytest.importorskip("optuna_dashboard", reason="no optuna-dashboard: pip install nas-relucode[dashboard]")


def small_study() -> optuna.Study:
    return study_of([hand_made("8", cell_count=20.0), hand_made("16", accuracy=0.89, cell_count=9.0)])


def test_the_note_holds_the_ranking(installed: Any):
    study = small_study()
    note = show_in_dashboard(study)
    assert installed.get_note(study) == note
    assert markdown(select(study).verdict.text) in note
    assert note.index("| head=16") < note.index("| head=8")


def test_the_rest_of_the_note_stays_and_our_part_is_replaced(installed: Any):
    study = small_study()
    installed.save_note(study, "# Mine\n\nby hand")
    first = show_in_dashboard(study)
    study.add_trial(hand_made("4-4", cell_count=1.0))
    second = show_in_dashboard(study)
    assert first.startswith("# Mine\n\nby hand\n\n")
    assert second.startswith("# Mine\n\nby hand\n\n")
    assert second.count(START) == second.count(END) == 1
    assert "| head=4-4" in second
    assert "| head=4-4" not in first


def test_the_figure_is_one_however_often_it_is_written(installed: Any):
    study = small_study()
    for _ in range(2):
        show_in_dashboard(study)
    names = study._storage.get_study_system_attrs(study._study_id)
    keys = {key.split(":")[2] for key in names if key.startswith("dashboard:plot_data:")}
    assert keys == {FIGURE}


def test_where_no_network_is_feasible_the_note_says_so(installed: Any):
    note = show_in_dashboard(study_of([hand_made("8", infeasibility=0.1)]))
    assert "No network is feasible" in note


def shown(app: Any, path: str) -> Any:
    """What the dashboard's server answers to a request."""
    environment: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environment)
    states: list[str] = []
    body = b"".join(app(environment, lambda state, *_: states.append(state)))
    assert states == ["200 OK"], path
    return json.loads(body)


def test_the_dashboard_shows_names_values_note_and_figure(installed: Any):
    study = small_study()
    show_in_dashboard(study)
    app = installed.wsgi(study._storage)
    (summary,) = shown(app, "/api/studies")["study_summaries"]
    assert summary["study_name"] == study.study_name
    page = shown(app, f"/api/studies/{summary['study_id']}")
    assert "## Verdict" in page["note"]["body"]
    figures = {figure["id"]: figure["graph_object"] for figure in page["plotly_graph_objects"]}
    drawn = json.loads(figures[FIGURE]) if isinstance(figures[FIGURE], str) else figures[FIGURE]
    assert {trace["name"] for trace in drawn["data"]} <= {style.words for style in ANSWERS.values()}
    assert [trial["number"] for trial in page["trials"]] == [trial.number for trial in study.trials]
    assert [trial["values"] for trial in page["trials"]] == [trial.values for trial in study.trials]


def test_the_dashboard_shows_accuracy_objectives_and_the_seeds_of_a_network(installed: Any):
    """... of trials as a recorder leaves them."""
    objective = Objective()
    study = searched(optuna.create_study(direction="maximize"), objective)
    rc.reseed(study, objective, seeds=[1], which="all")
    app = installed.wsgi(study._storage)
    (summary,) = shown(app, "/api/studies")["study_summaries"]
    trials = shown(app, f"/api/studies/{summary['study_id']}")["trials"]
    attributes = [{item["key"]: item["value"] for item in trial["user_attrs"]} for trial in trials]
    assert len(attributes) == 8
    for trial, own in zip(study.trials, attributes, strict=True):
        assert float(own["accuracy"]) == trial.values[0]
    seeds: dict[str, set[int]] = {}
    for own in attributes:
        seeds.setdefault(own["network"], set()).add(int(own["seed"]))
    assert list(seeds.values()) == [{0, 1}] * 4


def test_the_module_imports_nothing_of_the_dashboard_by_itself():
    assert not hasattr(dashboard, "optuna_dashboard")


def stored(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="small", storage=url, directions=["maximize", "minimize"]).add_trials(
        small_study().trials
    )
    return url


def test_report_writes_the_note_by_default_unless_told_not_to(installed: Any, tmp_path: Path):
    url = stored(tmp_path)
    command = ["report", "small", "--storage", url, "--output", str(tmp_path / "report")]
    for options, written in ((["--no-dashboard"], False), ([], True)):
        assert main([*command, *options]) == 0
        study = optuna.load_study(study_name="small", storage=url)
        assert (START in installed.get_note(study)) == written


@pytest.mark.slow
def test_report_needs_no_dashboard_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("nas_relucode.cli.report.dashboard_installed", lambda: False)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    command = ["report", "small", "--storage", stored(tmp_path), "--output", str(tmp_path / "report")]
    assert main(command) == 0
    assert main([*command, "--dashboard"]) == 2
    assert "pip install nas-relucode[dashboard]" in capsys.readouterr().err
