"""The password of a storage is shown by no command, however wrong its URL is, and a warning says where to put it."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from private_postgres import PASSWORD, Server

from nas_relucode.cli.main import main

LEFT, RIGHT = "Xqz1", "Xqz2"  # a password is these two, and between them what makes a URL hard to read
NOW = ["--patience", "0"]
COMMANDS = [["status", "own"], ["report", "own"], ["plan", "own.toml", *NOW], ["worker", "own", *NOW]]
WARNING = "everybody on this machine can read a password on the command line"


@pytest.fixture
def said(here: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int | None, str]]:
    """Runs a command: its exit code (None if it raised) and all its output, with the traceback of --debug."""

    def run(*words: str) -> tuple[int | None, str]:
        try:
            code = main(list(words))
        except Exception:
            code = None
            traceback.print_exc()
        output = capfd.readouterr()
        return code, output.out + without_source(output.err)

    return run


def without_source(text: str) -> str:
    """A traceback without its lines of source code, some of which are from this test."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


@pytest.mark.parametrize("between", ["", "@", "/", "#", "?", ":", "%", "%40", "%2F", "%zz", "[", " ", "&", "=", "@/@"])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:{}@127.0.0.1:1/db",
        "postgresql+psycopg://me:{}@127.0.0.1:port/db",
        "postgresql+psycopg://me:{}@[::1/db",
        "postgresql+psycopg://127.0.0.1:1/db?user=me&password={}",
        "postgresql//me:{}@127.0.0.1/db",
        "me:{}@127.0.0.1",
    ],
)
def test_no_part_of_the_password_is_in_an_error(said: Callable[..., tuple[int | None, str]], url: str, between: str):
    for more in ([], ["--debug", "-v"]):
        code, text = said("status", "own", "--storage", url.format(LEFT + between + RIGHT), *more)
        assert code == (None if more else 2), text
        assert "Xqz" not in text


def test_a_password_that_is_taken_for_a_port_is_not_shown(said: Callable[..., tuple[int | None, str]]):
    code, text = said("status", "own", "--storage", f"postgresql+psycopg://me:{LEFT}")
    assert (code, LEFT in text) == (2, False)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_command_shows_the_password_if_the_server_is_away_refuses_or_lacks_the_database(
    said: Callable[..., tuple[int | None, str]], postgres: Server, monkeypatch: pytest.MonkeyPatch, command: list[str]
):
    right = postgres.url("no_such_database")
    for url in (right, right.replace(PASSWORD, LEFT), right.replace(str(postgres.port), "1")):
        monkeypatch.setenv("OPTUNA_STORAGE", url)
        for more in ([], ["--debug", "-v"]):
            code, text = said(*command, *more)
            assert code in ((None, 1) if more else (1, 2)), text
            assert not any(word in text for word in (PASSWORD, LEFT, WARNING))


def test_a_driver_that_is_missing_is_named_with_what_to_install(
    said: Callable[..., tuple[int | None, str]], monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setenv("OPTUNA_STORAGE", f"postgresql+psycopg://me:{LEFT}@127.0.0.1:1/db")
    for command in COMMANDS:
        code, text = said(*command)
        assert code == 2, text
        assert "nas-relucode[postgres]" in text
        assert LEFT not in text


def test_a_password_on_the_command_line_is_warned_of_and_not_repeated(
    said: Callable[..., tuple[int | None, str]], here: Path, monkeypatch: pytest.MonkeyPatch
):
    open_to_all = f"postgresql+psycopg://me:{LEFT}@127.0.0.1:1/db"
    for url in (open_to_all, f"postgresql://127.0.0.1:1/db?password={LEFT}"):
        code, text = said("status", "own", "-q", "--storage", url)
        assert (code, text.count(WARNING), LEFT in text) == (2, 1, False)
    for url in ("postgresql+psycopg://me@127.0.0.1:1/db", "sqlite:///study.db?timeout=1"):
        assert WARNING not in said("status", "own", "--storage", url)[1]
    (here / "url").write_text(open_to_all)
    assert WARNING not in said("status", "own", "--storage-file", "url")[1]
    monkeypatch.setitem(os.environ, "OPTUNA_STORAGE", open_to_all)
    assert WARNING not in said("status", "own")[1]
