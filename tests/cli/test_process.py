"""What all commands share: arguments, exit codes, unforeseen errors, interruptions."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import NETWORK, refused, start

from nas_relucode.cli.main import main
from nas_relucode.workers.stopping import Stop

pytestmark = pytest.mark.usefixtures("without_figure")


class Interrupting:
    """Ctrl-C while the command line is imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "nas_relucode.cli.main":
            raise KeyboardInterrupt


@pytest.mark.parametrize(("words", "missing"), [([], "COMMAND"), (["run"], "study"), (["score"], "--model")])
def test_what_is_missing_is_named_with_the_option_that_describes_it(
    capsys: pytest.CaptureFixture[str], words: list[str], missing: str
):
    message = refused(capsys, *words).splitlines()[-1]
    assert missing in message
    assert "--help" in message


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
    message = refused(capsys, *arguments)
    assert message.startswith("nas-relucode")
    assert message.count("\n") == 1
    assert "--help" in message


def test_a_wrong_name_is_answered_with_the_closest_one(capsys: pytest.CaptureFixture[str]):
    assert "'select'?" in refused(capsys, "selct", "digits")
    assert "'indices'?" in refused(capsys, "list", "indexes")
    assert "'json'?" in refused(capsys, "list", "--format", "jsn")
    assert "'--seed'?" in refused(capsys, "score", "--model", "x", "--data", "digits", "--sed", "1")
    assert "file" in refused(capsys, "run", "digits", "--epochs", "3")


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]):
    for command in ([], ["run"], ["report"], ["score"], ["list"], ["copy"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--help"])
        assert stopped.value.code == 0
        assert "usage: nas-relucode" in capsys.readouterr().out


def test_a_read_only_folder_is_named_with_what_to_do(small_disk: Path, capsys: pytest.CaptureFixture[str]):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    error = refused(capsys, "copy", "digits", str(small_disk / "mine.toml"))
    assert f"{small_disk}/mine.toml cannot be written (Read-only file system). Check that the folder" in error
    assert list(small_disk.iterdir()) == []


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
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        assert main(["list"]) == 1
    finally:
        signal.signal(signal.SIGINT, handler)
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
