"""The progress of a study, counted by hand, and the living workers, by heartbeats in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from private_postgres import Server
from small_studies import run, settings_in

from nas_relucode.errors import InputError
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.workers.planning import open_planned, plan_study
from nas_relucode.workers.status import Status, status_of, study_status

START = datetime(2026, 1, 1)
RAISED, STOPPED = {ATTRIBUTE: {"failed": "MemoryError: none"}}, {ATTRIBUTE: {"interrupted": "SIGTERM"}}
COMPLETE, PRUNED, FAIL, RUNNING, WAITING = (
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.FAIL,
    TrialState.RUNNING,
    TrialState.WAITING,
)
Row = tuple[TrialState, str, int, dict[str, Any], float]  # state, head, seed, attributes, seconds


def study_of(folder: Path, rows: Sequence[Row]) -> optuna.Study:
    """A study of the heads 8 and 4-4 with seeds 0, 1 and 2, with these trials."""
    settings = settings_in(folder, seeds=(0, 1, 2))
    study = optuna.create_study(study_name="own", directions=["maximize", "minimize"])
    study.set_user_attr("settings", settings.as_dict())
    space, seeds = settings.search_space, list(settings.search.seeds)
    for state, head, seed, attributes, seconds in rows:
        distributions = space.distributions(seeds)
        params = {"head": head, "learning_rate": 0.1, "seed": seed}
        trial = create_trial(
            state=state,
            values=[0.5, 3.0] if state == COMPLETE else None,
            params={name: params[name] for name in distributions},
            distributions=distributions,
            user_attrs=attributes,
        )
        trial.datetime_start = None if state == WAITING else START
        trial.datetime_complete = START + timedelta(seconds=seconds) if state.is_finished() else None
        study.add_trial(trial)
    return study


def test_the_trials_of_a_running_study_are_counted(tmp_path: Path):
    rows: list[Row] = [
        (COMPLETE, "8", 0, {}, 10),
        (COMPLETE, "4-4", 0, {}, 20),
        (FAIL, "8", 1, RAISED, 500),  # retried in the trial after the next
        (RUNNING, "4-4", 1, {}, 0),
        (FAIL, "8", 1, RAISED | {"retry_of": 2}, 500),
        (RUNNING, "8", 2, {}, 0),
        (WAITING, "8", 1, {"retry_of": 4}, 0),
        (WAITING, "4-4", 2, {}, 0),
        (RUNNING, "4-4", 0, {}, 0),  # one worker too many at the end
    ]
    status = status_of(study_of(tmp_path, rows), silent=1)
    # 4 of 6 candidates are left, at 15 s each, for 2 workers: 30 s.
    assert status == Status("own", 6, 2, 0, 2, 2, 1, 2, 2, 0, 15.0, 30.0)
    assert status.lines() == [
        "study own: 2 of 6 trials done",
        "waiting 2, running 2, failed 2, retried 2",
        "1 running trials miss their heartbeats; a worker will repeat them",
        "workers alive: 2",
        "a trial takes 15.0 s on average",
        "time to go: 30.0 s",
    ]


def test_a_pruned_candidate_is_done_but_a_duplicate_is_not_counted(tmp_path: Path):
    rows: list[Row] = [
        (COMPLETE, "8", 0, {}, 4),
        (PRUNED, "4-4", 0, {ATTRIBUTE: {"pruned": "diverged"}}, 90),
        (PRUNED, "8", 0, {"same_as": 0}, 90),
        (RUNNING, "8", 1, {}, 0),
    ]
    status = status_of(study_of(tmp_path, rows))
    assert (status.done, status.pruned, status.seconds_a_trial, status.seconds_to_go) == (2, 1, 4.0, 16.0)
    assert status.lines()[0] == "study own: 2 of 6 trials done, 1 of them pruned"


def test_a_candidate_that_failed_three_times_is_given_up_and_not_waited_for(tmp_path: Path):
    rows: list[Row] = [(COMPLETE, head, seed, {}, 6) for head in ("8", "4-4") for seed in (0, 1, 2)][:5]
    rows += [(FAIL, "4-4", 2, RAISED, 1), (FAIL, "4-4", 2, RAISED | {"retry_of": 5}, 1)]
    assert status_of(study_of(tmp_path, [*rows, (FAIL, "4-4", 2, STOPPED, 1)])).given_up == 0
    status = status_of(study_of(tmp_path, [*rows, (FAIL, "4-4", 2, RAISED | {"retry_of": 6}, 1)]))
    assert (status.done, status.failed, status.retried, status.given_up) == (5, 3, 2, 1)
    assert status.seconds_to_go == 0.0
    assert "1 candidates are given up: their trials failed too often" in status.lines()


@pytest.mark.parametrize(("alive", "done"), [(0, 1), (1, 0), (0, 0)])
def test_the_time_to_go_is_unknown_without_a_worker_or_a_complete_trial(tmp_path: Path, alive: int, done: int):
    rows: list[Row] = [(COMPLETE, "8", 0, {}, 4)] * done + [(RUNNING, "8", 1, {}, 0)] * alive
    status = status_of(study_of(tmp_path, rows))
    assert (status.running, status.done, status.seconds_to_go) == (alive, done, None)
    assert not any("to go" in line for line in status.lines())


def test_more_than_a_day_is_shown_in_days_and_hours(tmp_path: Path):
    rows: list[Row] = [(COMPLETE, "8", 0, {}, 20_000), (RUNNING, "8", 1, {}, 0)]
    assert status_of(study_of(tmp_path, rows)).lines()[-2:] == [
        "a trial takes 5:33:20 on average",
        "time to go: 1 day, 3:46:40",
    ]


def test_a_worker_that_is_silent_for_five_heartbeats_is_not_alive(tmp_path: Path, queue_url: str, postgres: Server):
    plan_study("own", settings_in(tmp_path, seeds=(0, 1)), storage=queue_url, heartbeat=10)
    queue = open_planned("own", queue_url)
    taken: list[optuna.Trial | None] = [queue.take() for _ in range(3)]
    queue.close_connections()
    assert None not in taken
    counted = study_status("own", queue_url)
    assert (counted.waiting, counted.running, counted.silent) == (1, 3, 0)
    for trial, seconds in zip(taken, (45, 55, 3600), strict=True):
        then = f"UPDATE trial_heartbeats SET heartbeat = localtimestamp - interval '{seconds} seconds'"
        its_id = f"(SELECT trial_id FROM trials WHERE number = {trial.number})"
        postgres.sql(queue_url.rpartition("/")[2], f"{then} WHERE trial_id = {its_id}")
    counted = study_status("own", queue_url)
    assert (counted.waiting, counted.running, counted.silent) == (1, 1, 2)


def test_a_study_on_sqlite_has_a_status(tmp_path: Path, url: str):
    run(settings_in(tmp_path), url)
    status = study_status("own", url)
    assert (status.size, status.done, status.running, status.seconds_to_go) == (2, 2, 0, 0.0)


def test_a_missing_study_and_one_of_another_program_have_different_errors(queue_url: str, url: str):
    with pytest.raises(KeyError):
        study_status("own", queue_url)
    with pytest.raises(InputError, match="there is no"):
        study_status("own", url)
    optuna.create_study(study_name="other", storage=url)
    with pytest.raises(KeyError):
        study_status("own", url)
    optuna.create_study(study_name="own", storage=url)
    with pytest.raises(InputError, match="not created by nas-relucode"):
        study_status("own", url)


def test_the_trials_of_these_tests_are_as_optuna_stores_them(tmp_path: Path):
    trials: list[FrozenTrial] = study_of(tmp_path, [(COMPLETE, "8", 2, {}, 7)]).trials
    assert trials[0].params == {"head": "8", "learning_rate": 0.1, "seed": 2}
    assert trials[0].duration == timedelta(seconds=7)
