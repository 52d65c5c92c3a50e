"""The database of a queue: one process creates at a time, others than PostgreSQL are refused, timeouts are set."""

import threading
import warnings

import optuna
import pytest
import sqlalchemy
from private_postgres import PASSWORD, Server

from nas_relucode.errors import InputError
from nas_relucode.workers.database import check_queue, creation_lock, has_tables, is_queue, open_queue
from nas_relucode.workers.queue import Queue


def test_one_process_at_a_time_holds_the_creation_lock(queue_url: str):
    order: list[str] = []

    def second() -> None:
        with creation_lock(queue_url):
            order.append("second")

    with creation_lock(queue_url):
        thread = threading.Thread(target=second)
        thread.start()
        threading.Event().wait(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_connections_have_keepalives_and_the_url_overrides_them(queue_url: str):
    for url, idle in ((queue_url, "30"), (queue_url + "?keepalives_idle=7", "7")):
        storage = open_queue(url, 60, create=True)
        opened = Queue(optuna.create_study(storage=storage), storage)
        for engine in (opened.storage.engine, opened.heartbeat_engine):
            with engine.connect() as connection:
                parameters = connection.connection.driver_connection.info.get_parameters()
                assert (parameters["keepalives_idle"], parameters["tcp_user_timeout"]) == (idle, "60000")
        opened.close_connections()


def test_an_empty_database_has_no_tables_until_the_queue_is_opened_with_create(queue_url: str):
    assert not has_tables(queue_url)
    open_queue(queue_url, create=True).engine.dispose()
    assert has_tables(queue_url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://me:secret@host/db", True),
        ("postgresql://host/db", True),
        ("sqlite:///a.db", False),
        ("mysql://host/db", False),
        ("nonsense", False),
    ],
)
def test_only_postgresql_is_a_queue(url: str, expected: bool):
    assert is_queue(url) is expected
    if not expected:
        with pytest.raises(InputError, match=r"one process.*postgresql\+psycopg"):
            check_queue(url)


def test_an_error_of_the_driver_shows_no_password(postgres: Server):
    with warnings.catch_warnings(), pytest.raises(sqlalchemy.exc.OperationalError) as error:
        has_tables(postgres.url("no_such_database"))
    assert PASSWORD not in str(error.value)
