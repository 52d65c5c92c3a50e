"""The database of a queue, PostgreSQL: opened with few connections, and nobody waits for a lock without end."""

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

# Few connections: one that is kept while the worker talks, and two for its heartbeat and a lock in the same moment.
ENGINE: dict[str, Any] = {"pool_size": 1, "max_overflow": 2, "pool_pre_ping": True}
CONNECT: dict[str, Any] = {
    # PgBouncer gives a connection to others after each transaction, and with it what psycopg has prepared there.
    "prepare_threshold": None,
    # A server whose machine vanishes is noticed after a minute (seconds; the last in milliseconds).
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# Of each connection: who waits for a lock asks again, and can be stopped; who freezes with one loses it to the others.
LOCK_WAIT, SILENCE, CREATING_SILENCE = "10s", "5min", "1h"
GRACE = 5  # heartbeats that may be missing before a trial is given to somebody else
CREATING = sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtextextended('nas-relucode', 0))")


def is_queue(url: str) -> bool:
    """Whether several processes may work on a study in this storage."""
    try:
        return make_url(url).get_backend_name() == "postgresql"
    except (SQLAlchemyError, ValueError):
        return False


def check_queue(url: str) -> None:
    """Raises InputError for a storage that only one process may use."""
    if not is_queue(url):
        raise InputError(
            f"the storage {redact(url)} takes one process. Give --storage postgresql+psycopg://USER@HOST/DATABASE "
            "(or OPTUNA_STORAGE) for several workers, or use `nas-relucode run`, in one process."
        )


def open_queue(
    url: str, heartbeat: int | None = None, *, create: bool = False, engine: dict[str, Any] | None = None
) -> RDBStorage:
    """Optuna's storage as workers use it: few connections, a ``heartbeat`` every so many seconds.

    ``engine`` is for SQLAlchemy, by default a pool of one connection.
    ``create`` makes Optuna's tables where they are missing; hold `creating` then: two that make them collide.
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
def opened(
    url: str, heartbeat: int | None = None, *, create: bool = False, engine: dict[str, Any] | None = None
) -> Iterator[RDBStorage]:
    """`open_queue` for a moment: by default each connection is closed after use, also by a study that outlives this."""
    storage = open_queue(url, heartbeat, create=create, engine=engine or {"poolclass": NullPool})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def has_tables(url: str) -> bool:
    """Whether Optuna has made its tables in this database."""
    with _connection(url) as connection:
        return has_all_tables(connection)


@contextmanager
def creating(url: str) -> Iterator[None]:
    """Held by the one process at a time that makes tables or a study; the server frees a dead one's."""
    with _connection(url) as connection:
        connection.execute(sqlalchemy.text(f"SET LOCAL idle_in_transaction_session_timeout = '{CREATING_SILENCE}'"))
        connection.execute(CREATING)
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
    """How SQLAlchemy is to open connections: with the driver's arguments, and with limits for locks."""
    return {"connect_args": connect_arguments(url), "pool_events": [(_limit_locks, "connect")]}


def connect_arguments(url: str) -> dict[str, Any]:
    """What the driver is told, but for what the URL tells it."""
    parsed = make_url(url)
    known = CONNECT if parsed.get_driver_name() == "psycopg" else {}
    return {key: value for key, value in known.items() if key not in parsed.query}


def _limit_locks(connection: Any, record: Any) -> None:
    # Behind PgBouncer it stays with the server's connection, where others of this user and database get it, too.
    limits = {"lock_timeout": LOCK_WAIT, "idle_in_transaction_session_timeout": SILENCE}
    connection.autocommit = True  # one message instead of three
    cursor = connection.cursor()
    cursor.execute("SELECT " + ", ".join(f"set_config('{name}', '{limit}', false)" for name, limit in limits.items()))
    cursor.close()
    connection.autocommit = False
