"""Requests to stop a worker: SIGTERM, SIGINT or the time limit interrupt a training; everything else is finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StoppedError(KeyboardInterrupt):
    """A training was interrupted by a request to stop."""


class Stop:
    """A request to stop and its reason; code within `interruptible` is interrupted at once."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._interruptible = False

    def request(self, reason: str) -> None:
        """Requests a stop for a ``reason``, the first of which stays; within `interruptible` raises StoppedError."""
        self.reason = self.reason or reason
        if self._interruptible:
            self._interruptible = False
            raise StoppedError(self.reason)

    def check(self) -> None:
        """Raises StoppedError if a stop was requested.

        Needed besides `interruptible`: Python ignores an exception raised by a signal handler during `__del__`.
        """
        if self.reason is not None:
            raise StoppedError(self.reason)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A context that a request to stop leaves at once with StoppedError."""
        self.check()
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    @contextmanager
    def on_signals(self, time_limit: float | None = None) -> Iterator[None]:
        """A context in which SIGTERM, SIGINT and, after ``time_limit`` seconds, a timer request a stop.

        Only for the main thread, as Python's signal handlers are.
        """
        reasons: dict[int, str] = {}

        def handle(number: int, frame: FrameType | None) -> None:
            self.request(reasons.get(number) or signal.Signals(number).name)

        def time_out() -> None:
            reasons[signal.SIGTERM] = f"the time limit of {time_limit:g} s"
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # also ends a sleep

        previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        timer = threading.Timer(time_limit, time_out) if time_limit is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            for number, handler in previous.items():
                signal.signal(number, handler)
