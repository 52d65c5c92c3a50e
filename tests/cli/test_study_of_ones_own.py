"""A study that the user made with Optuna is named on the command line by its file, its URL or its name."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
import pytest
from command_line import refused
from hand_made import hand_made

from nas_relucode.cli.main import main

ODD = "two objectives/1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(file: str, *names: str) -> None:
    for name in names:
        study = optuna.create_study(study_name=name, storage=f"sqlite:///{file}", directions=["maximize", "minimize"])
        study.add_trial(hand_made())


def test_the_only_study_of_a_file_is_named_by_the_file(capsys):
    make("my.db", ODD)
    printed = set()
    for words in (
        ["my.db"],
        ["sqlite:///my.db"],
        ["--storage", "my.db"],
        ["--storage", "sqlite:///my.db"],
        [ODD, "--storage", "my.db"],
        ["my.db", "--study-name", ODD],
    ):
        assert main(["select", *words]) == 0, words
        printed.add(capsys.readouterr().out)
    assert len(printed) == 1
    assert ODD in refused(capsys, "evidence", "--storage", "my.db")  # it was read: it has no quality
    assert sorted(path.name for path in Path().iterdir()) == ["my.db"]


def test_a_report_of_a_name_that_no_folder_can_have_needs_a_folder(capsys):
    make("my.db", ODD)
    assert "--output" in refused(capsys, "report", "my.db")
    assert not Path("runs").exists()
    assert main(["report", "my.db", "--output", "page", "--no-dashboard"]) == 0
    assert Path("page", "report.html").is_file()


def test_of_several_studies_one_must_be_named(capsys):
    make("my.db", "a", "b")
    message = refused(capsys, "select", "my.db")
    assert "a, b" in message
    assert main(["select", "a", "--storage", "my.db"]) == 0


@pytest.mark.parametrize(
    "words", [["no.db"], ["--storage", "no.db"], ["sqlite:///no.db"], ["a", "--storage", "sqlite:///no.db"], []]
)
def test_a_file_that_does_not_exist_is_not_created(words, capsys, folder):
    refused(capsys, "select", *words)
    refused(capsys, "status", *words)
    assert list(folder.iterdir()) == []


def test_a_database_of_something_else_is_left_as_it_is(capsys):
    with sqlite3.connect("other.db") as connection:
        connection.execute("create table mine (x integer)")
    connection.close()
    before = Path("other.db").read_bytes()
    assert "no study" in refused(capsys, "select", "other.db")
    refused(capsys, "status", "x", "--storage", "other.db")
    assert Path("other.db").read_bytes() == before


def test_two_storages_are_refused_and_no_password_is_shown(capsys):
    make("my.db", "a")
    message = refused(capsys, "select", "my.db", "--storage", "postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in message
    message = refused(capsys, "select", "postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in message
