"""The command line from the outside: what it prints to stdout and stderr, which files it writes, its exit codes."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import optuna
import pytest
from cases import first_on_push
from command_line import NETWORK, STUDY, refused
from optuna.trial import TrialState
from reports_read_back import FILES, tables

from nas_relucode.cli.arguments import TOPICS
from nas_relucode.cli.main import main
from nas_relucode.indices.registry import INDICES
from nas_relucode.ranking.selecting import select
from nas_relucode.study.explained import REPLACED, TABLES, keys_of
from nas_relucode.study.search_space import load_search_space
from nas_relucode.study.settings import load_settings
from nas_relucode.toml_files import builtin_files
from nas_relucode.training.names import BACKBONES, SOURCES
from nas_relucode.workers.stopping import Stop

pytestmark = pytest.mark.usefixtures("without_figure")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A folder in which the study has been run."""
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("finished"), dirs_exist_ok=True))


# run, report


def test_run_prints_tables_and_writes_a_report(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "own.toml", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    front, equal = tables(captured.out)
    study = optuna.load_study(study_name="own", storage="sqlite:///runs/own/study.db")
    selection = select(study)
    assert [row["network"] for row in front] == list(selection.front["network"])
    assert [row["network"] for row in equal] == list(selection.finalists["network"])
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
        patch.setattr(optuna.Study, "optimize", interrupt)
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


@pytest.mark.parametrize(("words", "missing"), [([], "COMMAND"), (["run"], "study"), (["score"], "--model")])
def test_what_is_missing_is_named_with_the_option_that_describes_it(
    capsys: pytest.CaptureFixture[str], words: list[str], missing: str
):
    message = refused(capsys, *words).splitlines()[-1]
    assert missing in message
    assert "--help" in message


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


@pytest.mark.parametrize(
    "words",
    [
        ["run", "own.toml", "--output", ""],
        ["run", "own.toml", "--output="],
        ["run", "own.toml", "--storage", ""],
        ["report", "own", "--study-name", ""],
        ["train", "own.toml", "head=8", "learning_rate=0.1", "--weights", ""],
        ["score", "--model", "resnet18", "--data", ""],
        ["select", "own", "--by", ""],
        ["copy", "digits", ""],
    ],
)
def test_an_empty_text_is_refused_with_the_name_of_its_argument(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str]
):
    name = next((word.rstrip("=") for word in reversed(words) if word.startswith("--")), "file")
    message = refused(capsys, *words)
    assert f"argument {name}: " in message
    assert "empty" in message


# list, copy


def test_list_shows_every_name_of_all_topics_or_of_one(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    table = capsys.readouterr().out
    assert main(["list", "-f", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    checkout = Path(__file__).parents[2]
    for kind in ("studies", "search_spaces"):
        assert set(listed[kind]) == {path.stem for path in (checkout / kind).glob("*.toml")}
    assert set(listed["data"]) >= set(SOURCES)
    assert set(listed["backbones"]) == set(BACKBONES)
    assert set(listed["indices"]) == set(INDICES)
    assert all(listed["indices"].values())
    lines = [line.split()[0] for line in table.splitlines() if line.startswith("  ")]
    assert lines == [name for group in listed.values() for name in group]
    for topic, group in zip(TOPICS, listed, strict=True):
        assert main(["list", topic, "-f", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {group: listed[group]}


@pytest.mark.parametrize("name", builtin_files("studies"))
def test_a_copied_study_is_the_built_in_one_with_its_search_space(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
):
    assert main(["copy", name, "mine.toml"]) == 0
    assert "nas-relucode run mine.toml" in capsys.readouterr().out
    assert load_settings("mine.toml").as_dict() == load_settings(name).as_dict()


@pytest.mark.parametrize("name", ["digits", "figure2a"])
def test_a_copied_study_has_every_key_with_a_comment_and_each_default_may_be_uncommented(here: Path, name: str):
    assert main(["copy", name, "mine.toml"]) == 0
    lines = Path("mine.toml").read_text().splitlines()
    for table, dataclass in TABLES.items():
        for key in [] if dataclass is dict else keys_of(dataclass):
            if (table, key.name) not in REPLACED:
                places = [n for n, line in enumerate(lines) if re.match(rf"#?{key.name} =", line)]
                assert any(re.match(r"# .{10,}", lines[place - 1]) for place in places), key.name
    last = lines.index("#[figure]") if "#[figure]" in lines else None  # a table that cannot be written in one line
    uncommented = [re.sub(r"^#(\w+ = )", r"\1", line) for line in lines[:last]]
    Path("all.toml").write_text("\n".join(uncommented))
    assert load_settings("all.toml").as_dict() == load_settings(name).as_dict()


def test_check_says_what_a_study_would_run_and_trains_nothing(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", "own.toml", "-f", "json", "--device", "cpu"]) == 0
    checked = json.loads(capsys.readouterr().out)
    inputs, classes = 64, 2
    assert checked["parameters"] == {
        "head=4-4": (inputs + 1) * 4 + (4 + 1) * 4 + (4 + 1) * classes,
        "head=8": (inputs + 1) * 8 + (8 + 1) * classes,
    }
    assert (checked["networks"], checked["trials"]) == (2, 2)
    seconds = [timing["epoch"] * 2 + timing["rest"] for timing in checked["timings"]]  # of 2 epochs
    assert checked["seconds"] == pytest.approx(checked["start"] + 2 * sum(seconds) / len(seconds))
    assert not Path("runs").exists()
    assert main(["check", "own.toml", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in ("2 networks", "2 trials", "head=4-4", "290", "accuracy (maximize)"))
    assert "1 seed each: 2 trials of 2 epochs" in text


def test_a_study_file_may_begin_with_a_mark_of_its_encoding(here: Path):
    expected = load_settings("own.toml").as_dict()
    Path("own.toml").write_text(STUDY, "utf-8-sig")
    assert load_settings("own.toml").as_dict() == expected


def test_a_copied_search_space_is_the_built_in_one_and_is_not_called_a_study(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["copy", "table1", "mine.toml"]) == 0
    assert load_search_space("mine.toml") == load_search_space("table1")
    assert "nas-relucode run" not in capsys.readouterr().out  # which would refuse it


def test_copy_never_overwrites(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "copy", "digits", "own.toml")
    assert "own.toml exists" in message
    assert Path("own.toml").read_text() == STUDY


@pytest.mark.parametrize(("name", "example"), [("mine.txt", "mine.toml"), (".toml", "name.toml")])
def test_copy_refuses_a_file_name_that_could_not_be_read_again(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, example: str
):
    message = refused(capsys, "copy", "digits", name)
    assert name in message
    assert f"e.g. {example}." in message
    assert not Path(name).exists()


def test_copy_of_an_unknown_name_names_the_closest_one_and_how_to_list_them(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    message = refused(capsys, "copy", "digit", "mine.toml")
    for part in ("'digit'", "Did you mean 'digits'?", "nas-relucode list"):
        assert part in message


def test_copy_into_a_folder_that_is_not_there_names_the_folder(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "copy", "digits", "nowhere/mine.toml")
    assert "nowhere" in message
    assert "mine-" not in message  # a temporary file's name, which nobody has given


# the process itself


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nas_relucode", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_module_is_the_command_line_and_its_json_stands_alone_on_stdout(images: str, here: Path):
    (here / "mine.py").write_text(NETWORK.format(pixels=20, classes=3))
    result = start(here, "score", "--model", "mine:make", "--data", images, "-f", "json", "--device", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["samples"] == 30


@pytest.mark.slow
def test_the_exit_code_of_the_process_is_2_and_no_traceback_is_shown(here: Path):
    result = start(here, "run", "nosuch")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("nas-relucode: error: unknown built-in study 'nosuch'. ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_debug_shows_the_traceback_in_the_process(here: Path):
    result = start(here, "run", "nosuch", "--debug")
    assert result.returncode != 0
    assert "Traceback (most recent call last)" in result.stderr
    assert "'nosuch'" in result.stderr


def test_debug_raises_what_would_have_been_a_message(here: Path):
    with pytest.raises(ValueError, match="'nosuch'"):
        main(["run", "nosuch", "--debug"])


def test_an_unforeseen_error_exits_with_1_and_names_debug(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("division by zero")

    model = module(NETWORK.format(pixels=20, classes=3))
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", broken)
        message = refused(capsys, "score", "--model", f"{model}:make", "--data", images, "-f", "json", code=1)
    assert "ZeroDivisionError: division by zero" in message
    assert "--debug" in message


@pytest.mark.parametrize(
    "arguments", [[], ["walk"], ["run"], ["score"], ["copy", "digits"], ["run", "digits", "--wrong"]]
)
def test_arguments_that_cannot_be_read_exit_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]):
    assert "usage: nas-relucode" in refused(capsys, *arguments)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]):
    for command in ([], ["run"], ["report"], ["score"], ["list"], ["copy"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--help"])
        assert stopped.value.code == 0
        assert "usage: nas-relucode" in capsys.readouterr().out


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


def test_a_read_only_folder_is_named_with_what_to_do(small_disk: Path, capsys: pytest.CaptureFixture[str]):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    error = refused(capsys, "copy", "digits", str(small_disk / "mine.toml"))
    assert f"{small_disk}/mine.toml cannot be written (Read-only file system). Check that the folder" in error
    assert list(small_disk.iterdir()) == []


def test_the_report_of_a_file_is_that_of_its_own_study(finished: Path, capsys: pytest.CaptureFixture[str]):
    with chdir(finished):
        Path("there").mkdir()
        other = Path("own.toml").read_text().replace("epochs = 2", "epochs = 3").replace("space.toml", "../space.toml")
        Path("there/own.toml").write_text(other)
        assert "training.epochs was 2 and is 3" in refused(capsys, "report", "there/own.toml")
        assert main(["report", "runs/own/own.toml", "--output", "there"]) == 0  # the report's own file of the settings
        assert Path("there/own.toml").read_text() == other  # and a file of the user's is not overwritten


@pytest.mark.parametrize("option", ["--max-cells=--", "--shape=--", "--box=--"])
def test_two_dashes_are_no_value(option, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["complex", "x.npz", option])
    assert exit.value.code == 2
    assert option.removesuffix("=--") in capsys.readouterr().err


@pytest.mark.parametrize("file", ["/dev/zero", "/"])
def test_a_storage_file_is_a_file(file, capsys):
    assert main(["status", "x", "--storage-file", file]) == 2
    assert file in capsys.readouterr().err


def test_an_interruption_that_a_library_turned_into_an_error_is_one_line(monkeypatch, capsys):
    def interrupted(name):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialisation failed") from error

    monkeypatch.setattr("nas_relucode.cli.main.importlib.import_module", interrupted)
    assert main(["list"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


class Interrupting:
    """Ctrl-C while the command line is imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "nas_relucode.cli.main":
            raise KeyboardInterrupt


@pytest.mark.parametrize("debug", [False, True])
def test_an_interruption_of_the_programmes_own_imports_is_one_line(debug, monkeypatch, capsys):
    from nas_relucode.__main__ import main as programme

    monkeypatch.setattr("sys.argv", ["nas-relucode", "list", *["--debug"] * debug])
    monkeypatch.delitem(sys.modules, "nas_relucode.cli.main")
    monkeypatch.setattr("sys.meta_path", [Interrupting(), *sys.meta_path])
    if debug:
        with pytest.raises(KeyboardInterrupt):
            programme()
        return
    assert programme() == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_cannot_be_written_is_one_line():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "nas_relucode", "list", "studies"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "full" in done.stderr


def test_an_interruption_that_a_finaliser_swallows_is_raised_after_it(monkeypatch, capsys):
    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def work(options):
        Finalised()
        time.sleep(20)

    monkeypatch.setattr("nas_relucode.cli.list.run", work)
    before = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    assert main(["list"]) == 1
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == before
    assert capsys.readouterr().err.count("\n") == 1


def test_a_request_to_stop_that_a_finaliser_swallows_is_left_to_who_asked_for_it(monkeypatch, capsys):
    stop = Stop()

    class Finalised:
        def __del__(self):
            stop.request("SIGTERM")

    def work(options):
        with stop.interruptible():
            Finalised()
            time.sleep(0.05)
        return 0

    monkeypatch.setattr("nas_relucode.cli.list.run", work)
    assert main(["list"]) == 0
    assert stop.reason == "SIGTERM"
    assert capsys.readouterr().err == ""
