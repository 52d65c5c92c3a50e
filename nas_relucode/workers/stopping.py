"""How a worker is asked to stop: SIGTERM, SIGINT or its time limit end a training, and let all else come to its end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StoppedError(KeyboardInterrupt):
    """A training that was ended from outside."""


class Stop:
    """The wish to stop, and the reason; `interruptible` marks what it may end at once."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._open = False

    def ask(self, reason: str) -> None:
        """Asks to stop; in the main thread, within `interruptible`, raises StoppedError."""
        self.reason = self.reason or reason
        if self._open:
            self._open = False
            raise StoppedError(self.reason)

    def check(self) -> None:
        """Raises StoppedError if it was asked: a signal that met a `__del__` raised where nobody could hear it."""
        if self.reason is not None:
            raise StoppedError(self.reason)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What may be ended at any moment."""
        self.check()
        self._open = True
        try:
            yield
        finally:
            self._open = False

    @contextmanager
    def on_signals(self, time_limit: float | None = None) -> Iterator[None]:
        """Within it SIGTERM, SIGINT and, after so many seconds, the time limit ask to stop. For the main thread."""
        reasons: dict[int, str] = {}

        def ask(number: int, frame: FrameType | None) -> None:
            self.ask(reasons.get(number) or signal.Signals(number).name)

        def end() -> None:
            reasons[signal.SIGTERM] = f"the time limit of {time_limit:g} s"
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # wakes it from a pause, too

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        timer = threading.Timer(time_limit, end) if time_limit is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)
