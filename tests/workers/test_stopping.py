"""A request to stop interrupts what may be interrupted, and nothing else."""

import os
import signal
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from nas_relucode.workers.queue import Heartbeat
from nas_relucode.workers.stopping import Stop, StoppedError


def test_sigterm_interrupts_what_may_be_interrupted():
    stop = Stop()
    with stop.on_signals():
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(StoppedError, match="SIGTERM"), stop.interruptible():
            time.sleep(5)
        assert stop.reason == "SIGTERM"


def test_elsewhere_a_signal_interrupts_nothing_but_nothing_new_begins():
    stop = Stop()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        done = True  # not interruptible, so it continues
        with pytest.raises(StoppedError, match="SIGINT"), stop.interruptible():
            done = False
    assert done


def test_the_time_limit_interrupts_as_a_signal_does_and_is_the_reason():
    stop = Stop()
    start = time.monotonic()
    with stop.on_signals(0.3), pytest.raises(StoppedError, match=r"the time limit of 0\.3 s"), stop.interruptible():
        time.sleep(5)
    assert 0.2 < time.monotonic() - start < 3


def test_the_next_check_raises_for_a_signal_whose_exception_was_lost():
    stop = Stop()
    with suppress(StoppedError), stop.interruptible():
        stop.request("SIGTERM")  # Python ignores an exception in `__del__` in the same way
    with pytest.raises(StoppedError, match="SIGTERM"):
        stop.check()


def test_the_first_reason_stays():
    stop = Stop()
    stop.request("SIGTERM")
    stop.request("SIGINT")
    assert stop.reason == "SIGTERM"


def test_the_signal_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with Stop().on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopped_training_is_not_an_error_that_is_retried():
    assert not issubclass(StoppedError, Exception)


class Silent:
    """A queue whose heartbeats fail for a reason that waiting does not remove."""

    def __init__(self) -> None:
        self.storage = SimpleNamespace(get_heartbeat_interval=lambda: 0.01)

    def send_heartbeat(self, trial: object) -> None:
        raise RuntimeError("no such table")


def test_a_worker_that_cannot_send_heartbeats_is_stopped_and_says_why():
    stop = Stop()
    with (
        pytest.raises(RuntimeError, match="no such table"),
        Heartbeat(Silent(), None, ignore=lambda error: False, stop=stop),  # type: ignore[arg-type]
    ):
        wait_for_reason(stop)
    with pytest.raises(StoppedError, match="heartbeat"):
        stop.check()


def test_an_error_of_the_training_is_not_hidden_by_one_of_its_heartbeats():
    stop = Stop()
    with (
        pytest.raises(ZeroDivisionError),
        Heartbeat(Silent(), None, ignore=lambda error: False, stop=stop),  # type: ignore[arg-type]
    ):
        fail_after(stop)


def fail_after(stop: Stop) -> None:
    wait_for_reason(stop)
    raise ZeroDivisionError


def wait_for_reason(stop: Stop) -> None:
    latest = time.monotonic() + 10
    while stop.reason is None and time.monotonic() < latest:
        time.sleep(0.01)
