"""Several worker processes on one machine, one for each GPU: started and stopped together, restarted if one dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from nas_relucode.workers.stopping import Stop

GRACE = 60  # seconds in which a process gives its trial back
RESTARTS = 3  # of each process; one that dies more often has a cause that a restart does not remove


def run_fleet(
    command: Sequence[str], environments: Sequence[Mapping[str, str]], *, stop: Stop, say: Callable[[str], None]
) -> int:
    """Runs ``command`` once for each environment, added to this process's own, and returns the highest exit code.

    A process that is killed or exits with code 1 is restarted, at most three times. When ``stop`` is requested, every
    process is sent SIGTERM and waited for; the exit code 1 and a death by that signal then do not count. Whatever is
    raised here, no process is left: each is sent SIGTERM, and killed if it then takes more than a minute to end.
    """
    running: dict[int, subprocess.Popen[bytes]] = {}
    try:
        for place, environment in enumerate(environments):
            running[place] = _start(command, environment)
        return _watched(running, command, environments, stop, say)
    finally:
        _end(running.values())


def _watched(
    running: dict[int, subprocess.Popen[bytes]],
    command: Sequence[str],
    environments: Sequence[Mapping[str, str]],
    stop: Stop,
    say: Callable[[str], None],
) -> int:
    """Waits for the running processes by their places, restarts those that die, and returns the highest exit code."""
    restarts = dict.fromkeys(running, 0)
    highest, signalled = 0, False
    while running:
        if stop.reason and not signalled:
            signalled = True
            for process in running.values():
                process.send_signal(signal.SIGTERM)
        for place, process in list(running.items()):
            code = process.poll()
            if code is None:
                continue
            del running[place]
            died = code < 0 or code == 1
            if died and not stop.reason and restarts[place] < RESTARTS:
                restarts[place] += 1
                say(f"worker {place} ended with exit code {code} and is restarted")
                running[place] = _start(command, environments[place])
            elif not (signalled and code in (1, -signal.SIGTERM)):
                highest = max(highest, 1 if code < 0 else code)
        time.sleep(0.1)
    return highest


def _end(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """Ends processes, those that take too long by SIGKILL."""
    for process in processes:
        process.terminate()
    latest = time.monotonic() + GRACE
    try:
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, latest - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def gpu_environments(gpus: Sequence[str]) -> list[dict[str, str]]:
    """An environment for each GPU, in which a process sees only this GPU and gets its share of the cores."""
    return [{"CUDA_VISIBLE_DEVICES": gpu} | cores for gpu, cores in zip(gpus, cpu_environments(len(gpus)), strict=True)]


def cpu_environments(count: int) -> list[dict[str, str]]:
    """An environment for each of ``count`` processes: the given OMP_NUM_THREADS, else its share of the usable cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // count)
    return [{"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))} for _ in range(count)]


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C reaches only this process, which then stops the workers.
    return subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
