"""One worker process for each GPU of a machine: started together, stopped together, started again if one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from nas_relucode.workers.stopping import Stop

RESTARTS = 3  # of a process that died; more than that is no accident


def run_fleet(
    command: Sequence[str],
    environments: Sequence[Mapping[str, str]],
    *,
    stop: Stop,
    say: Callable[[str], None],
) -> int:
    """Runs ``command`` once with each of the environments, added to this process's own; the worst exit code.

    A process that is killed, or ends with exit code 1 by itself, is started again, at most three times each. When
    ``stop`` is asked, each is sent SIGTERM, and waited for; that it then ends with 1, or by the signal, does not count.
    """
    running = {place: _start(command, environment) for place, environment in enumerate(environments)}
    restarts = dict.fromkeys(running, 0)
    worst, told = 0, False
    while running:
        if stop.reason and not told:
            told = True
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
                say(f"worker {place} ended with exit code {code}; it is started again")
                running[place] = _start(command, environments[place])
            elif not (told and code in (1, -signal.SIGTERM)):
                worst = max(worst, 1 if code < 0 else code)
        time.sleep(0.1)
    return worst


def gpu_environments(gpus: Sequence[str]) -> list[dict[str, str]]:
    """An environment for each GPU, in which a process sees this one alone, and has its share of the cores."""
    return [{"CUDA_VISIBLE_DEVICES": gpu} | cores for gpu, cores in zip(gpus, cpu_environments(len(gpus)), strict=True)]


def cpu_environments(count: int) -> list[dict[str, str]]:
    """An environment for each of so many processes: OMP_NUM_THREADS, or its share of the cores that are ours."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // count)
    return [{"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))} for _ in range(count)]


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # In a group of its own: Ctrl-C reaches this process, which asks the workers to stop.
    return subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
