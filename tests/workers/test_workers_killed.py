"""Two hundred candidates and six workers, while workers are killed and the database restarts: each candidate once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from private_postgres import PASSWORD, Server
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from nas_relucode import rank
from nas_relucode.studies.outcomes import ATTRIBUTE
from nas_relucode.studies.study import run_study
from nas_relucode.studies.study_settings import load_settings

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
TIMES = ("seconds", "device", "predictions")  # what no two runs have in common


class Workers:
    """Worker processes of the command line, in one folder, counted and replaced when they end too early."""

    def __init__(self, folder: Path, url: str, *options: str, environment: dict[str, str] | None = None) -> None:
        self.folder, self.log = folder, folder / "workers.log"
        self.environment = {**os.environ, "OPTUNA_STORAGE": url, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.command = [sys.executable, "-m", "nas_relucode", "worker", "own.toml", "--device", "cpu", *options]
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1) -> None:
        for _ in range(count):
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    self.command, cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT
                )
            self.running.append(process)

    def ended(self) -> list[int]:
        """The exit codes of those that ended since it was asked last."""
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


def plan(folder: Path, url: str, *options: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "nas_relucode", "plan", "own.toml", *options],
        cwd=folder,
        env={**os.environ, "OPTUNA_STORAGE": url},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def study_in(url: str) -> optuna.Study:
    """The study as Optuna alone reads it, through connections that are closed after use."""
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    return optuna.load_study(study_name="own", storage=storage)


def trials_in(url: str) -> list[FrozenTrial]:
    return study_in(url).trials


def finished(url: str) -> int:
    with suppress(optuna.exceptions.StorageInternalError, OperationalError):
        return sum(trial.state == TrialState.COMPLETE for trial in trials_in(url))
    return 0


def wait_for(workers: Workers, condition: Any, seconds: float) -> None:
    """Waits, and replaces workers that ended with an error meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, workers.log.read_text()[-3000:]
        time.sleep(0.2)


def results(trials: list[FrozenTrial]) -> dict[Any, Any]:
    """What was found for each candidate, but for the time that it took."""
    found = {}
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            attribute = {key: value for key, value in trial.user_attrs[ATTRIBUTE].items() if key not in TIMES}
            found[tuple(trial.params.values())] = (trial.values, attribute)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    """The same study, run in one process on SQLite."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "own.toml").write_text(STUDY)
    settings = load_settings(str(folder / "own.toml"))
    url = f"sqlite:///{folder}/study.db"
    return run_study("own", settings, storage=url, device="cpu", folder=folder / "files")


def check(url: str, undisturbed: optuna.Study) -> None:
    trials = trials_in(url)
    complete = [tuple(trial.params.values()) for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == SIZE
    assert set(Counter(complete).values()) == {1}
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert all("retry_of" in trial.user_attrs for trial in trials[SIZE:])
    assert results(trials) == results(undisturbed.trials)
    mine, theirs = rank(study_in(url)).networks, rank(undisturbed).networks
    columns = [name for name in mine if name not in ("seconds", "trial", "trials")]
    order = ["head", "learning_rate"]
    left, right = (frame[columns].sort_values(order).reset_index(drop=True) for frame in (mine, theirs))
    assert left.equals(right)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whatever_dies_each_candidate_is_completed_once_with_the_numbers_of_an_undisturbed_run(
    number: signal.Signals, folder: Path, postgres: Server, undisturbed: optuna.Study
):
    url, rng = postgres.database(), random.Random(1)
    plan(folder, url, "--heartbeat", "1")
    workers = Workers(folder, url)
    workers.start(6)
    try:
        restarts, killed, last, begin = 0, 0, time.monotonic(), time.monotonic()
        while workers.running:
            assert time.monotonic() < begin + 540, workers.log.read_text()[-3000:]
            time.sleep(0.2)
            codes = workers.ended()
            assert set(codes) <= {0, 1, -number}, workers.log.read_text()[-3000:]
            workers.start(len([code for code in codes if code]))
            done = finished(url)
            if done > SIZE * (restarts + 1) / 3 and restarts < 2:
                postgres.restart()
                restarts += 1
            if time.monotonic() > last + 4 and done < SIZE - 20 and workers.running:
                rng.choice(workers.running[:3]).send_signal(number)
                killed, last = killed + 1, time.monotonic()
    finally:
        workers.stop()
    assert killed >= 5
    assert restarts == 2
    assert PASSWORD not in workers.log.read_text()
    check(url, undisturbed)
