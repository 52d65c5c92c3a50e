"""Retries while the database is unavailable, and none where it refuses the request."""

import time

import optuna
import pytest
from private_postgres import PASSWORD, Server
from sqlalchemy.exc import OperationalError, ProgrammingError

from nas_relucode.errors import InputError
from nas_relucode.study.artifact_stores import StoreUnavailableError
from nas_relucode.workers.database import has_tables
from nas_relucode.workers.retrying import (
    StorageRetry,
    StorageUnavailableError,
    is_unavailable,
    reason,
    unavailable_errors,
)
from nas_relucode.workers.stopping import Stop


def refused_connection() -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("connection refused"))


def test_an_action_is_repeated_until_the_database_is_available():
    lines: list[str] = []
    failures = [refused_connection(), refused_connection()]

    def action() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert StorageRetry(60, lines.append, Stop())(action) == "done"
    assert lines == ["the storage is unavailable (connection refused); retrying for up to 60 s"]


def test_retries_end_after_the_given_seconds_with_the_reason():
    def action() -> None:
        raise refused_connection()

    start = time.monotonic()
    with pytest.raises(StorageUnavailableError, match=r"unavailable for 1 s \(connection refused\)"):
        StorageRetry(1.2, lambda line: None, Stop())(action)
    assert 1.1 < time.monotonic() - start < 5


def test_a_request_to_stop_ends_the_retries():
    stop = Stop()

    def action() -> None:
        stop.request("SIGTERM")
        raise refused_connection()

    start = time.monotonic()
    with pytest.raises(StorageUnavailableError):
        StorageRetry(60, lambda line: None, stop)(action)
    assert time.monotonic() - start < 1


def test_an_error_that_a_retry_cannot_mend_is_raised_at_once():
    def action() -> None:
        raise ProgrammingError("SELECT nonsense", {}, Exception("syntax error"))

    with pytest.raises(ProgrammingError):
        StorageRetry(60, lambda line: None, Stop())(action)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_negative_seconds_and_nan_are_refused(seconds: float):
    with pytest.raises(InputError, match=f"patience is {seconds}.*at least 0"):
        StorageRetry(seconds, lambda line: None, Stop())


def test_errors_of_an_unavailable_storage_get_one_type_and_other_errors_stay():
    with pytest.raises(StorageUnavailableError, match=r"is unavailable \(connection refused\)"), unavailable_errors():
        raise wrapped(refused_connection())
    with pytest.raises(StorageUnavailableError, match="no answer"), unavailable_errors():
        raise StoreUnavailableError("no answer")
    with pytest.raises(KeyError), unavailable_errors():
        raise KeyError("a bug")


def wrapped(cause: Exception) -> Exception:
    error = optuna.exceptions.StorageInternalError("as Optuna wraps it")
    error.__cause__ = cause
    return error


def test_an_artifact_store_is_unavailable_if_it_does_not_answer_and_not_if_it_refuses():
    assert is_unavailable(StoreUnavailableError("no answer"))
    assert not is_unavailable(InputError("no such bucket"))


def test_optunas_error_counts_by_its_cause():
    assert is_unavailable(wrapped(refused_connection()))
    assert not is_unavailable(wrapped(ProgrammingError("", {}, Exception())))
    assert not is_unavailable(ValueError())


def test_a_stopped_server_is_unavailable_and_one_that_refuses_is_not(postgres: Server):
    refusals = {
        "wrong password": postgres.url("postgres").replace(PASSWORD, "wrong"),
        "no such database": postgres.url("no_such_database"),
    }
    for url in refusals.values():
        with pytest.raises(OperationalError) as error:
            has_tables(url)
        assert not is_unavailable(error.value)
        assert PASSWORD not in reason(error.value)
    url = postgres.database()
    postgres.stop()
    try:
        with pytest.raises(OperationalError) as error:
            has_tables(url)
        assert is_unavailable(error.value)
        assert PASSWORD not in reason(error.value)
    finally:
        postgres.start()
    assert has_tables(url) is False
