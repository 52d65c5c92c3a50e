"""The PostgreSQL database of a queue: few connections for each worker, and a limit to every wait for a lock."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from nas_relucode.errors import InputError
from nas_relucode.study.storage import has_all_tables, no_driver, redact

# One connection is kept between statements; a lock and a query within it may need two more at the same time.
ENGINE: dict[str, Any] = {"pool_size": 1, "max_overflow": 2, "pool_pre_ping": True}
CONNECT: dict[str, Any] = {
    # No prepared statements: PgBouncer hands a server's connection to another client after each transaction.
    "prepare_threshold": None,
    # Seconds, the last in milliseconds: a server whose machine is gone is noticed after a minute.
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# Limits of each connection. A worker that waits for a lock gets an error after 10 s and retries, so that it can be
# stopped; the server ends the transaction of one that freezes while it holds a lock.
LOCK_TIMEOUT, IDLE_TIMEOUT, CREATING_IDLE_TIMEOUT = "10s", "5min", "1h"
GRACE = 5  # missing heartbeats after which a trial is given to another worker
CREATION_LOCK = sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtextextended('nas-relucode', 0))")


def is_queue(url: str) -> bool:
    """Whether several processes may work on a study in this storage."""
    try:
        return make_url(url).get_backend_name() == "postgresql"
    except (SQLAlchemyError, ValueError):
        return False


def check_queue(url: str) -> None:
    """Raises InputError for a storage that only one process at a time may use."""
    if not is_queue(url):
        raise InputError(
            f"the storage {redact(url)} serves one process. For several workers give --storage "
            "postgresql+psycopg://USER@HOST/DATABASE (or set OPTUNA_STORAGE); for one process use `nas-relucode run`."
        )


def open_queue(
    url: str, heartbeat: int | None = None, *, create: bool = False, engine: dict[str, Any] | None = None
) -> RDBStorage:
    """Optuna's storage as workers use it, with a heartbeat every ``heartbeat`` seconds.

    ``engine`` holds SQLAlchemy's options, by default for a pool of one connection. ``create`` makes Optuna's tables
    where they are missing, within `creation_lock`: two processes that create them at once collide.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return RDBStorage(
                url,
                engine_kwargs=(engine or ENGINE) | connect_options(url),
                heartbeat_interval=heartbeat,
                grace_period=None if heartbeat is None else GRACE * heartbeat,
                skip_table_creation=not create,
            )
        except ImportError as error:
            raise no_driver(url, error) from error


@contextmanager
def briefly_opened(
    url: str, heartbeat: int | None = None, *, create: bool = False, engine: dict[str, Any] | None = None
) -> Iterator[RDBStorage]:
    """`open_queue` as a context. By default each connection is closed after use, also by a study used afterwards."""
    storage = open_queue(url, heartbeat, create=create, engine=engine or {"poolclass": NullPool})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def has_tables(url: str) -> bool:
    """Whether the database has Optuna's tables."""
    with _connection(url) as connection:
        return has_all_tables(connection)


@contextmanager
def creation_lock(url: str) -> Iterator[None]:
    """A lock on the database for creating tables or a study; the server releases it when its holder dies."""
    with _connection(url) as connection:
        connection.execute(
            sqlalchemy.text(f"SET LOCAL idle_in_transaction_session_timeout = '{CREATING_IDLE_TIMEOUT}'")
        )
        connection.execute(CREATION_LOCK)
        yield


@contextmanager
def _connection(url: str) -> Iterator[sqlalchemy.Connection]:
    try:
        engine = sqlalchemy.create_engine(url, poolclass=NullPool, **connect_options(url))
    except ImportError as error:
        raise no_driver(url, error) from error
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def connect_options(url: str) -> dict[str, Any]:
    """SQLAlchemy's options for opening connections: the driver's arguments and the timeouts of locks."""
    return {"connect_args": connect_arguments(url), "pool_events": [(_set_timeouts, "connect")]}


def connect_arguments(url: str) -> dict[str, Any]:
    """The arguments of the driver, except those that the URL sets."""
    parsed = make_url(url)
    arguments = CONNECT if parsed.get_driver_name() == "psycopg" else {}
    return {key: value for key, value in arguments.items() if key not in parsed.query}


def _set_timeouts(connection: Any, record: Any) -> None:
    # Behind PgBouncer they stay with the server's connection, also for other clients of this user and database.
    timeouts = {"lock_timeout": LOCK_TIMEOUT, "idle_in_transaction_session_timeout": IDLE_TIMEOUT}
    connection.autocommit = True  # one message to the server instead of three
    cursor = connection.cursor()
    cursor.execute("SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in timeouts.items()))
    cursor.close()
    connection.autocommit = False
