"""Fleets of workers on one study, whose trials sleep instead of training: ours, Optuna's own, and Ray Tune's."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import CategoricalDistribution
from optuna.samplers import GridSampler
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

import nas_relucode as rc
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.record import Outcome
from nas_relucode.study.runner import build_objective
from nas_relucode.study.search_space import SearchSettings
from nas_relucode.study.settings import DataSettings, NetworkSettings, StudySettings
from nas_relucode.study.stored_settings import stored_settings
from nas_relucode.workers.planning import open_planned
from nas_relucode.workers.results import SavedResults
from nas_relucode.workers.retrying import StorageRetry
from nas_relucode.workers.stopping import Stop
from nas_relucode.workers.worker import Worker

optuna.logging.set_verbosity(optuna.logging.ERROR)
NAME = "sleep"
RATE = 0.05
STORED: dict[str, Any] = {"record": {}, "values": (0.0,)}  # of a real trial; see `learn`


@dataclass(frozen=True)
class Work:
    """What a fleet did, by its own clock."""

    seconds: float  # from the moment when every worker was ready to the end of the last candidate
    repeated: int  # trials of a candidate that had been done before
    left_out: int = 0  # candidates that were not done


class Sleeping:
    """In place of an `Objective`: sleeps, and returns what a real trial found. The first trial takes no time."""

    objectives = ("accuracy", "cell_count")

    def __init__(self, settings: StudySettings, seconds: float) -> None:
        self.space, self.seeds, self.seconds, self.next = settings.search_space, settings.search.seeds, seconds, 0.0

    def outcome(self, trial: BaseTrial, seed: int) -> Outcome:
        candidate = self.space.suggest(trial, self.seeds, seed)
        time.sleep(self.next)
        self.next = self.seconds
        return Outcome(candidate, STORED["record"], STORED["values"])

    def constrained(self, outcome: Outcome, best: float | None) -> Outcome:
        """It has no floor."""
        return outcome

    def forget(self, candidate: Candidate) -> None:
        """There is no checkpoint."""


def settings_of_size(trials: int, folder: Path) -> StudySettings:
    """A study of so many candidates: seeds, learning rates and heads, at most 20 of each of the first two.

    A trial stores all choices beside its own, so that thousands of seeds would make it large.
    """
    seeds = max(number for number in range(1, 21) if trials % number == 0)
    rates = max(number for number in range(1, 21) if trials // seeds % number == 0)
    heads = ", ".join(f'"{64 + more}-32-16"' for more in range(trials // seeds // rates))
    space = folder / f"{trials}.toml"
    space.write_text(f"heads = [{heads}]\nlearning_rates = {[RATE * (1 + more) for more in range(rates)]}\n")
    return StudySettings(
        data=DataSettings(source="digits", validation=0.25),
        network=NetworkSettings(backbone="none"),
        training=rc.Recipe(epochs=1),
        search=SearchSettings(space=str(space), seeds=tuple(range(seeds))),
    )


def learn(settings: StudySettings) -> None:
    """Trains one candidate, so that what the others store has the size of the real thing."""
    trial = FixedTrial({"head": "64-32-16", "learning_rate": RATE, "seed": 0})
    outcome = build_objective(settings, rc.load_data("digits", validation=0.25), device="cpu").outcome(trial)
    STORED.update(record=outcome.record, values=outcome.values)


def our_worker(url: str, seconds: float, most: int | None = None) -> Callable[[threading.Barrier], list[float]]:
    """A worker of this package; ready after its first trial, which every long-lived process has behind it."""

    def work(ready: threading.Barrier) -> list[float]:
        ended: list[float] = []

        def on_trial(study: optuna.Study, trial: FrozenTrial) -> None:
            ended.append(time.time())
            if len(ended) == 1:
                ready.wait()

        stop = Stop()
        queue = open_planned(NAME, url, optuna.samplers.RandomSampler())
        settings = stored_settings(queue.study)
        with tempfile.TemporaryDirectory() as folder:
            results = SavedResults(Path(folder), NAME, "-")
            objective: Any = Sleeping(settings, seconds)
            worker = Worker(queue, settings, objective, results, StorageRetry(60, print, stop), stop, print, on_trial)
            worker.run(most, wait=False)
        queue.close_connections()
        return ended[1:]

    return work


def grid_worker(url: str, seconds: float, trials: int) -> Callable[[threading.Barrier], list[float]]:
    """Optuna alone: every worker loads the study with a GridSampler and optimizes until the grid is done."""

    def work(ready: threading.Barrier) -> list[float]:
        ended: list[float] = []
        grid = {"learning_rate": [RATE], "seed": list(range(trials))}
        storage = optuna.storages.RDBStorage(url)
        study = optuna.load_study(study_name=NAME, storage=storage, sampler=GridSampler(grid, seed=os.getpid()))

        def sleep(trial: optuna.Trial, seconds: float = seconds) -> float:
            for name, values in grid.items():
                trial.suggest_categorical(name, values)
            time.sleep(seconds)
            return 0.0

        optuna.create_study(storage=storage).optimize(lambda trial: sleep(trial, 0.0), n_trials=1)
        ready.wait()
        study.optimize(sleep, callbacks=[lambda study, trial: ended.append(time.time())])
        return ended

    return work


def fleet(work: Callable[[threading.Barrier], list[float]], workers: int) -> tuple[float, list[float]]:
    """Runs so many processes at once; when they were ready, and when each of their trials ended."""
    context: Any = multiprocessing.get_context("fork")  # what this process has imported need not be imported again
    ready, results = context.Barrier(workers + 1), context.SimpleQueue()
    processes = [context.Process(target=lambda: results.put(work(ready)), daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    ready.wait(600)
    start = time.time()
    ended = [at for _ in processes for at in results.get()]
    for process in processes:
        process.join()
    return start, sorted(ended)


def ours(url: str, seconds: float, workers: int) -> Work:
    """Our workers on the planned study at ``url``, until nothing is left."""
    start, ended = fleet(our_worker(url, seconds), workers)
    with own_study(url) as study:
        done = [tuple(trial.params.values()) for trial in study.get_trials(states=[TrialState.COMPLETE])]
    return Work(ended[-1] - start, len(done) - len(set(done)))


def grid(url: str, seconds: float, workers: int, trials: int) -> Work:
    """Optuna's workers in a new study at ``url``. The clock stops when the last candidate has been done once."""
    with own_study(url, create=True):
        pass
    start = fleet(grid_worker(url, seconds, trials), workers)[0]
    with own_study(url) as study:
        done = sorted(study.get_trials(states=[TrialState.COMPLETE]), key=lambda trial: trial.number)
    first = {tuple(trial.params.values()): trial for trial in reversed(done)}
    last = max(trial.datetime_complete.timestamp() for trial in first.values() if trial.datetime_complete)
    return Work(last - start, len(done) - len(first), trials - len(first))


@contextmanager
def ray_tune(most: int) -> Iterator[Callable[[int, float, int], Work]]:
    """Ray Tune with OptunaSearch, up to so many trials at a time. Raises ImportError where it is not installed."""
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    warnings.simplefilter("ignore")
    ray.init(num_cpus=most, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    def work(workers: int, seconds: float, trials: int) -> Work:
        def sleep(config: dict[str, Any]) -> None:
            start = time.time()
            time.sleep(seconds)
            tune.report({"accuracy": 0.0, "start": start, "end": time.time()})

        choices = {"learning_rate": [RATE], "seed": list(range(trials))}

        with tempfile.TemporaryDirectory() as folder:
            space = {name: CategoricalDistribution(values) for name, values in choices.items()}
            search = OptunaSearch(space, metric="accuracy", mode="max", sampler=GridSampler(choices, seed=0))
            tuner = tune.Tuner(
                tune.with_resources(sleep, {"cpu": 1}),
                tune_config=tune.TuneConfig(
                    search_alg=search, num_samples=trials, max_concurrent_trials=workers, reuse_actors=True
                ),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            results = [result for result in tuner.fit() if not result.error]
        assert len(results) == trials
        start = min(result.metrics["start"] for result in results)  # its processes have started then
        end = max(result.metrics["end"] for result in results)
        different = len({tuple(result.config.values()) for result in results})
        return Work(end - start, trials - different, trials - different)

    try:
        yield work
    finally:
        ray.shutdown()


@contextmanager
def own_study(url: str, *, create: bool = False) -> Iterator[optuna.Study]:
    """The study at ``url``, without a connection afterwards: processes that are forked must not share one."""
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    make = optuna.create_study if create else optuna.load_study
    try:
        yield make(study_name=NAME, storage=storage)
    finally:
        storage.remove_session()


@contextmanager
def counted_statements() -> Iterator[dict[str, int]]:
    """How many statements and commits SQLAlchemy sends in this process meanwhile."""
    count = {"statements": 0, "commits": 0}

    def statement(*_: Any) -> None:
        count["statements"] += 1

    def commit(*_: Any) -> None:
        count["commits"] += 1

    heard = [(sqlalchemy.Engine, "before_cursor_execute", statement), (sqlalchemy.Engine, "commit", commit)]
    for listener in heard:
        sqlalchemy.event.listen(*listener)
    try:
        yield count
    finally:
        for listener in heard:
            sqlalchemy.event.remove(*listener)


@contextmanager
def counted_connections(server: Any, url: str) -> Iterator[list[int]]:
    """The connections of a database, looked at ten times a second meanwhile."""
    seen: list[int] = []
    done = threading.Event()
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{url.rpartition('/')[2]}'"

    def look() -> None:
        import psycopg

        with psycopg.connect(server.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
            while not done.wait(0.1):
                seen.append(connection.execute(query).fetchone()[0])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
