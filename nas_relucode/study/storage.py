"""Optuna's storage of a study: its address, opened and locked, and named in messages without its password."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from nas_relucode.errors import InputError


def study_name(study: str, name: str | None = None) -> str:
    """The name of a study in its storage and of its folder: ``name``, else that of the built-in study or the file.

    >>> study_name("mine/my.toml")
    'my'
    """
    return check_folder_name(
        name or (Path(study).stem if study.endswith(".toml") else study),
        "Use letters, digits, '_', '-', '.' and spaces; no '.' first.",
    )


def check_folder_name(name: str, remedy: str) -> str:
    """The name of a study, if its folder can have it. Raises InputError, ending in ``remedy``, otherwise."""
    if not re.fullmatch(r"[\w. -]+", name) or name.startswith("."):
        raise InputError(f"study name {name!r} cannot name a folder. {remedy}")
    return name


def default_storage(name: str) -> str:
    """The SQLite file of a study in the current folder."""
    return f"sqlite:///runs/{name}/study.db"


def redact(url: str) -> str:
    """A storage URL without its password.

    >>> redact("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        return "(not a URL)"
    if _splits_password(url, parsed):
        return f"{parsed.drivername}://***"
    shown = parsed.set(query={}).render_as_string(hide_password=True)
    return shown + ("?***" if parsed.query else "")  # a driver may take a password there, under any name


def has_password(url: str) -> bool:
    """Whether a storage URL holds a password, also among the options of a driver."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        return "@" in url
    return parsed.password is not None or any("pass" in name.lower() for name in parsed.query)


def check_url(url: str) -> URL:
    """The parts of a storage URL. Raises InputError if it cannot be parsed, without repeating any of it."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):  # their messages may quote a part of the password
        parsed = None
    if parsed is None:
        example = default_storage("digits")
        raise InputError(f"the storage given is neither a valid URL nor an SQLite file. Write it like {example}.")
    if _splits_password(url, parsed):
        raise InputError(
            "the password in the storage's URL ends too early. Write its @, / and ? as %40, %2F and %3F there."
        )
    return parsed


def _splits_password(url: str, parsed: URL) -> bool:
    """Whether an unescaped @ or ? in the password moved its rest into another part, which messages would show."""
    before = url.rpartition("@")[0]
    return parsed.password is not None and ("@" in before or "?" in before)


def no_driver(url: str, error: ImportError) -> InputError:
    """The error for a storage whose driver is not installed."""
    return InputError(
        f"the storage {redact(url)} needs a driver ({error}). For PostgreSQL: pip install 'nas-relucode[postgres]'."
    )


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turns errors of the storage in the block into InputError, which names it without its password."""
    check_url(url)
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        raise InputError(
            f"the storage {redact(url)} cannot be used ({reason(error)}). "
            "Check that it is reachable, writable, not full and not locked; the same command then resumes."
        ) from error


def reason(error: BaseException) -> str:
    """The driver's message in one line; it names hosts and users, but no passwords."""
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).splitlines()[0]


def open_storage(url: str, *, create: bool = False) -> optuna.storages.RDBStorage:
    """Optuna's storage at ``url``; a server's connections end after use.

    With ``create``, an SQLite file, its folder and Optuna's tables in it are created. Raises InputError for a storage
    without these tables, also for a server's: only `plan_study` creates them there, one process at a time.
    """
    with storage_errors(url):
        path, sqlite = sqlite_path(url), is_sqlite(url)
        try:
            if not (sqlite and create):
                check_exists(url, "Give another storage.")
                if not has_all_tables(sqlalchemy.create_engine(url, poolclass=NullPool)):
                    remedy = "Give another one." if sqlite else "Do: nas-relucode plan, with this storage."
                    raise InputError(f"the storage {redact(url)} holds no study. {remedy}")
            elif path:
                path.parent.mkdir(parents=True, exist_ok=True)
            if sqlite:
                return optuna.storages.RDBStorage(url)
            return optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool}, skip_table_creation=True)
        except ImportError as error:
            raise no_driver(url, error) from error


def study_in_memory(**options: Any) -> optuna.Study:
    """A new study in memory with these options of ``optuna.create_study``, without the line in Optuna's log."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(**options)
    finally:
        optuna.logging.set_verbosity(verbosity)


def has_all_tables(bind: sqlalchemy.Engine | sqlalchemy.Connection) -> bool:
    """Whether Optuna has created all its tables in a database: the one looked up is created last, in one step."""
    return sqlalchemy.inspect(bind).has_table("alembic_version")


def all_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of a study by their numbers, not copied: they must not be changed.

    Meanwhile no garbage is collected: of 10,000 trials that would take a third of the time, and find nothing.
    """
    storage = getattr(study._storage, "_backend", None)
    enabled = gc.isenabled()
    gc.disable()
    try:
        if isinstance(storage, optuna.storages.RDBStorage):
            from nas_relucode.study.trial_tables import stored_trials  # Optuna imports its tables as late

            return stored_trials(storage, study._study_id)
        return study.get_trials(deepcopy=False)
    finally:
        if enabled:
            gc.enable()


def own_settings(study: optuna.Study) -> dict[str, Any]:
    """The settings that nas-relucode stored in a study; empty if it stored none, whatever else is called settings."""
    stored = study.user_attrs.get("settings")
    if not isinstance(stored, dict):
        return {}
    return stored if all(isinstance(stored.get(name), dict) for name in ("data", "network", "search")) else {}


def stored_table(study: optuna.Study) -> dict[str, Any]:
    """The settings stored in a study, without the keys that are None, as a TOML file would hold them.

    Raises InputError for a study that nas-relucode did not create.
    """
    stored = own_settings(study)
    if not stored:
        raise InputError(
            f"study {study.study_name!r} in this storage was not created by nas-relucode. Give another --study-name."
        )
    table: dict[str, Any] = _without_none(stored)
    return table


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


@contextmanager
def only_process(url: str) -> Iterator[None]:
    """Holds the lock beside an SQLite file, where one process at a time may run a study; others have no lock."""
    path = sqlite_path(url)
    if path is None:
        yield
        return
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise InputError(
            f"another process is running a study in {path}, and SQLite allows one. Wait, or give another --storage."
        ) from error
    try:
        yield
    finally:
        lock.release()


def sqlite_path(url: str) -> Path | None:
    """The file behind an SQLite URL; None for other storages and for one in memory."""
    name = check_url(url).database or ":memory:"
    on_disk = is_sqlite(url) and not name.startswith((":memory:", "file:"))
    return Path(name) if on_disk else None


def check_exists(url: str, remedy: str) -> None:
    """Raises InputError, ending in ``remedy``, if there is no file behind an SQLite URL."""
    path = sqlite_path(url)
    if path and not path.is_file():
        raise InputError(f"there is no {path}. {remedy}")


def is_sqlite(url: str) -> bool:
    """Whether one process at a time works on a study there: a file, or in memory."""
    return make_url(url).get_backend_name() == "sqlite"
