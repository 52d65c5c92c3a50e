"""A database that is away for a while: wait with longer and longer pauses, then give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import optuna
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError

from nas_relucode.errors import InputError
from nas_relucode.study.artifact_stores import StoreAwayError
from nas_relucode.workers.stopping import Stop

T = TypeVar("T")
SHORTEST, LONGEST = 0.5, 30.0  # seconds between two tries


class StorageLostError(Exception):
    """The storage could not be reached for as long as one was to wait."""


# What the server says to a client that will not do better by waiting.
REFUSED = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the database or the artifact store is away, not that it was asked something wrong."""
    if isinstance(error, StoreAwayError):
        return True
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    if any(words in str(cause) for words in REFUSED):
        return False
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    return isinstance(cause, OperationalError | InterfaceError | TimeoutError)


@contextmanager
def lost_errors() -> Iterator[None]:
    """Turns whatever says inside that the database or the artifact store is away into StorageLostError."""
    try:
        yield
    except Exception as error:
        if is_lost(error):
            raise StorageLostError(f"the storage is away ({reason(error)})") from error
        raise


class Patience:
    """How long one waits for the database, and what is said meanwhile; asked to ``stop``, one waits no more.

    Raises InputError for seconds below zero, or that are no number.
    """

    def __init__(self, seconds: float, say: Callable[[str], None], stop: Stop) -> None:
        if not seconds >= 0:
            raise InputError(f"patience for {seconds} seconds is none. Give a number of at least 0.")
        self.seconds, self.say, self.stop = seconds, say, stop

    def __call__(self, action: Callable[[], T]) -> T:
        """What ``action`` returns, tried again while the database is away. It must do no harm when it is done twice.

        Raises StorageLostError after so many seconds. Pauses double from half a second, and differ by chance between
        workers, so that a thousand of them do not come back in the same moment.
        """
        start, pause = time.monotonic(), SHORTEST
        while True:
            try:
                return action()
            except Exception as error:
                if not is_lost(error):
                    raise
                waited = time.monotonic() - start
                if waited >= self.seconds or self.stop.reason:
                    raise StorageLostError(f"the storage was away for {waited:.0f} s ({reason(error)})") from error
                if pause == SHORTEST:
                    state = "locked" if "lock timeout" in reason(error) else "away"
                    self.say(f"the storage is {state} ({reason(error)}); waiting up to {self.seconds:.0f} s for it")
                self._sleep(min(self.seconds - waited, pause * random.uniform(0.5, 1.0)))
                pause = min(2 * pause, LONGEST)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.stop.reason is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SHORTEST))


def reason(error: BaseException) -> str:
    """What the driver says, in a line; it names hosts and users, no passwords."""
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).splitlines()[0]
