"""Optuna's storages, opened for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.pool import NullPool


@contextmanager
def opened(where: str) -> Iterator[BaseStorage]:
    """The storage at the URL of a database, or in a journal file of this path; its connections are closed again."""
    if "://" not in where:
        yield JournalStorage(JournalFileBackend(where))
        return
    storage = RDBStorage(where)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def study_in(url: str, name: str = "own") -> optuna.Study:
    """The study as Optuna alone reads it, with connections that are closed after use."""
    storage = RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    return optuna.load_study(study_name=name, storage=storage)
