"""Studies that can't be ranked, and storages without them: `select` and `report` say why and end with exit code 2."""

from pathlib import Path

import optuna
import pytest
from command_line import refused
from hand_made import hand_made, study_of, without_result
from optuna.trial import TrialState

from nas_relucode.cli.main import main
from nas_relucode.errors import InputError
from nas_relucode.report import write_report
from nas_relucode.study.record import ATTRIBUTE

pytestmark = pytest.mark.usefixtures("without_figure")

COMMANDS = ["select", "report"]


def studies() -> dict[str, optuna.Study]:
    foreign = optuna.create_study(directions=["maximize", "minimize"])
    foreign.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=2)
    other = hand_made("8")
    other.user_attrs[ATTRIBUTE] = {"accuracy": 0.9, "objectives": ["accuracy", "cell_count"]}
    words = hand_made("8")
    words.user_attrs[ATTRIBUTE] = "0.9"
    failures = [without_result(TrialState.FAIL, "8", seed, {ATTRIBUTE: {"failed": "no memory"}}) for seed in (0, 1)]
    return {
        "foreign": foreign,
        "empty": study_of([]),
        "partial": study_of([other]),
        "words": study_of([words]),
        "failed": study_of(failures),
        "diverged": study_of([without_result(TrialState.PRUNED, "8", 0, {ATTRIBUTE: {"pruned": "the loss is NaN"}})]),
        "infeasible": study_of([hand_made(head, infeasibility=0.1) for head in ("8", "16")]),
        "single": study_of([hand_made("8")]),
    }


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A storage with all of them."""
    url = f"sqlite:///{tmp_path_factory.mktemp('stored')}/studies.db"
    for name, study in studies().items():
        stored = optuna.create_study(study_name=name, storage=url, directions=study.directions)
        stored.add_trials(study.trials)
    return url


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("foreign", ["no trial of study 'foreign' carries our record", "'relucode'", "Recorder"]),
        ("empty", ["'empty' has no trials", "study.optimize"]),
        ("partial", ["trial 0 of study 'partial'", "lacks params, seed, validation, qualities, joint"]),
        ("words", ["trial 0 of study 'words'", "is not a table of values", "nas_relucode.Objective"]),
        ("failed", ["no trial of study 'failed' is complete", "nothing to rank"]),
        ("diverged", ["no trial of study 'diverged' is complete", "nothing to rank"]),
        ("nosuch", ["unknown study 'nosuch'", "foreign", "single"]),
    ],
)
def test_a_study_that_can_not_be_ranked_is_refused_with_the_reason(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, messages: list[str]
):
    output = ["--output", str(tmp_path / "report")] if command == "report" else []
    error = refused(capsys, command, name, "--storage", url, *output)
    assert [message for message in messages if message not in error] == [], error
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:///nowhere.db", "there is no nowhere.db"),
        ("sqlite:///words.db", "sqlite:///words.db cannot be used (file is not a database)"),
        ("nowhere", "neither a valid URL"),
        ("postgresql+psycopg://me:hunter2@127.0.0.1:1/db", "postgresql+psycopg://me:***@127.0.0.1:1/db cannot be used"),
    ],
)
def test_an_invalid_storage_is_refused_without_its_password(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    storage: str,
    message: str,
):
    if storage.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="no psycopg: pip install nas-relucode[postgres]")
    monkeypatch.chdir(tmp_path)
    Path("words.db").write_text("a file of words, and of enough of them")
    error = refused(capsys, command, "single", "--storage", storage)
    assert message in error
    assert "hunter2" not in error


def test_without_a_feasible_network_there_is_no_selection_but_a_report_that_says_so(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    error = refused(capsys, "select", "infeasible", "--storage", url)
    assert "no network of study 'infeasible' can be chosen" in error
    assert main(["report", "infeasible", "--storage", url, "--output", str(tmp_path)]) == 0
    assert "No network is feasible. Below the accuracy floor: 2" in capsys.readouterr().out


def test_a_single_trial_is_selected_and_reported(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["select", "single", "--storage", url]) == 0
    assert "nothing to compare" in " ".join(capsys.readouterr().out.split())
    assert main(["report", "single", "--storage", url, "--output", str(tmp_path)]) == 0
    assert "| head=8 learning_rate=0.1 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin", "-0.1"], "margin -0.1 is out of range"),
        (["--margin", "nan"], "margin nan is not"),
        (["--margin", "2"], "margin 2.0 is out of range"),
        (["--rule", "mcnemar"], "unknown rule 'mcnemar'"),
        (["--by", "nonsense"], "unknown index 'nonsense'"),
        (["--by", "cell_count:up"], "unknown index 'cell_count:up'"),
        (["--by", "edge_count"], "edge_count:minimize or edge_count:maximize"),
        (["--level", "2"], "level 2.0 is out of range"),
    ],
)
def test_what_select_can_not_do_is_refused(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    assert message in refused(capsys, "select", "single", "--storage", url, *arguments)


def test_a_file_in_the_place_of_the_folder_is_refused_and_stays(tmp_path: Path):
    study = study_of([hand_made()])
    (tmp_path / "page").write_text("mine")
    for folder in (tmp_path / "page", tmp_path / "page" / "below", tmp_path / "page.html"):
        with pytest.raises(InputError, match="file"):
            write_report(study, folder)
    assert (tmp_path / "page").read_text() == "mine"
