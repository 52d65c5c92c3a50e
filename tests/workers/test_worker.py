"""A worker in this process: the trials that it takes, gives back and finishes, and the input that it refuses."""

import dataclasses
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
import torch
from cases import first_on_push
from optuna.trial import FrozenTrial, TrialState
from private_postgres import PASSWORD, Server
from small_studies import Failing, settings_in
from sqlalchemy.pool import NullPool
from storages import study_in

from nas_relucode.errors import InputError
from nas_relucode.ranking import further_trainings, rounds_ended, select
from nas_relucode.study.predictions import correct_samples
from nas_relucode.study.record import ATTRIBUTE, RELATIVE_FLOOR
from nas_relucode.study.settings import DataSettings, StudySettings
from nas_relucode.training.recipe import Recipe
from nas_relucode.workers.planning import plan_study
from nas_relucode.workers.queue import TAKE
from nas_relucode.workers.retrying import StorageUnavailableError
from nas_relucode.workers.stopping import Stop, StoppedError
from nas_relucode.workers.worker import DeviceLostError, idle_seconds, work


def states(url: str) -> Counter[TrialState]:
    return Counter(trial.state for trial in study_in(url).trials)


def planned(folder: Path, url: str, heartbeat: int = 1, **changes: Any) -> StudySettings:
    settings = settings_in(folder, **changes)
    plan_study("own", settings, storage=url, heartbeat=heartbeat)
    return settings


def run(folder: Path, url: str, **options: Any) -> int:
    return work("own", storage=url, device="cpu", folder=folder / "files", **options)


def record(trial: FrozenTrial) -> dict[str, Any]:
    return {key: value for key, value in trial.user_attrs[ATTRIBUTE].items() if key != "qualities"}


def test_a_worker_completes_every_candidate_and_a_second_one_has_none_left(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, seeds=(0, 1))
    assert run(tmp_path, queue_url) == 4
    assert states(queue_url) == {TrialState.COMPLETE: 4}
    assert run(tmp_path, queue_url) == 0
    assert not (tmp_path / "files" / "checkpoints").exists()


def test_workers_keep_which_samples_are_classified_correctly_and_the_floor_of_the_best_so_far(
    tmp_path: Path, queue_url: str
):
    planned(tmp_path, queue_url)
    run(tmp_path, queue_url)
    best = 0.0
    for trial in study_in(queue_url).trials:
        accuracy = trial.user_attrs[ATTRIBUTE]["accuracy"]
        correct = correct_samples(trial.user_attrs[ATTRIBUTE]["validation"])
        assert correct is not None
        assert correct.mean() == accuracy
        best = max(best, accuracy)
        assert trial.constraints == {RELATIVE_FLOOR: pytest.approx(best - 0.05 - accuracy)}


def test_a_worker_ends_after_max_trials(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, seeds=(0, 1))
    assert run(tmp_path, queue_url, max_trials=3) == 3
    assert states(queue_url) == {TrialState.COMPLETE: 3, TrialState.WAITING: 1}


@pytest.mark.parametrize("error", first_on_push(RuntimeError("CUDA out of memory"), MemoryError("none left")))
def test_a_candidate_that_runs_out_of_memory_is_retried_and_completed(tmp_path: Path, queue_url: str, error: Exception):
    planned(tmp_path, queue_url)
    failing = Failing("4-4", 2, error)
    failing.start(study_in(queue_url), 2)
    assert run(tmp_path, queue_url, on_epoch=failing.epoch) == 2
    assert states(queue_url) == {TrialState.COMPLETE: 2, TrialState.FAIL: 2}
    retries = [t.user_attrs["retry_of"] for t in study_in(queue_url).trials if "retry_of" in t.user_attrs]
    assert retries == [1, 2]


def test_a_candidate_that_always_fails_is_given_up_and_the_others_are_complete(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, training=Recipe(epochs=9, batch_size=35))
    failing = Failing("8", 99, MemoryError("none left"))
    failing.start(study_in(queue_url), 2)
    assert run(tmp_path, queue_url, on_epoch=failing.epoch) == 1
    assert states(queue_url) == {TrialState.COMPLETE: 1, TrialState.FAIL: 3}


def test_a_cuda_error_ends_the_worker_and_the_next_one_retries_the_candidate(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    failing = Failing("8", 1, RuntimeError("CUDA error: an illegal memory access was encountered"))
    failing.start(study_in(queue_url), 2)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        run(tmp_path, queue_url, on_epoch=failing.epoch)
    assert run(tmp_path, queue_url) == 2
    assert states(queue_url) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}


def test_cuda_is_not_used_after_a_cuda_error(tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch):
    planned(tmp_path, queue_url)

    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def break_cuda(number: int, epoch: Any, point: dict[str, Any]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", broken)
        broken()

    with pytest.raises(DeviceLostError, match="illegal memory access"):
        run(tmp_path, queue_url, on_epoch=break_cuda)
    assert states(queue_url) == {TrialState.FAIL: 1, TrialState.WAITING: 1}


def test_any_other_error_ends_the_worker_and_is_stored_in_the_trial(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    failing = Failing("8", 1, KeyError("a bug"))
    failing.start(study_in(queue_url), 2)
    with pytest.raises(KeyError):
        run(tmp_path, queue_url, on_epoch=failing.epoch)
    (failed,) = [trial for trial in study_in(queue_url).trials if trial.state == TrialState.FAIL]
    assert failed.user_attrs[ATTRIBUTE]["failed"] == "KeyError: 'a bug'"


class Stopping:
    """Requests a stop after an epoch of a trial."""

    def __init__(self, trial: int, epoch: int) -> None:
        self.stop, self.trial, self.at = Stop(), trial, epoch
        self.epochs: list[tuple[int, int]] = []

    def epoch(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        self.epochs.append((number, epoch.number))
        if (number, epoch.number) == (self.trial, self.at):
            self.stop.request("SIGTERM")


def test_a_stopped_trial_returns_to_the_queue_and_its_retry_continues_at_the_last_epoch(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, training=Recipe(epochs=4, batch_size=35))
    stopping = Stopping(trial=0, epoch=2)
    assert run(tmp_path, queue_url, stop=stopping.stop, on_epoch=stopping.epoch) == 0
    assert states(queue_url) == {TrialState.FAIL: 1, TrialState.WAITING: 1}
    again = Stopping(trial=99, epoch=0)
    assert run(tmp_path, queue_url, on_epoch=again.epoch) == 2
    retried = [epoch for number, epoch in again.epochs if number == 2]
    assert retried == [3, 4]
    undisturbed = tmp_path / "undisturbed"
    url = f"sqlite:///{undisturbed}/study.db"
    from small_studies import run as run_alone

    expected = run_alone(settings_in(tmp_path, training=Recipe(epochs=4, batch_size=35)), url).trials[0]
    (trial,) = [t for t in study_in(queue_url).trials if t.number == 2]
    assert record(trial) == record(expected)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_during_del_stops_the_trial_at_the_end_of_the_epoch(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8",), training=Recipe(epochs=4, batch_size=35))
    stop, epochs = Stop(), []

    class SignalledInDel:
        def __del__(self) -> None:
            stop.request("SIGTERM")  # Python ignores the exception here

    def epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        epochs.append(epoch.number)
        if epoch.number == 2:
            SignalledInDel()

    assert run(tmp_path, queue_url, stop=stop, on_epoch=epoch) == 0
    assert epochs == [0, 1, 2]
    (given_back,) = study_in(queue_url).trials
    assert given_back.user_attrs[ATTRIBUTE] == {"interrupted": "SIGTERM"}


def test_a_signal_that_a_library_turns_into_an_error_of_its_own_returns_the_trial_to_the_queue(
    tmp_path: Path, queue_url: str
):
    planned(tmp_path, queue_url, heads=("8",))
    stop = Stop()

    def epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        try:
            stop.request("SIGTERM")
        except StoppedError as stopped:
            raise RuntimeError("this could not be compiled") from stopped

    assert run(tmp_path, queue_url, stop=stop, on_epoch=epoch) == 0
    (given_back,) = study_in(queue_url).trials
    assert given_back.user_attrs[ATTRIBUTE] == {"interrupted": "SIGTERM"}


@pytest.mark.slow
def test_trials_returned_to_the_queue_do_not_count_as_failures(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8",), training=Recipe(epochs=20, batch_size=35))
    for number in range(15):  # more than the failures and dead workers that a candidate may have
        stopping = Stopping(trial=number, epoch=number)
        run(tmp_path, queue_url, stop=stopping.stop, on_epoch=stopping.epoch)
    assert run(tmp_path, queue_url) == 1


@pytest.mark.slow
def test_a_candidate_all_of_whose_workers_die_is_given_up(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8",))
    study = study_in(queue_url)
    for _ in range(11):
        plan_study("own", settings_in(tmp_path, heads=("8",)), storage=queue_url)
        study.tell(study.ask(), state=TrialState.FAIL)
    assert run(tmp_path, queue_url) == 0
    assert states(queue_url) == {TrialState.FAIL: 11}


def test_a_worker_waits_for_running_trials_whose_workers_may_die(tmp_path: Path, queue_url: str, postgres: Server):
    planned(tmp_path, queue_url)
    dead = study_in(queue_url).ask()  # runs without heartbeats
    database = queue_url.rpartition("/")[2]
    beat = "INSERT INTO trial_heartbeats (trial_id, heartbeat) SELECT trial_id, {} FROM trials WHERE number = {}"
    postgres.sql(database, beat.format("now() + interval '1 h'", dead.number))
    assert run(tmp_path, queue_url, wait=False) == 1
    assert states(queue_url) == {TrialState.COMPLETE: 1, TrialState.RUNNING: 1}
    silence = "UPDATE trial_heartbeats SET heartbeat = now() - interval '1 h'"
    timer = threading.Timer(0.5, postgres.sql, (database, silence))
    timer.start()
    assert run(tmp_path, queue_url) == 1
    timer.join()
    assert states(queue_url) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}


class RowLock:
    """A transaction of another process that locks a row until `end` is called."""

    def __init__(self, url: str, statement: str) -> None:
        self.engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        self.statement = statement

    def start(self) -> None:
        self.connection = self.engine.connect()
        self.connection.execute(sqlalchemy.text(self.statement))

    def end(self) -> None:
        self.connection.close()


def test_a_worker_waits_for_a_trial_that_another_is_taking_since_that_may_die(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8",))
    taking = RowLock(queue_url, TAKE.text.replace(":study", "1"))
    taking.start()
    assert run(tmp_path, queue_url, wait=False) == 0
    timer = threading.Timer(0.5, taking.end)
    timer.start()
    assert run(tmp_path, queue_url) == 1
    timer.join()
    assert states(queue_url) == {TrialState.COMPLETE: 1}


@pytest.mark.parametrize("stopped", [False, True])
def test_a_worker_whose_trial_is_locked_retries_and_can_be_stopped(
    tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch, stopped: bool
):
    monkeypatch.setattr("nas_relucode.workers.database.LOCK_TIMEOUT", "200ms")
    planned(tmp_path, queue_url, heads=("8",))
    stop, lines = Stop(), []
    frozen = RowLock(queue_url, "SELECT * FROM trials FOR UPDATE")

    def epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        if epoch.number == 1:
            frozen.start()

    def say(line: str) -> None:
        lines.append(line)
        if "the storage is locked" in line:
            stop.request("SIGTERM") if stopped else frozen.end()

    if stopped:
        with pytest.raises(StorageUnavailableError, match="lock timeout"):
            run(tmp_path, queue_url, on_epoch=epoch, stop=stop, say=say)
        frozen.end()  # after the worker
    else:
        assert run(tmp_path, queue_url, on_epoch=epoch, say=say) == 1
    assert any("the storage is locked" in line for line in lines)
    assert run(tmp_path, queue_url) == stopped  # its result was saved


class Outage:
    """Stops the server once, after the last epoch of a trial; `end` starts it again."""

    def __init__(self, server: Server, trial: int) -> None:
        self.server, self.trial, self.down, self.over = server, trial, False, False

    def epoch(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        if number == self.trial and epoch.number == 1 and not self.down and not self.over:
            self.server.stop()
            self.down = True

    def end(self) -> None:
        if self.down:
            self.server.start()
            self.down, self.over = False, True


def test_pauses_of_an_idle_worker_double_up_to_a_heartbeat_or_a_minute():
    assert [idle_seconds(looks, 600) for looks in (0, 1, 2, 3, 4, 10**6)] == [10, 20, 40, 60, 60, 60]
    assert [idle_seconds(looks, 30) for looks in (0, 1, 2, 3)] == [10, 20, 30, 30]
    assert [idle_seconds(looks, 1) for looks in (0, 5)] == [1, 1]


def test_a_worker_waits_until_the_database_is_available(tmp_path: Path, queue_url: str, postgres: Server):
    planned(tmp_path, queue_url)
    outage = Outage(postgres, 0)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if "the storage is unavailable" in line:
            outage.end()

    try:
        assert run(tmp_path, queue_url, on_epoch=outage.epoch, say=say) == 2
    finally:
        outage.end()
    assert states(queue_url) == {TrialState.COMPLETE: 2}
    assert any("the storage is unavailable" in line for line in lines)
    assert PASSWORD not in "".join(lines)


@pytest.mark.parametrize("meanwhile", first_on_push("nothing", "noticed", "waiting again", "completed by another"))
def test_the_next_worker_writes_the_result_that_one_without_a_database_saved(
    tmp_path: Path, queue_url: str, postgres: Server, meanwhile: str
):
    settings = planned(tmp_path, queue_url, heads=("8",))
    outage = Outage(postgres, 0)
    lines: list[str] = []
    try:
        with pytest.raises(StorageUnavailableError, match="unavailable for"):
            run(tmp_path, queue_url, on_epoch=outage.epoch, patience=0.3, say=lines.append)
    finally:
        postgres.start()
    (file,) = (tmp_path / "files" / "results").iterdir()
    assert str(file) in "".join(lines)
    assert PASSWORD not in file.read_text()
    assert states(queue_url) == {TrialState.RUNNING: 1}
    if meanwhile != "nothing":
        study_in(queue_url).tell(0, state=TrialState.FAIL)
    if meanwhile == "waiting again":
        plan_study("own", settings, storage=queue_url)
    if meanwhile == "completed by another":
        work("own", storage=queue_url, device="cpu", folder=tmp_path / "elsewhere")
    trained = Stopping(trial=99, epoch=0)
    assert run(tmp_path, queue_url, on_epoch=trained.epoch) == (meanwhile != "completed by another")
    assert trained.epochs == []  # nothing was trained again
    assert list((tmp_path / "files" / "results").iterdir()) == []
    assert states(queue_url)[TrialState.COMPLETE] == 1
    assert not (tmp_path / "files" / "checkpoints").exists()


def test_a_database_that_is_unavailable_while_a_worker_stops_is_the_error(
    tmp_path: Path, queue_url: str, postgres: Server
):
    planned(tmp_path, queue_url, heads=("8",))
    stop, lines = Stop(), []

    def epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        postgres.stop()
        stop.request("SIGTERM")

    try:
        with pytest.raises(StorageUnavailableError, match="is unavailable"):
            run(tmp_path, queue_url, on_epoch=epoch, stop=stop, on_trial=lambda study, trial: lines.append(trial))
    finally:
        postgres.start()
    assert lines == []


def test_a_saved_result_that_another_worker_of_the_folder_removes_is_skipped(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    results = tmp_path / "files" / "results"
    results.mkdir(parents=True)
    (results / "own_head=8_learning_rate=0.1_seed=0.json").symlink_to("gone")  # listed, but gone when it is read
    assert run(tmp_path, queue_url) == 2


def test_a_damaged_result_is_an_error_that_names_the_file_and_the_remedy(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    results = tmp_path / "files" / "results"
    results.mkdir(parents=True)
    (results / "own_head=8_learning_rate=0.1_seed=0.json").write_text(json.dumps({"version": 2})[:-1])
    with pytest.raises(InputError, match=r"own_head=8_learning_rate=0\.1_seed=0\.json is damaged .* Delete it"):
        run(tmp_path, queue_url)


def test_a_worker_that_was_silent_for_too_long_loses_its_trial(tmp_path: Path, queue_url: str, postgres: Server):
    planned(tmp_path, queue_url, heads=("8",), heartbeat=60)
    lines: list[str] = []

    def slow(number: int, epoch: Any, point: dict[str, Any]) -> None:
        if epoch.number == 0:
            study_in(queue_url).tell(number, state=TrialState.FAIL)  # as another worker does after missing heartbeats

    assert run(tmp_path, queue_url, max_trials=1, on_epoch=slow, wait=False, say=lines.append) == 1
    assert any("silent for too long" in line for line in lines)
    assert states(queue_url) == {TrialState.FAIL: 1, TrialState.COMPLETE: 1}


def test_other_data_and_other_settings_are_refused(tmp_path: Path, queue_url: str):
    images, labels = np.zeros((40, 6, 6), np.uint8), np.arange(40) % 2
    images[::2] = np.arange(36).reshape(6, 6)
    file = tmp_path / "data.npz"
    np.savez(file, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    settings = planned(tmp_path, queue_url, data=DataSettings(source=str(file), validation=0.3))
    np.savez(file, x_train=images + 1, y_train=labels, x_test=images[:10], y_test=labels[:10])
    with pytest.raises(InputError, match="the data here is not the data"):
        run(tmp_path, queue_url)
    with pytest.raises(InputError, match=r"training\.epochs was 1 and is 3"):
        run(
            tmp_path,
            queue_url,
            settings=settings_in(tmp_path, data=settings.data, training=Recipe(epochs=3, batch_size=35)),
        )
    with pytest.raises(InputError, match="max_trials is 0"):
        run(tmp_path, queue_url, max_trials=0)
    assert states(queue_url) == {TrialState.WAITING: 2}


def test_a_worker_takes_the_settings_from_the_study(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    (tmp_path / "space.toml").unlink()
    assert run(tmp_path, queue_url) == 2


@pytest.mark.slow
def test_several_workers_draw_a_sampled_study_and_every_draw_gets_all_seeds(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, rates="{ low = 0.001, high = 0.1 }", trials=4, seeds=(0, 1))
    threads = [threading.Thread(target=run, args=(tmp_path / str(i), queue_url)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    complete = [t.params for t in study_in(queue_url).trials if t.state == TrialState.COMPLETE]
    assert len(complete) == 8
    assert set(Counter((p["head"], p["learning_rate"]) for p in complete).values()) == {2}


def test_two_workers_share_the_candidates(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8", "4-4", "16"), seeds=(0, 1, 2))
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(run(tmp_path, queue_url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 9
    assert states(queue_url) == {TrialState.COMPLETE: 9}


@pytest.mark.slow
def test_two_workers_train_each_seed_of_the_finalists_once_until_none_is_in_question(tmp_path: Path, queue_url: str):
    settings = settings_in(tmp_path, heads=("8", "4-4", "16"))
    search = dataclasses.replace(settings.search, finalist_seeds=3)
    settings = dataclasses.replace(settings, search=search, accuracy_floor=0.0)
    plan_study("own", settings, storage=queue_url, heartbeat=1)
    done: list[int] = []
    threads = [
        threading.Thread(target=lambda: done.append(run(tmp_path, queue_url, further=further_trainings)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = study_in(queue_url)
    trainings = Counter((str(record(trial)["params"]), record(trial)["seed"]) for trial in study.trials)
    assert sum(done) == len(trainings) == len(study.trials) > 3
    assert {seed for _, seed in trainings} == {0, 1, 2}
    assert rounds_ended(select(study), settings.search.all_seeds)


@pytest.mark.slow
def test_a_trial_costs_few_statements_and_attributes_in_a_study_of_any_size(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, seeds=tuple(range(10)), heartbeat=60)
    counts = [statements(lambda trials=trials: run(tmp_path, queue_url, max_trials=trials)) for trials in (4, 4, 5, 5)]
    assert counts[0] == counts[1]
    assert counts[2] == counts[3]
    assert counts[2] - counts[0] <= 13  # one of them asks for the highest accuracy so far
    trial = next(t for t in study_in(queue_url).trials if t.state == TrialState.COMPLETE)
    # The record, the constraint, and what optuna-dashboard shows: network, seed, accuracy and the other objective.
    assert len(trial.user_attrs) + len(trial.system_attrs) <= 6


def statements(action: Callable[[], Any]) -> int:
    """The number of SQL statements that this process sends during ``action``."""
    sent: list[None] = []
    listener = (sqlalchemy.Engine, "before_cursor_execute", lambda *_: sent.append(None))
    sqlalchemy.event.listen(*listener)
    try:
        action()
    finally:
        sqlalchemy.event.remove(*listener)
    return len(sent)
