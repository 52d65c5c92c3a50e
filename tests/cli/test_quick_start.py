"""Help, mistakes, `list` and `status` import none of the packages that take long; shells complete commands.

What is imported decides how long they take: benchmarks/start.py measures it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from command_line import refused

from nas_relucode.cli.arguments import COMMANDS
from nas_relucode.cli.main import main
from nas_relucode.study.settings import load_settings
from nas_relucode.training.names import BACKBONES, SOURCES
from nas_relucode.training.networks import LAYERS
from nas_relucode.training.sources import READERS

SLOW = {"torch", "torchvision", "numba", "scipy", "sklearn", "umap", "pandas", "matplotlib", "plotly", "moocore"}
PROGRAM = """
import json, sys
from nas_relucode.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def start(*arguments: str, folder: Path | None = None) -> tuple[int, set[str]]:
    """The exit code of a new process, and the packages that it has imported."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    code, packages = json.loads(done.stdout.splitlines()[-1])
    return code, set(packages)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["score", "--help"], 0),
        (["statsu", "digits"], 2),
        (["run", "digits", "--stroage", "x"], 2),
        (["list", "indexes"], 2),
        (["worker", "digits", "--max-trials", "two"], 2),
        (["list"], 0),
        (["copy", "digit", "mine.toml"], 2),
        (["completion", "bash"], 0),
    ],
)
def test_what_trains_nothing_imports_neither_torch_nor_optuna(arguments: list[str], code: int):
    exit_code, packages = start(*arguments)
    assert exit_code == code
    assert packages & (SLOW | {"optuna", "sqlalchemy"}) == set()


def test_status_imports_optuna_but_not_torch(tmp_path: Path):
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    study = optuna.create_study(study_name="digits", storage=f"sqlite:///{tmp_path}/runs/digits/study.db")
    study.set_user_attr("settings", load_settings("digits").as_dict())
    code, packages = start("status", "digits", folder=tmp_path)
    assert (code, packages & SLOW) == (0, set())
    assert "optuna" in packages


def test_the_names_that_help_and_list_show_are_those_that_are_implemented():
    assert list(READERS) == list(SOURCES)
    assert list(LAYERS) == list(BACKBONES)


@pytest.mark.parametrize(
    ("arguments", "given", "meant"),
    [
        (["statsu", "digits"], "'statsu'", "'status'"),
        (["run", "digits", "--stroage", "x"], "--stroage", "'--storage'"),
        (["run", "digts"], "'digts'", "'digits'"),
        (["select", "digits", "--marign=0.1"], "--marign", "'--margin'"),
    ],
)
def test_a_typing_error_is_answered_with_what_was_meant(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], given: str, meant: str
):
    message = refused(capsys, *arguments)
    assert given in message
    assert f"Did you mean {meant}?" in message


def test_a_name_without_a_similar_one_is_answered_with_the_known_ones_only(capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "xyzzy")
    assert "Did you mean" not in message
    assert all(command in message for command in COMMANDS)


# completion


@pytest.mark.parametrize(
    ("typed", "completed"),
    [(["stat"], {"status"}), (["select", "--mar"], {"--margin"}), (["list", "ind"], {"indices"})],
)
def test_bash_completes_commands_options_and_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: list[str], completed: set[str]
):
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    words = f"source ./completion; COMP_WORDS=(nas-relucode {' '.join(typed)}); COMP_CWORD={len(typed)}"
    ask = "$(complete -p nas-relucode | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
    done = subprocess.run(
        ["bash", "-c", f'{words}; {ask}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {word.strip() for word in done.stdout.split()} == completed


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_scripts_for_other_shells_name_every_command(capsys: pytest.CaptureFixture[str], shell: str):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)


def test_another_shell_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "completion", "fish")
    assert all(name in message for name in ("fish", "bash", "zsh", "tcsh"))
