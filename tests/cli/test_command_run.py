"""`run` and `report` from the outside: what they print, which files they write, their exit codes."""

import re
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import optuna
import pytest
from cases import first_on_push
from command_line import STUDY, refused, start
from optuna.trial import TrialState
from reports_read_back import FILES, tables

from nas_relucode.cli.main import main
from nas_relucode.ranking.selecting import select

pytestmark = pytest.mark.usefixtures("without_figure")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A folder in which the study has been run."""
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("finished"), dirs_exist_ok=True))


def test_run_prints_tables_and_writes_a_report(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "own.toml", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    front, compared = tables(captured.out)
    study = optuna.load_study(study_name="own", storage="sqlite:///runs/own/study.db")
    selection = select(study)
    assert [row["network"] for row in front] == list(selection.front["network"])
    printed, finalists = [row["network"] for row in compared], list(selection.finalists["network"])
    assert printed[: len(finalists)] == finalists
    assert sorted(printed) == sorted(selection.networks["network"])
    assert [row["accuracy"] for row in front] == [f"{accuracy:.4f}" for accuracy in selection.front["accuracy"]]
    assert selection.verdict.text in captured.out
    assert "Report: runs/own/report.html" in captured.out
    assert {path.name for path in Path("runs/own").iterdir()} - FILES <= {"study.db", "study.lock"}
    assert {path.name for path in Path("runs/own").iterdir()} >= FILES
    assert "0 of 2 trials are done" in captured.err
    assert len(re.findall(r"^trial \d: head ", captured.err, re.MULTILINE)) == 2


def test_run_again_trains_nothing_and_prints_the_same(finished: Path, capsys: pytest.CaptureFixture[str]):
    with chdir(finished):
        assert main(["report", "own"]) == 0
        report = capsys.readouterr()
        assert main(["run", "own.toml", "--device", "cpu"]) == 0
    again = capsys.readouterr()
    assert again.out == report.out
    assert "2 of 2 trials are done" in again.err
    assert "trial 0" not in again.err


def test_verbose_prints_a_line_an_epoch(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "own.toml", "-v", "--device", "cpu"]) == 0
    lines = re.findall(r"^trial (\d), epoch (\d): accuracy [\d.]+, \d+ cells$", capsys.readouterr().err, re.MULTILINE)
    assert lines == [(trial, epoch) for trial in "01" for epoch in "012"]


def test_run_takes_a_storage_a_name_and_a_folder_and_quiet_prints_results_only(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    where = ["--storage", "sqlite:///mine.db", "--study-name", "second", "--output", "somewhere/else"]
    assert main(["run", "own.toml", "-q", "--device", "cpu", *where]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert len(tables(captured.out)) == 2
    assert "Report: somewhere/else/report.html" in captured.out
    assert {path.name for path in Path("somewhere/else").iterdir()} == FILES - {"own.toml"} | {"second.toml"}
    assert optuna.get_all_study_names("sqlite:///mine.db") == ["second"]
    assert not Path("runs").exists()


def test_the_storage_can_be_given_in_the_environment(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{finished}/runs/own/study.db")
    assert "unknown study 'nosuch'. Known: own." in refused(capsys, "report", "nosuch")


def test_report_writes_what_run_wrote(finished: Path, tmp_path: Path):
    with chdir(finished):
        assert main(["report", "own.toml", "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES
    again, before = ((folder / "trials.csv").read_text("utf-8") for folder in (tmp_path, finished / "runs" / "own"))
    assert again == before


@pytest.mark.parametrize("study", first_on_push("digits", "own.toml", "other"))
def test_study_name_takes_precedence_over_the_argument(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], study: str
):
    storage = f"sqlite:///{finished}/runs/own/study.db"
    assert main(["report", study, "--storage", storage, "--study-name", "own", "--output", str(tmp_path)]) == 0
    assert "Pareto front of own:" in capsys.readouterr().out


def test_report_of_an_unknown_study_names_the_known_ones(finished: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "report", "nosuch", "--storage", f"sqlite:///{finished}/runs/own/study.db")
    assert "unknown study 'nosuch'. Known: own." in message


def test_report_of_a_study_that_was_never_run_says_how_to_run_it(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "report", "digits")
    assert "runs/digits" in message
    assert "nas-relucode run digits" in message
    assert not Path("runs").exists()


def test_report_makes_no_storage(here: Path, capsys: pytest.CaptureFixture[str]):
    assert "typo.db" in refused(capsys, "report", "own", "--storage", "sqlite:///folder/typo.db")
    assert not Path("folder").exists()


def test_report_of_a_study_that_nas_relucode_did_not_create_says_what_is_missing(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    optuna.create_study(storage="sqlite:///foreign.db", study_name="foreign", directions=["maximize", "minimize"])
    assert "relucode" in refused(capsys, "report", "foreign", "--storage", "sqlite:///foreign.db")


def test_run_with_other_settings_names_the_key_and_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]):
    own = finished / "runs" / "own"
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    (finished / "changed").mkdir(exist_ok=True)
    changed = STUDY.replace("epochs = 2", "epochs = 3").replace("space.toml", str(finished / "space.toml"))
    (finished / "changed" / "own.toml").write_text(changed)
    with chdir(finished):
        message = refused(capsys, "run", "changed/own.toml", "--device", "cpu")
    assert "training.epochs was 2 and is 3" in message
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


def test_where_every_candidate_is_pruned_run_says_why_and_exits_with_1(here: Path, capsys: pytest.CaptureFixture[str]):
    Path("space.toml").write_text('heads = ["8"]\nlearning_rates = [1e36]\n')
    assert main(["run", "own.toml", "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "trial 0 (head=8 learning_rate=1e+36, seed 0) was pruned: " in captured.err
    assert "finite" in captured.err
    assert "nothing to report" in captured.err
    assert "Traceback" not in captured.err


def test_an_interrupt_exits_with_1_and_says_how_to_resume(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "ask", interrupt)
        assert "same command" in refused(capsys, "run", "own.toml", "-q", "--device", "cpu", code=1)
    assert main(["run", "own.toml", "-q", "--device", "cpu"]) == 0


def test_optuna_can_read_what_run_wrote(finished: Path):
    study = optuna.load_study(study_name="own", storage=f"sqlite:///{finished}/runs/own/study.db")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert study.metric_names == ["accuracy", "cell_count"]
    assert study.best_trials


def test_an_unknown_study_is_refused_with_the_closest_one_and_how_to_list_them(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    message = refused(capsys, "run", "digit")
    for part in ("'digit'", "Did you mean 'digits'?", "nas-relucode list studies", ".toml"):
        assert part in message


@pytest.mark.parametrize("name", ["nosuch.toml", "folder.toml", "latin.toml"])
def test_a_study_file_that_cannot_be_read_is_refused(here: Path, capsys: pytest.CaptureFixture[str], name: str):
    Path("folder.toml").mkdir()
    Path("latin.toml").write_bytes('description = "caf\xe9"'.encode("latin-1"))
    assert f"{name} cannot be read" in refused(capsys, "run", name)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_an_unknown_device_is_refused(here: Path, capsys: pytest.CaptureFixture[str], device: str):
    assert f"device '{device}'" in refused(capsys, "run", "own.toml", "--device", device)


def test_an_output_folder_that_is_a_file_is_refused_and_the_results_are_kept(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "taken").write_text("mine")
    with chdir(finished):
        message = refused(capsys, "report", "own", "--output", str(tmp_path / "taken"))
        assert "taken" in message
        assert (tmp_path / "taken").read_text() == "mine"
        assert "taken" in refused(capsys, "report", "own", "--output", str(tmp_path / "taken" / "below"))
        assert main(["report", "own", "--output", str(tmp_path / "free")]) == 0


def test_an_output_folder_that_is_a_file_is_refused_before_the_training(here: Path, capsys: pytest.CaptureFixture[str]):
    Path("taken").write_text("mine")
    assert "taken" in refused(capsys, "run", "own.toml", "-q", "--device", "cpu", "--output", "taken")
    assert not Path("runs/own/study.db").exists()


@pytest.mark.parametrize("storage", ["study.db", "sqlite:///taken/below/study.db", "nosuch://u:hunter2@host/db"])
def test_a_storage_that_cannot_be_used_is_refused(here: Path, capsys: pytest.CaptureFixture[str], storage: str):
    Path("taken").write_text("mine")
    message = refused(capsys, "run", "own.toml", "-q", "--device", "cpu", "--storage", storage)
    assert "storage" in message or "taken" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_storage_file_without_a_url_is_refused(here: Path, capsys: pytest.CaptureFixture[str], text: str):
    Path("storage.txt").write_text(text)
    message = refused(capsys, "run", "own.toml", "--device", "cpu", "--storage-file", "storage.txt")
    assert "storage.txt is empty" in message
    assert not Path("runs").exists()


@pytest.mark.slow
def test_warnings_do_not_reach_the_terminal_of_a_user(here: Path):
    """Also those of libraries below ours, such as Optuna's about what it calls experimental."""
    result = start(here, "run", "own.toml", "-q", "--device", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(tables(result.stdout)) == 2


@pytest.mark.slow
def test_where_a_candidate_is_given_up_run_exits_with_1(here: Path, capsys: pytest.CaptureFixture[str]):
    (here / "space.toml").write_text('heads = ["4", "4-4", "999999-999999"]\nlearning_rates = [0.1]\n')
    assert main(["run", "own.toml", "-q", "--device", "cpu"]) == 1
    assert "1 candidate has no result" in capsys.readouterr().err


def test_the_report_of_a_file_is_that_of_its_own_study(finished: Path, capsys: pytest.CaptureFixture[str]):
    with chdir(finished):
        Path("there").mkdir()
        other = Path("own.toml").read_text().replace("epochs = 2", "epochs = 3").replace("space.toml", "../space.toml")
        Path("there/own.toml").write_text(other)
        assert "training.epochs was 2 and is 3" in refused(capsys, "report", "there/own.toml")
        assert main(["report", "runs/own/own.toml", "--output", "there"]) == 0  # the report's own file of the settings
        assert Path("there/own.toml").read_text() == other  # and a file of the user's is not overwritten
