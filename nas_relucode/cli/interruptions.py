"""Ctrl-C during a finaliser or a callback, where Python prints the exception and goes on: it is raised again later."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SOON = 0.01  # seconds


@contextmanager
def swallowed_interruptions_raised_again() -> Iterator[None]:
    """A context in which a KeyboardInterrupt that Python would only print, as "Exception ignored", is raised again.

    A subclass, such as a worker's request to stop (`workers.stopping`), stays swallowed: the worker looks for it.
    Outside the main thread, where signals are not handled, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    show, replaced = sys.unraisablehook, list[Any]()

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is hook.__code__:  # an exception raised here would be swallowed, too
                signal.setitimer(signal.ITIMER_REAL, SOON)
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            show(unraisable)
        elif unraisable.exc_type is KeyboardInterrupt and hasattr(signal, "setitimer"):  # not on Windows
            if not replaced:
                replaced.append(signal.signal(signal.SIGALRM, interrupt))
            signal.setitimer(signal.ITIMER_REAL, SOON)
        elif unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(SOON, signal.raise_signal, [signal.SIGINT]).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = show
        if replaced:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, replaced[0] or signal.SIG_DFL)
