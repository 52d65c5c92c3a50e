"""The database of a queue: one creates at a time, what is no queue is refused, who vanishes is noticed."""

import threading
import warnings

import optuna
import pytest
import sqlalchemy
from private_postgres import PASSWORD, Server

from nas_relucode.errors import InputError
from nas_relucode.workers.database import check_queue, creating, has_tables, is_queue, open_queue
from nas_relucode.workers.queue import Queue


def test_one_at_a_time_creates_a_study(queue_url: str):
    order: list[str] = []

    def second() -> None:
        with creating(queue_url):
            order.append("second")

    with creating(queue_url):
        thread = threading.Thread(target=second)
        thread.start()
        threading.Event().wait(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_server_whose_machine_vanishes_is_noticed_unless_the_url_says_otherwise(queue_url: str):
    for url, idle in ((queue_url, "30"), (queue_url + "?keepalives_idle=7", "7")):
        storage = open_queue(url, 60, create=True)
        opened = Queue(optuna.create_study(storage=storage), storage)
        for engine in (opened.storage.engine, opened.beats):
            with engine.connect() as connection:
                told = connection.connection.driver_connection.info.get_parameters()
                assert (told["keepalives_idle"], told["tcp_user_timeout"]) == (idle, "60000")
        opened.let_go()


def test_an_empty_database_has_no_tables_until_the_queue_is_created(queue_url: str):
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


def test_an_error_of_the_driver_names_no_password(postgres: Server):
    with warnings.catch_warnings(), pytest.raises(sqlalchemy.exc.OperationalError) as error:
        has_tables(postgres.url("no_such_database"))
    assert PASSWORD not in str(error.value)
