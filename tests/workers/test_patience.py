"""Waiting for a database that is away, and not for one that refuses."""

import time

import optuna
import pytest
from private_postgres import PASSWORD, Server
from sqlalchemy.exc import OperationalError, ProgrammingError

from nas_relucode.errors import InputError
from nas_relucode.study.artifact_stores import StoreAwayError
from nas_relucode.workers.database import has_tables
from nas_relucode.workers.patience import Patience, StorageLostError, is_lost, lost_errors, reason
from nas_relucode.workers.stopping import Stop


def lost() -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("connection refused"))


def test_an_action_is_repeated_until_the_database_is_back():
    told: list[str] = []
    failures = [lost(), lost()]

    def action() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert Patience(60, told.append, Stop())(action) == "done"
    assert told == ["the storage is away (connection refused); waiting up to 60 s for it"]


def test_after_so_many_seconds_it_gives_up_and_says_why():
    def action() -> None:
        raise lost()

    start = time.monotonic()
    with pytest.raises(StorageLostError, match=r"away for 1 s \(connection refused\)"):
        Patience(1.2, lambda line: None, Stop())(action)
    assert 1.1 < time.monotonic() - start < 5


def test_who_is_asked_to_stop_waits_no_longer():
    stop = Stop()

    def action() -> None:
        stop.ask("SIGTERM")
        raise lost()

    start = time.monotonic()
    with pytest.raises(StorageLostError):
        Patience(60, lambda line: None, stop)(action)
    assert time.monotonic() - start < 1


def test_what_waiting_does_not_mend_is_raised_at_once():
    def action() -> None:
        raise ProgrammingError("SELECT nonsense", {}, Exception("syntax error"))

    with pytest.raises(ProgrammingError):
        Patience(60, lambda line: None, Stop())(action)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_what_is_no_number_of_seconds_is_refused(seconds: float):
    with pytest.raises(InputError, match="patience for"):
        Patience(seconds, lambda line: None, Stop())


def test_wherever_the_storage_is_lost_it_is_called_so_and_other_errors_stay():
    with pytest.raises(StorageLostError, match=r"is away \(connection refused\)"), lost_errors():
        raise wrapped(lost())
    with pytest.raises(StorageLostError, match="no answer"), lost_errors():
        raise StoreAwayError("no answer")
    with pytest.raises(KeyError), lost_errors():
        raise KeyError("a bug")


def wrapped(cause: Exception) -> Exception:
    error = optuna.exceptions.StorageInternalError("as Optuna wraps it")
    error.__cause__ = cause
    return error


def test_an_artifact_store_that_does_not_answer_is_lost_and_one_that_refuses_is_not():
    assert is_lost(StoreAwayError("no answer"))
    assert not is_lost(InputError("no such bucket"))


def test_optunas_own_error_is_judged_by_its_cause():
    assert is_lost(wrapped(lost()))
    assert not is_lost(wrapped(ProgrammingError("", {}, Exception())))
    assert not is_lost(ValueError())


def test_a_server_that_is_down_is_lost_and_one_that_refuses_is_not(postgres: Server):
    refusals = {
        "wrong password": postgres.url("postgres").replace(PASSWORD, "wrong"),
        "no such database": postgres.url("no_such_database"),
    }
    for url in refusals.values():
        with pytest.raises(OperationalError) as error:
            has_tables(url)
        assert not is_lost(error.value)
        assert PASSWORD not in reason(error.value)
    url = postgres.database()
    postgres.stop()
    try:
        with pytest.raises(OperationalError) as error:
            has_tables(url)
        assert is_lost(error.value)
        assert PASSWORD not in reason(error.value)
    finally:
        postgres.start()
    assert has_tables(url) is False
