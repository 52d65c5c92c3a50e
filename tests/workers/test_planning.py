"""Planning: every candidate and seed is enqueued once, however many processes repeat it."""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from cases import first_on_push
from optuna.trial import TrialState
from private_postgres import Server
from small_studies import settings_in
from sqlalchemy.pool import NullPool
from storages import study_in

from nas_relucode.errors import InputError
from nas_relucode.study.search_space import SearchSettings
from nas_relucode.training.loop import Recipe
from nas_relucode.workers.database import creation_lock
from nas_relucode.workers.planning import open_planned, plan_study
from nas_relucode.workers.retrying import StorageUnavailableError


def test_every_candidate_and_seed_is_enqueued_once_and_a_second_plan_adds_none(tmp_path: Path, queue_url: str):
    settings = settings_in(tmp_path, rates="[0.1, 0.01]", seeds=(0, 3))
    assert plan_study("own", settings, storage=queue_url)[1] == 8
    assert plan_study("own", settings, storage=queue_url)[1] == 0
    trials = study_in(queue_url).trials
    assert {trial.state for trial in trials} == {TrialState.WAITING}
    expected = [(head, rate, seed) for seed in (0, 3) for head in ("8", "4-4") for rate in (0.1, 0.01)]
    assert [tuple(trial.params.values()) for trial in trials] == expected


def test_two_plans_at_once_enqueue_every_candidate_once(tmp_path: Path, queue_url: str):
    settings = settings_in(tmp_path, rates="[0.1, 0.01, 0.03]", seeds=(0, 1, 2))
    added: list[int] = []
    threads = [
        threading.Thread(target=lambda: added.append(plan_study("own", settings, storage=queue_url)[1]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [0, 0, 0, 18]
    assert set(Counter(tuple(trial.params.values()) for trial in study_in(queue_url).trials).values()) == {1}


def test_two_studies_are_planned_at_once_in_a_new_database(tmp_path: Path, queue_url: str):
    settings = settings_in(tmp_path)
    added: list[int] = []
    threads = [
        threading.Thread(target=lambda name=name: added.append(plan_study(name, settings, storage=queue_url)[1]))
        for name in ("one", "two", "three")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert added == [2, 2, 2]


def test_a_plan_waits_while_another_creates_the_last_table(tmp_path: Path, queue_url: str):
    settings = settings_in(tmp_path)
    begun, added = threading.Event(), []

    def pause(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "INSERT INTO alembic_version" in statement and not begun.is_set():
            begun.set()
            time.sleep(1)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", pause)
    try:
        first = threading.Thread(target=lambda: added.append(plan_study("own", settings, storage=queue_url)[1]))
        first.start()
        begun.wait()
        added.append(plan_study("own", settings, storage=queue_url)[1])
        first.join()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", pause)
    assert added == [2, 0]


def test_a_repeated_plan_needs_no_lock_unless_a_trial_has_failed(
    tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nas_relucode.workers.database.LOCK_TIMEOUT", "100ms")
    settings = settings_in(tmp_path)
    study, _ = plan_study("own", settings, storage=queue_url)
    engine = sqlalchemy.create_engine(queue_url, poolclass=NullPool)
    with creation_lock(queue_url), engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT * FROM studies FOR UPDATE"))
        assert plan_study("own", settings, storage=queue_url, patience=0)[1] == 0
        study.tell(study.ask(), state=TrialState.FAIL)
        with pytest.raises(StorageUnavailableError, match="lock timeout"):
            plan_study("own", settings, storage=queue_url, patience=0)
    assert plan_study("own", settings, storage=queue_url, patience=0)[1] == 1


def test_a_plan_waits_until_the_database_is_available(tmp_path: Path, queue_url: str, postgres: Server):
    settings, lines = settings_in(tmp_path), []
    postgres.stop()

    def say(line: str) -> None:  # once, before the first pause
        lines.append(line)
        postgres.start()

    try:
        with pytest.raises(StorageUnavailableError, match="unavailable for 0 s"):
            plan_study("own", settings, storage=queue_url, patience=0)
        assert plan_study("own", settings, storage=queue_url, say=say)[1] == 2
    finally:
        if not lines:
            postgres.start()
    assert "the storage is unavailable" in lines[0]


def test_changed_settings_are_refused_and_nothing_is_enqueued(tmp_path: Path, queue_url: str):
    plan_study("own", settings_in(tmp_path), storage=queue_url)
    changed = settings_in(tmp_path, training=Recipe(epochs=2, batch_size=35))
    with pytest.raises(InputError, match=r"training\.epochs was 1 and is 2"):
        plan_study("own", changed, storage=queue_url)
    assert len(study_in(queue_url).trials) == 2


def test_a_waiting_trial_has_the_distributions_that_the_objective_suggests_from(tmp_path: Path, queue_url: str):
    settings = settings_in(tmp_path, seeds=(0, 1))
    plan_study("own", settings, storage=queue_url)
    space, seeds = settings.search_space, list(settings.search.seeds)
    for trial in study_in(queue_url).trials:
        again = optuna.trial.FixedTrial(trial.params)
        space.suggest(again, seeds)
        assert again.distributions == trial.distributions


def test_all_draws_of_a_sampled_study_are_enqueued_at_once(tmp_path: Path, queue_url: str):
    settings = settings_in(tmp_path, rates="{ low = 0.001, high = 0.1 }", trials=5, seeds=(0, 1))
    assert plan_study("own", settings, storage=queue_url)[1] == 5
    assert plan_study("own", settings, storage=queue_url)[1] == 0


def test_the_heartbeat_is_stored_in_the_study_and_a_later_plan_may_change_it(tmp_path: Path, queue_url: str):
    settings = settings_in(tmp_path)
    for given, expected in [(None, 60), (7, 7), (None, 7), (9, 9)]:
        plan_study("own", settings, storage=queue_url, heartbeat=given)
        queue = open_planned("own", queue_url)
        assert queue.storage.get_heartbeat_interval() == expected
        queue.close_connections()


def test_another_heartbeat_is_refused_while_a_living_worker_runs_a_trial(
    tmp_path: Path, queue_url: str, postgres: Server
):
    settings = settings_in(tmp_path)
    study, _ = plan_study("own", settings, storage=queue_url, heartbeat=60)
    trial, refusal = study.ask(), "heartbeat of 60 seconds.*when no worker runs"
    with pytest.raises(InputError, match=refusal):
        plan_study("own", settings, storage=queue_url, heartbeat=1)
    plan_study("own", settings, storage=queue_url, heartbeat=60)
    beat = "INSERT INTO trial_heartbeats (trial_id, heartbeat) SELECT trial_id, {} FROM trials WHERE number = {}"
    postgres.sql(queue_url.rpartition("/")[2], beat.format("localtimestamp - interval '290 s'", trial.number))
    with pytest.raises(InputError, match=refusal):
        plan_study("own", settings, storage=queue_url, heartbeat=1)
    postgres.sql(queue_url.rpartition("/")[2], "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '20 s'")
    plan_study("own", settings, storage=queue_url, heartbeat=1)  # its worker is dead


@pytest.mark.parametrize("first", first_on_push("here", None))
def test_another_artifact_store_is_refused_once_a_trial_has_started(tmp_path: Path, queue_url: str, first: str | None):
    settings = settings_in(tmp_path)
    here = None if first is None else str(tmp_path / first)
    plan_study("own", settings, storage=queue_url, artifacts=str(tmp_path / "mistaken"))
    study, _ = plan_study("other", settings, storage=queue_url, artifacts=here)
    plan_study("own", settings, storage=queue_url, artifacts=here)
    study.ask()
    with pytest.raises(
        InputError, match=f"keep their artifacts in {here or 'the folder of each worker'}, not in .*there"
    ):
        plan_study("other", settings, storage=queue_url, artifacts=str(tmp_path / "there"))
    plan_study("other", settings, storage=queue_url, artifacts=here)


def test_settings_that_cannot_be_planned_are_refused_with_the_remedy(tmp_path: Path, queue_url: str, url: str):
    settings = settings_in(tmp_path)
    with pytest.raises(InputError, match=r"one process.*run"):
        plan_study("own", settings, storage=url)
    for heartbeat in (0, 10**11):
        with pytest.raises(InputError, match=f"heartbeat in seconds {heartbeat} .* from 1 to 86400"):
            plan_study("own", settings, storage=queue_url, heartbeat=heartbeat)
    together = settings_in(tmp_path, search=SearchSettings(space=settings.search.space, together=2))
    with pytest.raises(InputError, match="Set together to 1"):
        plan_study("own", together, storage=queue_url)
    with pytest.raises(InputError, match="Set trials in"):
        plan_study("own", settings_in(tmp_path, rates="{ low = 0.001, high = 0.1 }"), storage=queue_url)


def test_an_unplanned_study_is_refused_with_the_command_that_plans_it(tmp_path: Path, queue_url: str):
    with pytest.raises(InputError, match=r"holds no study\. Do: nas-relucode plan own"):
        open_planned("own", queue_url)
    plan_study("own", settings_in(tmp_path), storage=queue_url)
    with pytest.raises(InputError, match=r"unknown study 'other'. Known: own. Do: nas-relucode plan other"):
        open_planned("other", queue_url)
    storage = optuna.storages.RDBStorage(queue_url, engine_kwargs={"poolclass": NullPool})
    optuna.create_study(study_name="foreign", storage=storage)
    with pytest.raises(InputError, match="was not planned for workers"):
        open_planned("foreign", queue_url)
