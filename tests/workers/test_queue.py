"""The queue: each waiting trial once, nothing half-enqueued, the dead noticed, few connections."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from private_postgres import Server

from nas_relucode.workers.database import open_queue
from nas_relucode.workers.patience import is_lost
from nas_relucode.workers.queue import TAKE, Heartbeat, Queue

HEADS = CategoricalDistribution([str(i) for i in range(1000)])


def waiting(count: int) -> list[FrozenTrial]:
    return [
        create_trial(state=TrialState.WAITING, params={"head": str(i)}, distributions={"head": HEADS})
        for i in range(count)
    ]


@pytest.fixture
def open_one(queue_url: str) -> Iterator[Callable[..., Queue]]:
    """Opens the queue of one study as another worker would; the connections are closed in the end."""
    opened: list[Queue] = []

    def open_it(heartbeat: int = 60, create: bool = False) -> Queue:
        storage = open_queue(queue_url, heartbeat, create=create)
        sampler = optuna.samplers.RandomSampler()
        if create:
            study = optuna.create_study(study_name="own", storage=storage, sampler=sampler)
        else:
            study = optuna.load_study(study_name="own", storage=storage, sampler=sampler)
        opened.append(Queue(study, storage))
        return opened[-1]

    yield open_it
    for queue in opened:
        queue.let_go()


def test_trials_are_taken_in_their_order_and_none_when_none_waits(open_one):
    queue = open_one(create=True)
    assert queue.take() is None
    assert queue.add(lambda: waiting(3)) == 3
    taken = [queue.take() for _ in range(3)]
    assert [trial.params["head"] for trial in taken] == ["0", "1", "2"]
    assert [trial.number for trial in taken] == [0, 1, 2]
    assert queue.take() is None
    assert len(queue.study.trials) == 3  # where study.ask would have drawn a fourth


def test_threads_of_many_workers_take_each_trial_once(open_one):
    first = open_one(create=True)
    first.add(lambda: waiting(60))
    taken: list[int] = []

    def work(queue: Queue) -> None:
        while trial := queue.take():
            taken.append(trial.number)
        queue.let_go()

    threads = [threading.Thread(target=work, args=(open_one(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(60))


def test_a_trial_that_was_taken_is_running_as_optuna_sees_it_and_can_be_told(open_one):
    queue = open_one(create=True)
    queue.add(lambda: waiting(1))
    trial = queue.take()
    (seen,) = queue.study.trials
    assert seen.state == TrialState.RUNNING
    assert abs((seen.datetime_start - datetime.now()).total_seconds()) < 60
    assert trial.suggest_categorical("head", HEADS.choices) == "0"
    queue.study.tell(trial, 1.0)
    assert queue.study.best_value == 1.0


def test_what_was_added_before_an_error_is_undone(open_one):
    queue = open_one(create=True)

    def fail() -> list[FrozenTrial]:
        broken = waiting(2)
        broken[1]._params = {}  # the second cannot be stored
        return broken

    with pytest.raises(KeyError):
        queue.add(fail)
    assert queue.study.trials == []
    assert queue.add(lambda: waiting(2)) == 2


def test_trials_are_added_as_optuna_adds_them_one_by_one(open_one):
    queue = open_one(create=True)
    rate = optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)
    choice = {"head": HEADS, "rate": rate}
    trials = [
        create_trial(state=TrialState.WAITING, params={"head": "7", "rate": 0.1}, distributions=choice),
        create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"seed": 3}}),
        *(
            create_trial(
                state=TrialState.WAITING, params={"head": str(i)}, distributions={"head": HEADS}, user_attrs={"of": i}
            )
            for i in range(40)
        ),
    ]
    for trial in trials:
        queue.study.add_trial(trial)
    assert queue.add(lambda: trials) == 42
    added = queue.study.trials
    assert [trial.number for trial in added] == list(range(84))
    parts = ("state", "params", "distributions", "user_attrs", "system_attrs", "values", "datetime_start")
    one_by_one, at_once = ([[getattr(t, p) for p in parts] for t in part] for part in (added[:42], added[42:]))
    assert one_by_one == at_once


def test_two_that_add_what_is_missing_at_once_add_it_once(open_one):
    queues = [open_one(create=True), open_one(), open_one(), open_one()]

    def add(queue: Queue) -> None:
        queue.add(lambda: [] if queue.study.trials else waiting(20))
        queue.let_go()

    threads = [threading.Thread(target=add, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trial.params["head"] for trial in queues[0].study.trials] == [str(i) for i in range(20)]


def silence(server: Server, url: str, seconds: int) -> None:
    """Makes all heartbeats so much older."""
    server.sql(url.rpartition("/")[2], f"UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '{seconds} s'")


def test_missing_trials_are_looked_for_again_only_after_a_failure_whoever_looked_before(open_one):
    one, other = open_one(create=True), open_one()
    asked: list[str] = []

    def missing(who: str, found: int) -> Callable[[], list[FrozenTrial]]:
        return lambda: [asked.append(who), waiting(found)][1]

    assert one.add(missing("one", 2), after_failures=True) == 2  # nobody has looked yet
    assert other.add(missing("other", 1), after_failures=True) == 0
    for queue in (one, other):
        queue.study.tell(queue.take(), state=TrialState.FAIL)
    assert other.add(missing("other", 1), after_failures=True) == 1
    assert one.add(missing("one", 1), after_failures=True) == 0
    assert one.add(missing("one", 1)) == 1
    assert asked == ["one", "other", "one"]


def test_a_failure_while_somebody_looks_is_looked_for_the_next_time(open_one):
    queue, other = open_one(create=True), open_one()
    queue.add(lambda: waiting(2))
    first, second = other.take(), other.take()
    other.study.tell(first, state=TrialState.FAIL)

    def missing() -> list[FrozenTrial]:
        found = [trial for trial in queue.study.trials if trial.state == TrialState.FAIL]
        other.study.tell(second, state=TrialState.FAIL, skip_if_finished=True)
        return waiting(len(found))

    assert queue.add(missing, after_failures=True) == 1
    assert queue.add(missing, after_failures=True) == 2
    assert queue.add(missing, after_failures=True) == 0


def test_trials_that_run_or_wait_are_counted(open_one):
    queue = open_one(create=True)
    queue.add(lambda: waiting(3))
    assert queue.unfinished() == 3
    first, _ = queue.take(), queue.take()
    assert queue.unfinished() == 3
    queue.study.tell(first, 1.0)
    assert queue.unfinished() == 2


def test_a_trial_is_taken_by_an_index_whatever_lies_behind_it(open_one, postgres: Server, queue_url: str):
    queue = open_one(create=True)
    queue.prepare()
    queue.prepare()  # it is there
    database = queue_url.rpartition("/")[2]
    rows = "INSERT INTO trials (number, study_id, state) SELECT i, 1, '{}' FROM generate_series({}, {}) i"
    postgres.sql(database, rows.format("COMPLETE", 0, 20_000))
    postgres.sql(database, rows.format("WAITING", 20_001, 20_010))
    postgres.sql(database, "ANALYZE trials")
    statement = TAKE.text.replace(":study", "1")
    plan = "\n".join(row[0] for row in postgres.sql(database, f"EXPLAIN {statement}"))
    assert "Index Scan using nas_relucode_queue on trials" in plan
    assert queue.take().number == 20_001


def test_a_trial_whose_worker_died_before_its_first_heartbeat_is_noticed(open_one, postgres: Server, queue_url: str):
    queue = open_one(create=True)
    queue.add(lambda: waiting(2))
    queue.take()
    queue.fail_stale()
    assert [trial.state for trial in queue.study.trials] == [TrialState.RUNNING, TrialState.WAITING]
    silence(postgres, queue_url, 299)
    assert queue.stale() == []
    silence(postgres, queue_url, 2)
    assert len(queue.stale()) == 1
    queue.fail_stale()
    assert [trial.state for trial in queue.study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_heartbeat_keeps_a_trial_alive_and_ends_with_it(open_one, postgres: Server, queue_url: str):
    queue = open_one(heartbeat=1, create=True)
    queue.add(lambda: waiting(1))
    trial = queue.take()
    silence(postgres, queue_url, 100)
    with Heartbeat(queue, trial._trial_id, ignore=lambda error: False):
        threading.Event().wait(1.5)
        assert queue.stale() == []
    silence(postgres, queue_url, 100)
    threading.Event().wait(1.2)
    assert len(queue.stale()) == 1


def test_a_waiting_trial_that_is_named_is_taken_by_one(open_one):
    queue, other = open_one(create=True), open_one()
    queue.add(lambda: waiting(2))
    second = queue.study.trials[1]
    assert queue.take_waiting(second).number == 1
    assert other.take_waiting(second) is None
    assert other.take().number == 0


def test_a_worker_that_let_go_holds_no_connection(open_one, postgres: Server, queue_url: str):
    queue = open_one(create=True)
    queue.add(lambda: waiting(1))
    queue.take()
    database = queue_url.rpartition("/")[2]
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    assert 1 <= postgres.sql("postgres", count)[0][0] <= 3
    queue.let_go()
    threading.Event().wait(0.2)
    assert postgres.sql("postgres", count)[0][0] == 0


def test_who_waits_for_a_lock_is_told_so_and_who_froze_with_it_loses_it(open_one, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nas_relucode.workers.database.LOCK_WAIT", "100ms")
    monkeypatch.setattr("nas_relucode.workers.database.SILENCE", "2s")
    frozen, other = open_one(create=True), open_one()
    within, awake = threading.Event(), threading.Event()
    raised: list[Exception] = []

    def freeze() -> list[FrozenTrial]:
        within.set()
        awake.wait()
        return waiting(3)

    def add() -> None:
        try:
            frozen.add(freeze)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    within.wait()
    with pytest.raises(sqlalchemy.exc.OperationalError, match="lock timeout") as waited:
        other.add(lambda: waiting(1))
    assert is_lost(waited.value)
    time.sleep(2.5)
    assert other.add(lambda: waiting(1)) == 1
    awake.set()
    thread.join()
    assert is_lost(raised[0])
    assert len(other.study.trials) == 1  # the frozen one has added nothing


def test_a_worker_prepares_no_statements_which_pgbouncer_would_hand_to_others(open_one):
    queue = open_one(create=True)
    for _ in range(10):  # psycopg prepares what it has sent five times
        queue.take()
    with queue.storage.engine.connect() as connection:  # the same one, from a pool of one
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM pg_prepared_statements")).scalar() == 0
