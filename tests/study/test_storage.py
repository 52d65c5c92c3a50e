"""Storages that are locked, full, unreachable or invalid: the error names the storage without its password."""

import math
import sqlite3
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from small_studies import Failing, candidates, reread, run, settings_in

from nas_relucode.errors import InputError
from nas_relucode.study.storage import all_trials, only_process, open_storage, redact


def test_a_locked_file_refuses_a_run_until_the_lock_is_released(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, ("8",))
    with only_process(url), pytest.raises(InputError, match=r"another process.*study\.db.*--storage"):
        run(settings, url)
    run(settings, url)
    assert len(candidates(reread(url))) == 1


def test_a_run_that_raises_releases_the_lock_at_once(tmp_path: Path, url: str):
    run(settings_in(tmp_path, ("8",)), url)
    with pytest.raises(InputError, match="head") as kept:  # kept, with its frames, as a notebook keeps the last error
        run(settings_in(tmp_path, ("4",)), url)
    run(settings_in(tmp_path, ("8",)), url)
    assert kept.value is not None


def test_a_storage_in_memory_needs_no_lock():
    with only_process("sqlite://"), only_process("sqlite://"):
        pass


def test_a_server_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path):
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1/x.*refused") as refused:
        run(settings_in(tmp_path), "postgresql+psycopg://u:secret@127.0.0.1:1/x")
    assert "secret" not in str(refused.value)
    assert "u:***@" in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    ["study.db", "://", "postgresql://u:secret@host:port/db", "nosuchdatabase://u:secret@host/db", "sqlite:/x.db"],
)
def test_an_invalid_storage_url_is_refused_without_showing_it(tmp_path: Path, wrong: str):
    with pytest.raises(InputError, match="storage") as refused:
        run(settings_in(tmp_path), wrong)
    assert "secret" not in str(refused.value)


def test_a_storage_whose_driver_is_not_installed_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"oracle.*(No module named|import)") as refused:
        run(settings_in(tmp_path), "oracle+oracledb://u:secret@host/db")
    assert "secret" not in str(refused.value)


def test_the_folder_of_a_new_file_is_created(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/not/there/yet.db"
    run(settings_in(tmp_path, ("8",)), url)
    assert len(reread(url)) == 1


def test_a_file_that_is_not_a_database_is_refused_and_unchanged(tmp_path: Path, url: str):
    (tmp_path / "study.db").write_text("a letter to my aunt, longer than the header of a database " * 10)
    with pytest.raises(InputError, match=r"study\.db.*not a database"):
        run(settings_in(tmp_path), url)
    assert (tmp_path / "study.db").read_text().startswith("a letter to my aunt")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be used"):
        run(settings_in(tmp_path), f"sqlite:///{tmp_path}")


def test_a_file_locked_by_another_program_is_refused_with_the_reason(tmp_path: Path, url: str):
    settings = settings_in(tmp_path)
    run(settings, url)
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"study\.db.*database is locked"):
            run(settings, f"{url}?timeout=0.2")  # the default is 5 seconds
    finally:
        other.close()
    run(settings, url)


def test_a_full_disk_is_the_error_and_the_study_continues_later(tmp_path: Path, small_disk: Path):
    filler = small_disk / "filler"

    def fill(study: optuna.Study, trial: FrozenTrial) -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 512):
                    pass
            except OSError:
                return

    settings, url = settings_in(tmp_path), f"sqlite:///{small_disk}/study.db"
    with pytest.raises(InputError, match=r"study\.db.*full"):
        run(settings, url, on_trial=fill)
    filler.unlink()
    run(settings, url)
    assert Counter(candidates(reread(url))) == Counter([(None, "8", 0.1), (None, "4-4", 0.1)])


def test_an_error_of_the_users_callback_is_not_blamed_on_the_storage(tmp_path: Path, url: str):
    failing = Failing("8", 1, ImportError("No module named 'mine'"))
    with pytest.raises(ImportError, match="mine"):
        run(settings_in(tmp_path), url, on_start=failing.start, on_epoch=failing.epoch)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("mysql+pymysql://me:secret@host/db?charset=utf8", "mysql+pymysql://me:***@host/db?***"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:///runs/digits/study.db", "sqlite:///runs/digits/study.db"),
        ("sqlite:////tmp/study.db", "sqlite:////tmp/study.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str):
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s%2Fecr%40et@host/db",
        "postgresql://me:se@cret@host/db",
        "postgresql://me:sec/ret@host/db",
        "postgresql://host/db?password=secret",
        "postgresql://host/db?user=me&password=secret&sslmode=require",
        "postgresql://me:secret@host/db?password=secret",
        "postgresql://host/db?sslpassword=secret",
        "mysql+pymysql://host/db?passwd=secret",
        "postgresql://me:secret@host:port/db",
        "postgresql//me:secret@host/db",
        "me:secret@host",
    ],
)
def test_no_part_of_a_password_is_ever_shown(url: str):
    shown = redact(url)
    assert not any(part in shown for part in ("secret", "ecr", "cret", "ret@", "sec/"))


def test_trials_of_a_database_are_those_that_optuna_reads(url: str):
    open_storage(url, create=True)
    optuna.create_study(study_name="other", storage=url).add_trial(optuna.trial.create_trial(value=0.5))
    study = optuna.create_study(study_name="own", storage=url, directions=["maximize", "minimize"])
    study.enqueue_trial({"width": 3})
    for number in range(4):
        trial = study.ask()
        trial.suggest_int("width", 1, 9)
        trial.suggest_categorical("norm", ["batch", None, 2.5, True])
        trial.suggest_float("rate", 1e-5, 0.1 + number, log=True)
        trial.set_user_attr("record", {"text": "é\ud800", "numbers": [1, 0.1, None]})
        if number == 0:
            study.tell(trial, (math.inf, -0.1))
    single = optuna.create_study(study_name="single", storage=url)
    trial = single.ask()
    for step, value in enumerate([0.5, math.nan, math.inf, -math.inf]):
        trial.report(value, step)
    single.tell(trial, state=TrialState.PRUNED)
    single.tell(single.ask(), state=TrialState.FAIL)
    single.enqueue_trial({"x": 1})
    for name, trials in (("other", 1), ("own", 4), ("single", 3)):
        study = optuna.load_study(study_name=name, storage=url)
        assert len(study.trials) == trials
        assert repr(all_trials(study)) == repr(study.trials)


def test_trials_in_memory_are_those_that_optuna_reads():
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"a": 1}))
    assert all_trials(study) == study.trials
