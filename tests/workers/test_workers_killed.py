"""Six workers are killed, stopped or run out of memory: each of 200 candidates is completed once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from private_postgres import PASSWORD, Server
from storages import study_in

from nas_relucode.ranking import select
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.runner import run_study
from nas_relucode.study.settings import load_settings

pytestmark = pytest.mark.slow

RATES = [0.1, 0.03, 0.01, 0.003, 0.001]
HEADS = ["4", "8", "16", "4-4", "8-4", "8-8", "16-8", "4-4-4"]
STUDY = f"""\
[data]
source = "digits"
classes = [0, 1, 2]
train_samples = 200
validation = 0.3
[network]
backbone = "none"
[training]
epochs = 25
batch_size = 20
[search]
space = {{ heads = {json.dumps(HEADS)}, learning_rates = {RATES} }}
seeds = [0, 1, 2, 3, 4]
"""
SIZE = len(RATES) * len(HEADS) * 5
COMMAND = [sys.executable, "-m", "nas_relucode", "worker", "own.toml", "--device", "cpu"]
# A worker that runs out of memory in the second epoch of every candidate's first trial.
WITHOUT_MEMORY = f"""\
import os, torch
from nas_relucode.workers.worker import work

def epoch(trial, epoch, point):
    if trial < {SIZE} and epoch.number == 2:
        torch.empty(2**60)

work("own", storage=os.environ["OPTUNA_STORAGE"], device="cpu", on_epoch=epoch, say=print)
"""
LONGEST = 3600  # seconds; it only ends a test that hangs: an idle machine needs less than a tenth of it
RUN_SPECIFIC = ("qualities", "device")  # parts of a record that differ between runs


class Workers:
    """Worker processes in one folder, with one log."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.log = folder, folder / "workers.log"
        self.environment = {**os.environ, "OPTUNA_STORAGE": url, "OMP_NUM_THREADS": "1"}
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1, command: Sequence[str] = COMMAND) -> None:
        for _ in range(count):
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    command, cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT
                )
            self.running.append(process)

    def ended(self) -> list[int]:
        """The exit codes of the processes that ended since the last call."""
        codes = {process: process.poll() for process in self.running}
        self.running = [process for process in self.running if codes[process] is None]
        return [code for code in codes.values() if code is not None]

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(STUDY)
    return tmp_path


def plan(folder: Path, url: str, times: int = 1) -> None:
    """Plans the study in so many processes at once."""
    command = [sys.executable, "-m", "nas_relucode", "plan", "own.toml", "--heartbeat", "1"]
    environment = {**os.environ, "OPTUNA_STORAGE": url}
    running = [subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) for _ in range(times)]
    assert [process.wait() for process in running] == [0] * times


def finished(server: Server, url: str) -> int:
    """The number of complete trials; 0 while the server is unavailable."""
    import psycopg

    with suppress(psycopg.OperationalError):
        return server.sql(url.rpartition("/")[2], "SELECT count(*) FROM trials WHERE state = 'COMPLETE'")[0][0]
    return 0


def records(trials: list[FrozenTrial]) -> dict[Any, Any]:
    """The values and the record of each candidate, without the parts that differ between runs."""
    results = {}
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            attribute = {key: value for key, value in trial.user_attrs[ATTRIBUTE].items() if key not in RUN_SPECIFIC}
            results[tuple(trial.params.values())] = (trial.values, attribute)
    return results


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    """The same study, run in one process on SQLite."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "own.toml").write_text(STUDY)
    settings = load_settings(str(folder / "own.toml"))
    url = f"sqlite:///{folder}/study.db"
    return run_study("own", settings, storage=url, device="cpu", folder=folder / "files")


def check(url: str, undisturbed: optuna.Study) -> None:
    trials = study_in(url).trials
    complete = [tuple(trial.params.values()) for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == SIZE
    assert set(Counter(complete).values()) == {1}
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert all("retry_of" in trial.user_attrs for trial in trials[SIZE:])
    assert records(trials) == records(undisturbed.trials)
    mine, theirs = select(study_in(url)).networks, select(undisturbed).networks
    columns = [name for name in mine if name not in ("seconds", "trial", "trials")]
    order = ["network"]
    left, right = (frame[columns].sort_values(order).reset_index(drop=True) for frame in (mine, theirs))
    assert left.equals(right)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_workers_and_restarts_of_the_server_leave_the_numbers_of_an_undisturbed_run(
    number: signal.Signals, folder: Path, postgres: Server, undisturbed: optuna.Study
):
    url, rng = postgres.database(), random.Random(1)
    plan(folder, url)
    workers = Workers(folder, url)
    workers.start(6)
    try:
        restarts, killed, last, done_then = 0, 0, time.monotonic(), 0
        end = time.monotonic() + LONGEST
        while workers.running:
            assert time.monotonic() < end, workers.log.read_text()[-3000:]
            time.sleep(0.2)
            codes = workers.ended()
            assert set(codes) <= {0, 1, -number}, workers.log.read_text()[-3000:]
            workers.start(len([code for code in codes if code]))
            done = finished(postgres, url)
            if done > SIZE * (restarts + 1) / 3 and restarts < 2:
                postgres.restart()
                restarts += 1
            # Every four seconds; on a busy machine, which starts workers more slowly, after eight more complete trials.
            if time.monotonic() > last + 4 and done_then + 8 <= done < SIZE - 20:
                rng.choice(workers.running[:3]).send_signal(number)
                killed, last, done_then = killed + 1, time.monotonic(), done
    finally:
        workers.stop()
    assert killed >= 5
    assert restarts == 2
    assert PASSWORD not in workers.log.read_text()
    check(url, undisturbed)


def test_concurrent_plans_and_workers_out_of_memory_leave_the_numbers_of_an_undisturbed_run(
    folder: Path, postgres: Server, undisturbed: optuna.Study
):
    url = postgres.database()
    plan(folder, url, times=2)
    workers = Workers(folder, url)
    workers.start(2, [sys.executable, "-c", WITHOUT_MEMORY])
    workers.start(4)
    try:
        end = time.monotonic() + LONGEST
        while not finished(postgres, url):
            assert time.monotonic() < end, workers.log.read_text()[-3000:]
            time.sleep(0.2)
        plan(folder, url, times=2)
        codes = [process.wait(max(0, end - time.monotonic())) for process in workers.running]
    finally:
        workers.stop()
    assert codes == [0] * 6, workers.log.read_text()[-3000:]
    failed = [trial for trial in study_in(url).trials if trial.state == TrialState.FAIL]
    reasons = [trial.user_attrs[ATTRIBUTE]["failed"] for trial in failed if ATTRIBUTE in trial.user_attrs]
    assert len(reasons) >= 5
    assert all("can't allocate memory" in reason for reason in reasons)
    check(url, undisturbed)
