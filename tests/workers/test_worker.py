"""A worker in this process: what it takes, gives back, hands in and refuses."""

import errno
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import optuna
import pytest
import sqlalchemy
import torch
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import FrozenTrial, TrialState
from private_postgres import PASSWORD, Server
from small_studies import Failing, settings_in
from sqlalchemy.pool import NullPool

from nas_relucode.errors import InputError
from nas_relucode.ranking.selection import select
from nas_relucode.study.predictions import file_store
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.settings import DataSettings, StudySettings
from nas_relucode.training.recipe import Recipe
from nas_relucode.workers.patience import StorageLostError
from nas_relucode.workers.planning import plan_study
from nas_relucode.workers.queue import TAKE
from nas_relucode.workers.stopping import Stop
from nas_relucode.workers.worker import DeviceLostError, idle_seconds, work


def study_in(url: str) -> optuna.Study:
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    return optuna.load_study(study_name="own", storage=storage)


def states(url: str) -> Counter[TrialState]:
    return Counter(trial.state for trial in study_in(url).trials)


def planned(folder: Path, url: str, heartbeat: int = 1, **changes: Any) -> StudySettings:
    settings = settings_in(folder, **changes)
    plan_study("own", settings, storage=url, heartbeat=heartbeat)
    return settings


def run(folder: Path, url: str, **told: Any) -> int:
    return work("own", storage=url, device="cpu", folder=folder / "files", **told)


def found(trial: FrozenTrial) -> dict[str, Any]:
    return {key: value for key, value in trial.user_attrs[ATTRIBUTE].items() if key not in ("seconds", "predictions")}


def test_a_worker_completes_every_candidate_and_then_there_is_nothing_to_do(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, seeds=(0, 1))
    assert run(tmp_path, queue_url) == 4
    assert states(queue_url) == {TrialState.COMPLETE: 4}
    assert run(tmp_path, queue_url) == 0
    assert not (tmp_path / "files" / "checkpoints").exists()


def test_select_finds_the_predictions_that_a_worker_kept(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    run(tmp_path, queue_url)
    chosen = select(study_in(queue_url), tolerance="mcnemar", store=file_store(tmp_path / "files"))
    assert len(chosen.networks) >= 1


def test_a_worker_ends_after_its_number_of_trials(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, seeds=(0, 1))
    assert run(tmp_path, queue_url, max_trials=3) == 3
    assert states(queue_url) == {TrialState.COMPLETE: 3, TrialState.WAITING: 1}


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError("none left")])
def test_a_candidate_that_finds_no_memory_is_tried_again_and_then_complete(
    tmp_path: Path, queue_url: str, error: Exception
):
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


def test_an_error_of_cuda_ends_the_worker_and_its_candidate_is_tried_by_the_next(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    failing = Failing("8", 1, RuntimeError("CUDA error: an illegal memory access was encountered"))
    failing.start(study_in(queue_url), 2)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        run(tmp_path, queue_url, on_epoch=failing.epoch)
    assert run(tmp_path, queue_url) == 2
    assert states(queue_url) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}


def test_after_an_error_of_cuda_nothing_more_is_asked_of_it(
    tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch
):
    planned(tmp_path, queue_url)

    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def break_it(number: int, epoch: Any, point: dict[str, Any]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", broken)
        broken()

    with pytest.raises(DeviceLostError, match="illegal memory access"):
        run(tmp_path, queue_url, on_epoch=break_it)
    assert states(queue_url) == {TrialState.FAIL: 1, TrialState.WAITING: 1}


def test_any_other_error_ends_the_worker_with_the_reason_in_its_trial(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    failing = Failing("8", 1, KeyError("a bug"))
    failing.start(study_in(queue_url), 2)
    with pytest.raises(KeyError):
        run(tmp_path, queue_url, on_epoch=failing.epoch)
    (failed,) = [trial for trial in study_in(queue_url).trials if trial.state == TrialState.FAIL]
    assert failed.user_attrs[ATTRIBUTE]["failed"] == "KeyError: 'a bug'"


class Stopping:
    """Asks to stop after an epoch of a trial, once."""

    def __init__(self, trial: int, epoch: int) -> None:
        self.stop, self.trial, self.at = Stop(), trial, epoch
        self.epochs: list[tuple[int, int]] = []

    def epoch(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        self.epochs.append((number, epoch.number))
        if (number, epoch.number) == (self.trial, self.at):
            self.stop.ask("SIGTERM")


def test_a_stopped_trial_is_given_back_and_goes_on_at_its_last_epoch(tmp_path: Path, queue_url: str):
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
    assert found(trial) == found(expected)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_in_a_destructor_stops_the_trial_at_the_end_of_the_epoch(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8",), training=Recipe(epochs=4, batch_size=35))
    stop, epochs = Stop(), []

    class Dying:
        def __del__(self) -> None:
            stop.ask("SIGTERM")  # Python ignores what it raises here

    def epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        epochs.append(epoch.number)
        if epoch.number == 2:
            Dying()

    assert run(tmp_path, queue_url, stop=stop, on_epoch=epoch) == 0
    assert epochs == [0, 1, 2]
    (given_back,) = study_in(queue_url).trials
    assert given_back.user_attrs[ATTRIBUTE] == {"interrupted": "SIGTERM"}


def test_a_trial_that_is_given_back_does_not_count_as_a_failure(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8",), training=Recipe(epochs=20, batch_size=35))
    for number in range(15):  # more than the failures, and the lost workers, that a candidate may have
        stopping = Stopping(trial=number, epoch=number)
        run(tmp_path, queue_url, stop=stopping.stop, on_epoch=stopping.epoch)
    assert run(tmp_path, queue_url) == 1


def test_a_candidate_whose_workers_all_die_without_a_word_is_given_up(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8",))
    study = study_in(queue_url)
    for _ in range(11):
        plan_study("own", settings_in(tmp_path, heads=("8",)), storage=queue_url)
        study.tell(study.ask(), state=TrialState.FAIL)
    assert run(tmp_path, queue_url) == 0
    assert states(queue_url) == {TrialState.FAIL: 11}


def test_workers_wait_for_the_trial_of_a_worker_that_may_die(tmp_path: Path, queue_url: str, postgres: Server):
    planned(tmp_path, queue_url)
    dead = study_in(queue_url).ask()  # it runs, and sends no heartbeat
    database = queue_url.rpartition("/")[2]
    beat = "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES ({}, now() + interval '1 h')"
    postgres.sql(database, beat.format(dead._trial_id))
    assert run(tmp_path, queue_url, wait=False) == 1
    assert states(queue_url) == {TrialState.COMPLETE: 1, TrialState.RUNNING: 1}
    silence = "UPDATE trial_heartbeats SET heartbeat = now() - interval '1 h'"
    later = threading.Timer(0.5, postgres.sql, (database, silence))
    later.start()
    assert run(tmp_path, queue_url) == 1
    later.join()
    assert states(queue_url) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}


class Holding:
    """Another process that has locked a row in a transaction, until it is told to let it go."""

    def __init__(self, url: str, statement: str) -> None:
        self.engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        self.statement = statement

    def start(self) -> None:
        self.connection = self.engine.connect()
        self.connection.execute(sqlalchemy.text(self.statement))

    def let_go(self) -> None:
        self.connection.close()


def test_a_trial_that_another_is_just_taking_is_waited_for_since_it_may_die(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, heads=("8",))
    taking = Holding(queue_url, TAKE.text.replace(":study", "1"))
    taking.start()
    assert run(tmp_path, queue_url, wait=False) == 0
    later = threading.Timer(0.5, taking.let_go)
    later.start()
    assert run(tmp_path, queue_url) == 1
    later.join()
    assert states(queue_url) == {TrialState.COMPLETE: 1}


@pytest.mark.parametrize("stopped", [False, True])
def test_a_worker_whose_trial_is_locked_asks_again_and_can_be_stopped(
    tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch, stopped: bool
):
    monkeypatch.setattr("nas_relucode.workers.database.LOCK_WAIT", "200ms")
    planned(tmp_path, queue_url, heads=("8",))
    stop, told = Stop(), []
    frozen = Holding(queue_url, "SELECT * FROM trials FOR UPDATE")

    def epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        if epoch.number == 1:
            frozen.start()

    def say(line: str) -> None:
        told.append(line)
        if "the storage is locked" in line:
            stop.ask("SIGTERM") if stopped else frozen.let_go()

    if stopped:
        with pytest.raises(StorageLostError, match="lock timeout"):
            run(tmp_path, queue_url, on_epoch=epoch, stop=stop, say=say)  # it does not wait for the other
        frozen.let_go()
    else:
        assert run(tmp_path, queue_url, on_epoch=epoch, say=say) == 1
    assert any("the storage is locked" in line for line in told)
    assert run(tmp_path, queue_url) == stopped  # its result was saved


class Outage:
    """Stops the server after the last epoch of a trial, once, and starts it again some seconds later."""

    def __init__(self, server: Server, trial: int, seconds: float | None) -> None:
        self.server, self.trial, self.seconds, self.down = server, trial, seconds, False

    def epoch(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        if number == self.trial and epoch.number == 1 and not self.down:
            self.server.stop()
            self.down = True
            if self.seconds is not None:
                self.timer = threading.Timer(self.seconds, self.server.start)
                self.timer.start()


def test_an_idle_worker_looks_less_and_less_often_but_once_a_heartbeat_or_a_minute():
    assert [idle_seconds(looks, 600) for looks in (0, 1, 2, 3, 4, 10**6)] == [10, 20, 40, 60, 60, 60]
    assert [idle_seconds(looks, 30) for looks in (0, 1, 2, 3)] == [10, 20, 30, 30]
    assert [idle_seconds(looks, 1) for looks in (0, 5)] == [1, 1]


def test_a_worker_waits_for_a_database_that_comes_back(tmp_path: Path, queue_url: str, postgres: Server):
    planned(tmp_path, queue_url)
    outage = Outage(postgres, 0, 1.0)
    told: list[str] = []
    assert run(tmp_path, queue_url, on_epoch=outage.epoch, say=told.append) == 2
    outage.timer.join()
    assert states(queue_url) == {TrialState.COMPLETE: 2}
    assert any("the storage is away" in line for line in told)
    assert PASSWORD not in "".join(told)


@pytest.mark.parametrize("meanwhile", ["nothing", "noticed", "waiting again", "done by another"])
def test_the_result_of_a_worker_that_lost_its_database_is_handed_in_by_the_next(
    tmp_path: Path, queue_url: str, postgres: Server, meanwhile: str
):
    settings = planned(tmp_path, queue_url, heads=("8",))
    outage = Outage(postgres, 0, None)
    told: list[str] = []
    try:
        with pytest.raises(StorageLostError, match="away for"):
            run(tmp_path, queue_url, on_epoch=outage.epoch, patience=0.3, say=told.append)
    finally:
        postgres.start()
    (file,) = (tmp_path / "files" / "results").iterdir()
    assert str(file) in "".join(told)
    assert PASSWORD not in file.read_text()
    assert states(queue_url) == {TrialState.RUNNING: 1}
    if meanwhile != "nothing":
        study_in(queue_url).tell(0, state=TrialState.FAIL)
    if meanwhile == "waiting again":
        plan_study("own", settings, storage=queue_url)
    if meanwhile == "done by another":
        work("own", storage=queue_url, device="cpu", folder=tmp_path / "elsewhere")
    trained = Stopping(trial=99, epoch=0)
    assert run(tmp_path, queue_url, on_epoch=trained.epoch) == (meanwhile != "done by another")
    assert trained.epochs == []  # nothing was trained again
    assert list((tmp_path / "files" / "results").iterdir()) == []
    assert states(queue_url)[TrialState.COMPLETE] == 1
    assert not (tmp_path / "files" / "checkpoints").exists()
    chosen = select(study_in(queue_url), store=file_store(tmp_path / "files")) if meanwhile == "nothing" else None
    assert chosen is None or len(chosen.networks) == 1


def test_a_result_that_cannot_be_told_for_a_full_disk_is_saved_and_handed_in_by_the_next(
    tmp_path: Path, queue_url: str
):
    planned(tmp_path, queue_url, heads=("8",))

    class Full(FileSystemArtifactStore):
        def write(self, artifact_id: str, content_body: BinaryIO) -> None:
            if not artifact_id.startswith("checkpoint"):
                raise OSError(errno.ENOSPC, "No space left on device")

    told: list[str] = []
    (tmp_path / "full").mkdir()
    full = Full(tmp_path / "full")
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, queue_url, artifacts=full, say=told.append)
    (file,) = (tmp_path / "files" / "results").iterdir()
    assert str(file) in "".join(told)
    trained = Stopping(trial=99, epoch=0)
    assert run(tmp_path, queue_url, on_epoch=trained.epoch) == 1
    assert trained.epochs == []
    assert states(queue_url) == {TrialState.COMPLETE: 1}


def test_a_database_that_is_lost_while_a_worker_is_stopped_is_told_as_such(
    tmp_path: Path, queue_url: str, postgres: Server
):
    planned(tmp_path, queue_url, heads=("8",))
    stop, told = Stop(), []

    def epoch(number: int, epoch: Any, point: dict[str, Any]) -> None:
        postgres.stop()
        stop.ask("SIGTERM")

    try:
        with pytest.raises(StorageLostError, match="is away"):
            run(tmp_path, queue_url, on_epoch=epoch, stop=stop, on_trial=lambda study, trial: told.append(trial))
    finally:
        postgres.start()
    assert told == []


def test_a_result_that_another_worker_of_the_folder_has_handed_in_meanwhile_is_none(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    results = tmp_path / "files" / "results"
    results.mkdir(parents=True)
    (results / "own_8_0.1_seed_0.json").symlink_to("gone")  # listed, and then not there
    assert run(tmp_path, queue_url) == 2


def test_a_damaged_result_is_named_with_what_to_do(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    results = tmp_path / "files" / "results"
    results.mkdir(parents=True)
    (results / "own_8_0.1_seed_0.json").write_text(json.dumps({"version": 1})[:-1])
    with pytest.raises(InputError, match=r"own_8_0\.1_seed_0\.json is damaged .* Delete it"):
        run(tmp_path, queue_url)


def test_a_worker_that_was_silent_for_too_long_leaves_its_trial_to_the_other(
    tmp_path: Path, queue_url: str, postgres: Server
):
    planned(tmp_path, queue_url, heads=("8",), heartbeat=60)
    told: list[str] = []

    def slow(number: int, epoch: Any, point: dict[str, Any]) -> None:
        if epoch.number == 0:
            study_in(queue_url).tell(number, state=TrialState.FAIL)  # as another worker does with a silent one

    assert run(tmp_path, queue_url, max_trials=1, on_epoch=slow, wait=False, say=told.append) == 1
    assert any("silent for too long" in line for line in told)
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
    with pytest.raises(InputError, match="max_trials 0"):
        run(tmp_path, queue_url, max_trials=0)
    assert states(queue_url) == {TrialState.WAITING: 2}


def test_a_worker_needs_no_file_of_settings(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url)
    (tmp_path / "space.toml").unlink()
    assert run(tmp_path, queue_url) == 2


def test_a_sampled_study_is_drawn_by_several_workers_and_every_draw_has_all_its_seeds(tmp_path: Path, queue_url: str):
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


def test_statements_and_attributes_a_trial_are_few_and_do_not_grow_with_the_study(tmp_path: Path, queue_url: str):
    planned(tmp_path, queue_url, seeds=tuple(range(10)), heartbeat=60)
    counts = [statements(lambda trials=trials: run(tmp_path, queue_url, max_trials=trials)) for trials in (4, 4, 5, 5)]
    assert counts[0] == counts[1]
    assert counts[2] == counts[3]
    assert counts[2] - counts[0] <= 12
    trial = next(t for t in study_in(queue_url).trials if t.state == TrialState.COMPLETE)
    assert len(trial.user_attrs) + len(trial.system_attrs) <= 3


def statements(action: Callable[[], Any]) -> int:
    """How many statements of SQL this process sends meanwhile."""
    sent: list[None] = []
    heard = (sqlalchemy.Engine, "before_cursor_execute", lambda *_: sent.append(None))
    sqlalchemy.event.listen(*heard)
    try:
        action()
    finally:
        sqlalchemy.event.remove(*heard)
    return len(sent)
