"""Optuna's storages, opened for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend


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
