"""A wish to stop ends what may be ended, and nothing else."""

import os
import signal
import threading
import time
from contextlib import suppress

import pytest

from nas_relucode.workers.stopping import Stop, StoppedError


def test_sigterm_ends_what_may_be_interrupted():
    stop = Stop()
    with stop.on_signals():
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(StoppedError, match="SIGTERM"), stop.interruptible():
            time.sleep(5)
        assert stop.reason == "SIGTERM"


def test_elsewhere_a_signal_is_only_remembered_and_nothing_new_begins():
    stop = Stop()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        done = True  # what must not be cut in two goes on
        with pytest.raises(StoppedError, match="SIGINT"), stop.interruptible():
            done = False
    assert done


def test_the_time_limit_ends_as_a_signal_does_and_says_so():
    stop = Stop()
    start = time.monotonic()
    with stop.on_signals(0.3), pytest.raises(StoppedError, match=r"the time limit of 0\.3 s"), stop.interruptible():
        time.sleep(5)
    assert 0.2 < time.monotonic() - start < 3


def test_a_signal_that_is_swallowed_is_heard_at_the_next_check():
    stop = Stop()
    with suppress(StoppedError), stop.interruptible():
        stop.ask("SIGTERM")  # in a `__del__`, Python would do the same with what it raises
    with pytest.raises(StoppedError, match="SIGTERM"):
        stop.check()


def test_the_first_reason_stays():
    stop = Stop()
    stop.ask("SIGTERM")
    stop.ask("SIGINT")
    assert stop.reason == "SIGTERM"


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Stop().on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopped_training_is_no_error_that_is_tried_again():
    assert not issubclass(StoppedError, Exception)
