"""Retries while the database cannot be reached: pauses that double, up to a limit in seconds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import optuna
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError

from nas_relucode.errors import InputError
from nas_relucode.study.artifact_stores import StoreUnavailableError
from nas_relucode.study.storage import reason
from nas_relucode.workers.stopping import Stop

T = TypeVar("T")
SHORTEST, LONGEST = 0.5, 30.0  # seconds between two attempts


class StorageUnavailableError(Exception):
    """The database or the artifact store stayed unavailable until the retries ended."""


# Errors of the server that a retry cannot mend.
REFUSED = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")


def is_unavailable(error: BaseException) -> bool:
    """Whether an error means that the database or the artifact store is unavailable, so that a retry may succeed."""
    if isinstance(error, StoreUnavailableError):
        return True
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    if any(words in str(cause) for words in REFUSED):
        return False
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    return isinstance(cause, OperationalError | InterfaceError | TimeoutError)


@contextmanager
def unavailable_errors() -> Iterator[None]:
    """Turns every error inside for which `is_unavailable` holds into StorageUnavailableError."""
    try:
        yield
    except Exception as error:
        if is_unavailable(error):
            raise StorageUnavailableError(f"the storage is unavailable ({reason(error)})") from error
        raise


class StorageRetry:
    """Repeats an action while the storage is unavailable, for at most ``seconds`` or until ``stop`` is requested.

    ``say`` is called with one line when the waiting begins. Raises InputError for seconds that are negative or NaN.
    """

    def __init__(self, seconds: float, say: Callable[[str], None], stop: Stop) -> None:
        if not seconds >= 0:
            raise InputError(f"patience is {seconds}. `--patience` must be at least 0 seconds.")
        self.seconds, self.say, self.stop = seconds, say, stop

    def __call__(self, action: Callable[[], T]) -> T:
        """The value that ``action`` returns; it must be safe to repeat.

        Raises StorageUnavailableError after ``seconds``. Pauses double from half a second, with a random factor, so
        that a thousand workers do not come back in the same moment.
        """
        start, pause = time.monotonic(), SHORTEST
        while True:
            try:
                return action()
            except Exception as error:
                if not is_unavailable(error):
                    raise
                waited = time.monotonic() - start
                if waited >= self.seconds or self.stop.reason:
                    raise StorageUnavailableError(
                        f"the storage was unavailable for {waited:.0f} s ({reason(error)})"
                    ) from error
                if pause == SHORTEST:
                    state = "locked" if "lock timeout" in reason(error) else "unavailable"
                    self.say(f"the storage is {state} ({reason(error)}); retrying for up to {self.seconds:.0f} s")
                self._sleep(min(self.seconds - waited, pause * random.uniform(0.5, 1.0)))
                pause = min(2 * pause, LONGEST)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.stop.reason is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SHORTEST))
